"""Image backbones of timm as encoders: each frame on its own, with a temporal shift where the public code puts one.

Sources: timm (pytorch-image-models); TSM's public code (`ops/temporal_shift.py`: the first convolution of a residual
block; `ops/models.py`: of MobileNetV2, the expansion of the blocks with a shortcut); public code of spotting
(jhong93/spot, `model/shift.py`: RegNetY).

Shapes: N clips, T frames, H × W pixels, C channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from lofi_tal.encoders.contract import Encoder
from lofi_tal.encoders.extra import extra
from lofi_tal.encoders.gated_shift import GatedConv
from lofi_tal.encoders.padding import pad_by_hand
from lofi_tal.encoders.tsm import ShiftedConv
from lofi_tal.errors import LofiError, nearest
from lofi_tal.fidelity.takes import RESIZE, Takes

TEMPORAL: dict[str, type[ShiftedConv | GatedConv]] = {"shift": ShiftedConv, "gate": GatedConv}
"""What mixes frames: TSM's shift, or GSM's gated one."""
_BLOCK = re.compile(r"(Block|Bottleneck|Bottle2neck|Residual|SeparableConv|ConvBnAct|MobileAttention)$")
_MANY = 23  # blocks of the third stage from which on public TSM shifts every second block of a ResNet


class TimmEncoder(Encoder):
    """A backbone of timm on each frame; the feature is the mean over the frames of a clip.

    Args:
        model: timm's name of an architecture, with or without the tag of its weights (``regnety_008.pycls_in1k``).
        temporal: ``shift`` (TSM) or ``gate`` (GSM) in residual branches of ResNets, RegNets, MobileNets and
            EfficientNets; ``none`` for frames that know nothing of each other. By default ``shift`` where there is one.
        drop_path: Stochastic depth.
        img_size: Side in pixels, for networks that fix it at construction (MaxViT, BEiT): no other size can be taken.
        mean: Normalisation, if it is not that of timm's weights.
        std: The same.
        resize: Short side before the crop, as a multiple of the crop's side, if it is not that of timm's weights.

    Raises:
        LofiError: If timm is not installed, has no such model, or there is no place for the shift in it.
    """

    def __init__(
        self,
        *,
        model: str = "regnety_008",
        temporal: str | None = None,
        drop_path: float = 0.0,
        img_size: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        resize: float | None = None,
    ) -> None:
        net = build_backbone(model, drop_path=drop_path, img_size=img_size)
        facts: dict[str, Any] = dict(net.pretrained_cfg)
        mean = _three("mean", mean if mean is not None else facts["mean"])
        std = _three("std", std if std is not None else facts["std"])
        places = list(_places(net))
        temporal = temporal or ("shift" if places else "none")
        _check_temporal(model, temporal, bool(places))
        crop = float(facts.get("crop_pct") or 1)
        resize = resize or (RESIZE if abs(crop - 1 / RESIZE) < 1e-3 else 1 / crop)
        config = {"model": model, "temporal": temporal, "mean": list(mean), "std": list(std), "resize": resize}
        config |= ({"drop_path": drop_path} if drop_path else {}) | ({"img_size": img_size} if img_size else {})
        channels = int(getattr(net, "head_hidden_size", None) or net.num_features)
        super().__init__(channels=channels, config=config, mean=mean, std=std)
        self.takes = _takes(net, facts, resize, img_size)
        self.shifts: list[ShiftedConv | GatedConv] = []
        self._is_convolutional = not hasattr(net, "patch_embed")
        pad_by_hand(net)
        self.base_model = net.to(memory_format=torch.channels_last) if self._is_convolutional else net
        for block, name in places if temporal != "none" else ():
            convolution = getattr(block, name)
            shifted: ShiftedConv | GatedConv = TEMPORAL[temporal](convolution, _first(convolution).in_channels)
            setattr(block, name, shifted)
            self.shifts.append(shifted)

    def blocks(self) -> list[nn.Module]:
        """Return the residual or transformer blocks; the whole network if it has none that are known."""
        return list(_outermost(self.base_model)) or [self.base_model]

    def encode(self, frames: Tensor, frames_per_clip: int) -> Tensor:
        """Return ``(N, C)``: pooled frame features averaged over each clip."""
        for shifted in self.shifts:
            shifted.frames_per_clip = frames_per_clip
        if self._is_convolutional:
            frames = frames.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.base_model(frames)  # (N·T, C)
        return features.float().view(-1, frames_per_clip, self.channels).mean(1)


def known_model(model: str) -> Any:
    """Return what timm says of the public weights of a model, by its name with or without a tag.

    Raises:
        LofiError: If timm is not installed or has no such model.
    """
    timm = extra("timm", "encoder 'timm'")
    base = model.partition(".")[0]
    if not timm.is_model(base):  # nor a path or an address: timm would read them
        known = timm.list_models()
        raise LofiError(f"timm has no model {model!r}, out of {len(known)}.{nearest(base, known)}")
    try:
        return timm.get_pretrained_cfg(model)
    except RuntimeError as error:  # its way to refuse a tag
        raise LofiError(f"timm cannot build {model!r}: {' '.join(str(error).split())}.") from error


def build_backbone(
    model: str,
    *,
    drop_path: float = 0.0,
    img_size: int | None = None,
    pretrained: bool = False,
    weights: Mapping[str, Tensor] | None = None,
) -> Any:
    """Return a model of timm without its classifier, for frames of any size where it can be had.

    Args:
        model: Name, with or without a tag.
        drop_path: Stochastic depth.
        img_size: Side in pixels, for networks that fix it.
        pretrained: With its public weights, which timm downloads.
        weights: These public weights, if they need no download.

    Raises:
        LofiError: If timm is not installed or has no such model.
    """
    fixed = getattr(known_model(model), "fixed_input_size", False)
    timm = extra("timm", "encoder 'timm'")
    options: dict[str, Any] = {"num_classes": 0, "pretrained": pretrained}
    if weights is not None:
        options["pretrained_cfg_overlay"] = {"state_dict": dict(weights)}
    options |= ({"drop_path_rate": drop_path} if drop_path else {}) | ({"img_size": img_size} if img_size else {})
    ways: list[dict[str, Any]] = [{"dynamic_img_size": True}, {}] if fixed and img_size is None else [{}]
    for way in ways:
        try:
            return timm.create_model(model, **options, **way)
        except TypeError as error:
            if way == ways[-1]:
                raise LofiError(f"timm cannot build {model!r} with these options: {error}.") from error
        except RuntimeError as error:  # its way to refuse a tag
            raise LofiError(f"timm cannot build {model!r}: {' '.join(str(error).split())}.") from error
    raise AssertionError("one of the ways returns or raises")


def _takes(net: Any, facts: dict[str, Any], resize: float, img_size: int | None) -> Takes:
    """Return what sizes a network takes: any, whole patches, or one alone."""
    patch = getattr(getattr(net, "patch_embed", None), "patch_size", None)
    if patch is not None and getattr(net, "dynamic_img_size", False):
        side = int(patch[0] if isinstance(patch, tuple | list) else patch)
        return Takes(size_multiple=side, smallest=max(16, side), resize=resize)
    if facts.get("fixed_input_size"):
        side = int(img_size or facts["input_size"][1])
        return Takes(smallest=side, largest=side, square=True, sizes_change=False, resize=resize)
    return Takes(resize=resize)


def _check_temporal(model: str, temporal: str, has_places: bool) -> None:
    allowed = (*TEMPORAL, "none")
    if temporal not in allowed:
        raise LofiError(f"temporal {temporal!r} is unknown; allowed: {', '.join(allowed)}.")
    if temporal != "none" and not has_places:
        raise LofiError(
            f"{model!r} has no residual branch of convolutions that a temporal {temporal} belongs into: set "
            "temporal='none', which takes the mean over the frames."
        )


def _three(name: str, values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) != 3:
        raise LofiError(f"{name} is {list(values)!r}: expected three numbers, for red, green and blue.")
    return cast(tuple[float, float, float], tuple(float(value) for value in values))


def _places(net: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Yield the blocks and the attribute of each that holds the convolution behind the shift."""
    deep = isinstance(stage := getattr(net, "layer3", None), nn.Sequential) and len(stage) >= _MANY
    for container in net.modules():
        for index, block in enumerate(container.children()):
            kind, home = type(block).__name__, type(block).__module__.rpartition(".")[2]
            if home == "resnet" and kind in ("BasicBlock", "Bottleneck"):
                if index % 2 == 0 or not deep:
                    yield block, "conv1"
            elif home == "regnet" and kind in ("Bottleneck", "PreBottleneck"):
                yield block, "conv1"
            elif kind in ("InvertedResidual", "EdgeResidual") and getattr(block, "has_skip", False):
                yield block, "conv_pw" if kind == "InvertedResidual" else "conv_exp"


def _first(module: nn.Module) -> nn.Conv2d:
    """Return the convolution that a module is or begins with."""
    return next(one for one in module.modules() if isinstance(one, nn.Conv2d))


def _outermost(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if _BLOCK.search(type(child).__name__):
            yield child
        else:
            yield from _outermost(child)
