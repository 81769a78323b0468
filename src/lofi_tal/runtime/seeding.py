"""Random draws as pure functions: every draw hangs on what it is for, never on what was drawn before.

So an interrupted run needs no generator state to go on exactly, and ranks and loader workers agree.
"""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed for the purpose that ``parts`` name, such as ``(seed, "lofi", step)``."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
