"""The studio as a process: what it acknowledged is there after ``kill -9``; Ctrl-C and SIGTERM end it in order."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lofi_tal.annotations import load_annotations
from lofi_tal.studio.desk import Desk
from tests.studio import folder_of

# The tests have no network, so the page is a process as well. It starts the server, labels, and kills it in the middle.
_PAGE = """
import json, os, signal, subprocess, sys, threading, urllib.request

folder, count, how = sys.argv[1], int(sys.argv[2]), getattr(signal, sys.argv[3])
command = [sys.executable, "-m", "lofi_tal.cli", "studio", folder, "--no-browser"]
server = subprocess.Popen(command, stdout=subprocess.PIPE)
address, _, token = server.stdout.readline().decode().strip().partition("?token=")
headers = {"Authorization": f"token {token}", "X-Lofi-Studio": "1", "Content-Type": "application/json"}

def put(revision, number):
    segments = [{"id": str(i), "start": i / 100, "end": i / 100 + 1, "label": f"class {i % 3}"} for i in range(number)]
    body = json.dumps({"revision": revision, "segments": segments}).encode()
    request = urllib.request.Request(f"{address}api/videos/a/entry", body, headers, method="PUT")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["revision"]

acknowledged = revision = 0
try:
    for number in range(1, count + 1):
        revision = put(revision, number)
        acknowledged = number
    threading.Thread(target=lambda: put(revision, count + 1), daemon=True).start()  # the last key press
    os.kill(server.pid, how)
    print(acknowledged, server.wait(60), flush=True)
finally:
    server.kill()
os._exit(0)
"""


def _label(folder, count, how):
    command = [sys.executable, "-c", _PAGE, str(folder), str(count), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    acknowledged, status = map(int, done.stdout.split())
    return acknowledged, status, done.stderr


def test_a_kill_in_the_middle_of_labelling_loses_at_most_the_last_key_press(tmp_path):
    folder = folder_of(tmp_path / "videos", ["a"])
    acknowledged, status, _ = _label(folder, 40, "SIGKILL")
    assert (acknowledged, status) == (40, -9)
    desk = Desk(folder, folder / "labels.json")
    assert len(desk.entry("a")["segments"]) in (40, 41)
    desk.flush()
    assert len(load_annotations(folder / "labels.json").videos["a"].segments) in (40, 41)
    entry = desk.entry("a")
    for left in range(len(entry["segments"]) - 1, -1, -1):
        entry = desk.undo("a", entry["revision"])
        assert len(entry["segments"]) == left


@pytest.mark.parametrize(("how", "ends"), [("SIGINT", 0), ("SIGTERM", 143)])
def test_an_interruption_writes_everything_and_ends_in_order(tmp_path, how, ends):
    folder = folder_of(tmp_path / "videos", ["a"])
    acknowledged, status, said = _label(folder, 3, how)
    assert (acknowledged, status) == (3, ends)
    assert "Everything is saved." in said
    assert len(json.loads((folder / "labels.json").read_text())["database"]["a"]["annotations"]) in (3, 4)
    assert not [path for path in (folder / ".labels.json.studio").iterdir() if path.name.endswith(".part")]
