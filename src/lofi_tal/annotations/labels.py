"""Classes that are probably one, classes with a single instance, and annotations that stand there twice."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from lofi_tal.annotations.document import Annotations, VideoAnnotation
from lofi_tal.annotations.findings import Finding

_BLANKS = re.compile(r"[\s_-]+")
_RARE = 2  # instances of a name that may be a slip of the pen
_NAMED = 10
_MOST = 2000  # names: of more, pairs are too many, and they are free text rather than classes


def check_labels(annotations: Annotations, train_subset: str) -> Iterator[Finding]:
    """Yield what is doubtful about class names and their numbers of instances.

    Args:
        annotations: As loaded, not cleaned.
        train_subset: Subset that is trained on.
    """
    counts = Counter(label for video in annotations for label in video.segments.label)
    spellings: dict[str, list[str]] = {}
    for label in counts:
        spellings.setdefault(_folded(label), []).append(label)
    for names in spellings.values():
        if len(names) > 1:
            what = "differ only in upper case, blanks or hyphens"
            yield Finding("warning", "similar-labels", "", f"Classes {_counted(names, counts)} {what}: are they one?")
    for pair in _typos([names[0] for names in spellings.values()], counts):
        what = "differ by one letter, or two that changed places"
        yield Finding("warning", "similar-labels", "", f"Classes {_counted(pair, counts)} {what}: is one a typo?")
    trained = Counter(label for video in annotations if video.subset == train_subset for label in video.segments.label)
    single = [label for label, count in trained.items() if count == 1]
    if single:
        named = ", ".join(map(repr, single[:_NAMED])) + (", ..." if len(single) > _NAMED else "")
        which = "1 class has" if len(single) == 1 else f"{len(single)} classes have"
        detail = f"{which} one instance in {train_subset!r}: {named}. Nothing can be learnt of one instance."
        yield Finding("warning", "single-instance", "", detail)


def check_duplicates(video: VideoAnnotation) -> Iterator[Finding]:
    """Yield a finding for each segment that stands there more than once with the same label."""
    segments = video.segments
    if len(segments) < 2:
        return
    rows = zip(segments.start.round(3).tolist(), segments.end.round(3).tolist(), segments.label, strict=True)
    for (start, end, label), count in Counter(rows).items():
        if count > 1:
            detail = f"The segment [{start:g}, {end:g}] s ({label}) stands there {count} times."
            yield Finding("warning", "duplicate-segment", video.video_id, detail)


def _counted(names: Sequence[str], counts: Counter[str]) -> str:
    return " and ".join(f"{name!r} ({counts[name]})" for name in sorted(names, key=lambda name: -counts[name]))


def _folded(label: str) -> str:
    return _BLANKS.sub("", unicodedata.normalize("NFKC", label).casefold())


def _words(label: str) -> list[str]:
    return _BLANKS.sub(" ", unicodedata.normalize("NFKC", label).casefold()).split()


def _typos(names: Sequence[str], counts: Counter[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of names of which one is rare, and of which one word differs by a slip of the pen."""
    if len(names) > _MOST:
        return
    words = {name: _words(name) for name in names}
    for first, second in combinations(names, 2):
        if min(counts[first], counts[second]) > _RARE or len(words[first]) != len(words[second]):
            continue
        different = [pair for pair in zip(words[first], words[second], strict=True) if pair[0] != pair[1]]
        if len(different) == 1 and _is_slip(*different[0]):
            yield first, second


def _is_slip(one: str, other: str) -> bool:
    """Say whether words differ by a letter that is missing, doubled, or exchanged with its neighbour or another.

    Short words that differ in a letter are two words (walk, talk), and so are numbers.
    """
    shorter, longer = sorted((one, other), key=len)
    if len(longer) - len(shorter) > 1 or len(longer) < 4:
        return False
    start = next((i for i, (a, b) in enumerate(zip(shorter, longer, strict=False)) if a != b), len(shorter))
    rest = shorter[start:], longer[start:]
    if any(letter.isdigit() for letter in rest[0][:1] + rest[1][:1]):
        return False
    if len(shorter) < len(longer):
        return rest[0] == rest[1][1:]
    swapped = rest[0][:2][::-1] == rest[1][:2] and rest[0][2:] == rest[1][2:]
    return swapped or (len(longer) > 4 and rest[0][1:] == rest[1][1:])
