"""Subsets drawn so that every class has its share in each of them, and what belongs together stays together.

The draw is iterative stratification (K. Sechidis, G. Tsoumakas, I. Vlahavas, *On the Stratification of Multi-Label
Data*, ECML PKDD 2011): the rarest class is dealt out first, each time to the subset that lacks it most. Beyond it, the
last group that can still show a class in training goes there.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lofi_tal.annotations.document import Annotations
from lofi_tal.errors import DataError, LofiError

_TRAINING = "training"
_VIDEOS = ""  # stands among the classes for the number of videos itself, which is dealt out last


@dataclass(frozen=True, eq=False)
class Split:
    """Annotations with new subsets.

    Args:
        annotations: All videos, in the order that they had.
        counts: Number of videos of each class in each subset.
        groups: Number of groups that were kept together.
    """

    annotations: Annotations
    counts: dict[str, dict[str, int]]
    groups: int


def split_annotations(
    annotations: Annotations,
    shares: Mapping[str, float],
    *,
    seed: int = 0,
    group_by: str | None = None,
    keep: Mapping[str, str] | None = None,
) -> Split:
    """Give every video a subset; what they had is replaced. The same arguments give the same subsets.

    Args:
        annotations: The videos.
        shares: Positive weight of each subset, such as ``{"training": 0.8, "validation": 0.2}``.
        seed: Of the order in which videos of equal standing are dealt out.
        group_by: Regular expression found in each id; videos with the same first group of it (or the same match, if it
            has no group) go to the same subset.
        keep: Subsets of videos whose place is decided, by id, such as those of an earlier split; their groups go with
            them, and the others are dealt out so that all together have the shares. A subset without a share keeps its
            videos and takes no others.

    Raises:
        LofiError: If a weight is not positive, ``training`` has none, or the expression is none.
        DataError: If the expression is not found in an id, ``keep`` divides a group, or a subset would have no video.
    """
    if _TRAINING not in shares or not all(0 < share < float("inf") for share in shares.values()):
        given = ", ".join(f"{name}={share:g}" for name, share in shares.items()) or "none"
        raise LofiError(f"shares {given}: expected positive weights, one of them of {_TRAINING!r}.")
    members = _groups(annotations, group_by)
    kinds = {name: _counts(annotations, ids) for name, ids in members.items()}
    order = sorted(members)
    random.Random(seed).shuffle(order)
    kept = _kept(members, keep or {})
    subset_of = _deal(order, kinds, shares, kept)
    videos = {}
    new = {video_id: subset_of[name] for name, ids in members.items() for video_id in ids}
    for video in annotations:
        videos[video.video_id] = replace(video, subset=new[video.video_id])
    counts = {label: dict.fromkeys(shares, 0) for label in annotations.labels}
    for name, counted in kinds.items():
        for label, count in counted.items():
            if label != _VIDEOS:
                counts[label][subset_of[name]] = counts[label].get(subset_of[name], 0) + count
    empty = [name for name in shares if name not in subset_of.values()]
    if empty:
        stay = f", {len(kept)} of which keep their subset," if kept else ""
        raise DataError(
            f"Subset {empty[0]!r} would have no video: {len(members)} groups of videos{stay} are too few, since every "
            "class needs one that trains. Label more videos, or split with smaller groups."
        )
    return Split(Annotations(videos, annotations.notes), counts, len(members))


def _groups(annotations: Annotations, group_by: str | None) -> dict[str, list[str]]:
    if group_by is None:
        return {video.video_id: [video.video_id] for video in annotations}
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise LofiError(f"--group-by {group_by!r} is no regular expression: {error}.") from error
    members: dict[str, list[str]] = {}
    for video in annotations:
        match = pattern.search(video.video_id)
        name = match and match[1 if pattern.groups else 0]
        if name is None:
            raise DataError(f"Video {video.video_id!r}: --group-by {group_by!r} is not found in its id.")
        members.setdefault(name, []).append(video.video_id)
    return members


def _kept(members: Mapping[str, list[str]], keep: Mapping[str, str]) -> dict[str, str]:
    """Return the subset of each group that has a video whose subset is kept."""
    subset_of: dict[str, str] = {}
    for name, ids in members.items():
        decided = [video_id for video_id in ids if video_id in keep]
        for video_id in decided:
            if keep[video_id] != keep[decided[0]]:
                raise DataError(
                    f"Group {name!r}: {decided[0]!r} is to stay in {keep[decided[0]]!r} and {video_id!r} in "
                    f"{keep[video_id]!r}. Leave out --keep, or group otherwise."
                )
            subset_of[name] = keep[video_id]
    return subset_of


def _counts(annotations: Annotations, ids: list[str]) -> Counter[str]:
    """Return the number of videos of each class, and of all."""
    counts = Counter({_VIDEOS: len(ids)})
    for video_id in ids:
        counts.update(set(annotations.videos[video_id].segments.label))
    return counts


def _deal(
    order: list[str], kinds: Mapping[str, Counter[str]], shares: Mapping[str, float], kept: Mapping[str, str]
) -> dict[str, str]:
    """Return the subset of each group."""
    aside = {name: subset for name, subset in kept.items() if subset not in shares}
    order = [name for name in order if name not in aside]
    holders: dict[str, list[str]] = {}
    for name in sorted(order, key=lambda name: -kinds[name][_VIDEOS]):  # the largest first: the small ones even out
        for label in kinds[name]:
            holders.setdefault(label, []).append(name)
    total = sum(shares.values())
    left = sum((kinds[name] for name in order), Counter())
    wanted = {subset: {label: left[label] * share / total for label in left} for subset, share in shares.items()}
    undecided = {label: len(names) for label, names in holders.items()}
    untrained, empty = set(left) - {_VIDEOS}, set(shares)
    subset_of: dict[str, str] = {}

    def give(name: str, subset: str) -> None:
        subset_of[name] = subset
        empty.discard(subset)
        if subset == _TRAINING:
            untrained.difference_update(kinds[name])
        for label, count in kinds[name].items():
            undecided[label] -= 1
            wanted[subset][label] -= count
            if label in left:
                left[label] -= count

    for name in sorted(kept.keys() - aside.keys()):
        give(name, kept[name])
    while left:
        rarest = min(left, key=lambda label: (label == _VIDEOS, left[label], label))
        del left[rarest]
        for name in holders[rarest]:
            if name in subset_of:
                continue
            last = any(undecided[label] == 1 for label in kinds[name].keys() & untrained)  # or a class is never trained
            open_to = [_TRAINING] if last else empty if len(order) - len(subset_of) <= len(empty) else shares
            give(name, max(sorted(open_to), key=lambda subset: (wanted[subset][rarest], wanted[subset][_VIDEOS])))
    return subset_of | aside
