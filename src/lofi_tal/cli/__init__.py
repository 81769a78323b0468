"""The command line: arguments in, calls out."""

import gc
import sys

from lofi_tal.cli.interruption import Interruption

__all__ = ["main"]


def main() -> None:
    """Run the `lofi` command in this process, which ends with it; Ctrl-C ends it in one line at any moment."""
    # Libraries stay: to look through all of them for garbage, again and again, takes a sixth of the start. What is
    # young is looked through as often as ever.
    gc.set_threshold(*gc.get_threshold()[:2], 1000)
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
