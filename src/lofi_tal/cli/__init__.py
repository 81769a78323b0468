"""The command line: arguments in, calls out."""

import sys

from lofi_tal.cli.interruption import Interruption

__all__ = ["main"]


def main() -> None:
    """Run the `lofi` command in this process, which ends with it; Ctrl-C ends it in one line at any moment."""
    interruption = Interruption()
    interruption.listen()
    try:
        from lofi_tal.cli.app import main as run

        run()
    except KeyboardInterrupt:  # while it is being loaded, or while an error is being told
        sys.stderr.write("lofi: Interrupted.\n")
        interruption.status = 130
        sys.exit(130)
    except SystemExit as end:
        interruption.status = end.code if isinstance(end.code, int) else 0
        raise
