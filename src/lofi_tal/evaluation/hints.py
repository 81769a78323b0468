"""Why detections may count for nothing: their ids or times are written in another way than the ground truth's."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import counted

Floats = NDArray[np.float64]

_SAMPLE = 50
"""Ids of which the difference is learnt; all are then counted."""
_TOO_LATE = 1.5
"""Times that usually lie so many durations behind the start are no seconds."""


def id_hints(extra: Sequence[str], missing: Sequence[str], elsewhere: Mapping[str, str]) -> list[str]:
    """Say how the ids of the results differ from those of the ground truth.

    Args:
        extra: Ids with detections that the subset does not have.
        missing: Ids of the subset with instances, but without detections.
        elsewhere: Subset of each other id of the ground truth.
    """
    hints = []
    subsets = Counter(elsewhere[name] for name in extra if name in elsewhere)
    for subset, count in subsets.most_common(3):
        hints.append(
            f"In subset {subset!r} of the ground truth, which is not evaluated: {counted(count, 'video')} with "
            "detections. Was another subset meant?"
        )
    unknown = [name for name in extra if name not in elsewhere]
    if unknown and missing and (renamed := _affix(unknown, missing) or _spelling(unknown, missing)):
        count, how, theirs, ours = renamed
        hints.append(
            f"{count} of {len(unknown)} ids of the results that the ground truth does not have would match {how}: "
            f"{theirs!r} is {ours!r} there. Rename them in one of the files; as it is, these detections are false "
            "positives and the instances are missed."
        )
    return hints


def event_hints(segment: Floats) -> list[str]:
    """Say whether all instances ``(N, 2)`` start and end at one time: nothing overlaps those."""
    if (segment[:, 1] > segment[:, 0]).any():
        return []
    return [
        "Every instance of the truth starts and ends at one time, so that no detection overlaps it: judge point events "
        "with --events tight (lofi_tal.evaluation.spotting.evaluate_events in Python)."
    ]


def time_hints(segment: Floats, duration: Floats) -> list[str]:
    """Say whether detections that match nothing look as if they were not in seconds.

    Args:
        segment: ``(N, 2)`` of the detections.
        duration: ``(N,)`` seconds of their videos, NaN where it is unknown.
    """
    known = np.isfinite(duration) & (duration > 0)
    if not known.any():
        return []
    end, length = segment[known, 1], duration[known]
    if end.max() <= 1.0 < np.median(length):
        return ["All detections end within the first second: are their times shares of the videos instead of seconds?"]
    beyond = float(np.median(end / length))
    if beyond > _TOO_LATE:
        return [
            f"Half of the detections end beyond {beyond:.1f} times the length of their video: are their times frames "
            "or milliseconds instead of seconds?"
        ]
    return []


def _affix(extra: Sequence[str], missing: Sequence[str]) -> tuple[int, str, str, str] | None:
    """Return what to add or remove at the ends of ids: how many then match, in words, and an example."""
    wanted = set(missing)
    rules: Counter[tuple[str, str, str, str]] = Counter()  # removed prefix and suffix, added prefix and suffix
    for theirs in extra[:_SAMPLE]:
        found = set()
        for ours in missing:
            if ours and ours in theirs:
                before, _, after = theirs.partition(ours)
                found.add((before, after, "", ""))
            elif theirs and theirs in ours:
                before, _, after = ours.partition(theirs)
                found.add(("", "", before, after))
        rules.update(found)
    best: tuple[int, str, str, str] | None = None
    for rule, _ in rules.most_common(20):
        pairs = [(name, changed) for name in extra if (changed := _changed(name, rule)) in wanted]
        if _enough(len(pairs), len(extra), len(missing)) and (best is None or len(pairs) > best[0]):
            best = (len(pairs), _in_words(rule), *pairs[0])
    return best


def _changed(name: str, rule: tuple[str, str, str, str]) -> str | None:
    before, after, prefix, suffix = rule
    if not (name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after)):
        return None
    return prefix + name[len(before) : len(name) - len(after)] + suffix


def _in_words(rule: tuple[str, str, str, str]) -> str:
    ends = ("prefix", "suffix")
    removed = [f"the {end} {text!r}" for end, text in zip(ends, rule[:2], strict=True) if text]
    added = [f"the {end} {text!r}" for end, text in zip(ends, rule[2:], strict=True) if text]
    return f"without {' and '.join(removed)}" if removed else f"with {' and '.join(added)}"


def _spelling(extra: Sequence[str], missing: Sequence[str]) -> tuple[int, str, str, str] | None:
    """Return how many ids match but for folders and file names, case, separators, Unicode form or zeros in front."""
    by_key = {_key(name): name for name in missing}
    pairs = [(name, by_key[key]) for name in extra if (key := _key(name)) in by_key]
    if not _enough(len(pairs), len(extra), len(missing)):
        return None
    return (len(pairs), "but for case, folders, separators or zeros in front", *pairs[0])


def _key(name: str) -> str:
    plain = unicodedata.normalize("NFC", name).casefold().replace("\\", "/").rpartition("/")[2]
    plain = re.sub(r"\.(?:mp4|mkv|avi|webm|mov|mpe?g|npy|npz|csv|pt|h5|json|txt)$", "", plain)
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\W_]+", "", re.sub(r"^(?:v|video)[_-]", "", plain)))


def _enough(matched: int, extra: int, missing: int) -> bool:
    """Say whether so many matches are no accident: half of what can match, and two if there are two."""
    return matched >= max(min(extra, missing) / 2, min(2, extra, missing))
