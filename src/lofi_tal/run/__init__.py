"""One run of a recipe in one folder: its stages in order, each skipped if it is up to date, and its report."""

from lofi_tal.run.arms import ARMS, ArmResult, Classification
from lofi_tal.run.data import RunData
from lofi_tal.run.live import live_report
from lofi_tal.run.report import write_run_report
from lofi_tal.run.run import Run

__all__ = ["ARMS", "ArmResult", "Classification", "Run", "RunData", "live_report", "write_run_report"]
