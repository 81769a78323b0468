"""Tables and plain texts as people have them: any columns, any times, and what BORIS, ELAN and Audacity export."""

from __future__ import annotations

import gzip
import json
import re

import pytest

from lofi_tal.annotations.formats import ImportOptions, guess_format, import_annotations
from lofi_tal.annotations.formats.csv_table import parse_columns
from lofi_tal.annotations.values import read_time
from lofi_tal.errors import DataError
from tests.importing import segments, write

# --- tables of other programs, by the names of their columns


@pytest.mark.parametrize(
    ("text", "columns", "fps", "expected"),
    [
        (  # a laboratory's own table, in the words of the report
            "filename,onset,offset,behavior\na.mp4,1.5,4,groom\n",
            "video=filename,start=onset,end=offset,label=behavior",
            None,
            {"a": [(1.5, 4, "groom")]},
        ),
        (  # EPIC-KITCHENS' times
            "narration_id,video_id,start_timestamp,stop_timestamp,start_frame,stop_frame,verb\n"
            "P01_01_0,P01_01,00:00:00.14,00:01:03.37,8,202,open\n",
            "video=video_id,start=start_timestamp,end=stop_timestamp,label=verb",
            None,
            {"P01_01": [(0.14, 63.37, "open")]},
        ),
        (  # the same table by its frames
            "narration_id,video_id,start_timestamp,stop_timestamp,start_frame,stop_frame,verb\n"
            "P01_01_0,P01_01,00:00:00.14,00:01:03.37,8,202,open\n",
            "video=video_id,start=start_frame,end=stop_frame,label=verb",
            50,
            {"P01_01": [(0.16, 4.04, "open")]},
        ),
        (  # a German spreadsheet: semicolons, decimal commas, and Excel's note on the delimiter
            "sep=;\nDatei;Beginn;Ende;Verhalten\nKüche 1.mov;1,5;2,25;rühren\n",
            "video=Datei,start=Beginn,end=Ende,label=Verhalten",
            None,
            {"Küche 1": [(1.5, 2.25, "rühren")]},
        ),
        (  # BIDS events: one recording a file, a length instead of an end
            "onset\tduration\ttrial_type\n1.2\t0.6\tgo\n5.6\t0.6\tstop\n",
            "start=onset,length=duration,label=trial_type",
            None,
            {"table": [(1.2, 1.8, "go"), (5.6, 6.2, "stop")]},
        ),
        (  # a Japanese header, minutes and seconds, bars
            "動画|開始|終了|ラベル\na|1:05|1:07.5|歩く\n",
            "video=動画,start=開始,end=終了,label=ラベル",
            None,
            {"a": [(65, 67.5, "歩く")]},
        ),
        (  # HACS Clips' order of columns; only the names that differ are given
            "classname,youtube_id,subset,start,end\nBaton twirling,a-b_c,train,5.9,7.9\n",
            "video=youtube_id,label=classname",
            None,
            {"a-b_c": [(5.9, 7.9, "Baton twirling")]},
        ),
        (  # time codes with frames
            "video,start,end,label\na,00:00:01:12,00:00:02:00,x\n",
            None,
            25,
            {"a": [(1.48, 2, "x")]},
        ),
    ],
)
def test_tables_of_other_programs(tmp_path, text, columns, fps, expected):
    path = write(tmp_path / "table.csv", text)
    chosen = parse_columns(columns) if columns else {}
    assert segments(path, name="csv", columns=chosen, fps=fps) == expected


def test_plain_numbers_count_frames_where_a_rate_is_given(tmp_path):
    path = write(tmp_path / "a.csv", "video,start,end,label\na,25,50,x\nb,0:01,2:00.5,y\n")
    assert segments(path, fps=25.0) == {"a": [(1, 2, "x")], "b": [(1, 120.5, "y")]}
    write(path, "video,start,end,label\na,1.5,2,x\n")
    with pytest.raises(DataError, match=r"line 2, start: '1.5' is no number of a frame; with --fps"):
        segments(path, fps=25.0)


