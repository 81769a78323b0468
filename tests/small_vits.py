"""Transformers of a few thousand weights whose blocks are shaped as those of the public ones."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lofi_tal.encoders import Encoder

PATCH = 8


class Attention(nn.Module):
    """Self-attention; ``direct`` computes with the weights of its layers without calling them, as VideoMAE's does."""

    def __init__(self, channels: int, direct: bool) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.direct = direct

    def forward(self, tokens: Tensor) -> Tensor:
        joined = functional.linear(tokens, self.qkv.weight, self.qkv.bias) if self.direct else self.qkv(tokens)
        queries, keys, values = joined.unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        out = functional.scaled_dot_product_attention(queries, keys, values)
        return self.proj(out.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm block; ``as_tuple`` returns its tokens as transformers' layers do."""

    def __init__(self, channels: int, direct: bool, as_tuple: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = Attention(channels, direct)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))
        self.as_tuple = as_tuple

    def forward(self, tokens: Tensor) -> Tensor | tuple[Tensor, None]:
        tokens = tokens + self.attention(self.norm1(tokens))
        tokens = tokens + self.mlp(self.norm2(tokens))
        return (tokens, None) if self.as_tuple else tokens


class SmallViT(Encoder):
    """A ViT on clips.

    Args:
        tubelet: Frames of a token; without it, frames go through the blocks one by one.
        class_token: A token that belongs to no frame stands first.
        direct: See :class:`Attention`.
        as_tuple: See :class:`Block`.
    """

    def __init__(
        self, *, tubelet: int | None = 2, class_token: bool = False, direct: bool = False, as_tuple: bool = False
    ) -> None:
        channels = 16
        config = {"tubelet": tubelet, "class_token": class_token, "direct": direct, "as_tuple": as_tuple}
        super().__init__(channels=channels, config=config, mean=(0.5,) * 3, std=(0.5,) * 3)
        if tubelet is None:
            self.patches: nn.Module = nn.Conv2d(3, channels, PATCH, PATCH)
        else:
            self.patches = nn.Conv3d(3, channels, (tubelet, PATCH, PATCH), (tubelet, PATCH, PATCH))
        self.class_token = nn.Parameter(torch.randn(1, 1, channels)) if class_token else None
        self.layers_of_blocks = nn.ModuleList(Block(channels, direct, as_tuple) for _ in range(3))
        self.norm = nn.LayerNorm(channels)

    def blocks(self) -> list[nn.Module]:
        return list(self.layers_of_blocks)

    def encode(self, frames: Tensor, frames_per_clip: int) -> Tensor:
        if isinstance(self.patches, nn.Conv3d):
            frames = frames.unflatten(0, (-1, frames_per_clip)).transpose(1, 2)
        tokens = self.patches(frames).flatten(2).transpose(1, 2)
        if self.class_token is not None:
            tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], 1)
        for block in self.layers_of_blocks:
            tokens = block(tokens)
            tokens = tokens[0] if isinstance(tokens, tuple) else tokens
        features = self.norm(tokens).mean(1)
        return features if isinstance(self.patches, nn.Conv3d) else features.unflatten(0, (-1, frames_per_clip)).mean(1)
