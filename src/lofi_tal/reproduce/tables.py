"""The paper's tables, and some of our own, as data: what each row changes in a base recipe, and what the paper reports.

The paper's figures are average mAP (tIoU 0.5:0.05:0.95) with an external video classifier, on the validation videos of
ActivityNet-1.3 and HACS-1.1. Where it gives two figures for one row (HACS, Long Cyclic LoFi), those of its Tables 2
and 4 stand here. A missing figure is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lofi_tal.errors import LofiError, nearest
from lofi_tal.recipes import merge

FROZEN: Mapping[str, Any] = {"lofi": None, "finetune": None}


@dataclass(frozen=True)
class Row:
    """One system: an encoder, how it is trained, and a head.

    Args:
        id: Name on the command line and in the results; the same in every table.
        title: As the tables show it.
        changes: What it changes in the base recipe, section by section.
        encoder: Another encoder than the base recipe's, as wide.
        head: Another head than the base recipe's, as wide.
        public: Further changes where the base recipe starts from public weights.
        motion: Frame differences take the place of an encoder.
    """

    id: str
    title: str
    changes: Mapping[str, Any]
    encoder: str | None = None
    head: str | None = None
    public: Mapping[str, Any] = field(default_factory=dict)
    motion: bool = False

    def content(self, base: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """Return the recipe of this row: the base with its changes.

        A section ``finetune`` of the base says how ACP+ is trained, for the rows that have it. A second encoder is
        trained as the first one is, but for its task.

        Args:
            base: Every section of a recipe.
            seed: Of everything random.
        """
        content = merge(base, {"seed": seed, "name": self.id, "baseline": False})
        if "second" in self.changes and content.get("second") is None:
            content["second"] = content["pretrain"]
        for section, name in (("encoder", self.encoder), ("head", self.head)):
            if name is not None:
                options = _options_for(name, content[section]["options"])
                content = merge(content, {section: {"name": name, "options": options}})
        content = merge(content, self.changes)
        return merge(content, self.public) if content["encoder"]["pretrained"] is not None else content

    def changed(self, base: Mapping[str, Any]) -> list[str]:
        """Return what differs from the base recipe, as ``section.key=value``."""
        content, changes = self.content(base, base["seed"]), []
        for section, value in content.items():
            before = base.get(section)
            if section == "second" and value is not None and before is None:
                before = base["pretrain"]
            if not isinstance(value, Mapping) or not isinstance(before, Mapping):
                changes += [(section, value)] if value != before else []
                continue
            keys = [key for key in {**before, **value} if before.get(key) != value.get(key)]
            changes += [(f"{section}.{key}", value.get(key)) for key in keys]
        return [
            f"{key}={'null' if value is None else value}" for key, value in changes if key not in ("name", "baseline")
        ]


def _options_for(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of the base's options has a meaning for another encoder or head."""
    names = {
        "r2plus1d_18": {"width": "width"},
        "bmn": {"hidden_1d": "hidden_1d", "hidden_2d": "hidden_2d", "hidden_3d": "hidden_3d"},
        "anchor_free": {"hidden": "hidden_1d"},
    }.get(name, {key: key for key in options})
    return {ours: options[theirs] for ours, theirs in names.items() if theirs in options}


def _lofi(schedule: str, **more: Any) -> dict[str, Any]:
    return {"finetune": None, "lofi": {"schedule": schedule, **more}}


