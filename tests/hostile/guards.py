"""What no case may do: write outside a folder, open the canary, connect, start programs, hang, or take much memory."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

SECONDS = 10
WAITED = 60  # of the clock: a machine may be busy with other things
BYTES = 2**30
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
_NAMED = ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "shutil.rmtree")
_NAMED_TWICE = ("os.rename", "os.link", "os.symlink", "shutil.move")
_OPEN, _ACCESS = 0x20, 0x1


class ForbiddenError(BaseException):
    """A case did what no case may do; no handler of errors catches it."""


class _Watch:
    def __init__(self) -> None:
        self.inside: Path | None = None
        self.done: list[str] = []

    def __call__(self, event: str, args: tuple) -> None:
        if self.inside is None:
            return
        if event in _FORBIDDEN:
            self.done.append(f"{event} {args[:2]}")
        elif event in _NAMED or (event == "open" and args[2] & _WRITES):
            self._written(args[0])
        elif event in _NAMED_TWICE:
            self._written(args[1])

    def _written(self, path) -> None:
        if not isinstance(path, str | bytes | os.PathLike):  # a file that is open already
            return
        real = os.path.realpath(os.fsdecode(path))
        if real != os.devnull and not real.startswith((f"{self.inside}/", "/proc/self/", "/dev/shm/")):
            self.done.append(f"wrote {real}")


_WATCH = _Watch()
sys.addaudithook(_WATCH)


@contextlib.contextmanager
def guarded(inside: Path, canary: Path):
    """Hold a case to its bounds; what it did besides is an error.

    Args:
        inside: The only folder in which it may write.
        canary: A file that it may not open; the system says so whatever library opens it.
    """
    libc = ctypes.CDLL(None)
    opened = libc.inotify_init1(os.O_NONBLOCK)
    libc.inotify_add_watch(opened, os.fsencode(canary), _OPEN | _ACCESS)
    Path("/proc/self/clear_refs").write_text("5")  # begin the peak anew
    before = _kibibytes("VmRSS")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1024 * _kibibytes("VmSize") + 8 * BYTES, limits[1]))
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    _WATCH.done, _WATCH.inside = [], inside.resolve()
    try:
        with _in_time():
            yield
    finally:
        _WATCH.inside = None
        sys.dont_write_bytecode = bytecode
        resource.setrlimit(resource.RLIMIT_AS, limits)
        peak = 1024 * (_kibibytes("VmHWM") - before)
        with contextlib.suppress(BlockingIOError):
            _WATCH.done += ["opened the canary"] if os.read(opened, 4096) else []
        os.close(opened)
    assert not _WATCH.done, _WATCH.done
    assert peak < BYTES, f"{peak / BYTES:.1f} GiB"


@contextlib.contextmanager
def _in_time():
    def too_long(number, frame):
        raise ForbiddenError(f"hangs in {frame.f_code.co_filename}:{frame.f_lineno}")

    before = [signal.signal(one, too_long) for one in (signal.SIGALRM, signal.SIGPROF)]
    left, _ = signal.setitimer(signal.ITIMER_REAL, WAITED)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, left)
        for one, handler in zip((signal.SIGALRM, signal.SIGPROF), before, strict=True):
            signal.signal(one, handler)


def _kibibytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise AssertionError(key)
