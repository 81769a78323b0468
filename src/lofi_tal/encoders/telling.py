"""What the log says of weights, once: a run builds its encoder for several purposes."""

from __future__ import annotations

import logging
from functools import lru_cache

logger = logging.getLogger("lofi_tal")


@lru_cache(maxsize=256)
def tell(about: str, text: str, level: int = logging.INFO) -> None:
    """Log a line, unless this process has logged it.

    Args:
        about: Path or name of the weights, in full.
        text: The line.
        level: Of the log.
    """
    logger.log(level, "%s", text)
