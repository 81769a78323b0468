"""The score sheet of a model: what its scores mean, learnt from videos that training has not seen.

It lies beside ``localizer.json`` as ``scores.json``: the curves that make probabilities of scores, and the verdicts on
the detections of the selection videos, from which thresholds for any wanted precision are chosen later. Both are data,
and held to bounds when they are read. A model folder without it works: its scores stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lofi_tal.artefacts import check_files
from lofi_tal.errors import DataError
from lofi_tal.evaluation.calibration import Calibration, Curve, fit_calibration
from lofi_tal.evaluation.operating import Thresholds, choose_thresholds
from lofi_tal.evaluation.verdicts import TIOU, Verdicts
from lofi_tal.files import read_json, write_json
from lofi_tal.model_folders import SHEET
from lofi_tal.segments import Segments
from lofi_tal.showing import Shown

FORMAT = 1
MOST = 200_000
"""Verdicts, and instances, that a sheet may hold."""


@dataclass(frozen=True, eq=False)
class ScoreSheet:
    """What the scores of a model mean.

    Args:
        verdicts: On the detections of the selection videos, with raw scores.
        calibration: Makes probabilities of scores; None where there was too little to learn it from.
    """

    verdicts: Verdicts
    calibration: Calibration | None

    def calibrated(self, segments: Segments) -> Segments:
        """Return segments with probabilities for scores; as they are where nothing was calibrated."""
        return segments if self.calibration is None else self.calibration.of(segments)

    def probability(self, score: float, label: str | None = None) -> float:
        """Return what a raw score becomes; of a class without a curve, or of no class, by the pooled one."""
        if self.calibration is None or not np.isfinite(score):
            return score
        return float(self.calibration.probability([score], [label or ""])[0])

    def thresholds(self, precision: float | None = None) -> Thresholds:
        """Return the lowest raw scores worth showing: see :func:`lofi_tal.evaluation.operating.choose_thresholds`."""
        return choose_thresholds(self.verdicts, precision)

    def shown(self, precision: float | None = None) -> Shown:
        """Return what is worth showing, in scores as :meth:`calibrated` gives them."""
        raw = self.thresholds(precision)
        limits = {label: self._limit(limit, label) for label, limit in raw.classes.items()}
        return Shown(self._limit(raw.pooled), limits)

    def _limit(self, score: float, label: str | None = None) -> float:
        """Return the limit of a raw score, a rounding error lower: the score that it was chosen at is shown."""
        return score if self.calibration is None else self.probability(score, label) * (1 - 1e-9)


def make_sheet(verdicts: Verdicts) -> ScoreSheet | None:
    """Return the sheet of a model from verdicts on selection videos; None without a right detection."""
    kept = verdicts.best(MOST)
    if not kept.right.any() or len(kept.instance_label) > MOST:
        return None
    return ScoreSheet(kept, fit_calibration(verdicts))


def save_sheet(sheet: ScoreSheet, folder: Path) -> None:
    """Write ``scores.json`` into a model folder."""
    verdicts = sheet.verdicts
    write_json(
        folder / SHEET,
        {
            "format": FORMAT,
            "tiou": TIOU,
            "labels": list(verdicts.labels),
            "calibration": None if sheet.calibration is None else sheet.calibration.to_json(),
            "selection": {
                "videos": verdicts.videos,
                **{name: getattr(verdicts, name).tolist() for name in ("score", "label", "video")},
                "right": verdicts.right.astype(int).tolist(),
                **{name: getattr(verdicts, name).tolist() for name in ("instance_label", "instance_video")},
            },
        },
    )


def load_sheet(folder: Path) -> ScoreSheet | None:
    """Read ``scores.json`` of a model folder; None if there is none.

    Raises:
        DataError: If it is malformed, beyond the bounds or not as it was written; the message names the file and what
            is at fault.
    """
    path = folder / SHEET
    if not os.path.lexists(path):
        return None
    check_files(folder, SHEET)
    content = read_json(path)
    try:
        if content["format"] != FORMAT:
            raise DataError(f"format {content['format']!r}; this version reads format {FORMAT}.")
        labels = tuple(_text(label) for label in _list(content["labels"]))
        return ScoreSheet(_verdicts(content["selection"], labels), _calibration(content["calibration"], labels))
    except DataError as error:
        raise DataError(f"{path}: {error} Train stage 3 again.") from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path} is no score sheet of a model: {error!r}. Train stage 3 again.") from error


def _verdicts(selection: Mapping[str, Any], labels: tuple[str, ...]) -> Verdicts:
    videos = selection["videos"]
    if isinstance(videos, bool) or not isinstance(videos, int) or not 1 <= videos <= 10_000_000:
        raise DataError(f"selection has {videos!r} videos; allowed: 1 to 10,000,000.")
    columns = {
        name: np.array(_list(selection[name]), dtype=np.float64)
        for name in ("score", "label", "video", "right", "instance_label", "instance_video")
    }
    for name, values in columns.items():
        if values.ndim != 1 or (name != "score" and (values != np.round(values)).any()):
            raise DataError(f"selection.{name} is no list of {'numbers' if name == 'score' else 'whole numbers'}.")
    score, right = columns.pop("score"), columns.pop("right") > 0
    verdicts = Verdicts(labels, videos, score, right=right, **{k: v.astype(np.int64) for k, v in columns.items()})
    if (np.diff(verdicts.score) > 0).any():
        raise DataError("selection.score does not fall.")
    return verdicts


def _calibration(content: Any, labels: tuple[str, ...]) -> Calibration | None:
    if content is None:
        return None
    classes = {_text(label): _curve(curve) for label, curve in content["classes"].items()}
    if unknown := set(classes) - set(labels):
        raise DataError(f"calibration of {sorted(unknown)[0]!r}, which is no class of the model.")
    return Calibration(_curve(content["pooled"]), classes)


def _curve(content: Mapping[str, Any]) -> Curve:
    return Curve(float(content["low"]), float(content["high"]), float(content["offset"]))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > MOST:
        size = f"{len(value)} values" if isinstance(value, list) else type(value).__name__
        raise DataError(f"a list of at most {MOST} values is {size}.")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(f"label {value!r} is no text.")
    return value
