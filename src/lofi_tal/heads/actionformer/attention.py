"""Attention within a window of steps.

Shapes: B videos, H heads, T steps, D channels of a head, W steps of a window.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

Mask = Tensor | None
"""``(B, T)``, true at valid steps; None where all are."""


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
    position = torch.arange(steps, device=query.device)
    allowed = None
    if mask is not None:
        allowed = mask[:, None, None, :] | (position[:, None] == position)
    if window is not None and window // 2 < steps - 1:
        near = (position[:, None] - position).abs() <= window // 2
        allowed = near if allowed is None else allowed & near
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
