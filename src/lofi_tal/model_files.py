"""The files of a model folder, which a stranger may have written: JSON under a schema, and weights that must fit.

Nothing is built before it is clear that the file is a plain one inside its folder, that every value in the description
is plain and small, and that the module would be about as large as the weights beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lofi_tal.bounds import Options, PlainDict
from lofi_tal.errors import DataError, LofiError, quoted
from lofi_tal.files import plain_file, read_json, utf8_path
from lofi_tal.module_sizes import Shapes, SizeLimit
from lofi_tal.tensor_files import check_finite, load_safetensors

_MOST_BYTES = 16 * 2**20
_FETCHED = ("pretrained", "checkpoint_path", "cache_dir", "url", "trust_remote_code")
"""Arguments with which components of other packages open files or the network."""
_ELSEWHERE = ("hf-hub:", "hf_hub:", "local-dir:", "file:", "/", "~")

S = TypeVar("S", bound="Description")
M = TypeVar("M", bound=nn.Module)


def refuse_fetching(options: Mapping[Any, Any] | Sequence[Any]) -> None:
    """Refuse arguments of a component that would let it open another file, or the network.

    Raises:
        LofiError: If there is one: what a component needs lies beside its description.
    """
    for key, value in options.items() if isinstance(options, Mapping) else enumerate(options):
        if str(key).startswith(_FETCHED) and value not in (None, False):
            raise LofiError(f"the argument {quoted(key)} would fetch weights, but they lie in this folder.")
        if isinstance(value, str) and (value.startswith(_ELSEWHERE) or "://" in value or ".." in value.split("/")):
            raise LofiError(f"the argument {quoted(key)}: {quoted(value)} leads out of this folder.")
        if isinstance(value, Mapping | list | tuple):
            refuse_fetching(value)


class Description(BaseModel):
    """A JSON file of a model folder; keys of later versions are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ComponentFile(Description):
    """``encoder.json`` and ``head.json``: a component by name, with the arguments that rebuild it."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    config: Options
    facts: PlainDict = Field(default_factory=dict)
    package: Annotated[str, Field(max_length=200)] | None = None


def read_description(path: Path, schema: type[S]) -> S:
    """Read a description.

    Raises:
        DataError: If it is missing, no plain file in its folder, too large, no JSON, or says something that ``schema``
            does not allow.
    """
    size = plain_file(path, path.parent).st_size
    if size > _MOST_BYTES:
        raise DataError(f"{path} has {size:,} bytes: a description has at most {_MOST_BYTES:,}.")
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}: expected an object.")
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise DataError(f"{path} is not of this version: {_told(error)}") from error


def _told(error: ValidationError) -> str:
    first, *others = error.errors(include_url=False)
    key = ".".join(str(part) for part in first["loc"])
    more = f" ({len(others)} more)" if others else ""
    if first["type"] == "missing":
        return f"{key!r} is missing.{more}"
    if first["type"] == "value_error":
        return f"{quoted(key)}: {str(first['msg']).removeprefix('Value error, ')}.{more}"
    return f"{quoted(key)} is {quoted(first['input'])}: {first['msg'][:1].lower()}{first['msg'][1:]}.{more}"


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor in a safetensors file of a model folder, from its header.

    Raises:
        DataError: If it is missing, no plain file in its folder, or no complete safetensors file.
    """
    plain_file(path, path.parent)
    try:
        with utf8_path(path) as name, safe_open(name, framework="pt") as handle:
            return {key: tuple(handle.get_slice(key).get_shape()) for key in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        raise DataError(f"{path} is not a complete safetensors file: {error}.") from error


def build_for(path: Path, what: str, build: Callable[[], M]) -> M:
    """Build a module for the weights in a safetensors file, and refuse one that is far larger before it is built.

    Args:
        path: The file.
        what: What to call the module.
        build: Returns it.

    Raises:
        DataError: If it would be too large, or its arguments make its constructor fail.
    """
    shapes: Shapes = read_shapes(path)
    with SizeLimit(what, shapes, path):
        return build()


def load_exactly(module: nn.Module, path: Path) -> None:
    """Load the weights of a module from a safetensors file that holds them and nothing else.

    Raises:
        DataError: If names, shapes or types differ, or a number is not finite.
    """
    state, own = load_safetensors(path), module.state_dict()
    if others := set(own) ^ set(state):
        name = min(others)
        raise DataError(f"{path} {'lacks' if name in own else 'has besides'} the tensor {quoted(name)}.")
    check_tensors(path, state, own)
    check_finite(path, state)
    module.load_state_dict(state)


def check_tensors(path: Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse tensors of other shapes than a module's, or of numbers of another kind.

    Raises:
        DataError: If there are some; the message names the first.
    """
    wrong = [key for key in own if key in state and own[key].shape != state[key].shape]
    if wrong:
        key = wrong[0]
        raise DataError(
            f"{path}: {len(wrong)} tensors have another shape than the module's, e.g. {key}: "
            f"{tuple(state[key].shape)} in the file, {tuple(own[key].shape)} here. "
            "The file belongs to another depth or width."
        )
    for key, value in own.items():
        if key in state and value.is_floating_point() and not state[key].is_floating_point():
            raise DataError(f"{path}: {key} holds numbers of {state[key].dtype}; expected {value.dtype}.")