@pytest.mark.parametrize(
    ("value", "rate", "expected"),
    [
        ("83.5", None, 83.5), ("83,5", None, 83.5), (" 1:23.5 ", None, 83.5), ("00:01:23,500", None, 83.5),
        ("100:00", None, 6000), ("1:00:00", None, 3600), ("50", 25, 2), (50, 25, 2), ("0:00:01:05", 10, 1.5),
    ],
)  # fmt: skip
def test_times_as_people_write_them(value, rate, expected):
    assert read_time(value, "x", rate) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "rate", "said"),
    [
        ("1:75", None, "minutes and seconds end at 59"),
        ("1:75:00", None, "minutes and seconds end at 59"),
        ("00:00:01:05", None, "hh:mm:ss:ff is read, with --fps"),
        ("00:00:01;05", 30, "drop-frame times"),
        ("00:00:01:30", 30, "where ff is below it"),
        ("1.234,5", None, "expected a number of seconds, found '1.234,5'"),
        ("soon", None, "expected a number of seconds, found 'soon'"),
        ("", None, "expected a number of seconds"),
        (None, None, "expected a number of seconds"),
        ("9999999999:00", None, "expected a number of seconds"),
        ("999999999:00", None, "is no time in a video"),
    ],
)
def test_times_that_are_none(value, rate, said):
    with pytest.raises(DataError, match=re.escape(said)):
        read_time(value, "x", rate)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("strat=onset", "'strat' is none of video, start, end, label, length, subset, duration. Did you mean 'start'?"),
        ("start=", "expected start=<column of the table>, once"),
        ("start=a,start=b", "expected start=<column of the table>, once"),
        ("onset", "'onset' is none of"),
    ],
)
def test_misspelt_columns_are_refused(columns, said):
    with pytest.raises(DataError, match=re.escape(said)):
        parse_columns(columns)


def test_columns_that_are_not_there_are_named(tmp_path):
    path = write(tmp_path / "a.csv", "filename,onset,offset,behavior\na,1,2,x\n")
    with pytest.raises(DataError, match=r"found 'filename', 'onset', 'offset', 'behavior'. Say which .*--columns"):
        segments(path)
    with pytest.raises(DataError, match=r"has no column 'onsett' .* Did you mean 'onset'"):
        segments(path, columns=parse_columns("video=filename,start=onsett,end=offset,label=behavior"))
    assert parse_columns("label=what, exactly,start=a") == {"label": "what, exactly", "start": "a"}


def test_labels_that_mean_nothing_are_no_segments(tmp_path):
    path = write(tmp_path / "a.csv", "video,start,end,label\na,0,1,x\na,1,2,none\nb,0,1,none\n")
    assert segments(path, background=("none",)) == {"a": [(0, 1, "x")], "b": []}


# --- BORIS

TABULAR_7 = (
    "Observation id\tobs 1\t\t\t\t\t\t\t\r\n\t\t\t\t\t\t\t\t\r\nMedia file(s)\t\t\t\t\t\t\t\t\r\n"
    "Player #1\tkitchen.mxf\t\t\t\t\t\t\t\r\n\t\t\t\t\t\t\t\t\r\n"
    "Time\tMedia file path\tTotal length\tFPS\tSubject\tBehavior\tBehavioral category\tComment\tStatus\r\n"
    "3.300\tD:/rec/kitchen.mxf\t60.0\t25.0\tanna\tstir\t\t\tSTART\r\n"
    "4.000\tD:/rec/kitchen.mxf\t60.0\t25.0\tben\tstir\t\t\tSTART\r\n"
    "7.750\tD:/rec/kitchen.mxf\t60.0\t25.0\tanna\tstir\t\t\tSTOP\r\n"
    "8.000\tD:/rec/kitchen.mxf\t60.0\t25.0\tanna\tcough\t\t\tPOINT\r\n"
    "9.900\tD:/rec/kitchen.mxf\t60.0\t25.0\tben\tstir\t\t\tSTOP\r\n"
)
TABULAR_8 = (
    "Observation id,Observation date,Description,Observation duration,Observation type,Source,Time offset (s),"
    "Media duration (s),FPS,Subject,Behavior,Behavioral category,Modifier #1,Behavior type,Time,Media file name,"
    "Image index,Image file path,Comment\n"
    'o,2024-01-01,"two\nlines",60,Media file(s),player #1:a.mp4,0.0,60.0,25,No focal subject,walk,,fast,START,1.5,'
    "a.mp4,37,NA,\n"
    "o,2024-01-01,,60,Media file(s),player #1:a.mp4,0.0,60.0,25,No focal subject,walk,,fast,STOP,2.5,a.mp4,62,NA,\n"
)
AGGREGATED = (
    "Observation id\tMedia file\tTotal length\tFPS\tSubject\tBehavior\tBehavior type\tStart (s)\tStop (s)\t"
    "Duration (s)\n"
    "o2\tcat.mov\t540\t25.0\tNo focal subject\tsit\tSTATE\t1.800\t8.125\t6.325\n"
    "o2\tcat.mov\t540\t25.0\tNo focal subject\tbark\tPOINT\t32.825\t32.825\tNA\n"
)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("events.tsv", TABULAR_7, {"kitchen": [(3.3, 7.75, "stir"), (4, 9.9, "stir")]}),
        ("events.csv", TABULAR_8, {"a": [(1.5, 2.5, "walk")]}),
        ("events.csv", TABULAR_7.replace("\t", ";"), {"kitchen": [(3.3, 7.75, "stir"), (4, 9.9, "stir")]}),
        ("aggregated.tsv", AGGREGATED, {"cat": [(1.8, 8.125, "sit")]}),
        ("aggregated.txt", AGGREGATED, {"cat": [(1.8, 8.125, "sit")]}),
    ],
)
def test_boris_tables(tmp_path, name, text, expected):
    path = write(tmp_path / name, text)
    assert guess_format(path) == "boris"
    assert segments(path) == expected


