"""XML from strangers: no document type, hence no entities and no other files; every element knows its line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from lofi_tal.annotations.values import shown
from lofi_tal.errors import DataError

_DEEPEST = 50  # both formats nest less than ten


@dataclass(slots=True)
class Element:
    """An element: name, attributes, the line it begins at, its children, and the text directly in it."""

    tag: str
    attributes: dict[str, str]
    line: int
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, *path: str) -> Iterator[Element]:
        """Yield the elements that are reached through children of these names, in the order of the file."""
        if not path:
            yield self
            return
        for child in self.children:
            if child.tag == path[0]:
                yield from child.all(*path[1:])

    def first(self, *path: str) -> str:
        """Return the text of the first of these elements, or an empty string."""
        return next((element.text.strip() for element in self.all(*path)), "")


def read_xml(path: Path, root: str) -> Element:
    """Read a document.

    Args:
        path: The file.
        root: Name that its outermost element must have.

    Raises:
        DataError: If it cannot be read, is not XML, has another root, a document type or is nested too deeply.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    builder = _Builder(path)
    try:
        document = builder.parse(data)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter two: an encoding that nobody knows
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not XML: {error}.") from error
    if document.tag != root:
        raise DataError(f"{path}: the outermost element is {shown(document.tag)}; expected {root!r}.")
    return document


class _Builder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.open = [Element("", {}, 0)]
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = lambda _tag: self.open.pop()
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._refuse

    def parse(self, data: bytes) -> Element:
        document = self.open[0]
        self.parser.Parse(data, True)
        return document.children[0]

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, attributes, self.parser.CurrentLineNumber)
        self.open[-1].children.append(element)
        self.open.append(element)
        if len(self.open) > _DEEPEST:
            raise DataError(f"{self.path}, line {element.line}: more than {_DEEPEST} elements are nested.")

    def _text(self, text: str) -> None:
        self.open[-1].text += text

    def _refuse(self, *_declaration: object) -> None:
        line = self.parser.CurrentLineNumber
        raise DataError(
            f"{self.path}, line {line}: a document type (DOCTYPE) is refused: it can make a small file expand without "
            "end or read other files, and annotation tools write none."
        )
