"""Adapters: small layers inside the blocks of an encoder, which are trained in the place of its own weights.

*temporal* is the temporal-informative adapter of Liu et al., "End-to-End Temporal Action Detection with 1B Parameters
Across 1000 Frames" (AdaTAD, CVPR 2024), behind every transformer block: down to a quarter of the channels, GELU, a
depthwise convolution over time and a 1×1 convolution beside the identity, up again, added to what came in. Theirs looks
along the whole video; ours stays inside a snippet, as everything in an encoder does (snippets are encoded in any
order and number). *lora* is the low-rank update of Hu et al., "LoRA" (ICLR 2022), through the package ``peft``.

Both begin as the identity: an encoder with a new adapter gives the features that it gave without it.

Shapes: N clips, T frames a clip, T' time steps of tokens (T / 2 with tubelets of 2), P tokens a time step, C channels.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from lofi_tal.encoders.contract import Encoder
from lofi_tal.encoders.extra import extra
from lofi_tal.encoders.joined import JoinedEncoder
from lofi_tal.errors import LofiError, nearest

_OURS = re.compile(r"(^|\.)(temporal_adapter|lora_[AB])(\.|$)")
_TRIES = ((8, 64), (16, 224), (8, 224), (16, 256), (64, 256))  # frames and pixels of a clip that an encoder may take


def is_of_an_adapter(name: str) -> bool:
    """Say whether a module or tensor with this name belongs to an adapter."""
    return _OURS.search(name) is not None


def check_adapter(name: str = "temporal", **options: Any) -> dict[str, Any]:
    """Return name and options of an adapter, defaults included.

    Raises:
        LofiError: If the name is unknown, or an option is not one of the adapter's.
    """
    if name not in _ADAPTERS:
        known = ", ".join(_ADAPTERS)
        raise LofiError(f"adapter {name!r} is unknown; known: {known}.{nearest(str(name), list(_ADAPTERS))}")
    defaults = {
        key: one.default for key, one in inspect.signature(_ADAPTERS[name]).parameters.items() if key != "encoder"
    }
    for key, value in options.items():
        if key not in defaults:
            raise LofiError(
                f"adapter {name!r} has no option {key!r}; it has {', '.join(defaults)}.{nearest(key, list(defaults))}"
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise LofiError(f"adapter {name!r}: {key} is {value!r}; it must be a positive number.")
    return {"name": name, **defaults, **options}


def add_adapter(encoder: Encoder, name: str = "temporal", **options: Any) -> None:
    """Put adapters into an encoder, in place; ``encoder.adapter`` says which.

    Args:
        encoder: Its features stay what they are until the adapters are trained.
        name: ``temporal`` (options ``ratio`` of the channels inside, ``kernel`` in time steps) or ``lora`` (``rank``,
            ``alpha``).
        options: Of the adapter.

    Raises:
        LofiError: If name or options are unknown, the encoder has other adapters already, or none of its layers fit.
    """
    wanted = check_adapter(name, **options)
    if encoder.adapter == wanted:
        return
    if encoder.adapter is not None:
        raise LofiError(f"The encoder has an adapter already, {encoder.adapter}: {wanted} cannot be put beside it.")
    for part in encoder.parts if isinstance(encoder, JoinedEncoder) else (encoder,):
        _ADAPTERS[name](part, **{key: value for key, value in wanted.items() if key != "name"})
    encoder.adapter = wanted


class TemporalAdapter(nn.Module):
    """AdaTAD's adapter on tokens ``(N, T', P, C)``.

    Args:
        channels: C.
        ratio: Of the channels inside to C.
        kernel: Time steps that the convolution sees, an odd number.
    """

    def __init__(self, channels: int, *, ratio: float = 0.25, kernel: int = 3) -> None:
        super().__init__()
        hidden = max(1, int(channels * ratio))
        self.down = nn.Linear(channels, hidden)
        self.time = nn.Conv1d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden)
        self.mix = nn.Linear(hidden, hidden)  # a 1×1 convolution
        self.up = nn.Linear(hidden, channels)
        self.scale = nn.Parameter(torch.ones(1))
        nn.init.trunc_normal_(self.down.weight, std=0.02)
        nn.init.normal_(self.time.weight, std=math.sqrt(2 / kernel))
        nn.init.normal_(self.mix.weight, std=math.sqrt(2 / hidden))
        for layer in (self.down, self.time, self.mix, self.up):
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.up.weight)  # the identity at first

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the same shape, to which what neighbouring time steps hold has been added."""
        hidden = nn.functional.gelu(self.down(tokens))  # (N, T', P, c)
        series = hidden.permute(0, 2, 3, 1)  # (N, P, c, T')
        context = self.time(series.flatten(0, 1)).view(series.shape).permute(0, 3, 1, 2)
        changed: Tensor = tokens + self.scale * self.up(hidden + self.mix(context))
        return changed


