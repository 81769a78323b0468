"""YAML that may come from anybody: plain values only, every key once, and nothing that grows while it is read."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from typing import Any

import yaml

from lofi_tal.bounds import plain_value
from lofi_tal.errors import LofiError

_MOST_CHARACTERS = 200_000
_MOST_NODES = 20_000  # with everything that an alias stands for
_MOST_DIGITS = 40
_NO_NAME = re.compile("[\x00\ud800-\udc7f\udd00-\udfff]")
"""What no name of a file holds; the surrogates between stand for bytes that are no text."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without its worst surprises: 1e-4 is a number here, not a string, and a key stands once in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping; a key that stands twice, of which YAML would keep the last in silence, is refused."""
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen |= {name} if name else set()
        return super().construct_mapping(node, deep)

    def number(self, node: yaml.ScalarNode) -> int | float:
        """Return a number, if it is finite and of no more digits than any setting has."""
        if len(node.value) > _MOST_DIGITS:
            problem = f"a number of {len(node.value):,} characters"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        is_int = node.tag.endswith(":int")
        value: int | float = self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)
        if not math.isfinite(value):
            raise yaml.MarkedYAMLError(problem=f"{node.value} is no finite number", problem_mark=node.start_mark)
        return value

    def text(self, node: yaml.ScalarNode) -> str:
        """Return a text, if it may be a name of a file."""
        value = str(self.construct_scalar(node))
        if _NO_NAME.search(value):
            problem = "a text with a zero byte or half a character"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return value


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)
for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.number)
_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.text)


def parse_yaml(text: str, where: str) -> Any:
    """Parse YAML safely; 1e-4 is a number.

    Raises:
        LofiError: With the line, if the text is not YAML, has a key twice in one mapping, is nested too deeply, or
            holds a number that is not finite or a text that cannot be a name.
    """
    if len(text) > _MOST_CHARACTERS:
        raise LofiError(f"{where} has {len(text):,} characters; at most {_MOST_CHARACTERS:,} are allowed.")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node, {}, set())
        return plain_value(loader.construct_document(node))
    except RecursionError as error:
        raise LofiError(f"{where} nests its values too deeply for a recipe.") from error
    except yaml.YAMLError as error:
        raise LofiError(f"{where} is not valid YAML: {' '.join(str(error).split())}.") from error
    except Exception as error:  # a tag that its value does not fit makes the library raise anything
        raise LofiError(f"{where} is not usable YAML: {error}.") from error
    finally:
        loader.dispose()


def _check_size(node: yaml.Node, sizes: dict[int, int], above: set[int]) -> int:
    """Return how many values a node stands for; an alias counts as often as it is used."""
    if id(node) in sizes:
        return sizes[id(node)]
    if id(node) in above:
        raise ValueError("an alias stands inside what it is an alias of")
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [one for pair in node.value for one in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    size = 1 + sum(_check_size(child, sizes, above | {id(node)}) for child in children)
    if size > _MOST_NODES:
        raise ValueError(f"it stands for more than {_MOST_NODES:,} values")
    sizes[id(node)] = size
    return size
