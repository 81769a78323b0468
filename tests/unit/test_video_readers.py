"""Processes that read videos: their end is waited for, whoever notes it first."""

from collections import deque

from lofi_tal.video.readers import _Reader


class Ending:
    """A process whose status another thread has taken and not noted yet."""

    def __init__(self, looks):
        self.looks, self.closed = looks, False

    def join(self):
        """Return at once: there is nobody to wait for any more."""

    @property
    def exitcode(self):
        self.looks -= 1
        return None if self.looks > 0 else 0

    def close(self):
        if self.looks > 0:
            raise ValueError("Cannot close a process while it is still running.")
        self.closed = True


class Pipe:
    def close(self):
        self.closed = True


def test_a_process_whose_end_another_thread_notes_is_waited_for():
    reader = _Reader.__new__(_Reader)
    reader.process, reader.pipe, reader.given = Ending(5), Pipe(), deque()
    reader.end()
    assert reader.process.closed
    assert reader.pipe.closed
