"""The first batch of a stage as a contact sheet: what the encoder is given, with the labels drawn in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from lofi_tal.data import Batch, ClipDataset, TruthVideo
from lofi_tal.report import SheetAction, SheetItem, write_contact_sheet

logger = logging.getLogger("lofi_tal")
SHEET = "first-batch.html"
"""The sheet's name in the folder of its stage."""


def show_clips(folder: Path, clips: ClipDataset, batch: Batch[int]) -> None:
    """Write the sheet of a batch of clips into the folder of a stage and say where it is."""
    frames = batch.frames.flatten(1, -4).numpy()  # (B, T, S, S, 3), or both paces in a row
    items = [
        SheetItem(Path(clips.name(index)).name, pictures, clips.clips[index].label)
        for index, pictures in zip(batch.indices, frames, strict=True)
    ]
    detail = f"{clips.frames} frames of {batch.fidelity.size} × {batch.fidelity.size} pixels a clip"
    _write(folder, items, detail)


def show_videos(folder: Path, labels: Sequence[str], batch: Batch[TruthVideo]) -> None:
    """Write the sheet of a batch of videos or windows: the middle frame of every snippet, below the labels."""
    frames = batch.frames[:, :, batch.frames.shape[2] // 2].numpy()  # (B, L, S, S, 3)
    items = []
    for video, pictures in zip(batch.targets, frames, strict=True):
        begin, end = (0.0, 1.0) if video.window is None else video.window.shares
        actions = [
            SheetAction(span[0], span[1], labels[label], label)
            for span, label in zip(video.segments.tolist(), video.labels.tolist(), strict=True)
        ]
        start, seconds = video.clock.seconds(begin), (end - begin) * video.duration
        names = ", ".join(dict.fromkeys(action.label for action in actions))
        items.append(SheetItem(video.name, pictures, names, actions, start, seconds))
    fidelity, count = batch.fidelity, batch.frames.shape[2]
    detail = f"{fidelity.snippets} snippets of {count} frames of {fidelity.size} × {fidelity.size} pixels a video"
    _write(folder, items, f"{detail} (fidelity {fidelity.name}); of each snippet the middle frame")


def _write(folder: Path, items: Sequence[SheetItem], detail: str) -> None:
    write_contact_sheet(folder / SHEET, items, title=f"First batch of {folder.name}", detail=detail)
    logger.info("First batch of %s, as the encoder sees it: %s", folder.name, folder / SHEET)
