"""The house rules that no linter knows: how long files, classes and functions are, and that what is public says so."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "lofi_tal"
FILE_LINES, CLASS_LINES, FUNCTION_LINES = 400, 200, 50
LONG_FUNCTIONS = {
    "api.py:fit_head": "half of it says what its 14 arguments are",
    "cli/detect.py:detect": "half of it is its options",
    "detection.py:detect_files": "half of it says what its arguments are",
    "planning/choosing.py:make_plan": "a third says what its arguments are, a third puts the plan together",
    "stages/extract.py:extract": "its loop and what it counts belong together",
    "stages/lofi.py:train_lofi": "stage 2 reads from top to bottom",
    "stages/pretrain.py:pretrain": "stage 1 reads from top to bottom",
}
"""Functions that may be longer, as ``file.py:Class.function``, and why cutting one would make it worse; at most 8."""

FILES = {str(path.relative_to(SOURCE)): path.read_text(encoding="utf-8") for path in sorted(SOURCE.rglob("*.py"))}
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def definitions(node: ast.AST, name: str, public: bool = True) -> Iterator[tuple[str, Definition, bool]]:
    """Yield the classes and functions below a node with their names, and whether others may use them."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Definition):
            yield from definitions(child, name, public)
            continue
        full = f"{name}{'.' if name[-3:] != '.py' else ':'}{child.name}"
        seen = public and not child.name.startswith("_")
        yield full, child, seen
        yield from definitions(child, full, seen and isinstance(child, ast.ClassDef))


ALL = [found for file, text in FILES.items() for found in definitions(ast.parse(text), file)]


def is_overload(node: Definition) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "overload" for mark in node.decorator_list)


def too_long(kind: type | tuple[type, ...], most: int) -> dict[str, int]:
    lengths = {name: node.end_lineno - node.lineno + 1 for name, node, _ in ALL if isinstance(node, kind)}
    return {name: lines for name, lines in lengths.items() if lines > most}


def test_the_walk_sees_the_package():
    names = {name for name, _, public in ALL if public}
    assert {
        "segments.py:Segments",
        "segments.py:Segments.above",
        "evaluation/detection.py:evaluate_detections",
    } <= names
    private = {name for name, _, public in ALL if not public}
    assert "runtime/training.py:TrainingRun._begin" in private


def test_no_file_is_too_long():
    lines = {file: len(text.splitlines()) for file, text in FILES.items()}
    wrong = {file: count for file, count in lines.items() if count > FILE_LINES}
    assert not wrong, f"more than {FILE_LINES} lines: split by subject, and name each file by what it holds: {wrong}"


def test_no_class_is_too_long():
    wrong = too_long(ast.ClassDef, CLASS_LINES)
    assert not wrong, f"more than {CLASS_LINES} lines: let a part of its state be a class of its own: {wrong}"


def test_no_function_is_too_long():
    wrong = {
        name: lines
        for name, lines in too_long((ast.FunctionDef, ast.AsyncFunctionDef), FUNCTION_LINES).items()
        if name not in LONG_FUNCTIONS
    }
    assert not wrong, (
        f"more than {FUNCTION_LINES} lines: cut along its steps, or add it to LONG_FUNCTIONS with a reason: {wrong}"
    )


def test_exceptions_are_few_and_needed():
    assert len(LONG_FUNCTIONS) <= 8, "LONG_FUNCTIONS holds 8 at most: cut one of them instead"
    assert all(reason.strip() for reason in LONG_FUNCTIONS.values()), "every long function has a reason"
    lengths = {name: node.end_lineno - node.lineno + 1 for name, node, _ in ALL}
    stale = [name for name in LONG_FUNCTIONS if lengths.get(name, 0) <= FUNCTION_LINES]
    assert not stale, f"no longer long, or gone: take them from LONG_FUNCTIONS: {stale}"


@pytest.mark.parametrize("kind", ["class", "function"])
def test_everything_public_has_a_docstring(kind):
    kinds = ast.ClassDef if kind == "class" else (ast.FunctionDef, ast.AsyncFunctionDef)
    bare = [
        f"{name} (line {node.lineno})"
        for name, node, public in ALL
        if public and isinstance(node, kinds) and not is_overload(node) and not ast.get_docstring(node)
    ]
    bare += [file for file, text in FILES.items() if text.strip() and not ast.get_docstring(ast.parse(text))]
    assert not bare, f"public and without a docstring: say what it returns, shapes, units and errors: {bare}"