def test_boris_point_events_are_told(tmp_path):
    found = import_annotations([write(tmp_path / "e.tsv", TABULAR_7)])
    assert found.remarks == (f"{tmp_path / 'e.tsv'}: passed over: 1 event: points in time.",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TABULAR_7.replace("\t\t\tSTOP", "\t\t\tSTART", 1), "'START' of 'stir'; expected START, then STOP, or POINT"),
        (TABULAR_8.rsplit("\n", 2)[0] + "\n", "'walk' starts and never stops"),
        (AGGREGATED.replace("cat.mov", "dog.mov", 1), "joins several videos"),
        (AGGREGATED.replace("cat.mov", "NA"), "has no video: it is live"),
        (AGGREGATED.replace("STATE", "POINT"), "no segment was found in it, but 2 events: points in time"),
    ],
)
def test_boris_tables_that_cannot_be_used_say_why(tmp_path, text, said):
    with pytest.raises(DataError, match=re.escape(said)):
        segments(write(tmp_path / "e.tsv", text))


def project(**observations) -> dict:
    """Return a project as BORIS 7 and later save it."""
    behaviors = {
        "0": {"type": "Point event", "key": "p", "code": "bark", "modifiers": {}},
        "1": {"type": "State event", "key": "s", "code": "sit", "modifiers": {}},
        "2": {"type": "State event with coding map", "key": "w", "code": "walk", "modifiers": {}},
    }
    return {"time_format": "hh:mm:ss", "project_format_version": "7.0", "observations": observations,
            "behaviors_conf": behaviors, "subjects_conf": {}}  # fmt: skip


def observation(media, *events, lengths=None) -> dict:
    return {
        "file": {"1": media, "2": []},
        "type": "MEDIA",
        "time offset": 0.0,
        "events": [list(event) for event in events],
        "media_info": {"length": lengths or {}, "fps": {}},
    }


def test_boris_projects(tmp_path):
    one = observation(
        ["C:\\rec\\cat.vob"],
        (1, "", "sit", "", ""), (1.5, "anna", "sit", "", "", 37), (2, "", "bark", "", ""), (3, "", "sit", "", ""),
        (4, "anna", "sit", "", ""),
    )  # fmt: skip
    document = project(one=one, live={"file": [], "type": "LIVE", "events": [[2.0, "", "bark", "", ""]]})
    expected = {"cat": [(1, 3, "sit"), (1.5, 4, "sit")]}
    assert segments(write(tmp_path / "p.boris", document)) == expected
    assert segments(write(tmp_path / "p.json", document)) == expected
    packed = tmp_path / "p.boris.gz"
    packed.write_bytes(gzip.compress(json.dumps(document).encode()))
    assert segments(packed, layers=("one",)) == expected
    with pytest.raises(DataError, match=r"has no observation 'on'. Did you mean 'one'"):
        segments(packed, layers=("on",))


def test_boris_observations_of_several_media_are_divided(tmp_path):
    joined = observation(
        ["a.mp4", "b.mp4"], (4, "", "walk", "", ""), (12, "", "walk", "", ""), (13, "", "sit", "", ""),
        (15.5, "", "sit", "", ""), lengths={"a.mp4": 10.0, "b.mp4": 20.0},
    )  # fmt: skip
    found = segments(write(tmp_path / "p.boris", project(o=joined)))
    assert found == {"a": [(4, 10, "walk")], "b": [(0, 2, "walk"), (3, 5.5, "sit")]}
    joined["media_info"] = {}
    with pytest.raises(DataError, match=r"length of 'a.mp4': expected a number of seconds"):
        segments(write(tmp_path / "p.boris", project(o=joined)))


