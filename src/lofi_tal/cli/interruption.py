"""Ctrl-C at any moment: the first one lets the command end in order, the second one ends it at once."""

from __future__ import annotations

import os
import signal
from types import FrameType


class Interruption:
    """What the command does on SIGINT; training, which ends its step first, has a way of its own meanwhile.

    Python raises :class:`KeyboardInterrupt` wherever it is, and prints it, or swallows it, where that is in what ends
    the interpreter, or in a callback. So only the first one does.
    """

    def __init__(self) -> None:
        self.asked = False
        self.status: int | None = None  # with which the command ends, once that is all that is left

    def listen(self) -> None:
        """Begin, for the rest of this process, unless interruptions are ignored in it."""
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.status is not None:
            os._exit(self.status)
        if self.asked:
            os.write(
                2, b"\nlofi: Interrupted twice, and ended at once. The same command goes on; a run needs --resume.\n"
            )
            os._exit(130)
        self.asked = True
        raise KeyboardInterrupt
