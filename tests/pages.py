"""The documentation as the tests see it: pages, the code blocks in them, and the `lofi` commands in those.

A fenced block may have a mark on the line before it, which readers do not see:

    <!-- not run: REASON -->   the block is not run; that its commands parse is checked all the same
    <!-- file: NAME -->        the block is the content of this file, which later blocks use
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer.main
from markdown_it import MarkdownIt
from markdown_it.token import Token

from lofi_tal.cli.app import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
_MARK = re.compile(r"<!-- (not run|file): (.+) -->")
_ASSIGNMENT = re.compile(r"[A-Za-z_]+=\S*$")


def name_of(page: Path) -> str:
    """Return the path of a page as test ids and messages show it."""
    return str(page.relative_to(ROOT))


@cache
def tokens_of(page: Path) -> list[Token]:
    """Return the tokens of a page."""
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language and text, and its mark."""

    where: str
    language: str
    text: str
    file: str | None
    not_run: str | None


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    blocks, mark = [], None
    for token in tokens_of(page):
        if token.type == "html_block":
            mark = _MARK.search(token.content)
        elif token.type == "fence":
            facts = {mark[1]: mark[2]} if mark else {}
            where = f"{name_of(page)}:{token.map[0] + 1}"
            language = token.info.split()[0] if token.info else ""
            blocks.append(Block(where, language, token.content, facts.get("file"), facts.get("not run")))
            mark = None
        elif token.type not in ("paragraph_close", "list_item_close"):
            mark = None
    return blocks


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell script: joined lines, without comments and environment."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            while words and _ASSIGNMENT.match(words[0]):
                words = words[1:]
            if words:
                yield words


def lofi_words(words: list[str]) -> list[str] | None:
    """Return the arguments of `lofi` in a command line, however it is started; None if it is another program."""
    if words[0] in ("srun", "torchrun", "python"):
        place = next((i for i, word in enumerate(words) if word in ("lofi", "lofi_tal.cli")), None)
    else:
        place = 0 if words[0] == "lofi" else None
    return None if place is None else [word for word in words[place + 1 :] if not word.startswith("$")]


@cache
def command_tree() -> Any:
    """Return the command line with commands that only parse."""

    def still(command: Any) -> Any:
        for child in getattr(command, "commands", {}).values():
            still(child)
        if not getattr(command, "commands", None):
            command.callback = lambda **given: None
        return command

    return still(typer.main.get_command(app))


def parse_command(words: list[str]) -> str | None:
    """Return why `lofi` does not understand these arguments, or None if it does; nothing is run."""
    try:
        command_tree()(words, prog_name="lofi", standalone_mode=False)
    except Exception as error:
        return f"lofi {shlex.join(words)}: {getattr(error, 'message', None) or error}"
    return None


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that the first words name, as far as they name one, and the words behind it."""
    command = command_tree()
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


def anchors_of(page: Path, text: str | None = None) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST form them."""
    tokens = tokens_of(page) if text is None else MarkdownIt("commonmark").enable("table").parse(text)
    slugs: set[str] = set()
    for heading, inline in itertools.pairwise(tokens):
        if heading.type == "heading_open":
            title = "".join(child.content for child in inline.children or ())
            slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            number = 1
            unique = slug
            while unique in slugs:
                unique, number = f"{slug}-{number}", number + 1
            slugs.add(unique)
    return slugs


def inline_of(page: Path, kind: str) -> Iterator[Token]:
    """Yield the inline tokens of a kind, such as ``code_inline`` or ``link_open``."""
    for token in tokens_of(page):
        yield from (child for child in token.children or () if child.type == kind)
