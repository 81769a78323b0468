"""THUMOS14's temporal annotations, as the challenge has them and as JSON.

The challenge (https://www.crcv.ucf.edu/THUMOS14/) has a text file for each class, ``<Class>_val.txt`` and
``<Class>_test.txt``, with lines ``video start end`` in seconds. Models are trained on the validation videos and
evaluated on the test videos, so these become ``training`` and ``validation``. Parts called ``Ambiguous`` are neither
action nor background; they become ``ignored`` parts, which only an evaluation that is asked to looks at.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from lofi_tal.annotations.activitynet import load_annotations
from lofi_tal.annotations.formats.collecting import Collector, canonical_subset
from lofi_tal.errors import DataError
from lofi_tal.files import is_companion, read_text

AMBIGUOUS = "Ambiguous"
_ROLES = {"val": "training", "test": "validation"}


def class_files(folder: Path) -> list[Path]:
    """Return the class files of a folder: those of the validation videos first, ambiguous parts after the classes."""
    files = [*folder.glob("*_val.txt"), *folder.glob("*_test.txt")]
    files = [file for file in files if not is_companion(file.name)]
    return sorted(files, key=lambda path: (not path.stem.endswith("_val"), _class_of(path) == AMBIGUOUS, path))


def is_class_file(path: Path) -> bool:
    """Say whether the name is that of a class file, ``<Class>_val.txt`` or ``<Class>_test.txt``."""
    return path.stem.rpartition("_")[2] in _ROLES and bool(_class_of(path))


def read_thumos(path: Path, into: Collector) -> None:
    """Read a folder of class files, one class file, or JSON such as G-TAD's ``thumos_gt.json``.

    Raises:
        DataError: If there is none of them.
    """
    if path.is_dir():
        files = class_files(path)
        if not files:
            raise DataError(f"{path} holds no class files such as Diving_val.txt or Diving_test.txt.")
        for file in files:
            _read_class(file, into)
    elif path.suffix.lower() == ".txt":
        _read_class(path, into)
    else:
        _read_json(path, into)


def _read_class(path: Path, into: Collector) -> None:
    label, role = _class_of(path), path.stem.rpartition("_")[2]
    if not is_class_file(path):
        raise DataError(f"{path}: the name should end in _val.txt or _test.txt after the class.")
    lines = read_text(path).splitlines()
    rows = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    for number, fields in rows:
        where = f"{path}, line {number}"
        with into.part():
            if len(fields) != 3:
                raise DataError(f"{where}: expected 'video start end', found {len(fields)} values.")
            video = into.declare(where, fields[0], subset=_ROLES[role])
            if label == AMBIGUOUS:
                into.ignore(where, video, fields[1], fields[2])
            else:
                into.add(where, video, fields[1], fields[2], label)


def _read_json(path: Path, into: Collector) -> None:
    annotations = load_annotations(path, strict=into.options.strict)
    into.refused += annotations.notes
    challenge = any(canonical_subset(name) == "testing" for name in annotations.subsets)
    for video in annotations:
        segments = video.segments
        unsure = np.array([label == AMBIGUOUS for label in segments.label], dtype=bool)
        spans = np.stack([segments.start, segments.end], axis=1)[unsure]
        subset = video.subset
        if challenge:
            subset = "validation" if canonical_subset(subset) == "testing" else "training"
        ignored = np.concatenate([video.ignored, spans])
        with into.part():
            into.adopt(replace(video, subset=subset, segments=segments[~unsure], ignored=ignored))


def _class_of(path: Path) -> str:
    return path.stem.rpartition("_")[0]