def _with(changes: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {**changes, **more}


_R2PLUS1D = {"encoder": {"pretrained": "kinetics400"}, "pretrain": None, "snippets": {"size": 112}}

ROWS: Mapping[str, Row] = {
    row.id: row
    for row in (
        Row("motion", "frame differences, no network", FROZEN, motion=True),
        Row("icp", "ICP (no video training)", _with(FROZEN, pretrain=None)),
        Row("acp", "ACP", FROZEN),
        Row("acp_plus", "ACP+", _with(FROZEN, finetune={"background": False})),
        Row("acp_plus_background", "ACP+ with background", _with(FROZEN, finetune={"background": True})),
        Row("s", "S-LoFi", _lofi("s")),
        Row("t", "T-LoFi", _lofi("t")),
        Row("st", "ST-LoFi", _lofi("st")),
        Row("short", "Short Cyclic LoFi", _lofi("short")),
        Row("long", "Long Cyclic LoFi", _lofi("long")),
        Row("long_class", "Long Cyclic LoFi with class loss", _lofi("long", class_loss=1.0)),
        Row("r2plus1d_acp", "R(2+1)D-18, ACP", FROZEN, encoder="r2plus1d_18", public=_R2PLUS1D),
        Row("r2plus1d_t", "R(2+1)D-18, T-LoFi", _lofi("t"), encoder="r2plus1d_18", public=_R2PLUS1D),
        Row("r34_acp", "TSM-R34, ACP", FROZEN, encoder="tsm_resnet34"),
        Row("r34_long", "TSM-R34, Long C", _lofi("long"), encoder="tsm_resnet34", public={"lofi": {"accumulate": 2}}),
        Row("r50_acp", "TSM-R50, ACP", FROZEN, encoder="tsm_resnet50"),
        Row("r50_long", "TSM-R50, Long C", _lofi("long"), encoder="tsm_resnet50", public={"lofi": {"accumulate": 4}}),
        Row("arrow", "Arrow of Time", _with(FROZEN, pretrain={"task": "arrow"})),
        Row("speed", "SpeedNet", _with(FROZEN, pretrain={"task": "speed"})),
        Row("acp_arrow", "ACP and Arrow, concatenated", _with(FROZEN, second={"task": "arrow"})),
        Row("acp_speed", "ACP and Speed, concatenated", _with(FROZEN, second={"task": "speed"})),
        Row("bmn_acp", "BMN, ACP", FROZEN, head="bmn"),
        Row("bmn_long", "BMN, Long C", _lofi("long"), head="bmn"),
        Row("free_acp", "anchor-free head, ACP", FROZEN, head="anchor_free"),
        Row("free_long", "anchor-free head, Long C", _lofi("long"), head="anchor_free"),
        Row("one_device", "Long C, batch in four parts", _lofi("long", accumulate=4)),
        Row("full", "full fidelity, chunked", _lofi("full", strategy="chunked")),
        Row("sampled", "full fidelity, gradient of 30 %", _lofi("full", strategy="chunked", gradient_share=0.3)),
    )
}


@dataclass(frozen=True)
class Entry:
    """A row in a table.

    Args:
        row: Its id.
        against: Id of the row from which its difference is taken; None for that row itself.
        activitynet: The paper's average mAP on ActivityNet-1.3, in per cent.
        hacs: On HACS-1.1.
    """

    row: str
    against: str | None = None
    activitynet: float | None = None
    hacs: float | None = None


@dataclass(frozen=True)
class Question:
    """A difference that is asked for beside those of the rows.

    Args:
        row: Id of the first row.
        rivals: Ids of the others; the best of them is subtracted.
        activitynet: The paper's difference on ActivityNet-1.3, in points.
        hacs: On HACS-1.1.
    """

    row: str
    rivals: tuple[str, ...]
    activitynet: float | None = None
    hacs: float | None = None


@dataclass(frozen=True)
class Table:
    """One table: ``id`` on the command line, title, rows, and the questions that it answers."""

    id: str
    title: str
    entries: tuple[Entry, ...]
    questions: tuple[Question, ...] = ()

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows from top to bottom."""
        return tuple(ROWS[entry.row] for entry in self.entries)


_SINGLE = ("s", "t", "st")
_ENCODERS = (
    Entry("motion", "acp"),
    Entry("icp", "acp", None, 20.18),
    Entry("acp", None, 33.59, 23.00),
    Entry("acp_plus", "acp", 33.84, 23.31),  # ActivityNet: 34.49 less the paper's gain of 0.65
    Entry("acp_plus_background", "acp"),
    Entry("long", "acp", 34.49, 24.64),
    Entry("long_class", "acp"),
)

TABLES: Mapping[str, Table] = {
    table.id: table
    for table in (
        Table(
            "1",
            "How the encoder is trained (Table 1)",
            _ENCODERS,
            (
                Question("acp", ("motion",)),
                Question("long", ("acp",), 0.90, 1.64),
                Question("long", ("acp_plus",), 0.65, 1.33),
                Question("long", ("acp_plus_background",)),
                Question("long_class", ("acp_plus_background",)),
            ),
        ),
        Table(
            "2",
            "Low-fidelity configurations (Table 2)",
            (
                Entry("acp", None, 33.59, 23.00),
                Entry("s", "acp", 34.12, 24.25),
                Entry("t", "acp", 34.32, 24.36),
                Entry("st", "acp", 34.12, 24.36),
                Entry("short", "acp", 34.38, 24.60),
                Entry("long", "acp", 34.49, 24.64),
            ),
            (Question("long", _SINGLE, 0.17, 0.28), Question("short", _SINGLE, 0.06, 0.24)),
        ),
        Table(
            "5",
            "Other kinds of encoder (Table 5)",
            (
                Entry("acp", None, 33.59),
                Entry("t", "acp", 34.32),
                Entry("r2plus1d_acp", None, 33.55),
                Entry("r2plus1d_t", "r2plus1d_acp", 34.21),
            ),
        ),
        Table(
            "6",
            "Deeper encoders (Table 6)",
            (
                Entry("acp", None, 33.59),
                Entry("long", "acp", 34.49),
                Entry("r34_acp", None, 33.90),
                Entry("r34_long", "r34_acp", 34.74),
                Entry("r50_acp", None, 34.26),
                Entry("r50_long", "r50_acp", 34.96),
            ),
        ),
        Table(
            "7",
            "Self-supervised stage 1 (Table 7)",
            (
                Entry("acp", None, 33.59),
                Entry("arrow", "acp", 28.82),
                Entry("speed", "acp", 29.39),
                Entry("acp_arrow", "acp", 33.72),
                Entry("acp_speed", "acp", 33.75),
                Entry("long", "acp", 34.49),
            ),
        ),
        Table(
            "A",
            "Other heads (Table A of the supplement, whose figures are not public)",
            (
                Entry("acp"),
                Entry("long", "acp"),
                Entry("bmn_acp"),
                Entry("bmn_long", "bmn_acp"),
                Entry("free_acp"),
                Entry("free_long", "free_acp"),
            ),
        ),
        Table(
            "B",
            "One device (Table B of the supplement, whose figures are not public)",
            (Entry("acp"), Entry("long", "acp"), Entry("one_device", "acp")),
            (Question("one_device", ("long",)),),
        ),
        Table(
            "budget",
            "mAP against memory and time of stage 2 (not in the paper)",
            (Entry("acp"), *(Entry(row, "acp") for row in ("t", "long", "sampled", "full"))),
            (Question("long", ("full",)), Question("long", ("sampled",))),
        ),
        Table(
            "boundary",
            "Linear probes on the frozen features (not in the paper)",
            tuple(Entry(entry.row, entry.against) for entry in _ENCODERS),
        ),
    )
}


def find_tables(names: Iterable[str]) -> list[Table]:
    """Return tables by name.

    Raises:
        LofiError: If one is unknown.
    """
    for name in (names := list(names)):
        if name not in TABLES:
            raise LofiError(f"table {name!r} is unknown; there are: {', '.join(TABLES)}.{nearest(name, TABLES)}")
    return [TABLES[name] for name in names]


def find_rows(tables: Sequence[Table], names: Sequence[str] | None) -> list[Row]:
    """Return the rows of some tables, each once, in order; with ``names`` only these (of any table, if none is given).

    Raises:
        LofiError: If a row is unknown, or is not in these tables.
    """
    known = {row.id: row for table in tables for row in table.rows} if tables else dict(ROWS)
    if names is None:
        return list(known.values())
    for name in names:
        if name not in known:
            where = f"in table {', '.join(table.id for table in tables)}" if tables else "known"
            raise LofiError(f"row {name!r} is not {where}; there are: {', '.join(known)}.{nearest(name, known)}")
    return [row for row in known.values() if row.id in set(names)]
