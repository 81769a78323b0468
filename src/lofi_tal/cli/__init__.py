"""The command line: arguments in, calls out."""

from lofi_tal.cli.app import main

__all__ = ["main"]