class _Layout:
    """Where time is in the tokens of an encoder, which every call tells its blocks anew."""

    def __init__(self) -> None:
        self.clips = self.frames = self.steps = 0

    def see_clips(self, encoder: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Note the clips ``(N, T, 3, H, W)`` that an encoder is about to encode."""
        self.clips, self.frames = inputs[0].shape[:2]

    def see_tubelets(self, embedding: nn.Module, inputs: tuple[Tensor, ...], tokens: Tensor) -> None:
        """Note T' of the tokens ``(N, C, T', H', W')`` that a 3-D patch embedding returns."""
        self.steps = tokens.shape[2]

    def adapted(self, adapter: nn.Module, tokens: Tensor, order: str) -> Tensor:
        """Return what an adapter makes of the tokens that a block returned.

        They are in one of the orders that an encoder names (``token_order``), or else ``(N, T', H', W', C)``,
        ``(N, T'·P, C)`` (perhaps behind some that belong to no frame), or those of frames: ``(N·T, P, C)`` or
        ``(N·T, H', W', C)``.
        """
        if order == "places":
            return adapter(tokens[:, :, None]).squeeze(2)  # type: ignore[no-any-return]
        if order == "time last":
            places = tokens[:, 1:].reshape(len(tokens), -1, self.frames, tokens.shape[-1]).transpose(1, 2)
            return torch.cat([tokens[:, :1], adapter(places).transpose(1, 2).flatten(1, 2)], 1)
        if tokens.ndim == 5 and len(tokens) == self.clips:
            return adapter(tokens.flatten(2, 3)).reshape(tokens.shape)  # type: ignore[no-any-return]
        if tokens.ndim in (3, 4) and len(tokens) == self.clips * self.frames and not (self.steps and self.frames == 1):
            own = tokens.reshape(self.clips, self.frames, -1, tokens.shape[-1])
            return adapter(own).reshape(tokens.shape)  # type: ignore[no-any-return]
        if tokens.ndim == 3 and len(tokens) == self.clips and self.steps:
            apart = tokens.shape[1] % self.steps  # a class token, say
            own = tokens[:, apart:]
            changed = adapter(own.reshape(len(own), self.steps, -1, own.shape[-1])).flatten(1, 2)
            return torch.cat([tokens[:, :apart], changed], 1) if apart else changed
        raise LofiError(
            f"The temporal adapter does not know where time is in tokens of shape {tuple(tokens.shape)}, of "
            f"{self.clips} clips of {self.frames} frames: use adapter lora for this encoder."
        )


def _add_temporal(encoder: Encoder, ratio: float = 0.25, kernel: int = 3) -> None:
    """Put AdaTAD's adapter behind every transformer block."""
    if kernel != int(kernel) or kernel % 2 == 0:
        raise LofiError(f"adapter 'temporal': kernel is {kernel}; it must be an odd number of time steps.")
    if ratio > 1:
        raise LofiError(f"adapter 'temporal': ratio is {ratio:g}; it must be at most 1.")
    blocks = [block for block in encoder.blocks() if _is_transformer(block)]
    if not blocks:
        raise _no_fit(encoder, "temporal", "transformer blocks")
    layout = _Layout()
    encoder.register_forward_pre_hook(layout.see_clips)
    embedding = next((module for module in encoder.modules() if isinstance(module, nn.Conv3d)), None)
    if embedding is not None:
        embedding.register_forward_hook(layout.see_tubelets)
    for block in blocks:
        channels = next(layer.normalized_shape[-1] for layer in block.modules() if isinstance(layer, nn.LayerNorm))
        device = next(block.parameters()).device
        block.temporal_adapter = TemporalAdapter(channels, ratio=ratio, kernel=int(kernel)).to(device)
        block.token_layout, block.token_order = layout, encoder.token_order(block)  # type: ignore[assignment]
        block.__class__ = _adapted(type(block))  # type: ignore[arg-type]


@functools.cache
def _adapted(kind: type[nn.Module]) -> type[nn.Module]:
    """Return the class of a block with an adapter behind it.

    A class of its own, as `torch.nn.utils.parametrize` makes, keeps the names of the block's weights, and leaves the
    adapter inside what is checkpointed and compiled.
    """

    def forward(self: Any, *inputs: Any, **options: Any) -> Any:
        outputs = kind.forward(self, *inputs, **options)
        if isinstance(outputs, tuple):
            return (self.token_layout.adapted(self.temporal_adapter, outputs[0], self.token_order), *outputs[1:])
        return self.token_layout.adapted(self.temporal_adapter, outputs, self.token_order)

    return type(f"Adapted{kind.__name__}", (kind,), {"forward": forward, "__doc__": kind.__doc__})


def _is_transformer(block: nn.Module) -> bool:
    """Say whether a block has linear layers on normalised tokens, and nothing that mixes pixels."""
    inside = list(block.modules())
    has = [any(isinstance(module, kind) for module in inside) for kind in (nn.LayerNorm, nn.Linear)]
    return all(has) and not any(isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) for module in inside)


def _add_lora(encoder: Encoder, rank: int = 8, alpha: int = 16) -> None:
    """Give every linear layer in the blocks that the forward pass calls an update of low rank."""
    if rank != int(rank) or alpha != int(alpha):
        raise LofiError(f"adapter 'lora': rank is {rank} and alpha is {alpha}; both must be whole numbers.")
    peft = extra("peft", "adapter 'lora'")
    targets = _called_layers(encoder)
    if not targets:
        raise _no_fit(encoder, "lora", "linear layers in its blocks that its forward pass calls")
    learnt = [(parameter, parameter.requires_grad) for parameter in encoder.parameters()]
    config = peft.LoraConfig(r=int(rank), lora_alpha=int(alpha), target_modules=targets, lora_dropout=0.0, bias="none")
    peft.inject_adapter_in_model(config, encoder)
    for parameter, before in learnt:  # peft freezes them; who trains decides that
        parameter.requires_grad_(before)


def _called_layers(encoder: Encoder) -> list[str]:
    """Return the names of the linear layers in the blocks that are called, and not only asked for their weights.

    Some attentions (torchvision's Swin, transformers' VideoMAE) compute with the weights of their layers without
    calling them; an update of low rank there would have no effect, and nothing would say so. The forward pass is run on
    fake tensors, which have shapes and no data.
    """
    inside = {id(module) for block in encoder.blocks() for module in block.modules() if isinstance(module, nn.Linear)}
    names = {module: name for name, module in encoder.named_modules() if id(module) in inside}
    called: set[nn.Module] = set()
    hooks = [module.register_forward_pre_hook(lambda one, _: called.add(one)) for module in names]
    mode = encoder.training
    try:
        encoder.eval()
        _run_on_fakes(encoder)
    finally:
        encoder.train(mode)
        for hook in hooks:
            hook.remove()
    return [name for module, name in names.items() if module in called]


def _run_on_fakes(encoder: Encoder) -> None:
    """Run the forward pass of an encoder without computing, on a clip that it takes."""
    errors = []
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        own = {**dict(encoder.named_parameters()), **dict(encoder.named_buffers())}
        fakes = {
            name: torch.empty_strided(one.shape, one.stride(), dtype=one.dtype, device="cpu")
            for name, one in own.items()
        }
        for tried in _TRIES:
            frames, size = encoder.takes.nearest_frames(tried[0]), encoder.takes.nearest_size(tried[1])
            try:
                functional_call(encoder, fakes, (torch.zeros(1, frames, 3, size, size),))
            except (RuntimeError, ValueError) as error:
                errors.append(f"{frames} frames of {size} pixels: {str(error).splitlines()[0]}")
            else:
                return
    raise LofiError(f"adapter 'lora': the encoder takes none of the clips that were tried ({'; '.join(errors)}).")


def _no_fit(encoder: Encoder, adapter: str, missing: str) -> LofiError:
    return LofiError(
        f"adapter {adapter!r} does not fit {encoder.name or type(encoder).__name__}, which has no {missing}: "
        "set encoder.train to last N, full or frozen, or take a transformer such as swin3d_t."
    )


_ADAPTERS: dict[str, Callable[..., None]] = {"temporal": _add_temporal, "lora": _add_lora}
ADAPTERS = tuple(_ADAPTERS)
"""Names of the adapters."""
