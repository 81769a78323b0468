"""The tables of point events: mAP over tolerances in seconds, of arms and of classes, as plain rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lofi_tal.report.content import Arm
from lofi_tal.report.tables import Row
from lofi_tal.report.theme import percent, series_colour, signed_percent


def event_tables(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Return a table for each set of tolerances: ``name``, ``columns``, ``rows``, number of ``events`` and ``classes``.

    Rows are those of the arms, and their differences to the first one; the last cell is the average. ``classes`` has
    the number of events and the average AP of each arm, best first.
    """
    found = []
    for name in dict.fromkeys(name for arm in arms for name in arm.events):
        results = {(i, arm.name): arm.events[name] for i, arm in enumerate(arms) if name in arm.events}
        first = next(iter(results.values()))
        rows: list[Row] = []
        for (place, arm), one in results.items():
            values = [*one["mAP"], one["average_mAP"]]
            rows.append(Row(arm, list(map(percent, values)), series_colour(place)))
            if one is not first:
                base = [*first["mAP"], first["average_mAP"]]
                cells = [signed_percent(value - other) for value, other in zip(values, base, strict=True)]
                rows.append(Row(f"{arm} − {next(iter(results))[1]}", cells, difference=True))
        found.append(
            {
                "name": name,
                "columns": [*(f"{delta:g} s" for delta in first["tolerances"]), "average"],
                "rows": rows,
                "events": sum(first["events"].values()),
                "arms": [arm for _, arm in results],
                "classes": _classes(list(results.values())),
            }
        )
    return found


def _classes(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return label, events and average AP of each arm, by falling mean over the arms."""
    labels = results[0]["averages"]
    ranked = sorted(labels, key=lambda label: (-sum(one["averages"][label] for one in results), label))
    return [
        {
            "label": label,
            "events": results[0]["events"][label],
            "averages": [percent(one["averages"][label]) for one in results],
        }
        for label in ranked
    ]
