"""Attention within a window of steps, in blocks.

Each block of queries looks at its own keys and those up to half a window before and after it, under a mask of the band:
arithmetic and memory grow with T, and all of it is one batched call. Measured on a CPU against a T × T mask and against
keys that are gathered, or shifted, for every query (docs, "Heads"); short sequences are faster with the T × T mask.

Shapes: B videos, H heads, T steps, D channels of a head, W steps of a window, N blocks, Q queries of a block.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

Mask = Tensor | None
"""``(B, T)``, true at valid steps; None where all are."""

_BLOCK = 16
_SHORT = 128


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Mask, window: int | None) -> Tensor:
    """Return ``(B, H, T, D)``: the values near each step, weighted by how well their keys answer its query.

    A step sees the valid ones among the W around it, or of the whole sequence, and always itself, so that there is
    something to see for a step that is not valid; what comes out there means nothing.

    Args:
        query: ``(B, H, T, D)``.
        key: ``(B, H, T, D)``.
        value: ``(B, H, T, D)``.
        mask: Valid steps.
        window: W, odd; None for the whole sequence.
    """
    steps = query.shape[2]
    half = steps if window is None else window // 2
    if half < steps and steps > _SHORT:
        return _in_blocks(query, key, value, mask, half)
    position = torch.arange(steps, device=query.device)
    distance = (position[:, None] - position).abs()
    allowed = None if half >= steps - 1 else distance <= half
    if mask is not None:
        seen = mask[:, None, None, :] | (distance == 0)
        allowed = seen if allowed is None else seen & allowed
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)


def _in_blocks(query: Tensor, key: Tensor, value: Tensor, mask: Mask, half: int) -> Tensor:
    videos, heads, steps, _ = query.shape
    filled = -steps % _BLOCK
    size = query.shape[3]
    queries = functional.pad(query, (0, 0, 0, filled)).reshape(videos * heads, -1, _BLOCK, size)  # (B H, N, Q, D)

    def around(part: Tensor) -> Tensor:
        padded = functional.pad(part, (0, 0, half, half + filled))
        return padded.unfold(2, _BLOCK + 2 * half, _BLOCK).transpose(3, 4).flatten(0, 1)  # (B H, N, Q + 2 half, D)

    valid = torch.ones(1, steps, dtype=torch.bool, device=query.device) if mask is None else mask
    valid = functional.pad(valid, (half, half + filled)).unfold(1, _BLOCK + 2 * half, _BLOCK)  # (B or 1, N, Q + 2 half)
    offset = torch.arange(-half, _BLOCK + half, device=query.device)
    distance = (torch.arange(_BLOCK, device=query.device)[:, None] - offset).abs()  # (Q, Q + 2 half)
    allowed = ((distance <= half) & valid[:, :, None]) | (distance == 0)
    if mask is not None:
        allowed = allowed.repeat_interleave(heads, 0)
    mixed = functional.scaled_dot_product_attention(queries, around(key), around(value), attn_mask=allowed)
    return mixed.reshape(videos, heads, -1, size)[:, :, :steps]
