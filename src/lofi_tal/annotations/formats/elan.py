"""ELAN's ``.eaf``: annotations on tiers, tied to time slots in milliseconds.

Source: H. Sloetjes, *ELAN Annotation Format EAF Schema v3.0* (https://www.mpi.nl/tools/elan/EAFv3.0.xsd and its
documentation). Annotations of tiers that refer to others (``REF_ANNOTATION``) have the times of what they refer to.
A time slot without a value lies between annotations that share a span; like ELAN, we divide the span evenly.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

from lofi_tal.annotations.formats.collecting import Collector
from lofi_tal.annotations.formats.xml import Element, read_xml
from lofi_tal.annotations.values import read_number
from lofi_tal.errors import DataError, nearest

_SOUND = (".wav", ".mp3", ".m4a", ".aac", ".flac", ".aif", ".aiff", ".ogg", ".oga", ".wma")


def read_elan(path: Path, into: Collector) -> None:
    """Read one ``.eaf`` file, which annotates one video.

    The tiers are those of ``options.layers``, or all that refer to no other tier. The video is the first one that the
    file names (a medium that is no sound), whatever its suffix, or the file's own name.

    Raises:
        DataError: If the file is no such document, or lacks a tier.
    """
    root = read_xml(path, "ANNOTATION_DOCUMENT")
    header = next(root.all("HEADER"), Element("HEADER", {}, 1))
    units = header.attributes.get("TIME_UNITS", "milliseconds")
    if units != "milliseconds":
        raise DataError(f"{path}, line {header.line}: times in {units!r} are not read; export milliseconds.")
    reference, origin, others = _media(path, header)
    video = into.declare(str(path), reference or path.stem, is_file=bool(reference))
    document = _Document(path, root)
    chosen = _chosen(path, root, into.options.layers)
    for tier in chosen:
        name = tier.attributes.get("TIER_ID", "")
        for annotation in _annotations(tier):
            where = f"{path}, line {annotation.line}, tier {name!r}"
            with into.part():
                start, end = document.span(annotation, where)
                label = annotation.first("ANNOTATION_VALUE")
                into.add(where, video, (start + origin) / 1000, (end + origin) / 1000, label)
    rest = [tier for tier in root.all("TIER") if tier not in chosen]
    count = sum(1 for tier in rest for _ in _annotations(tier))
    names = ", ".join(repr(tier.attributes.get("TIER_ID", "")) for tier in rest)
    into.passed_over(str(path), count, "annotation", f"on other tiers; --layer reads them: {names}")
    if others:
        into.remarks.append(f"{path}: the segments are those of {reference!r}, not of {', '.join(map(repr, others))}.")


def _media(path: Path, header: Element) -> tuple[str, float, list[str]]:
    """Return the video's name, if any, the milliseconds its clock is ahead of the annotations', and other videos."""
    found = []
    for media in header.all("MEDIA_DESCRIPTOR"):
        names = [unquote(media.attributes.get(key, "")).strip() for key in ("MEDIA_URL", "RELATIVE_MEDIA_URL")]
        reference = next((name for name in names if name), "")
        kind = media.attributes.get("MIME_TYPE", "")
        is_sound = kind.startswith("audio/") or PureWindowsPath(reference).suffix.lower() in _SOUND
        if reference and not is_sound:
            origin = read_number(media.attributes.get("TIME_ORIGIN", "0"), f"{path}, line {media.line}, TIME_ORIGIN")
            found.append((reference, origin))
    if not found:
        return "", 0.0, []
    (reference, origin), *others = found
    return reference, origin, [name for name, _ in others]


def _chosen(path: Path, root: Element, names: tuple[str, ...]) -> list[Element]:
    tiers: dict[str, Element] = {}
    for tier in root.all("TIER"):
        if tiers.setdefault(tier.attributes.get("TIER_ID", ""), tier) is not tier:
            raise DataError(f"{path}, line {tier.line}: a second tier has the name {tier.attributes.get('TIER_ID')!r}.")
    if not names:
        return [tier for tier in tiers.values() if "PARENT_REF" not in tier.attributes]
    for name in names:
        if name not in tiers:
            raise DataError(f"{path} has no tier {name!r}; it has {', '.join(map(repr, tiers))}.{nearest(name, tiers)}")
    return [tiers[name] for name in names]


def _annotations(tier: Element) -> Iterator[Element]:
    yield from tier.all("ANNOTATION", "ALIGNABLE_ANNOTATION")
    yield from tier.all("ANNOTATION", "REF_ANNOTATION")


class _Document:
    """Spans of annotations in milliseconds."""

    def __init__(self, path: Path, root: Element) -> None:
        self.times: dict[str, float] = {}
        for slot in root.all("TIME_ORDER", "TIME_SLOT"):
            if "TIME_VALUE" in slot.attributes:
                where = f"{path}, line {slot.line}, TIME_VALUE"
                name = slot.attributes.get("TIME_SLOT_ID", "")
                self.times[name] = read_number(slot.attributes["TIME_VALUE"], where)
        self.by_id: dict[str, Element] = {}
        for tier in root.all("TIER"):
            after: dict[str, str] = {}
            for annotation in _annotations(tier):
                name = annotation.attributes.get("ANNOTATION_ID", "")
                if name in self.by_id:
                    raise DataError(f"{path}, line {annotation.line}: a second annotation has the id {name!r}.")
                self.by_id[name] = annotation
                if annotation.tag == "ALIGNABLE_ANNOTATION":
                    after.setdefault(*_slots(annotation, f"{path}, line {annotation.line}"))
            self._divide(after)

    def span(self, annotation: Element, where: str) -> tuple[float, float]:
        seen: set[str] = set()
        while annotation.tag == "REF_ANNOTATION":
            name = annotation.attributes.get("ANNOTATION_REF", "")
            if name not in self.by_id or name in seen:
                what = "refers to itself" if name in seen else f"refers to an annotation {name!r}, which is not there"
                raise DataError(f"{where}: {what}.")
            seen.add(name)
            annotation = self.by_id[name]
        start, end = _slots(annotation, where)
        for slot in (start, end):
            if slot not in self.times:
                raise DataError(f"{where}: time slot {slot!r} has no time, nor do its neighbours tell it.")
        return self.times[start], self.times[end]

    def _divide(self, after: dict[str, str]) -> None:
        """Give times to the slots of one tier that have none but lie in a chain between two that have."""
        for first in [slot for slot in after if slot in self.times]:
            chain = [first]
            while chain[-1] in after and (len(chain) == 1 or chain[-1] not in self.times):
                chain.append(after[chain[-1]])
                if len(chain) > len(after) + 1:
                    return  # a circle
            if len(chain) > 2 and chain[-1] in self.times:
                low, high = self.times[first], self.times[chain[-1]]
                for number, slot in enumerate(chain[1:-1], start=1):
                    self.times[slot] = low + (high - low) * number / (len(chain) - 1)


def _slots(annotation: Element, where: str) -> tuple[str, str]:
    try:
        return annotation.attributes["TIME_SLOT_REF1"], annotation.attributes["TIME_SLOT_REF2"]
    except KeyError as error:
        raise DataError(f"{where}: the annotation has no {error}.") from None
