"""A head that starts from the weights of another one, whose classes may differ: they go by their names."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lofi_tal.errors import LofiError
from lofi_tal.heads.contract import Head


def check_transfer(head: Head, source: Head) -> None:
    """Refuse weights that do not fit a head, whatever its classes are.

    Args:
        head: What shall start from other weights.
        source: The head that has them.

    Raises:
        LofiError: If name, channels or the shape of a tensor differ; the message names both values.
    """
    if head.name != source.name:
        raise LofiError(f"its head is {source.name!r}, that of the recipe {head.name!r} (head.name).")
    if head.in_channels != source.in_channels:
        raise LofiError(
            f"its features have {source.in_channels} channels, those of the recipe {head.in_channels} (encoder, "
            "features.sources)."
        )
    own, given = _common_shapes(head), _common_shapes(source)
    if own == given:
        return
    for key, value in head.config.items():
        if key != "num_classes" and source.config.get(key, value) != value:
            raise LofiError(
                f"its head has {key}={source.config[key]!r}, that of the recipe {key}={value!r} (head.options)."
            )
    name = min(own.items() ^ given.items())[0]
    raise LofiError(
        f"its head has another shape: {name} is {given.get(name, 'missing')} there, {own.get(name, 'missing')} here."
    )


def _common_shapes(head: Head) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of the state, of those that belong to classes that of one class."""
    by_class = set(head.class_tensors)
    return {
        name: tuple(value.shape[1:] if name in by_class else value.shape) for name, value in head.state_dict().items()
    }


def transfer_head(head: Head, labels: Sequence[str], source: Head, known: Sequence[str]) -> None:
    """Give a head the weights of another one; classes that both know keep theirs, new ones stay as they are.

    Args:
        head: Changed in place.
        labels: Its classes, in order.
        source: The other head.
        known: The classes of that one, in order.

    Raises:
        LofiError: If the weights do not fit, or classes differ and the head does not say which tensors belong to them.
    """
    check_transfer(head, source)
    own, state = head.state_dict(), dict(source.state_dict())
    same = tuple(labels) == tuple(known)
    if not same and head.num_classes is not None and not head.class_tensors:
        raise LofiError(
            f"its classes differ, and head {head.name!r} does not say which of its tensors belong to a class "
            "(Head.class_tensors)."
        )
    for name in head.class_tensors:
        rows, given = len(own[name]), len(state[name])
        if (rows, given) != (len(labels), len(known)) and rows == given:
            continue  # it scores any action, or classes that the options number
        if (rows, given) != (len(labels), len(known)):
            raise LofiError(
                f"its head has {given} classes, that of the recipe {rows} (head.options), and nothing names them."
            )
        pairs = [(row, known.index(label)) for row, label in enumerate(labels) if label in known]
        mixed = own[name].clone()
        if pairs:
            here, there = (torch.tensor(side) for side in zip(*pairs, strict=True))
            mixed[here] = state[name][there].to(mixed)
        state[name] = mixed
    head.load_state_dict(state)
