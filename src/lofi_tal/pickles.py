"""What a pickle names, read from its opcodes: nothing is built or run."""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MOST = 64 * 2**20
"""Bytes of a pickle that are looked at; tensors lie outside it in the files of today's torch."""
_TAKES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "REDUCE": 2, "NEWOBJ": 2, "NEWOBJ_EX": 3, "BINPERSID": 1}
"""Items of the stack that an opcode makes one of."""
_TAKES_TO_MARK = ("TUPLE", "LIST", "FROZENSET", "OBJ", "INST")
_MARK = object()


@dataclass(eq=False)
class Node:
    """A value of a pickle, as far as names go.

    Args:
        text: A text, or the name of a class or function with its module.
        is_global: It is such a name.
        parts: What it is made of.
        items: Keys and values, of a dict.
    """

    text: str = ""
    is_global: bool = False
    parts: list[Node] = field(default_factory=list)
    items: list[tuple[Node, Node]] = field(default_factory=list)

    def below(self) -> Iterator[Node]:
        """Yield this value and all that it is made of, each once."""
        seen, waiting = set(), [self]
        while waiting:
            node = waiting.pop()
            if id(node) not in seen:
                seen.add(id(node))
                yield node
                waiting += [*node.parts, *(one for pair in node.items for one in pair)]


def find_global(roots: Sequence[Node], name: str) -> str | None:
    """Return the entry of a checkpoint that holds a class or function; None if none does.

    Args:
        roots: What :func:`read_names` returned of a file of ``torch.save``.
        name: The class or function, with or without its module.
    """
    for root in roots:
        for key, value in root.items:
            if any(node.is_global and f".{node.text}".endswith(f".{name}") for node in value.below()):
                return key.text
    return None


def holds_model(roots: Sequence[Node]) -> bool:
    """Say whether the values of a file hold a module of torch itself, not only weights."""
    nodes = (node for root in roots for node in root.below())
    return any(key.text == "_modules" for node in nodes for key, _ in node.items)


def read_names(path: Path) -> list[Node]:
    """Return the values of a file's pickles; what cannot be followed is left out."""
    stream = io.BytesIO(_pickle(path))
    roots: list[Node] = []
    while stream.tell() < len(stream.getbuffer()):
        stack: list[Any] = []
        memo: dict[int, Any] = {}
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                _step(opcode.name, argument, stack, memo)
        except Exception:  # cut off, or no pickle any more: what there is counts
            return [*roots, *(node for node in stack[:1] if isinstance(node, Node))]
        roots += stack[-1:]
    return roots


def _pickle(path: Path) -> bytes:
    """Return the pickle of a file, or an empty one."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
                with archive.open(name) as member:
                    return member.read(_MOST)
        with path.open("rb") as handle:
            return handle.read(_MOST)
    except (OSError, StopIteration, zipfile.BadZipFile, RuntimeError):
        return b""


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    """Follow one opcode."""
    if name in ("PROTO", "FRAME", "STOP"):
        return
    if name == "MARK":
        stack.append(_MARK)
    elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
        memo[len(memo) if argument is None else int(argument)] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[int(argument)])
    elif name in ("POP", "POP_MARK"):
        _to_mark(stack) if name == "POP_MARK" else stack.pop()
    elif name == "DUP":
        stack.append(stack[-1])
    elif name in ("SETITEM", "SETITEMS", "DICT", "APPEND", "APPENDS", "ADDITEMS", "BUILD"):
        _fill(name, stack)
    elif name in ("GLOBAL", "STACK_GLOBAL"):
        module, function = str(argument).split(" ") if argument else (node.text for node in _take(stack, 2))
        stack.append(Node(f"{module}.{function}", is_global=True))
    elif name in _TAKES_TO_MARK:
        parts = _to_mark(stack)
        stack.append(Node(parts=[*parts, Node(str(argument).replace(" ", "."), bool(argument))]))
    elif name in _TAKES:
        stack.append(Node(parts=_take(stack, _TAKES[name])))
    else:
        stack.append(Node(argument if isinstance(argument, str) else ""))


def _fill(name: str, stack: list[Any]) -> None:
    """Follow an opcode that puts things into what lies below them."""
    if name == "BUILD":
        state = stack.pop()
        stack[-1].parts.append(state)
        return
    content = _take(stack, 2 if name == "SETITEM" else 1) if name in ("SETITEM", "APPEND") else _to_mark(stack)
    if name == "DICT":
        stack.append(Node())
    if name in ("SETITEM", "SETITEMS", "DICT"):
        stack[-1].items += zip(content[::2], content[1::2], strict=True)
    else:
        stack[-1].parts += content


def _take(stack: list[Any], count: int) -> list[Any]:
    taken = stack[-count:]
    del stack[-count:]
    return taken


def _to_mark(stack: list[Any]) -> list[Any]:
    place = len(stack) - 1 - stack[::-1].index(_MARK)
    taken = stack[place + 1 :]
    del stack[place:]
    return taken
