"""What the documentation names is there: commands and options, settings, public names, files, headings."""

import ast
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from rich.text import Text

import lofi_tal
from lofi_tal.config import Recipe, make_recipe
from lofi_tal.recipes import recipe_names, shipped_recipe
from tests.pages import (
    DOCS,
    PAGES,
    ROOT,
    anchors_of,
    blocks_of,
    command_lines,
    command_tree,
    find_command,
    inline_of,
    lofi_words,
    name_of,
    parse_command,
)

OTHERS = {"cd", "git", "make", "pip", "python", "test", "torchrun"}
"""Programs besides `lofi` that a page may show."""
pages = pytest.mark.parametrize("page", PAGES, ids=name_of)


def load_generated():
    """Return docs/generated.py, which needs no Sphinx."""
    spec = importlib.util.spec_from_file_location("generated", DOCS / "generated.py")
    module = sys.modules["generated"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATED = load_generated()


@pages
def test_every_command_parses(page):
    wrong = []
    for block in blocks_of(page):
        if block.language not in ("sh", "bash", "console"):
            continue
        for words in command_lines(block.text):
            arguments = lofi_words(words)
            if arguments is None:
                known = words[0] in OTHERS or words[0].startswith("benchmarks/")
                wrong += [] if known else [f"{block.where}: {words[0]!r} is no program that pages may show"]
            elif arguments and (why := parse_command(arguments)):
                wrong.append(f"{block.where}: {why}")
    assert not wrong, "\n".join(wrong)


@pages
def test_commands_and_options_in_the_text_exist(page):
    wrong = []
    for token in inline_of(page, "code_inline"):
        if not token.content.startswith("lofi "):
            continue
        words = shlex.split(token.content.replace("...", ""))[1:]
        command, rest = find_command(words)
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help", "-h"}
        unknown = [word for word in rest if word.startswith("-") and word not in known]
        named = command is not command_tree() or not rest or rest[0].startswith("-") or rest[0].isupper()
        wrong += [token.content] if unknown or not named else []
    assert not wrong, f"{name_of(page)}: no such command or option: {wrong}"


def test_the_help_in_a_terminal_loses_no_word_in_brackets():
    helps = [one for _, command in GENERATED.walk_commands() for one in (command, *command.params)]
    texts = [one.help for one in helps if getattr(one, "help", None)]
    assert len(texts) > 100
    assert [text for text in texts if Text.from_markup(text).plain != text] == []


@pages
def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = [token.content for token in inline_of(page, "code_inline")]
    code += [line for block in blocks_of(page) if block.language == "sh" for line in block.text.splitlines()]
    assert {target for text in code for target in re.findall(r"^make ([a-z]+)", text)} <= targets


@pages
def test_settings_in_the_text_exist(page):
    keys = {name for name, _ in GENERATED.recipe_keys()} | set(Recipe.model_fields)
    sections = "|".join(name for name, field in Recipe.model_fields.items() if GENERATED.section_of(field))
    pattern = re.compile(rf"^({sections})\.([a-z_]+)(?=$|[:= ])")
    named = {match[0] for token in inline_of(page, "code_inline") if (match := pattern.match(token.content))}
    others = {"data.json", "features.json", *(f"lofi.{name}" for name in lofi_tal.__all__)}  # files, and public names
    assert not named - keys - others, f"{name_of(page)}: no such setting"


@pages
def test_recipes_on_the_page_are_valid(page):
    base = {"data": {"annotations": "labels.json", "videos": "videos"}}
    for block in blocks_of(page):
        content = yaml.safe_load(block.text) if block.language == "yaml" and not block.not_run else {}
        if isinstance(content, dict) and content.keys() & Recipe.model_fields.keys():
            merged = {**shipped_recipe(content.pop("extends")), **content} if "extends" in content else content
            data = {**base["data"], **merged.get("data", {})}
            make_recipe({**merged, "data": data}, block.where)


@pages
def test_python_on_the_page_is_python_and_uses_names_that_exist(page):
    for block in blocks_of(page):
        if block.language == "python":
            tree = ast.parse(block.text, block.where)
            imported = {
                alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module == "lofi_tal"
                for alias in node.names
            }
            assert imported <= set(lofi_tal.__all__), block.where


@pages
def test_relative_links_lead_somewhere(page):
    wrong = []
    targets = [token.attrs["href"] for token in inline_of(page, "link_open")]
    targets += [token.attrs["src"] for token in inline_of(page, "image")]
    for target in map(str, targets):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        inside = file.exists() and ROOT in (file, *file.parents)
        if not inside or (anchor and anchor not in anchors_of(file, filled(file))):
            wrong.append(target)
    assert not wrong, f"{name_of(page)}: these links lead nowhere: {wrong}"


def filled(page: Path) -> str:
    """Return the text of a page with its generated parts."""
    text = [page.read_text(encoding="utf-8")]
    GENERATED.fill_page(None, page.stem, text)
    return text[0]


def test_every_page_is_in_the_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    contents = "\n".join(re.findall(r"```{toctree}(.*?)```", index, re.DOTALL))
    names = [str(page.relative_to(DOCS).with_suffix("")) for page in PAGES if DOCS in page.parents]
    assert [name for name in names if name != "index" and not re.search(rf"\b{name}\b", contents)] == []


def test_examples_in_the_help_parse():
    examples = {
        name: line
        for name, command in GENERATED.walk_commands()
        for line in re.findall(r"Example: (lofi .*?)(?: \(|;|$)", (command.help or "").strip(), re.MULTILINE)
    }
    assert len(examples) > 10
    assert [why for line in examples.values() if (why := parse_command(shlex.split(line)[1:]))] == []


def test_the_reference_has_every_command_key_error_and_name():
    names = [name for name, _ in GENERATED.walk_commands()]
    assert {"lofi run", "lofi data check", "lofi models list"} <= set(names)
    text = GENERATED.commands()
    assert [name for name in names if f"## {name}\n" not in text] == []
    keys = dict(GENERATED.recipe_keys())
    assert {"seed", "lofi.r_t", "data.flip", "detect.vote"} <= keys.keys()
    assert [key for key in keys if f"```{{confval}} {key}\n" not in GENERATED.recipe()] == []
    assert {error.__name__ for error in GENERATED.error_classes()} >= {"LofiError", "DataError", "VideoError"}
    assert [name for name in lofi_tal.__all__ if f":: lofi_tal.{name}\n" not in GENERATED.names()] == []


def test_every_key_and_option_says_what_it_is():
    bare = [key for key, field in GENERATED.recipe_keys() if not field.description]
    bare += [
        f"{name} {parameter.name}"
        for name, command in GENERATED.walk_commands()
        for parameter in command.params
        if not parameter.help
    ]
    assert bare == []


def test_recipes_named_in_tables_are_shipped():
    text = (DOCS / "tutorials" / "activitynet-hacs.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:anet13|hacs|thumos14)_\w+)`", text))
    assert named
    assert named <= set(recipe_names())
