"""Quick start and tutorials, typed word for word: every command and every Python block, on the tiny benchmark.

Blocks that cannot run here (GPUs, ActivityNet) are marked on their page, and `tests/unit/test_pages.py` parses them.
What a reader would wait for is made small by options that are added to the command, see :data:`ADDED`.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from lofi_tal.cli.app import main
from tests.pages import DOCS, Block, blocks_of, command_lines, find_command, lofi_words
from tests.tiny import SETTINGS

PAGES = ("quick-start.md", *(f"tutorials/{path.name}" for path in sorted((DOCS / "tutorials").glob("*.md"))))
FEWER = (*SETTINGS, "lofi.epochs=1", "head.epochs=2", "head.lrs=[1e-3]", "head.refit=false", "classifier.epochs=2")
DEMO = [word for setting in (*FEWER, "pretrain.epochs=1") for word in ("--set", setting)]
SMALL = [word for setting in FEWER if not setting.startswith("pretrain") for word in ("--set", setting)]
FEATURES = [word for setting in FEWER if setting.startswith("head") for word in ("--set", setting)]
FEATURES += ["--set", "snippets.count=12"]
ADDED = {
    "demo": [*DEMO, "--recipe", "demo", "--preset", "tiny", "--device", "cpu"],
    "run": [*SMALL, "--set", "baseline=false", "--device", "cpu", "--precision", "fp32"],
    "head": [*FEATURES, "--device", "cpu"],
    "classify": [*FEATURES, "--device", "cpu"],
    "detect": ["--device", "cpu"],
    "plan": [*SMALL, "--precision", "fp32"],
}
"""What is added to a command, by its name: the tiny benchmark's settings, and the CPU."""
WINDOWS = ["--set", "snippets.window=3"]


@pytest.fixture
def workshop(benchmark_set, tmp_path, monkeypatch):
    """The folder in which a tutorial begins: what its first lines say is there."""
    document = json.loads(benchmark_set.annotations.read_text())
    (tmp_path / "labels.json").write_text(json.dumps(document))
    (tmp_path / "videos").symlink_to(benchmark_set.videos)
    first = next(iter(document["database"]))
    shutil.copy(next(benchmark_set.videos.glob(f"{first}.*")), tmp_path / "new_video.mp4")
    rows = [
        f"{video},{one['segment'][0]},{one['segment'][1]},{one['label']}"
        for video, entry in document["database"].items()
        for one in entry["annotations"]
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["video,start,end,label", *rows]))
    (tmp_path / "features").mkdir()
    draw = np.random.default_rng(0)
    for video in [*document["database"], "new_video"]:
        np.save(tmp_path / "features" / f"{video}.npy", draw.normal(size=(20, 16)).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def type_command(words: list[str], where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a `lofi` command in this process, made small; it has to end with exit status 0."""
    command, _ = find_command(words)
    added = ADDED.get(command.name, [])
    if any(word.startswith("snippets.window") for word in words):
        added = [*added, *WINDOWS]
    monkeypatch.setattr(sys, "argv", ["lofi", *words, *added])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code, f"{where}: lofi {' '.join(words)} ended with exit status {end.value.code}"


def run_block(block: Block, names: dict, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Do what a block says; whether there was anything to do."""
    if block.not_run:
        return False
    if block.file:
        Path(block.file).write_text(block.text)
    elif block.language == "python":
        exec(compile(block.text, block.where, "exec"), names)
    elif block.language == "sh":
        for words in command_lines(block.text):
            arguments = lofi_words(words)
            assert arguments is not None, f"{block.where}: {words[0]!r} is not run; mark the block"
            type_command(arguments, block.where, monkeypatch)
    return block.language in ("sh", "python")


@pytest.mark.parametrize("page", PAGES)
def test_the_page_works_as_typed(page, workshop, monkeypatch, capsys):
    blocks = blocks_of(DOCS / page)
    names: dict = {}
    ran = [block.where for block in blocks if run_block(block, names, monkeypatch)]
    shown = capsys.readouterr().out
    marked = [block for block in blocks if block.not_run]
    assert ran or marked, f"{page} has nothing to run"
    if ran:
        assert shown.strip()
        for promised in PROMISED.get(page, ()):
            assert (workshop / promised).exists(), f"{page} promises {promised}"


PROMISED = {
    "quick-start.md": ("runs/demo/demo.html", "runs/demo/report.html", "found/validation_00000.html"),
    "tutorials/own-videos.md": (
        "statistics/statistics.html",
        "runs/kitchen/report.html",
        "runs/kitchen/arms/lofi/model/localizer.json",
        "evaluation.html",
        *(f"found/new_video.{suffix}" for suffix in ("json", "csv", "srt", "html")),
    ),
    "tutorials/published-features.md": ("runs/features/arms/features/detections.json", "scores.json"),
    "tutorials/long-videos.md": ("runs/long/report.html", "found/new_video.json"),
}
"""Files that a page tells the reader to open."""


def test_what_is_not_run_is_little():
    blocks = [block for page in PAGES for block in blocks_of(DOCS / page) if block.language in ("sh", "python")]
    assert sum(not block.not_run for block in blocks) >= 20
    alone = {block.where.split(":")[0] for block in blocks} - {b.where.split(":")[0] for b in blocks if not b.not_run}
    assert alone == {"docs/tutorials/activitynet-hacs.md", "docs/tutorials/many-gpus.md"}
