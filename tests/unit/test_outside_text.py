"""Names and labels from strangers in what other programs read: spreadsheets, players, terminals, JSON, pages."""

from __future__ import annotations

import csv
import io
import json
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lofi_tal.annotations.document import Annotations, VideoAnnotation
from lofi_tal.annotations.formats import import_annotations
from lofi_tal.annotations.formats.export import write_csv
from lofi_tal.cells import guarded, unguarded
from lofi_tal.cli import bars, common
from lofi_tal.errors import one_line
from lofi_tal.files import hash_object, json_text, read_json, write_json, write_text
from lofi_tal.segments import Segments
from lofi_tal.writers import write_detections

FORMULA = re.compile("(^|[;\t|\r\n])[=+\\-@\t\r＝＋－＠]")
LABELS = (
    "=1+1",
    '=HYPERLINK("http://x/";"y")',
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "a;=1+1",
    "'=x",
    "''@",
    "＝1",
)
NUMBERS = ("-5", "+3.5", "-1e-3", "12")


@given(st.text(st.sampled_from("=+-@'\t\r\n;|,a1.e\"＝")))
def test_every_text_comes_back_and_no_cell_is_a_formula(text):
    cell = guarded(text)
    assert unguarded(cell) == text
    assert not FORMULA.search(cell) or re.fullmatch(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?", cell)


@pytest.mark.parametrize("text", [*NUMBERS, "jump", "'tis", "high-jump", "a+b"])
def test_numbers_and_plain_labels_stay_as_they_are(text):
    assert guarded(text) == text == unguarded(text)


def test_labels_come_back_from_our_own_table(tmp_path):
    labels = (*LABELS, *NUMBERS)
    times = [float(number) for number in range(len(labels))]
    segments = Segments("=v", times, [time + 1 for time in times], labels, [1.0] * len(labels), duration=99.0)
    before = Annotations({"=v": VideoAnnotation("=v", subset="training", duration=99.0, segments=segments)})
    write_csv(tmp_path / "a.csv", before, None)
    written = csv.reader(io.StringIO((tmp_path / "a.csv").read_text(encoding="utf-8")))
    assert not [cell for row in written for cell in row if FORMULA.search(cell) and cell not in NUMBERS]
    after = import_annotations([tmp_path / "a.csv"]).annotations
    assert [*after.videos] == ["=v"]
    assert after["=v"].segments.label == labels


def test_detections_as_csv_hold_no_formula_and_their_numbers(tmp_path):
    segments = Segments("-v", [1.0] * len(LABELS), [2.0] * len(LABELS), LABELS, [0.5] * len(LABELS))
    write_detections(segments, tmp_path, 0.0, ["csv"])
    (path,) = tmp_path.glob("*.csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert [unguarded(row["label"]) for row in rows] == list(LABELS)
    assert not [row for row in rows if FORMULA.search(row["label"]) or FORMULA.search(row["video"])]
    assert {(row["start"], row["end"], row["score"]) for row in rows} == {("1.000", "2.000", "0.500000")}


def subtitles(text: str) -> list[tuple[str, list[str]]]:
    """Read SubRip as players do: blocks between empty lines, of a number, times and text."""
    blocks = [block.split("\n") for block in re.split(r"\n\s*\n", text.strip())]
    return [(lines[1], lines[2:]) for lines in blocks]


@pytest.mark.parametrize(
    "label",
    ["a\n\n2\n00:00:00,000 --> 09:00:00,000\nforged", "a\r\n\r\nb", "x --> y", "<font size=99>x</font>", "{\\an8}x",
     "a\u2028\u2029b", "\x1b[31mred"],
)  # fmt: skip
def test_a_label_is_one_line_of_one_subtitle(label):
    found = subtitles(Segments("v", [1, 5], [2, 6], (label, "jump"), [0.5, 0.25]).to_srt())
    assert [times for times, _ in found] == ["00:00:01,000 --> 00:00:02,000", "00:00:05,000 --> 00:00:06,000"]
    assert [len(text) for _, text in found] == [1, 1]
    assert not re.search("-->|<[/a-z]|\\{\\\\|[\x00-\x1f\x7f-\x9f\u2028\u2029]", found[0][1][0])


STEERING = ("\x1b[31mred\x1b[0m", "\x9b2J", "a\rb", "\x07", "abc\u202efdp.exe", "caf\udce9")


@pytest.mark.parametrize("name", [*STEERING, "[red]x[/red]", "[link=http://x]y[/link]", ":bomb:"])
def test_a_terminal_shows_names_as_they_are(name, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    common.say(f"read {name}")
    common.complain(f"{name}: bad")
    common.print_table(name, [name], [[name]])
    bar = bars.TerminalBar(name, 2, 0)
    bar.update(1, name)
    bar.close()
    shown = "".join(capsys.readouterr())
    plain = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", shown)  # what rich itself sends
    assert plain.count(one_line(name)) >= 5
    assert not re.search("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", plain)
    assert "\x1b[31mred" not in shown.replace("\x1b[1;31m", "")
    assert "💣" not in shown


@pytest.mark.parametrize("name", STEERING)
def test_json_gives_names_back_and_steers_no_terminal(tmp_path, name, capsys):
    write_json(tmp_path / "a.json", {name: [name]})
    assert read_json(tmp_path / "a.json") == {name: [name]}
    common.print_json({name: name})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {name: name}
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", shown)
    assert json_text("Überwachung 跳") == '"Überwachung 跳"\n'


def test_names_that_are_no_utf8_work_in_every_file(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    name = os.fsdecode(b"\xff.mp4")
    segments = Segments(name, [1.0], [2.0], (name,), [0.5])
    write_detections(segments, folder, 0.0, ["json", "csv", "srt"])
    written = {path.suffix: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert set(written) == {".json", ".csv", ".srt"}
    assert list(json.loads(written[".json"])["results"]) == [name]
    assert "\\udcff.mp4" in written[".csv"]
    write_text(folder / "page.html", f"<p>{name}</p>")
    assert (folder / "page.html").read_text(encoding="utf-8") == "<p>\\udcff.mp4</p>"
    assert hash_object({"path": name}) != hash_object({"path": "\\udcff.mp4"})
