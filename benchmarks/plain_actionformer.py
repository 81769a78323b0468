"""ActionFormer as its paper writes it down, without a thought for speed: the yardstick of ``localisation.py``.

Channels lie before time, each layer is a call of its own, sequences are padded to the length of training, and a window
of attention is computed in chunks: queries of half a window against the three chunks around them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lofi_tal.heads import ActionFormer, ActionFormerOutputs


class PlainActionFormer(ActionFormer):
    """The same parameters, layer by layer."""

    def forward(self, features: Tensor, mask: Tensor | None = None) -> ActionFormerOutputs:
        """Score the points of videos ``(B, C, T)``."""
        steps = features.shape[2]
        padded = max(self.max_length or 0, steps)
        valid = torch.ones(len(features), 1, steps) if mask is None else mask[:, None].float()
        valid, x = functional.pad(valid, (0, padded - steps)), functional.pad(features, (0, padded - steps))
        levels = self._pyramid(x, valid)
        logits, offsets = [], []
        for level, (x, valid) in enumerate(levels):
            x = _norm(x, self.neck.fpn_norms[level])
            for branch, last, found in (
                (self.cls_head, self.cls_head.cls_head, logits),
                (self.reg_head, self.reg_head.offset_head, offsets),
            ):
                y = x
                for convolution, norm in zip(branch.head, branch.norm, strict=True):
                    y = functional.relu(_norm(convolution.conv(y) * valid, norm))
                found.append((last.conv(y) * valid).transpose(1, 2))
            offsets[-1] = functional.relu(offsets[-1] * self.reg_head.scale[level].scale)
        masks = [valid[:, 0] > 0 for _, valid in levels]
        return ActionFormerOutputs(logits, offsets, masks, [steps] * len(features))

    def _pyramid(self, x: Tensor, valid: Tensor) -> list[tuple[Tensor, Tensor]]:
        for convolution, norm in zip(self.backbone.embd, self.backbone.embd_norm, strict=True):
            x = functional.relu(_norm(convolution.conv(x) * valid, norm))
        if self.backbone.positions is not None:
            x = x + self.backbone.positions.T[None, :, : x.shape[2]] * valid
        for block in self.backbone.stem:
            x, valid = _block(block, x, valid)
        levels = [(x, valid)]
        for block in self.backbone.branch:
            x, valid = _block(block, x, valid)
            levels.append((x, valid))
        return levels


def _norm(x: Tensor, norm: Any) -> Tensor:
    centred = x - x.mean(dim=1, keepdim=True)
    variance = (centred**2).mean(dim=1, keepdim=True)
    return centred / torch.sqrt(variance + 1e-5) * norm.weight + norm.bias


def _pointwise(layer: nn.Conv1d, x: Tensor) -> Tensor:
    return functional.conv1d(x, layer.weight, layer.bias)


def _block(block: Any, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    below = valid[:, :, :: block.stride]
    attended = _attention(block.attn, _norm(x, block.ln1), below)
    skip = x if block.stride == 1 else functional.max_pool1d(x, 3, block.stride, padding=1)
    x = skip * below + _dropped(block.drop_path_attn, attended)
    hidden = functional.gelu(_pointwise(block.mlp[0], _norm(x, block.ln2)))
    return x + _dropped(block.drop_path_mlp, _pointwise(block.mlp[3], hidden) * below), below


def _dropped(residual: Any, x: Tensor) -> Tensor:
    x = residual.scale * x
    if not residual.training or residual.drop == 0:
        return x
    kept = (torch.rand(len(x), 1, 1) >= residual.drop).float()
    return x / (1 - residual.drop) * kept


def _attention(layer: Any, x: Tensor, valid: Tensor) -> Tensor:
    parts = []
    for name in ("query", "key", "value"):
        y = getattr(layer, f"{name}_conv").conv(x) * valid
        y = _pointwise(getattr(layer, name), _norm(y, getattr(layer, f"{name}_norm")))
        parts.append(y.view(len(y), layer.heads, -1, y.shape[2]).transpose(2, 3))
    query, key, value = parts
    query = query / math.sqrt(query.shape[3])
    if layer.window is None:
        scores = (query @ key.transpose(2, 3)).masked_fill(valid[:, :, None] == 0, -math.inf)
        mixed = scores.softmax(dim=3) @ value
    else:
        mixed = _chunked(query, key, value, valid[:, 0], layer.window // 2)
    return _pointwise(layer.proj, mixed.transpose(2, 3).flatten(1, 2)) * valid


def _chunked(query: Tensor, key: Tensor, value: Tensor, valid: Tensor, half: int) -> Tensor:
    """Attend within half a window: chunks of so many queries, each against the chunk before, its own and the next."""
    steps = query.shape[2]
    more = -steps % half

    def chunks(x: Tensor) -> Tensor:
        return functional.pad(x, (0, 0, 0, more)).unflatten(2, (-1, half))

    def around(x: Tensor) -> Tensor:
        x = functional.pad(chunks(x), (0, 0, 0, 0, 1, 1))
        return torch.cat([x[:, :, :-2], x[:, :, 1:-1], x[:, :, 2:]], dim=3)

    scores = torch.einsum("bhnqd,bhnkd->bhnqk", chunks(query), around(key))
    offset = torch.arange(3 * half) - half
    near = (torch.arange(half)[:, None] - offset).abs() <= half
    seen = around(valid[:, None, :, None])[..., 0] > 0
    scores = scores + torch.where(near & seen[:, :, :, None], 0.0, -1e4)
    mixed = torch.einsum("bhnqk,bhnkd->bhnqd", scores.softmax(dim=4), around(value))
    return mixed.flatten(2, 3)[:, :, :steps]
