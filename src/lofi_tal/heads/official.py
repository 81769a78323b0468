"""Checkpoints of published code."""

from __future__ import annotations

from pathlib import Path

from lofi_tal.errors import DataError
from lofi_tal.heads.contract import Head
from lofi_tal.tensor_files import check_finite, read_state_dict


def load_published(head: Head, path: Path, *, entry: str | None = None, passed_over: str | None = None) -> None:
    """Load a checkpoint whose names and shapes are those of a head.

    Args:
        head: Takes the weights.
        path: File of ``torch.save`` or safetensors; names may begin with ``module.``.
        entry: Where its weights are looked for first.
        passed_over: Beginning of names that the head does without.

    Raises:
        DataError: If the file cannot be read without executing code, its weights do not fit, or a number in it is not
            finite.
    """
    first = () if entry is None else (entry,)
    state = {key.removeprefix("module."): value for key, value in read_state_dict(path, first=first).items()}
    state = {key: value for key, value in state.items() if passed_over is None or not key.startswith(passed_over)}
    own = head.state_dict()
    wrong = [key for key in own if key not in state or state[key].shape != own[key].shape]
    if wrong or state.keys() - own.keys():
        name = (wrong or sorted(state.keys() - own.keys()))[0]
        shapes = [tuple(one[name].shape) if name in one else "nothing" for one in (state, own)]
        raise DataError(
            f"{path} does not fit this head: {len(wrong)} of {len(own)} tensors differ; {name} is {shapes[0]} there, "
            f"{shapes[1]} here. Give the checkpoint's sizes in head.options: {head.config}."
        )
    check_finite(path, state)
    head.load_state_dict(state)
