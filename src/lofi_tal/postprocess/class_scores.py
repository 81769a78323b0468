"""Class scores of whole videos in files: the layouts that published systems multiply their proposals with.

*CUHK*: ``{"results": {id: [K numbers]}, "class": [K names]}``, from the CUHK & ETH & SIAT submission to the
ActivityNet challenge 2017, used by BSN, BMN, G-TAD and OpenTAD (``cuhk_val_simp_share.json``).
*HACS*: ``{"0": [{"label": class index, "score": logit}, two of them], ...}``, keyed by the position of the
video in the validation subset, from G-TAD's branch ``hacs`` (``hacs_val_cls_top2.json``); the names come from
another file.

Legend: K classes, N proposals of one video.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import read_json, write_json

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Scores of every class for each video.

    Args:
        labels: K class names.
        scores: Video id to ``(K,)`` scores, larger is likelier, none negative.

    Raises:
        DataError: If a video has another number of scores than there are labels, or a score that is negative
        or not
            finite.
    """

    labels: tuple[str, ...]
    scores: dict[str, Floats]

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels):
            double = next(label for label in self.labels if self.labels.count(label) > 1)
            raise DataError(f"class scores name the class {double!r} more than once.")
        for video_id, values in self.scores.items():
            if values.shape != (len(self.labels),):
                raise DataError(
                    f"class scores of video {video_id!r}: {values.size} numbers for {len(self.labels)} classes."
                )
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise DataError(f"class scores of video {video_id!r}: a score is negative or not finite.")

    def of(self, video_id: str) -> Floats:
        """Return the scores ``(K,)`` of one video.

        Raises:
            DataError: If there are none.
        """
        try:
            return self.scores[video_id]
        except KeyError:
            raise DataError(
                f"there are no class scores for video {video_id!r} (the file covers {len(self.scores)} videos): "
                "use a file made for this subset, or the built-in classifier."
            ) from None


def read_cuhk_scores(path: Path | str) -> ClassScores:
    """Read class scores in the CUHK layout.

    Raises:
        DataError: If the file is malformed; the message says where.
    """
    path = Path(path)
    content = read_json(path)
    results = content.get("results") if isinstance(content, Mapping) else None
    labels = content.get("class") if isinstance(content, Mapping) else None
    if not isinstance(results, Mapping) or not isinstance(labels, list):
        raise DataError(f'{path}: expected {{"results": {{id: [scores]}}, "class": [names]}} (CUHK layout).')
    scores = {}
    for video_id, values in results.items():
        try:
            scores[video_id] = np.array(values, dtype=np.float64).reshape(-1)
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: results[{video_id!r}] is not a list of numbers.") from error
    return _located(path, tuple(str(label) for label in labels), scores)


def write_cuhk_scores(path: Path | str, scores: ClassScores) -> None:
    """Write class scores in the CUHK layout, in one atomic step."""
    results = {video_id: values.tolist() for video_id, values in scores.scores.items()}
    write_json(Path(path), {"results": results, "class": list(scores.labels)})


def read_hacs_scores(path: Path | str, labels: Sequence[str], videos: Sequence[str]) -> ClassScores:
    """Read class scores in the HACS layout.

    The published system keeps one class, that with the higher logit, and gives it the weight ``max / (sum of
    the two)``, which is not a softmax. Here that class gets that weight, and all others 0.

    Args:
        path: JSON file.
        labels: Class names in the order of the indices (alphabetical in HACS).
        videos: Ids of the subset in the order of the annotation file.

    Raises:
        DataError: If the file is malformed, or an index is beyond ``labels`` or ``videos``.
    """
    path = Path(path)
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise DataError(f"{path}: expected an object keyed by the position of the video (HACS layout).")
    scores = {}
    for key, entries in content.items():
        try:
            video_id = videos[_index(int(key), len(videos))]
            logits = [float(entry["score"]) for entry in entries]
            best = int(np.argmax(logits))
            values = np.zeros(len(labels))
            values[_index(int(entries[best]["label"]), len(labels))] = logits[best] / math.fsum(logits)
        except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
            raise DataError(
                f"{path}: entry {key!r} is {entries!r}; expected a position below {len(videos)} and "
                f'[{{"label": index below {len(labels)}, "score": logit}}, ...].'
            ) from error
        scores[video_id] = values
    return _located(path, tuple(labels), scores)


def write_hacs_scores(path: Path | str, scores: ClassScores, videos: Sequence[str]) -> None:
    """Write the two best classes of each video in the HACS layout, in one atomic step.

    Args:
        path: JSON file.
        scores: Class scores of all ``videos``.
        videos: Ids of the subset in the order of the annotation file.

    Raises:
        DataError: If a video has no scores.
    """
    document: dict[str, Any] = {}
    for position, video_id in enumerate(videos):
        values = scores.of(video_id)
        best = np.argsort(-values, kind="stable")[:2]
        document[str(position)] = [{"label": int(label), "score": float(values[label])} for label in best]
    write_json(Path(path), document)


def label_proposals(scores: ArrayLike, class_scores: ArrayLike, classes: int = 2) -> tuple[Indices, Indices, Floats]:
    """Give every proposal of a video its best classes; the score is proposal score × class score.

    As published with G-TAD and BMN: after suppression, each of the 100 proposals is emitted once for each of
    the video's two best classes.

    Args:
        scores: ``(N,)`` scores of proposals.
        class_scores: ``(K,)`` of the video, or ``(N, K)`` of each proposal.
        classes: How many classes each proposal is emitted for; all if there are fewer.

    Returns:
        Positions of the proposals, class indices and scores, each ``(M,)``, by falling score. Classes of
        score 0 are left out.

    Raises:
        LofiError: If ``classes`` is less than 1.
        DataError: If the shapes disagree.
    """
    if classes < 1:
        raise LofiError(f"classes={classes} must be at least 1: a detection needs a label.")
    confidence = np.asarray(scores, dtype=np.float64).reshape(-1)
    table = np.asarray(class_scores, dtype=np.float64)
    if table.ndim == 1:
        table = np.broadcast_to(table, (len(confidence), len(table)))
    if table.ndim != 2 or len(table) != len(confidence):
        raise DataError(
            f"class scores have shape {table.shape}; expected (K,) or ({len(confidence)}, K) for {len(confidence)} "
            "proposals."
        )
    best = np.argsort(-table, axis=1, kind="stable")[:, :classes]
    weight = np.take_along_axis(table, best, axis=1)
    proposal = np.repeat(np.arange(len(confidence)), best.shape[1])
    label, fused = best.reshape(-1), (confidence[:, None] * weight).reshape(-1)
    keep = np.flatnonzero(weight.reshape(-1) > 0)
    order = keep[np.argsort(-fused[keep], kind="stable")]
    return proposal[order], label[order].astype(np.int64), fused[order]


def _index(value: int, count: int) -> int:
    """Return ``value`` if it is a position in a sequence of ``count``."""
    if not 0 <= value < count:
        raise IndexError
    return value


def _located(path: Path, labels: tuple[str, ...], scores: dict[str, Floats]) -> ClassScores:
    """Return checked class scores; messages begin with the file."""
    try:
        return ClassScores(labels, scores)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
