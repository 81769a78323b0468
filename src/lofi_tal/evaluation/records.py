"""The records of a result file: checked, and as arrays.

Legend: N detections.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import DataError

Floats = NDArray[np.float64]


def columns(results: Mapping[str, Any], name: str, keys: Sequence[str]) -> tuple[list[str], Floats, Floats]:
    """Return labels (none if not among ``keys``), scores ``(N,)`` and segments ``(N, 2)`` in the document's order."""
    try:
        records = list(itertools.chain.from_iterable(results.values()))
        label = list(map(itemgetter("label"), records)) if "label" in keys else []
        score = _numbers(map(itemgetter("score"), records))
        pairs = list(map(itemgetter("segment"), records))
        if any(map((2).__ne__, map(len, pairs))):
            raise TypeError
        segment = _numbers(itertools.chain.from_iterable(pairs)).reshape(-1, 2)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(_malformed(results, name, keys)) from error
    return label, score, segment


def _numbers(values: Iterable[Any]) -> Floats:
    """Return ``values`` as fp64; text is refused even if it spells a number."""
    array = np.array(list(values))
    if array.size and array.dtype.kind not in "fiu":
        raise TypeError
    return array.astype(np.float64)


def _malformed(results: Mapping[str, Any], name: str, keys: Sequence[str]) -> str:
    """Return a message about the first record that is not of the expected form."""
    forms = {"label": "name", "score": "number", "segment": "[start, end]"}
    expected = "expected {" + ", ".join(f'"{key}": {forms[key]}' for key in keys) + "}"
    for video_id, records in results.items():
        if not isinstance(records, list):
            return f"{name}: results[{video_id!r}] is {type(records).__name__}; expected a list of detections."
        for index, record in enumerate(records):
            where = f"{name}: results[{video_id!r}], detection {index}"
            if not isinstance(record, Mapping):
                return f"{where} is {record!r}; {expected}."
            missing = [key for key in keys if key not in record]
            if missing:
                return f"{where} has no {missing[0]!r}; {expected}."
            segment = record["segment"]
            numbers = [record["score"], *(segment if isinstance(segment, list | tuple) else ())]
            if len(numbers) != 3 or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
                return f"{where} is {record!r}; {expected}."
    return f"{name}: a detection is malformed; {expected}."


def positions(results: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the video id and position of every record."""
    for video_id, records in results.items():
        for index in range(len(records)):
            yield video_id, index


def check_numbers(results: Mapping[str, Any], score: Floats, segment: Floats, name: str) -> None:
    """Refuse what cannot be ranked or measured."""
    for bad, reason in (
        (~np.isfinite(score), "its score is not a finite number"),
        (~np.isfinite(segment).all(axis=1), "its segment is not two finite numbers"),
        (segment[:, 1] < segment[:, 0], "its segment ends before it starts"),
    ):
        if bad.any():
            first = int(np.flatnonzero(bad)[0])
            video_id, index = next(itertools.islice(positions(results), first, None))
            raise DataError(
                f"{name}: results[{video_id!r}], detection {index} is {results[video_id][index]!r}: {reason} "
                f"({int(bad.sum())} such detections)."
            )


def proposal_scores(results: Mapping[str, Any], name: str) -> Floats | None:
    """Return the ``proposal_score`` of every record ``(N,)``; None unless all have one.

    Raises:
        DataError: If one is not a finite number.
    """
    records = list(itertools.chain.from_iterable(results.values()))
    if not records or not all("proposal_score" in record for record in records):
        return None
    try:
        scores = _numbers(map(itemgetter("proposal_score"), records))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: a 'proposal_score' is not a number.") from error
    if not np.isfinite(scores).all():
        raise DataError(f"{name}: a 'proposal_score' is not a finite number.")
    return scores


def has_labels(results: Mapping[str, Any]) -> bool:
    """Say whether every record has a label."""
    return all("label" in record for record in itertools.chain.from_iterable(results.values()))
