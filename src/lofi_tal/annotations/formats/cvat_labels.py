"""Which text of a CVAT object is the class of an action: its label, or one of its attributes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lofi_tal.annotations.formats.xml import Element
from lofi_tal.errors import DataError, nearest

OBJECT = "label"
"""The name by which ``options.layers`` asks for the object's own label."""

_NO_CLASS = ("checkbox", "number")
_LABELS = (("task",), ("project",), ("job",), ("project", "tasks", "task"))


@dataclass(frozen=True)
class _Attribute:
    name: str
    changes: bool
    kind: str


class Labels:
    """Labels of the objects of an export.

    Args:
        root: The document.
        layers: Names of attributes, or :data:`OBJECT`; told from the document without any.

    Raises:
        DataError: If an attribute is not there, or which one holds the action is not clear.
    """

    def __init__(self, root: Element, layers: tuple[str, ...]) -> None:
        known = list(_described(root)) or list(_seen(root))
        names = list(dict.fromkeys(attribute.name for attribute in known))
        for layer in layers:
            if layer != OBJECT and layer not in names:
                listed = ", ".join(map(repr, names)) or "none"
                raise DataError(f"The objects have no attribute {layer!r}; they have {listed}.{nearest(layer, names)}")
        self._flags = {attribute.name for attribute in known if attribute.kind == "checkbox"}
        self._layers = layers or _told(root, known)
        self.remark = self._remark(names) if not layers and names else ""
        self.expected = f"expected tracks, shapes or tags with {', '.join(map(repr, self._layers))}"

    def of(self, item: Element, owner: Element) -> list[str | None]:
        """Return the labels of a shape or tag; ``owner`` is the track that it is part of, or itself."""
        found: list[str | None] = []
        for layer in self._layers:
            if layer == OBJECT:
                found.append(owner.attributes.get("label"))
                continue
            value = _values(item).get(layer, _values(owner).get(layer, ""))
            if layer in self._flags:
                found += [layer] if value == "true" else []
            elif value:
                found.append(value)
        return found

    def _remark(self, names: list[str]) -> str:
        read = self._layers[0]
        if read == OBJECT:
            return f"the labels of the objects are read; --layer reads an attribute: {', '.join(map(repr, names))}."
        return f"all objects have one label, so their attribute {read!r} is read; --layer {OBJECT} reads the label."


def _told(root: Element, known: list[_Attribute]) -> tuple[str, ...]:
    """Return what holds the action: where all objects have one label, the one attribute that changes."""
    labels = {owner.attributes.get("label") for owner in _owners(root)}
    changing = list(dict.fromkeys(one.name for one in known if one.changes and one.kind not in _NO_CLASS))
    if len(labels) != 1 or not changing:
        return (OBJECT,)
    if len(changing) > 1:
        listed = ", ".join(map(repr, changing))
        raise DataError(f"Several attributes change: {listed}. Name the one that holds the action: --layer NAME.")
    return (changing[0],)


def _described(root: Element) -> Iterator[_Attribute]:
    """Yield the attributes that the labels in use have, as the file describes them."""
    used = {owner.attributes.get("label") for owner in _owners(root)}
    for at in _LABELS:
        for label in root.all("meta", *at, "labels", "label"):
            if label.first("name") in used:
                for attribute in label.all("attributes", "attribute"):
                    changes = attribute.first("mutable").lower() == "true"
                    yield _Attribute(attribute.first("name"), changes, attribute.first("input_type"))


def _seen(root: Element) -> Iterator[_Attribute]:
    """Yield the attributes that objects have, where the file does not describe them."""
    values: dict[str, set[str]] = {}
    changing = set()
    for owner in _owners(root):
        before: dict[str, str] = {}
        for item in (owner, *owner.children):
            for name, value in _values(item).items():
                values.setdefault(name, set()).add(value)
                if before.setdefault(name, value) != value:
                    changing.add(name)
    for name, found in values.items():
        yield _Attribute(name, name in changing, "checkbox" if found <= {"true", "false"} else "select")


def _owners(root: Element) -> Iterator[Element]:
    yield from root.all("track")
    for image in root.all("image"):
        yield from image.children


def _values(item: Element) -> dict[str, str]:
    return {one.attributes.get("name", ""): one.text.strip() for one in item.all("attribute")}