def test_boris_projects_with_nothing_to_read_say_so(tmp_path):
    path = write(tmp_path / "p.boris", project(o=observation(["a.mp4"], (2, "", "bark", "", ""))))
    with pytest.raises(DataError, match="no segment was found in it, but 1 event: points in time"):
        segments(path)
    path = write(tmp_path / "p.boris", project(o=observation(["a.mp4"], (2, "", "sit", "", ""))))
    with pytest.raises(DataError, match="event 0: 'sit' starts and never stops"):
        segments(path)
    (tmp_path / "p.boris.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match="is no packed BORIS project"):
        segments(tmp_path / "p.boris.gz")


# --- ELAN's tab-delimited text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (  # as in the report: tier, no participant, clock and seconds, no header
            "default\t\t00:00:03.200\t3.2\t00:00:10.400\t10.4\t00:00:07.200\t7.2\tgrazing\n",
            [(3.2, 10.4, "grazing")],
        ),
        ("tier\tanna\t3200\t10400\t7200\tgrazing\n", [(3.2, 10.4, "grazing")]),  # milliseconds
        ("tier\tanna\t00:00:03.200\t00:00:10.400\t12\n", [(3.2, 10.4, "12")]),  # no durations, a number as label
        (  # all notations, frames among them
            "t\t\t00:01:03.200\t00:01:03:05\t63.2\t63200\t00:01:10.400\t00:01:10:10\t70.4\t70400\t"
            "00:00:07.200\t00:00:07:05\t7.2\t7200\trun\n",
            [(63.2, 70.4, "run")],
        ),
        (  # one column a tier, with ELAN's header
            "Begin Time - hh:mm:ss.ms\tEnd Time - hh:mm:ss.ms\tDuration - hh:mm:ss.ms\thand\tfoot\n"
            "00:00:01.000\t00:00:02.000\t00:00:01.000\twave\tkick\n00:00:03.000\t00:00:04.500\t00:00:01.500\t\tstep\n",
            [(1, 2, "kick"), (1, 2, "wave"), (3, 4.5, "step")],
        ),
        (  # a French header, and media of the file before it
            '"#file:///D:/rec/a.eaf"\nTemps de départ - ss.msec\ttemps de fin - ss.msec\tgestes\n'
            "1.000\t2.500\tmontrer\n",
            [(1, 2.5, "montrer")],
        ),
    ],
)  # fmt: skip
def test_elan_text(tmp_path, text, expected):
    path = write(tmp_path / "session.txt", text)
    assert segments(path, name="elan-text") == {"session": expected}
    assert guess_format(path) == "elan-text"


def test_elan_text_of_chosen_tiers(tmp_path):
    text = "left\t\t1.0\t2.0\t1.0\twave\nright\t\t3.0\t4.0\t1.0\tpoint\n"
    path = write(tmp_path / "s.txt", text)
    assert segments(path, layers=("right",)) == {"s": [(3, 4, "point")]}
    with pytest.raises(DataError, match=r"has no tier 'rihgt'; it has 'left', 'right'. Did you mean 'right'"):
        segments(path, layers=("rihgt",))
    write(path, text + "left\t\tlater\n")
    with pytest.raises(DataError, match="line 3: expected tier, begin, end and annotation"):
        segments(path, name="elan-text")


# --- Audacity's label tracks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3.200000\t10.400000\tgrazing\n", [(3.2, 10.4, "grazing")]),
        ("3,200000\t10,400000\tpâturage\r\n", [(3.2, 10.4, "pâturage")]),  # of a French system
        ("2.0\t2.0\tpoint\n3.4\t6.1\tregion\n\\\t3000.0\t9000.0\n", [(3.4, 6.1, "region")]),  # with frequencies
        ("0\t1.5\ttwo words\twith a tab\n", [(0, 1.5, "two words with a tab")]),
    ],
)
def test_audacity_labels(tmp_path, text, expected):
    path = write(tmp_path / "rec.01.txt", text)
    assert guess_format(path) == "audacity"
    assert segments(path) == {"rec.01": expected}


def test_audacity_labels_without_a_name_or_a_length_are_not_lost(tmp_path):
    with pytest.raises(DataError, match="line 1, label: expected a name"):
        segments(write(tmp_path / "a.txt", "1.0\t2.0\t\n"))
    with pytest.raises(DataError, match="no segment was found in it, but 2 labels: points in time"):
        segments(write(tmp_path / "a.txt", "1.0\t1.0\tx\n2.0\t2.0\ty\n"))


