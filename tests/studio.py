"""A studio without a network: its application, called by Starlette's test client, on a folder of small videos."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from lofi_tal.studio.application import create_app
from lofi_tal.studio.desk import Desk
from tests.videos import every, make

TOKEN = "a-token-that-nobody-guesses"
PORT = 8765
CHANGES = {"Authorization": f"token {TOKEN}", "X-Lofi-Studio": "1", "Content-Type": "application/json"}


@functools.cache
def one_video() -> Path:
    """Return a video of 4 seconds with 10 pictures a second, made once."""
    return make(Path(tempfile.mkdtemp()) / "video.mp4", every(100, 40))


def folder_of(path: Path, names: Sequence[str] = ("a", "b", "c")) -> Path:
    """Make a folder with videos of these names."""
    path.mkdir(exist_ok=True)
    for name in names:
        shutil.copyfile(one_video(), path / f"{name}.mp4")
    return path


def desk_of(folder: Path, labels: dict[str, Any] | None = None, **options: Any) -> Desk:
    """Return a desk of a folder, whose labels file may hold a database, as it is right after a start."""
    path = folder / "labels.json"
    if labels is not None:
        path.write_text(json.dumps({"version": "1", "database": labels}))
    return Desk(folder, path, **options)


def client_of(desk: Desk, **headers: str) -> TestClient:
    """Return a client that knows the token; used with ``with``, it starts and ends the background work."""
    app = create_app(desk, token=TOKEN, host="127.0.0.1", port=PORT)
    return TestClient(app, base_url=f"http://127.0.0.1:{PORT}", headers={**CHANGES, **headers}, follow_redirects=False)


def action(name: str, start: float, end: float, label: str = "jump") -> dict[str, Any]:
    """Return an action as a page sends it."""
    return {"id": name, "start": start, "end": end, "label": label}


def put(client: TestClient, video: str, *actions: dict[str, Any], **more: Any) -> Any:
    """Replace the actions of a video, with the revision that it has; return the response."""
    entry = client.get(f"/api/videos/{video}/entry").json()
    return client.put(f"/api/videos/{video}/entry", json={"revision": entry["revision"], "segments": actions, **more})


def on_disk(desk: Desk) -> dict[str, Any]:
    """Return the database of the labels file, after everything has been written."""
    desk.flush()
    return json.loads(desk.labels.read_text())["database"]
