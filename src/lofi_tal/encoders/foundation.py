"""Video foundation models of transformers as encoders: V-JEPA 2, VideoMAE, VideoPrism and TimeSformer.

The features are those of the unmodified models. What these get wrong without a word at other sizes or numbers of frames
is set for each clip: VideoMAE's table of positions is computed for one size, V-JEPA 2 and TimeSformer lay tokens out by
their configuration.

Sources: transformers (`models/videomae`, `models/vjepa2`, `models/videoprism`, `models/timesformer`).

Shapes: N clips, T frames, H × W pixels, C channels, K tokens.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lofi_tal.encoders.contract import Encoder
from lofi_tal.encoders.extra import extra
from lofi_tal.encoders.tsm import IMAGENET_MEAN, IMAGENET_STD
from lofi_tal.errors import LofiError, nearest
from lofi_tal.fidelity.takes import RESIZE, Takes


@dataclass(frozen=True)
class Family:
    """What checkpoints of a kind of model have in common.

    Args:
        model_types: Of ``config.json``, the one of the encoder alone first.
        prefixes: Of the encoder's tensors in checkpoints of larger models, the longest first.
        others: Parts of larger models that are no part of the encoder, as beginnings of names without prefix.
        renamed: Endings of names in older checkpoints, and what they are now.
        licence: Of the published weights.
    """

    model_types: tuple[str, ...]
    prefixes: tuple[str, ...]
    others: tuple[str, ...]
    renamed: Mapping[str, str]
    licence: str


class FoundationEncoder(Encoder):
    """A video transformer; the feature is the mean over its tokens.

    Args:
        architecture: Settings of the model as in its ``config.json``; what is left out is as in transformers.
        mean: Normalisation of frames in [0, 1].
        std: The same.
        resize: Short side before the crop, as a multiple of the crop's side.
        licence: Of the weights.

    Raises:
        LofiError: If transformers is not installed, or a setting is not one of the model's.
    """

    family: ClassVar[Family]
    base_model: Any

    def __init__(
        self,
        *,
        architecture: Mapping[str, Any] | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        resize: float = RESIZE,
        licence: str = "",
    ) -> None:
        settings = dict(architecture or {})
        transformers = extra("transformers", f"encoder {self.family.model_types[0]!r}")
        known = self.settings()
        for key in settings:
            if key not in known:
                raise LofiError(
                    f"architecture of {self.family.model_types[0]!r}: there is no setting {key!r}."
                    f"{nearest(str(key), known)}"
                )
        try:
            config = transformers.AutoConfig.for_model(self.family.model_types[0], **settings)
        except Exception as error:  # its checks raise errors of their own kinds
            reason = " ".join(str(error).split())
            raise LofiError(f"architecture of {self.family.model_types[0]!r}: {reason}") from error
        kept = {"architecture": settings, "mean": list(mean), "std": list(std), "resize": resize, "licence": licence}
        super().__init__(channels=config.hidden_size, config=kept, mean=_three(mean), std=_three(std))
        self.licence = licence
        self.takes = self._takes(config, resize)
        self.base_model = self._build(transformers, config)

    @classmethod
    def settings(cls) -> list[str]:
        """Return the settings of the model itself, which an architecture may have.

        Those of every model of transformers are left out: some make it fetch code from the hub (a named implementation
        of attention).

        Raises:
            LofiError: If transformers is not installed.
        """
        transformers = extra("transformers", f"encoder {cls.family.model_types[0]!r}")
        own = inspect.signature(transformers.CONFIG_MAPPING[cls.family.model_types[0]]).parameters.values()
        common = inspect.signature(transformers.PreTrainedConfig).parameters
        return [one.name for one in own if one.name not in common and one.kind is not one.VAR_KEYWORD]

    @classmethod
    def _takes(cls, config: Any, resize: float) -> Takes:
        """Return what clips the model takes."""
        patch = _side(config.patch_size)
        tubelet = int(getattr(config, "tubelet_size", 1))
        return Takes(
            size_multiple=patch, smallest=max(16, patch), frame_multiple=tubelet, fewest=tubelet, resize=resize
        )

    @staticmethod
    @abc.abstractmethod
    def _build(transformers: Any, config: Any) -> nn.Module:
        """Return the model without what the features do not need."""

    @abc.abstractmethod
    def _tokens(self, clips: Tensor) -> Tensor:
        """Return the tokens ``(N, K, C)`` of clips ``(N, T, 3, H, W)``."""

    def blocks(self) -> list[nn.Module]:
        """Return the transformer layers."""
        return list(self.base_model.encoder.layer)

    def encode(self, frames: Tensor, frames_per_clip: int) -> Tensor:
        """Return ``(N, C)``: the mean over all tokens of a clip."""
        return self._tokens(frames.view(-1, frames_per_clip, *frames.shape[1:])).float().mean(1)


class VideoMAE(FoundationEncoder):
    """VideoMAE: tubelets of 2 frames, positions from a sinusoid over all tokens of the size of its pre-training.

    At another size, the table of each plane is interpolated (bicubic, as in mmaction2 and AdaTAD). A computed table of
    that size, which the model would build, gives every token the position of another place.
    """

    family = Family(
        model_types=("videomae",),
        prefixes=("videomae.",),
        others=("decoder.", "encoder_to_decoder.", "mask_token", "classifier.", "fc_norm.", "position_embeddings"),
        renamed={"attention.attention.q_bias": "attention.attention.query.bias",
                 "attention.attention.v_bias": "attention.attention.value.bias"},
        licence="CC-BY-NC-4.0",
    )  # fmt: skip
    positions: Tensor

    @classmethod
    def settings(cls) -> list[str]:
        """Return the settings of the model; ``qkv_bias`` is what checkpoints of earlier releases call ``qv_bias``."""
        return [*super().settings(), "qkv_bias"]

    @staticmethod
    def _build(transformers: Any, config: Any) -> nn.Module:
        model: Any = transformers.VideoMAEModel(config)
        model.embeddings.position_embeddings = None  # ours are in their place
        return cast(nn.Module, model)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.grid = _side(self.base_model.config.image_size) // self.takes.size_multiple
        planes = self.base_model.config.num_frames // self.takes.frame_multiple
        table = sinusoid(planes * self.grid**2, self.channels)
        self.register_buffer("positions", table.view(planes, self.grid, self.grid, self.channels), persistent=False)

    def _tokens(self, clips: Tensor) -> Tensor:
        model = self.base_model
        embedded: Tensor = model.embeddings.patch_embeddings.projection(clips.transpose(1, 2))  # (N, C, T/2, h, w)
        positions = self._positions(*embedded.shape[2:])
        tokens = embedded.flatten(2).transpose(1, 2) + positions.to(embedded.dtype)
        hidden: Tensor = model.encoder(tokens).last_hidden_state
        return hidden if model.layernorm is None else cast(Tensor, model.layernorm(hidden))

    def _positions(self, planes: int, height: int, width: int) -> Tensor:
        """Return the positions ``(1, K, C)`` of so many planes of patches."""
        table = self.positions
        if planes > len(table):  # the sinusoid goes on
            longer = sinusoid(planes * self.grid**2, self.channels).to(table.device)
            table = longer.view(planes, self.grid, self.grid, self.channels)
        table = table[:planes]
        if (height, width) != (self.grid, self.grid):
            size = (height, width)
            table = functional.interpolate(table.permute(0, 3, 1, 2), size, mode="bicubic").permute(0, 2, 3, 1)
        return table.reshape(1, -1, self.channels)


class VJEPA2(FoundationEncoder):
    """V-JEPA 2: tubelets of 2 frames, rotary positions on a square grid; the predictor is left out."""

    family = Family(
        model_types=("vjepa2",),
        prefixes=("vjepa2.encoder.", "encoder."),
        others=("vjepa2.predictor.", "predictor.", "pooler.", "classifier."),
        renamed={},
        licence="MIT (L), Apache-2.0 (H, g)",
    )

    @classmethod
    def _takes(cls, config: Any, resize: float) -> Takes:
        return replace(super()._takes(config, resize), square=True)

    @staticmethod
    def _build(transformers: Any, config: Any) -> nn.Module:
        layers = config.pred_num_hidden_layers
        config.pred_num_hidden_layers = 1  # built and thrown away
        model = transformers.VJEPA2Model(config)
        config.pred_num_hidden_layers = layers
        return cast(nn.Module, model.encoder)

    def blocks(self) -> list[nn.Module]:
        """Return the transformer layers."""
        return list(self.base_model.layer)

    def _tokens(self, clips: Tensor) -> Tensor:
        grid = clips.shape[-1] // self.takes.size_multiple
        for layer in self.base_model.layer:
            layer.attention.grid_size = grid  # which row and column a token is in
        hidden: Tensor = self.base_model(clips).last_hidden_state
        return hidden


class VideoPrism(FoundationEncoder):
    """VideoPrism: patches of single frames, a spatial and then a temporal transformer; its own tables are resized."""

    family = Family(
        model_types=("videoprism_vision_model", "videoprism"),
        prefixes=("video_model.vision_model.", "vision_model."),
        others=("video_model.", "text_model.", "auxiliary_layers.", "head.", "head_layernorm.", "contrastive_",
                "classifier.", "logit_"),
        renamed={},
        licence="Apache-2.0",
    )  # fmt: skip

    @classmethod
    def _takes(cls, config: Any, resize: float) -> Takes:
        tubelet, patch, _ = config.tubelet_size
        return Takes(
            size_multiple=patch, smallest=max(16, patch), frame_multiple=tubelet, fewest=tubelet, resize=resize
        )

    @staticmethod
    def _build(transformers: Any, config: Any) -> nn.Module:
        return cast(nn.Module, transformers.VideoPrismVisionModel(config))

    def blocks(self) -> list[nn.Module]:
        """Return the spatial layers, then the temporal ones."""
        return [*self.base_model.spatial_layers, *self.base_model.temporal_layers]

    def layers(self) -> list[tuple[str, nn.Module]]:
        """Return groups of layers from input to output, in the order of the forward pass."""
        model, groups = self.base_model, super().layers()
        blocks = [(name, module) for name, module in groups if name not in ("stem", "end")]
        first = len(model.spatial_layers)
        middle = [("norm", model.layernorm1), ("time", model.temporal_embeddings)]
        return [
            ("stem", model.spatial_embeddings),
            *blocks[:first],
            *middle,
            *blocks[first:],
            ("end", model.layernorm2),
        ]

    def token_order(self, block: nn.Module) -> str:
        """Return where time is: the temporal layers see each place by itself."""
        return "places" if any(block is layer for layer in self.base_model.temporal_layers) else ""

    def _tokens(self, clips: Tensor) -> Tensor:
        hidden: Tensor = self.base_model(clips, interpolate_pos_encoding=True).last_hidden_state
        return hidden


class TimeSformer(FoundationEncoder):
    """TimeSformer: patches of single frames, attention in time and in space; its tables are resized to the nearest.

    The feature is the class token, which is what its checkpoints classify by.
    """

    family = Family(
        model_types=("timesformer",),
        prefixes=("timesformer.",),
        others=("classifier.",),
        renamed={},
        licence="CC-BY-NC-4.0",
    )

    @classmethod
    def _takes(cls, config: Any, resize: float) -> Takes:
        return replace(super()._takes(config, resize), square=True)

    @staticmethod
    def _build(transformers: Any, config: Any) -> nn.Module:
        return cast(nn.Module, transformers.TimesformerModel(config))

    def token_order(self, block: nn.Module) -> str:
        """Return where time is: the frames of a place stand in a row, behind the class token."""
        return "time last"

    def _tokens(self, clips: Tensor) -> Tensor:
        config = self.base_model.config  # which its layers lay the tokens out by
        config.num_frames, config.image_size = clips.shape[1], clips.shape[-1]
        hidden: Tensor = self.base_model(clips).last_hidden_state
        return hidden[:, :1]


FOUNDATION: dict[str, type[FoundationEncoder]] = {
    "vjepa2": VJEPA2,
    "videomae": VideoMAE,
    "videoprism": VideoPrism,
    "timesformer": TimeSformer,
}
"""Encoders of transformers by name."""


def sinusoid(positions: int, channels: int) -> Tensor:
    """Return VideoMAE's table ``(positions, channels)``: sines at even channels, cosines at odd ones."""
    rates = 10000 ** (-2 * (torch.arange(channels, dtype=torch.float64) // 2) / channels)
    angles = torch.arange(positions, dtype=torch.float64)[:, None] * rates
    table = torch.where(torch.arange(channels) % 2 == 0, angles.sin(), angles.cos())
    return table.float()


def _side(size: Any) -> int:
    """Return the side of a square that is given by one number or two."""
    sides = {int(one) for one in size} if isinstance(size, list | tuple) else {int(size)}
    if len(sides) > 1:
        raise LofiError(f"architecture: {size!r} is not square; only square patches and pictures are supported.")
    return sides.pop()


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) != 3:
        raise LofiError(f"mean or std is {list(values)!r}: expected three numbers, for red, green and blue.")
    return cast(tuple[float, float, float], tuple(float(value) for value in values))
