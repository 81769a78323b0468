"""How much of an encoder is trained: all of it, the groups of layers nearest to the output, adapters alone, or nothing.

What is not trained is frozen: its weights need no gradients, its BatchNorm keeps its statistics, its dropout and its
stochastic depth are off. Back-propagation keeps no activations below the first layer that is trained.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from lofi_tal.encoders.adapters import add_adapter, is_of_an_adapter
from lofi_tal.encoders.contract import Encoder
from lofi_tal.errors import LofiError

_PART = re.compile(r"full|adapter|frozen|last ([1-9][0-9]*)")


def check_part(part: str) -> str:
    """Return ``part`` if it says how much of an encoder is trained.

    Raises:
        LofiError: If it does not.
    """
    if not _PART.fullmatch(part):
        raise LofiError(
            f"{part!r} does not say how much is trained; allowed: full, adapter, frozen, and last N (such as last 2), "
            "the N groups of layers nearest to the output"
        )
    return part


def layer_groups(encoder: Encoder) -> list[tuple[str, list[nn.Module]]]:
    """Return the groups of layers of an encoder from input to output: a name, and the modules that hold its weights.

    Every parameter is a direct one of a module of exactly one group. What stands before the first block is a group of
    its own; what stands behind the last block, such as a final normalisation, belongs to it.
    """
    groups = [(name, list(module.modules())) for name, module in encoder.layers()]
    if len(groups) > 1 and groups[-1][0] == "end":
        end = groups.pop()
        groups[-1] = (groups[-1][0], [*groups[-1][1], *end[1]])
    return groups


def trainable(modules: Iterable[nn.Module], *, everything: bool = False) -> list[nn.Parameter]:
    """Return the parameters that are directly in some modules, without the frozen ones unless ``everything``."""
    own = {id(one): one for module in modules for one in module.parameters(recurse=False)}
    return [one for one in own.values() if everything or one.requires_grad]


def layer_rates(encoder: Encoder, decay: float | None) -> list[tuple[list[nn.Module], float]]:
    """Return the modules of an encoder with the factor of their learning rate, in groups from input to output.

    Args:
        encoder: The encoder.
        decay: The last group has the factor 1, and each one before it ``decay`` times that of the next (Clark et al.,
            "ELECTRA", 2020; Bao et al., "BEiT", 2022). Without it, all layers are one group.
    """
    if decay is None:
        return [(list(encoder.modules()), 1.0)]
    groups = layer_groups(encoder)
    return [(modules, decay ** (len(groups) - 1 - number)) for number, (_, modules) in enumerate(groups)]


def adapt_encoder(encoder: Encoder, train: str = "full", adapter: Mapping[str, Any] | None = None) -> None:
    """Prepare an encoder for a training of a part of it: adapters are put in, and all else is frozen.

    Args:
        encoder: Changed in place.
        train: ``full``, ``adapter``, ``frozen``, or ``last N``: the N groups of :func:`layer_groups` nearest to the
            output.
        adapter: Name and options of the adapter, see :func:`lofi_tal.encoders.add_adapter`; one that is there already
            is trained further.

    Raises:
        LofiError: If the encoder has fewer groups than N, or no layers that the adapter fits.
    """
    match = _PART.fullmatch(check_part(train))
    assert match is not None
    if train == "full":
        return
    trained: set[int] = set()
    if train == "adapter":
        add_adapter(encoder, **(adapter or {}))
        trained = {id(module) for name, module in encoder.named_modules() if is_of_an_adapter(name)}
    elif train != "frozen":
        count, groups = int(match[1]), layer_groups(encoder)
        if count > len(groups):
            raise LofiError(
                f"encoder.train {train!r}: {encoder.name or type(encoder).__name__} has {len(groups)} groups of layers "
                f"({', '.join(name for name, _ in groups)}); allowed: last 1 to last {len(groups)}, full, frozen."
            )
        if count == len(groups):
            return
        trained = {id(module) for _, modules in groups[-count:] for module in modules}
    for module in encoder.modules():
        if id(module) not in trained:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
    encoder.frozen = tuple(
        module for module in encoder.modules() if not any(id(inner) in trained for inner in module.modules())
    )
    encoder.train(encoder.training)
