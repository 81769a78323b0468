"""Which validation videos of ActivityNet-1.3 count: published figures differ in it, and mAP moves with it.

The official file has 4,926 validation videos. BSN, BMN, G-TAD and the LoFi paper count the 4,728 of them that their
annotation files keep (the others had become unavailable); ActionFormer and TSP count all. The list of the 4,728 comes
with the package, so nothing is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from lofi_tal.errors import DataError, LofiError
from lofi_tal.evaluation.documents import Document, load_document

PROTOCOLS = ("4728", "4926")
"""Names of the protocols: the number of validation videos that count."""


def protocol_videos(protocol: str) -> frozenset[str] | None:
    """Return the ids that a protocol counts, for ``only``; None for all. Ids stand with and without ``v_``.

    Raises:
        LofiError: If the protocol is unknown.
    """
    if protocol not in PROTOCOLS:
        raise LofiError(f"protocol {protocol!r} is unknown; allowed: {', '.join(PROTOCOLS)} (ActivityNet-1.3).")
    if protocol == "4926":
        return None
    text = resources.files("lofi_tal.evaluation").joinpath("activitynet_4728.txt").read_text(encoding="utf-8")
    return frozenset(name for line in text.split() for name in (line, f"v_{line}"))


def require_protocol(protocol: str, ground_truth: Document, subset: str = "validation") -> frozenset[str] | None:
    """Return :func:`protocol_videos` after making sure that the annotations hold every video of the protocol.

    Raises:
        DataError: If the subset has another number of the protocol's videos: the figure would not compare.
        LofiError: If the protocol is unknown.
    """
    wanted = protocol_videos(protocol)
    content, name = load_document(ground_truth)
    database = content.get("database")
    entries = database if isinstance(database, Mapping) else {}
    held = [key for key, entry in entries.items() if isinstance(entry, Mapping) and entry.get("subset") == subset]
    counted = len(held) if wanted is None else sum(key in wanted for key in held)
    if counted != int(protocol):
        raise DataError(
            f"{name}: subset {subset!r} has {counted} of the {protocol} videos that protocol {protocol} counts "
            f"({len(held)} videos in all): use the annotation file of ActivityNet-1.3 that the protocol belongs to, or "
            "--only and --exclude with lists of your own."
        )
    return wanted