# --- a label for each frame


def test_frame_wise_text(tmp_path):
    """Breakfast's layout: 15 frames a second, SIL for nothing."""
    path = write(tmp_path / "P03_cam01_P03_cereals.txt", "SIL\n" * 30 + "take_bowl\n" * 15 + "pour_milk\n" * 45)
    assert guess_format(path) == "frame-wise"
    expected = [(2, 3, "take_bowl"), (3, 6, "pour_milk")]
    assert segments(path, fps=15.0) == {"P03_cam01_P03_cereals": expected}
    assert segments(path, fps=15.0, background=("pour_milk",)) == {
        "P03_cam01_P03_cereals": [(0, 2, "SIL"), (2, 3, "take_bowl")]
    }
    with pytest.raises(DataError, match="give --fps, or the folder of the videos"):
        segments(path)


def test_frame_wise_folders_and_numbers(tmp_path):
    """50 Salads' folder, and classes as numbers with the file that names them."""
    write(tmp_path / "mapping.txt", "0 cut tomato\n1 action_start\n")
    folder = tmp_path / "groundTruth"
    write(folder / "rgb-01-1.txt", "1\n" * 30 + "0\n" * 60)
    write(folder / "rgb-01-2.txt", "cut_cucumber\r\n" * 30)
    write(folder / "._rgb-01-2.txt", b"\x00\x05\x16\x07")
    assert guess_format(folder) == "frame-wise"
    assert segments(folder, fps=30.0) == {"rgb-01-1": [(1, 3, "cut tomato")], "rgb-01-2": [(0, 1, "cut_cucumber")]}
    write(folder / "rgb-01-1.txt", "7\n" * 3)
    with pytest.raises(DataError, match="class '7' is not in"):
        segments(folder, fps=30.0)


def test_frame_wise_text_of_nothing_but_background_is_a_video_without_actions(tmp_path):
    path = write(tmp_path / "quiet.txt", "SIL\n" * 30)
    found = import_annotations([path], None, ImportOptions(fps=15.0))
    assert found.annotations["quiet"].duration == 2
    assert "spans of 1 'SIL'; --background LABEL names other labels" in found.remarks[0]


def test_texts_of_no_known_layout_are_refused_by_their_content(tmp_path):
    path = write(tmp_path / "notes.txt", "Filmed on Monday, 3 takes.\n")
    with pytest.raises(DataError, match=r"cannot be told from the file \(it begins with 'Filmed on Monday"):
        segments(path)
    write(path, "video;start;end;label\na;1;2;x\n")  # a table may be called .txt
    assert segments(path) == {"a": [(1, 2, "x")]}


# --- what users of other tools reported


def test_reported_tables(tmp_path):
    """Whole numbers of seconds (AudiAnnotate 216), commas (audiomate 30), blanks for tabs (scaper 23)."""
    for text in ("4\t9\tspeech\n", "4,000\t9,000\tspeech\n", "4.0 9.0 speech\n"):
        for name in ("a.txt", "a.tsv"):
            assert segments(write(tmp_path / name, text)) == {"a": [(4, 9, "speech")]}


def test_reported_quotes_after_a_byte_order_mark(tmp_path):
    """As Excel saves it, and pandas 4793 and Orange 7000 stumbled over."""
    path = write(tmp_path / "a.csv", '\ufeff"video","start","end","label"\r\n"a","1","2","x"\r\n')
    assert segments(path) == {"a": [(1, 2, "x")]}


def test_reported_lists_of_objects(tmp_path):
    """Create ML's layout, which label-studio-sdk 385 asks for: it was no task without annotations."""
    rows = [
        {"video": "gym.mov", "label": "jump", "start": "01:03", "end": "01:03.14"},
        {"video": "gym.mov", "label": "run", "start": 3, "end": "00:00:05"},
    ]
    path = write(tmp_path / "a.json", rows)
    assert guess_format(path) == "csv"
    assert segments(path) == {"gym": [(3, 5, "run"), (63, 63.14, "jump")]}
    write(path, [{"clip": "a", "from": 1, "to": 2, "label": "x"}])
    assert segments(path, columns={"video": "clip", "start": "from", "end": "to"}) == {"a": [(1, 2, "x")]}
    with pytest.raises(DataError, match=r"found 'clip', 'from', 'to', 'label'. Say which"):
        segments(path)
    write(path, [{"video": "a", "start": "soon", "end": 2, "label": "x"}])
    with pytest.raises(DataError, match="object 0, start: expected a number of seconds, found 'soon'"):
        segments(path)
