"""The `lofi` command and what it does with errors.

Exit status: 0 done; 1 the run failed; 2 usage or recipe; 3 data; 4 done, but some videos were lost; 130 interrupted;
143 a studio that was terminated.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from typing import Annotated

import typer

from lofi_tal import __version__
from lofi_tal.cli import compare, curve, data, detect, evaluate, models, plan, reproduce, studio, train
from lofi_tal.cli.common import VERBOSE, complain, with_home
from lofi_tal.cli.log import show_log
from lofi_tal.errors import DiskFullError, LofiError
from lofi_tal.files import is_disk_full
from lofi_tal.launch import started_size

_INTERRUPTED = "Interrupted. The same command goes on from what is finished; a run needs --resume."
_INTERRUPTED_STATUS = 130
app = typer.Typer(
    name="lofi",
    help="Temporal action localisation with low-fidelity video-encoder optimisation: raw video in, segments out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: lofi detect --demo, lofi demo. Your own data: lofi data convert, lofi data check, lofi init, "
    "lofi run, lofi detect.",
)
data.register(app)
train.register(app)
detect.register(app)
studio.register(app)
evaluate.register(app)
compare.register(app)
curve.register(app)
models.register(app)
plan.register(app)
reproduce.register(app)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"lofi-tal {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    VERBOSE["on"] = verbose
    show_log()


def main() -> None:
    """Run the command line; a user's mistake ends in one message and a non-zero exit status."""
    # Threads that spin for long while they wait make training many times slower as soon as anything else (a loader
    # process, say) wants a core; threads that sleep at once make small layers slow on an idle machine. So they spin for
    # some microseconds. GNU's OpenMP reads this when torch is loaded, which no command has done yet.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app(with_home(sys.argv[1:]))
    except LofiError as error:
        _fail(str(error), error.exit_status)
    except SystemExit as end:
        if end.code == _INTERRUPTED_STATUS:  # typer has made it of the interruption, and says nothing
            _fail(_INTERRUPTED, _INTERRUPTED_STATUS)
        raise
    except KeyboardInterrupt:
        _fail(_INTERRUPTED, _INTERRUPTED_STATUS)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        if is_disk_full(error):
            _fail(str(DiskFullError(str(error.filename or "a file"))), 1)
        _fail(f"{error.filename or 'A file'}: {error.strerror or error}.", 1)
    except RuntimeError as error:
        _end_without_others(error)
    except Exception:
        _tell_failure()
        raise


def _end_without_others(error: RuntimeError) -> None:
    """Say that another process of this run is gone, if that is what an error means; of a host, one process says so."""
    from lofi_tal.runtime.heartbeat import WORDS, lost_contact, speaks_for_host

    message = lost_contact(error) if started_size() > 1 else None
    if message is None:
        _tell_failure()
        raise error
    if speaks_for_host():
        _fail(message, 1)
    time.sleep(WORDS)
    sys.exit(1)


def _tell_failure() -> None:
    """Let the other processes of this run, if there are any, know that this one ends with an error."""
    if started_size() > 1:
        from lofi_tal.runtime import tell_failure

        tell_failure()


def _fail(message: str, status: int) -> None:
    _tell_failure()
    if VERBOSE["on"]:
        traceback.print_exc()
    complain(message)
    sys.exit(status)
