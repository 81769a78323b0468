"""Every encoder in a configuration so small that tests can run it, with random weights."""

import pytest
import torch

from lofi_tal.encoders import create_encoder, list_encoders

VIT = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
TINY = {
    "videomae": {"architecture": {**VIT, "image_size": 64, "num_frames": 4}},
    "vjepa2": {
        "architecture": {
            "hidden_size": 36, "num_attention_heads": 2, "num_hidden_layers": 2, "mlp_ratio": 2.0, "crop_size": 64,
            "frames_per_clip": 4, "pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1,
        }
    },
    "videoprism": {
        "architecture": {
            "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 32, "num_spatial_layers": 2,
            "num_temporal_layers": 1, "image_size": 72, "num_frames": 4,
        }
    },
    "timesformer": {"architecture": {**VIT, "image_size": 64, "num_frames": 4}},
    "timm": {"model": "mobilenetv2_035", "temporal": "shift"},
    "s3d": {},
    "swin3d_t": {"width": 32},
    "swin3d_s": {"width": 32},
    "swin3d_b": {"width": 32},
}  # fmt: skip
TIMM = {
    "timm gate": {"model": "regnety_002", "temporal": "gate"},
    "timm vit": {"model": "vit_tiny_patch16_224"},
    "timm resnet": {"model": "resnet10t"},
}
"""More of timm's, of other kinds."""
RANDOM_DEPTH = ("swin3d_t", "swin3d_s", "swin3d_b")
"""Those that drop layers at random in training."""


def tiny(name, **more):
    """Build a small encoder; ``name`` is one of :func:`list_encoders` or of :data:`TIMM`, or ``joined``."""
    torch.manual_seed(0)
    if name == "joined":
        parts = [
            {"name": "tsm_resnet18", "width": 8, "stem": "compact"},
            {"name": "r2plus1d_18", "width": 8},
            {"name": "videomae", "resize": 8 / 7, **TINY["videomae"]},
        ]
        return create_encoder("joined", parts=parts)
    options = TIMM.get(name) or TINY.get(name)
    if options is None:
        options = {"width": 8, "stem": "compact"} if name.startswith("tsm") else {"width": 8}
    if name in ("timm", *TIMM):
        pytest.importorskip("timm")
    if "architecture" in options:
        pytest.importorskip("transformers")
    return create_encoder(name.split()[0], **{**options, **more})


def every_encoder():
    """Return all names that :func:`tiny` knows, but ``joined``."""
    return (*list_encoders(), *TIMM)


def clips(encoder, count=3, frames=4, size=32, width=None):
    """Return random uint8 clips of the nearest shape that an encoder takes."""
    takes = encoder.takes
    height = takes.nearest_size(size)
    width = height if width is None or takes.square else takes.nearest_size(width)
    return torch.randint(0, 256, (count, takes.nearest_frames(frames), 3, height, width), dtype=torch.uint8)
