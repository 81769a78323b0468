"""Ctrl-C, once or more often, ends the command in one line wherever it comes."""

import os
import signal
import subprocess
import sys

import pytest

from lofi_tal.cli.interruption import Interruption

PROGRAM = """
import os, signal, sys, types
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background begins with another one

def interrupt(times=1):
    for _ in range(times):
        signal.raise_signal(signal.SIGINT)

class Loading:
    def find_spec(self, name, path=None, target=None):
        if name == "lofi_tal.cli.app" and sys.argv[1] == "loading":
            interrupt()

sys.meta_path.insert(0, Loading())
from lofi_tal import cli
app = types.ModuleType("lofi_tal.cli.app")

def main():
    if sys.argv[1] == "once":
        interrupt()
    if sys.argv[1] == "twice":
        try:
            interrupt()
        finally:
            interrupt()
    if sys.argv[1] == "ending":
        import atexit
        atexit.register(interrupt)
        sys.exit(4)

app.main = main
if sys.argv[1] != "loading":
    sys.modules["lofi_tal.cli.app"] = app
cli.main()
"""


@pytest.mark.parametrize(
    ("moment", "status", "said"),
    [
        ("loading", 130, "lofi: Interrupted.\n"),
        ("once", 130, "lofi: Interrupted.\n"),
        (
            "twice",
            130,
            "\nlofi: Interrupted twice, and ended at once. The same command goes on; a run needs --resume.\n",
        ),
        ("ending", 4, ""),
    ],
)
def test_an_interruption_is_one_line_at_any_moment(moment, status, said):
    done = subprocess.run([sys.executable, "-c", PROGRAM, moment], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, said)


def test_an_interruption_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        Interruption().listen()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_command_that_is_interrupted_says_so(monkeypatch, capsys):
    """typer turns the interruption into a status, and says nothing."""
    from lofi_tal.cli import app

    def interrupted(**options):
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(app, "show_log", lambda *quiet: interrupted())
    monkeypatch.setattr("sys.argv", ["lofi", "models", "list"])
    try:
        with pytest.raises(SystemExit) as end:
            app.main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert end.value.code == 130
    assert capsys.readouterr().err == (
        "lofi: Interrupted. The same command goes on from what is finished; a run needs --resume.\n"
    )
