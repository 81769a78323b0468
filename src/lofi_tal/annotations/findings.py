"""What a check has found: single findings, and equal ones as one line with a count."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lofi_tal.errors import counted

Severity = Literal["error", "warning"]

_PARTICULARS = re.compile(r"'[^']*'|\([^)]*\)|\S*/\S*|-?\d[\d.e+-]*")  # names, paths and numbers of one finding
_NAMED = 4  # videos of a line


@dataclass(frozen=True)
class Finding:
    """One thing that is, or may be, wrong.

    Args:
        severity: ``error`` if training or evaluation would stop or lose videos, ``warning`` if it can go on.
        kind: Short name, the same for all findings of a kind.
        video_id: The video, or an empty string.
        detail: One sentence.
    """

    severity: Severity
    kind: str
    video_id: str
    detail: str


@dataclass(frozen=True)
class FindingLine:
    """Findings that differ in nothing but names and numbers.

    Args:
        severity: Of all of them.
        kind: Of all of them.
        count: How many there are.
        videos: Their videos, in order.
        detail: That of the first.
    """

    severity: Severity
    kind: str
    count: int
    videos: tuple[str, ...]
    detail: str

    @property
    def named(self) -> str:
        """The first of the videos."""
        return ", ".join(self.videos[:_NAMED]) + (", ..." if len(self.videos) > _NAMED else "")

    def __str__(self) -> str:
        where = f"{self.named}: " if self.named else ""
        more = f" ({self.count} of this kind, the first is shown)" if self.count > 1 else ""
        return f"{self.severity}, {self.kind}: {where}{self.detail}{more}"


def group_findings(findings: Iterable[Finding]) -> list[FindingLine]:
    """Return findings as lines: errors first, equal ones together, otherwise in the order that they have."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in sorted(findings, key=lambda finding: finding.severity != "error"):
        key = (finding.severity, finding.kind, _without_particulars(finding))
        groups.setdefault(key, []).append(finding)
    lines = []
    for equal in groups.values():
        videos = tuple(dict.fromkeys(finding.video_id for finding in equal if finding.video_id))
        lines.append(FindingLine(equal[0].severity, equal[0].kind, len(equal), videos, equal[0].detail))
    return lines


def _without_particulars(finding: Finding) -> str:
    """Return the detail without names and numbers; what is said of no single video stays as it is."""
    if not finding.video_id:
        return finding.detail
    return _PARTICULARS.sub("#", finding.detail.replace(finding.video_id, "#"))


@dataclass(frozen=True, eq=False)
class CheckReport:
    """What a check found.

    Args:
        findings: In the order of the annotations.
        summary: Per subset: videos, videos with truth, instances, classes, hours, and percentiles of the segments'
            lengths in seconds and as a share of their video.
    """

    findings: tuple[Finding, ...]
    summary: dict[str, dict[str, Any]]

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings do not count."""
        return not any(finding.severity == "error" for finding in self.findings)

    @property
    def unusable(self) -> dict[str, str]:
        """Ids of the videos whose times are no seconds, and why; none of their segments can be trained on."""
        units = [finding for finding in self.findings if finding.kind == "units" and finding.severity == "error"]
        return {finding.video_id: finding.detail for finding in units}

    @property
    def counts(self) -> dict[str, int]:
        """Number of findings of each kind, the most frequent first."""
        return dict(Counter(finding.kind for finding in self.findings).most_common())

    @property
    def verdict(self) -> str:
        """One sentence: errors, warnings, or nothing at all."""
        errors = sum(finding.severity == "error" for finding in self.findings)
        warnings = len(self.findings) - errors
        if errors:
            return f"{counted(errors, 'error')}, {counted(warnings, 'warning')}: `lofi run` would stop, or lose data."
        if warnings:
            return f"{counted(warnings, 'warning')}: `lofi run` would train. Check that this is what you mean."
        return "No errors."

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values for a JSON file."""
        return {
            "ok": self.ok,
            "verdict": self.verdict,
            "counts": self.counts,
            "summary": self.summary,
            "findings": [asdict(finding) for finding in self.findings],
        }
