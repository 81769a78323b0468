"""What the tests of importers share: writing a small file, and reading it back as plain values."""

from __future__ import annotations

import json
from pathlib import Path

from lofi_tal.annotations.formats import ImportOptions, import_annotations


def write(path: Path, content) -> Path:
    """Write text, bytes, or anything else as JSON; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def touch(path: Path, content: bytes = b"") -> Path:
    """Write bytes, or an empty file; folders are made."""
    return write(path, content)


def segments(*paths: Path, name: str | None = None, **options) -> dict[str, list[tuple[float, float, str]]]:
    """Import files and return start, end and label by video, in the order of their starts."""
    found = import_annotations(list(paths), name, ImportOptions(**options))
    return {
        video.video_id: sorted(
            zip(
                video.segments.start.round(6).tolist(),
                video.segments.end.round(6).tolist(),
                video.segments.label,
                strict=True,
            )
        )
        for video in found.annotations
    }
