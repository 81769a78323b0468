"""Commands in processes of their own, without the seconds in which each of them imports torch.

A server imports the libraries once, and forks for each command: what the command sees of the package, of its
arguments, folder and variables is what it would see if it had been started. That starting works is for the tests of
several processes, hosts and the wheel, which start theirs themselves.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LIBRARIES = ("h5py", "lightning_fabric", "pydantic", "rich", "torch", "torchvision", "typer", "av")


def run(module: str, *arguments: Any, cwd: Path | None = None, path: Path | None = None) -> subprocess.CompletedProcess:
    """Run a module with arguments and wait for it.

    Args:
        module: As after ``python -m``.
        arguments: Made into texts.
        cwd: Folder in which it runs.
        path: Folder of further packages.
    """
    command = [module, *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        texts = [Path(folder) / name for name in ("stdout", "stderr")]
        request = {
            "command": command,
            "cwd": str(cwd or Path.cwd()),
            "path": str(path) if path else None,
            "texts": [str(text) for text in texts],
            "environment": dict(os.environ),
        }
        server = _server()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(command, status, *(text.read_text() for text in texts))


@functools.cache
def _server() -> subprocess.Popen:
    """Return the server of this process, which ends with it: its input ends."""
    return subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _serve() -> dict[str, Any] | None:
    """Answer requests until there are no more; in a child, return what it is to do."""
    gc.disable()
    for library in LIBRARIES:
        __import__(library)
    gc.freeze()
    gc.enable()
    while line := sys.stdin.readline():
        if (child := os.fork()) == 0:
            return json.loads(line)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()
    return None


def _become(request: dict[str, Any]) -> None:
    """Turn this child into the command."""
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.path[0] = request["cwd"]
    if request["path"]:
        sys.path.insert(1, request["path"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, text in enumerate(request["texts"], 1):
        os.dup2(os.open(text, os.O_WRONLY | os.O_CREAT), number)
    module, *arguments = request["command"]
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    if todo := _serve():
        _become(todo)
