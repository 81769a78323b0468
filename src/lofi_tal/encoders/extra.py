"""Libraries that are no part of the installation unless asked for."""

from __future__ import annotations

import importlib
from typing import Any

from lofi_tal.errors import LofiError


def extra(module: str, what: str) -> Any:
    """Import a library of the extra ``encoders``.

    Args:
        module: Its name.
        what: What needs it, for the message.

    Raises:
        LofiError: If it is not installed or does not load.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or ["not installed"])[0]
        raise LofiError(
            f"{what} needs {module}, which does not load ({reason}): pip install 'lofi-tal[encoders]'"
        ) from error
