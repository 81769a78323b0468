"""Public weights of timm's backbones: those that timm downloads, and files of other packages for the same networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from lofi_tal.encoders.timm_backbone import TimmEncoder, build_backbone, known_model
from lofi_tal.errors import DataError, LofiError
from lofi_tal.tensor_files import check_finite

_TENSORFLOW = ("_conv_stem.", "_bn0.", "_blocks.")
"""How names begin in files for efficientnet_pytorch, all of which were converted from TensorFlow."""


def load_public(encoder: TimmEncoder, weights: Mapping[str, Tensor] | None = None) -> str:
    """Load timm's weights of the model and its tag, and say what was loaded.

    Args:
        encoder: Changed in place.
        weights: As timm publishes them, where they are at hand; by default timm gets them.

    Raises:
        DataError: If timm has none, they are not in its cache and cannot be downloaded, or those given do not fit.
    """
    config = encoder.config
    try:
        source = build_backbone(config["model"], img_size=config.get("img_size"), pretrained=True, weights=weights)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if weights is not None:
            raise DataError(f"The weights do not fit timm's model {config['model']!r}: {reason}") from error
        raise DataError(
            f"timm's weights of {config['model']!r} are not cached and cannot be downloaded ({reason}). On a machine "
            "with a network save them (timm.create_model(..., pretrained=True).state_dict()) and give the file with "
            "encoder.weights."
        ) from error
    encoder.licence = str(source.pretrained_cfg.get("license") or "")
    own = encoder.state_dict()
    state = timm_names(source.state_dict(), own)
    check_finite(Path(config["model"]), state)
    encoder.load_state_dict({key: state.get(key, value) for key, value in own.items()})
    return f"{len(state)} tensors of timm's weights loaded, their licence is {encoder.licence or 'not known'}"


def timm_hub_name(model: str) -> str:
    """Return where on the hub timm's weights of a model are.

    Raises:
        LofiError: If timm is not installed, has no such model, or keeps its weights elsewhere.
    """
    found = getattr(known_model(model), "hf_hub_id", None)
    if not found:
        raise LofiError(f"timm keeps the weights of {model!r} outside the hub, where adapters alone cannot name them.")
    return str(found)


def timm_names(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of timm by the names that an encoder has for the same tensors; others keep theirs."""
    plain = {key.removeprefix("base_model.").replace(".net.", "."): key for key in own}
    return {plain.get(key, key): value for key, value in state.items()}


def names_in_order(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return tensors under the names of an encoder, found by their order, last names and shapes.

    Two programs that build one network in the same order name its layers differently, but the weight of a convolution
    is still followed by the four tensors of its BatchNorm. Every tensor of the encoder must find its like in order;
    more may follow, of a classifier.

    Args:
        state: Of a file that keeps the order in which they were registered.
        own: Of the encoder.

    Returns:
        Those, and what follows them under its own names; None if the order does not fit, or the file has lost it.
    """
    if list(state) == sorted(state):  # safetensors sorts by name
        return None
    theirs = [(key, value) for key, value in state.items() if not _counts(key)]
    ours = [(key, value) for key, value in own.items() if not _counts(key)]
    if len(theirs) < len(ours):
        return None
    pairs = list(zip(ours, theirs[: len(ours)], strict=True))
    for (mine, value), (other, given) in pairs:
        if mine.rpartition(".")[2] != other.rpartition(".")[2] or value.shape != given.shape:
            return None
    return {mine: given for (mine, _), (_, given) in pairs} | dict(theirs[len(ours) :])


def check_origin(encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Refuse weights that were made for other padding and another epsilon, which fit by shape all the same.

    Raises:
        DataError: If the file's names are those of networks from TensorFlow, and the encoder is not built like these.
    """
    if not any(key.startswith(_TENSORFLOW) for key in state):
        return
    pads_alike = any(type(module).__name__ == "Conv2dSame" for module in encoder.modules())
    epsilons = {module.eps for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)}
    if not pads_alike or epsilons != {1e-3}:
        model = getattr(encoder, "config", {}).get("model", "")
        known = (
            f"tf_{model}" if model.startswith("efficientnet") else "tf_efficientnet_..., such as tf_efficientnet_lite0"
        )
        raise DataError(
            "These weights are of an EfficientNet from TensorFlow (names such as _conv_stem): its padding is not "
            f"symmetric, and BatchNorm's epsilon is 0.001. The features of {model or 'this encoder'!r} would be wrong: "
            f"take timm's model {known}."
        )


def _counts(key: str) -> bool:
    return key.endswith("num_batches_tracked")
