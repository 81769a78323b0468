"""Controls: can the benchmark be solved without looking at the pattern of motion? It must not be.

Three questions, each answered by a linear probe that is fitted on training videos and scored on validation videos:

* does the *amount* of motion tell the inside of an action from its outside (frame differences: mean, where, histogram)?
* is the mean motion energy the same inside and outside?
* does *one frame* tell the class?

N: number of windows, T: frames of a window, S: side of a frame in pixels, D: number of features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lofi_tal.synthetic.plans import Plan

Floats = NDArray[np.float64]
Frames = NDArray[np.uint8]

WINDOW, STRIDE, STEP = 8, 2, 8  # frames of a window, frames between them, frames between windows
GRID = 4  # cells along each side, for where things move
THUMBNAIL = 10  # pixels along each side of the downsampled frame
_EDGES = np.array([0, 4, 8, 12, 18, 26, 38, 60, 256])  # of |difference|, about evenly filled


@dataclass(frozen=True)
class Watched:
    """One video as the controls see it: a feature row for each window.

    Args:
        subset: ``"training"`` or ``"validation"``.
        label: Class of the video.
        differences: ``(N, D)`` frame-difference features; column 0 is the mean |difference|.
        thumbnails: ``(N, D)`` one downsampled frame of each window.
        inside: ``(N,)`` 1 where all frames lie in an action, 0 where none does, -1 else.
    """

    subset: str
    label: str
    differences: Floats
    thumbnails: Floats
    inside: NDArray[np.int64]


@dataclass(frozen=True)
class Controls:
    """What the controls found; see `measure_controls`."""

    inside_auc: float
    energy_ratio: float
    frame_accuracy: float
    chance: float
    videos: int
    windows: int


def watch(frames: Frames, plan: Plan) -> Watched:
    """Cut ``(F, S, S, 3)`` frames of a planned video into windows and take the features.

    The frames may be the rendered ones or the decoded file's.
    """
    starts = np.arange(0, len(frames) - (WINDOW - 1) * STRIDE, STEP)
    windows = starts[:, None] + STRIDE * np.arange(WINDOW)
    acting = np.zeros(len(frames), dtype=bool)
    for span in plan.instances:
        acting[span.start : span.end] = True
    share = acting[windows].mean(axis=1)
    inside = np.where(share == 1, 1, np.where(share == 0, 0, -1))
    gray = frames.astype(np.float32).mean(axis=-1)
    differences = np.stack([difference_features(gray[window]) for window in windows])
    thumbnails = np.stack([thumbnail(frames[window[WINDOW // 2]]) for window in windows])
    return Watched(plan.subset, plan.label, differences, thumbnails, inside)


def difference_features(gray: NDArray[np.float32]) -> Floats:
    """Return mean |difference|, its mean in each cell of a grid, and its histogram, of a window ``(T, S, S)``."""
    change = np.abs(np.diff(gray, axis=0))
    histogram = np.histogram(change, _EDGES)[0] / change.size
    return np.concatenate([[change.mean()], _pool(change.mean(axis=0), GRID).ravel(), histogram]).astype(np.float64)


def thumbnail(frame: Frames) -> Floats:
    """Return one frame ``(S, S, 3)``, downsampled to ``THUMBNAIL`` pixels a side, with its squares (sizes, shapes)."""
    small = np.stack([_pool(frame[..., c].astype(np.float32), THUMBNAIL) for c in range(3)]).ravel() / 255
    return np.concatenate([small, (small - small.mean()) ** 2]).astype(np.float64)


def _pool(image: NDArray[np.float32], cells: int) -> NDArray[np.float32]:
    """Average an ``(S, S)`` image over ``cells`` × ``cells`` blocks."""
    side = image.shape[0] // cells * cells
    blocks = image[:side, :side].reshape(cells, side // cells, cells, side // cells)
    pooled: NDArray[np.float32] = blocks.mean(axis=(1, 3))
    return pooled


def area_under_curve(scores: Floats, truth: NDArray[np.int64]) -> float:
    """Return the area under the ROC curve of ``scores`` ``(N,)`` for binary ``truth`` ``(N,)``; 0.5 is chance.

    It is the Mann-Whitney statistic: the share of (positive, negative) pairs in the right order, ties counting half.
    """
    positive, negative = scores[truth == 1], np.sort(scores[truth == 0])
    below = np.searchsorted(negative, positive, "left") + np.searchsorted(negative, positive, "right")
    return float(below.mean() / (2 * len(negative)))


def ridge(features: Floats, targets: Floats, unseen: Floats, *, strength: float = 0.01) -> Floats:
    """Fit a ridge regression on standardised ``(N, D)`` features and predict ``(N', K)`` targets of unseen ones.

    Args:
        features: ``(N, D)``.
        targets: ``(N, K)``.
        unseen: ``(N', D)``.
        strength: Penalty, for each training row.
    """
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-9
    x, middle = (features - mean) / spread, targets.mean(axis=0)
    weights = np.linalg.solve(x.T @ x + strength * len(x) * np.eye(x.shape[1]), x.T @ (targets - middle))
    predicted: Floats = (unseen - mean) / spread @ weights + middle
    return predicted


def measure_controls(videos: Iterable[Watched]) -> Controls:
    """Fit the probes on the training videos and score them on the validation videos.

    Returns:
        ``inside_auc``: AUC of inside against outside from frame differences (chance 0.5);
        ``energy_ratio``: mean motion energy inside over outside, averaged over all windows;
        ``frame_accuracy``: share of validation frames, all inside an action, whose class one thumbnail tells
        (``chance``: one in the number of classes).
    """
    watched = list(videos)
    training = [video for video in watched if video.subset == "training"]
    validation = [video for video in watched if video.subset == "validation"]
    labels = sorted({video.label for video in training})

    x, y = _differences(training)
    unseen, truth = _differences(validation)
    auc = area_under_curve(ridge(x, y[:, None].astype(np.float64), unseen)[:, 0], truth)
    energy, where = np.concatenate([x[:, 0], unseen[:, 0]]), np.concatenate([y, truth])

    frames, classes = _thumbnails(training, labels)
    seen, wanted = _thumbnails(validation, labels)
    told = ridge(frames, np.eye(len(labels))[classes], seen).argmax(axis=1)
    return Controls(
        inside_auc=auc,
        energy_ratio=float(energy[where == 1].mean() / energy[where == 0].mean()),
        frame_accuracy=float((told == wanted).mean()),
        chance=1 / len(labels),
        videos=len(watched),
        windows=len(where),
    )


def _differences(videos: Sequence[Watched]) -> tuple[Floats, NDArray[np.int64]]:
    """Return features and inside/outside of all windows that are wholly one or the other."""
    features = np.concatenate([video.differences[video.inside >= 0] for video in videos])
    return features, np.concatenate([video.inside[video.inside >= 0] for video in videos])


def _thumbnails(videos: Sequence[Watched], labels: Sequence[str]) -> tuple[Floats, NDArray[np.int64]]:
    """Return thumbnails inside actions and the number of their class."""
    rows = [video.thumbnails[video.inside == 1] for video in videos]
    classes = [np.full(len(part), labels.index(video.label)) for part, video in zip(rows, videos, strict=True)]
    return np.concatenate(rows), np.concatenate(classes)
