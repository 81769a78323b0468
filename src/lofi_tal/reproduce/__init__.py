"""The paper's experiments as commands: tables of rows, run seed by seed, compared in pairs, with intervals."""

from lofi_tal.reproduce.document import update_document, write_tables
from lofi_tal.reproduce.results import DEFAULT, reproduce_command, results_folder
from lofi_tal.reproduce.runner import Base, Runner, open_base
from lofi_tal.reproduce.tables import ROWS, TABLES, Row, Table, find_rows, find_tables

__all__ = [
    "DEFAULT",
    "ROWS",
    "TABLES",
    "Base",
    "Row",
    "Runner",
    "Table",
    "find_rows",
    "find_tables",
    "open_base",
    "reproduce_command",
    "results_folder",
    "update_document",
    "write_tables",
]
