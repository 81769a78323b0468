"""Pictures and pages: a report of a run, and a timeline of one video, each one HTML file that opens from disk.

Nothing is loaded from a network: styles, scripts and figures are inside the page; a video is referred to by a path
relative to it.
"""

from lofi_tal.report.compared import ComparisonPage, write_comparison
from lofi_tal.report.contact_sheet import SheetAction, SheetItem, write_contact_sheet
from lofi_tal.report.content import Arm, Judgement, Report, StageSummary, TimelineEntry
from lofi_tal.report.dataset import write_statistics
from lofi_tal.report.evaluation import evaluation_json, write_evaluation
from lofi_tal.report.page import report_page, write_report
from lofi_tal.report.status import Status, status_html
from lofi_tal.report.timeline import write_timeline

__all__ = [
    "Arm",
    "ComparisonPage",
    "Judgement",
    "Report",
    "SheetAction",
    "SheetItem",
    "StageSummary",
    "Status",
    "TimelineEntry",
    "evaluation_json",
    "report_page",
    "status_html",
    "write_comparison",
    "write_contact_sheet",
    "write_evaluation",
    "write_report",
    "write_statistics",
    "write_timeline",
]
