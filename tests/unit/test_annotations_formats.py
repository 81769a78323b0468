"""Importers: each format as its tool writes it, what of it becomes a segment, and what is refused where."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lofi_tal.annotations.formats import (
    ImportOptions,
    VideoFolder,
    canonical_subset,
    guess_format,
    import_annotations,
    video_id_of,
)
from lofi_tal.errors import DataError, LofiError
from lofi_tal.video import write_video
from tests.importing import write

LENIENT = ImportOptions(strict=False)


def read(path: Path, options: ImportOptions | None = None, name: str | None = None):
    return import_annotations([path], name, options)


def rows(imported) -> list[tuple[str, str, float | None, list[tuple[float, float, str]]]]:
    """Return id, subset, duration and segments of each video."""
    return [
        (
            video.video_id,
            video.subset,
            video.duration,
            list(zip(video.segments.start.tolist(), video.segments.end.tolist(), video.segments.label, strict=True)),
        )
        for video in imported.annotations
    ]


# --- CSV


def test_csv_as_spreadsheets_save_it(tmp_path):
    text = (
        "\ufeffVideo,start,end,label,subset,duration,note\r\n"
        '-a_b,1,2.5,"pour, slowly",train,10,x\r\n'
        "\r\n"
        "_c.mp4,0,1e1,stir,Validation,,\r\n"
        "-a_b,3,4,stir,,,\r\n"
        "empty,,,,testing,7\r\n"
    )
    assert rows(read(write(tmp_path / "a.csv", text))) == [
        ("-a_b", "training", 10.0, [(1, 2.5, "pour, slowly"), (3, 4, "stir")]),
        ("_c", "validation", None, [(0, 10, "stir")]),
        ("empty", "testing", 7.0, []),
    ]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_csv_of_other_delimiters_is_known_by_its_header(tmp_path, delimiter):
    text = "video,start,end,label\na,1,2,x\n".replace(",", delimiter)
    assert rows(read(write(tmp_path / "a.tsv", text))) == [("a", "training", None, [(1, 2, "x")])]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a,1,2", "line 3, label: expected a name"),
        ("a,x,2,y", "line 3, start: expected a number of seconds, found 'x'"),
        ("a,2,1,y", "line 3: the segment [2, 1] s does not end after its start"),
        ("a,1,1,y", "does not end after its start"),
        ("a,-1,1,y", "line 3, start: -1 s lies before the video"),
        ("a,0,1e12,y", "line 3, end: 1e+12 s is no time in a video"),
        ("a,0,nan,y", "line 3, end: nan is not a finite number of seconds"),
        (",0,1,y", "line 3, video: expected a name"),
        ("a,0,1,y,training,5,6", "line 3: 7 values, but the header has 6 columns"),
        ("fine,0,1,y,validation", "line 3, subset: 'validation', but video 'fine' had 'training' before"),
        ("fine,0,1,y,,9", "line 3, duration: 9.0, but video 'fine' had 8.0 before"),
        ("a,0,1,y,,0", "line 3, duration: is 0"),
        ("x/fine.mp4,0,1,y", "line 3: 'x/fine.mp4' and 'fine' would both be video 'fine'"),
    ],
)
def test_csv_rows_are_refused_with_their_line(tmp_path, line, said):
    path = write(tmp_path / "a.csv", f"video,start,end,label,subset,duration\nfine,0,1,y,training,8\n{line}\n")
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    lenient = read(path, LENIENT)
    assert "fine" in lenient.annotations.videos
    assert len(lenient.annotations.notes) == 1
    assert said in lenient.annotations.notes[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "found nothing"),
        ("a,b\n", "line 1: expected a header with the columns video,start,end,label"),
        ("video,start,end,label,video\n", "line 1: the column 'video' stands twice"),
        (b"video,start,end,label\n\xff\xfe", "not UTF-8 text (byte 22)"),
        ('video,start,end,label\na,0,1,"x', "line 2: not CSV"),
        ("video,start,end,label\n", "no usable video"),
    ],
)
def test_files_that_are_no_such_table_are_refused(tmp_path, content, said):
    with pytest.raises(DataError, match=re.escape(said)):
        read(write(tmp_path / "a.csv", content))


# --- ELAN


def eaf(tiers: str, header: str = "", slots: str = "") -> str:
    slots = slots or "".join(f'<TIME_SLOT TIME_SLOT_ID="ts{i}" TIME_VALUE="{1000 * i}"/>' for i in range(1, 10))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-05-01T10:00:00+01:00" '
        'FORMAT="3.0" VERSION="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">\n'
        f'<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">{header}</HEADER>\n<TIME_ORDER>{slots}</TIME_ORDER>\n{tiers}'
        '<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>\n</ANNOTATION_DOCUMENT>\n'
    )


def aligned(number: int, start: str, end: str, value: str) -> str:
    return (
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" TIME_SLOT_REF1="{start}" TIME_SLOT_REF2="{end}">'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>\n"
    )


def referring(number: int, to: int, value: str) -> str:
    return (
        f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a{number}" ANNOTATION_REF="a{to}">'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>\n"
    )


def tier(name: str, annotations: str, parent: str = "") -> str:
    parent = f' PARENT_REF="{parent}"' if parent else ""
    return f'<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="{name}"{parent}>\n{annotations}</TIER>\n'


MEDIA = (
    '<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/v/room.wav" MIME_TYPE="audio/x-wav"/>'
    '<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/My%20Videos/day%201.MP4" MIME_TYPE="video/mp4"{0}/>'
)


def test_elan_tiers_without_a_parent_are_read(tmp_path):
    text = eaf(
        tier("left", aligned(1, "ts1", "ts3", "pour &amp; stir"))
        + tier("right", aligned(2, "ts2", "ts4", " cut "))
        + tier("detail", referring(3, 1, "slow"), "left"),
        MEDIA.format(""),
    )
    assert rows(read(write(tmp_path / "s.eaf", text))) == [
        ("day 1", "training", None, [(1, 3, "pour & stir"), (2, 4, "cut")])
    ]


def test_elan_dependent_tier_has_the_times_of_what_it_refers_to(tmp_path):
    text = eaf(
        tier("top", aligned(1, "ts1", "ts3", "x"))
        + tier("detail", referring(2, 1, "slow"), "top")
        + tier("deeper", referring(3, 2, "very"), "detail")
    )
    path = write(tmp_path / "session.eaf", text)
    found = read(path, ImportOptions(layers=("detail", "deeper"), subset="validation"))
    assert rows(found) == [("session", "validation", None, [(1, 3, "slow"), (1, 3, "very")])]


def test_elan_slots_without_a_time_divide_their_span(tmp_path):
    """Three annotations between 1 s and 4 s, the inner slots free, as on a tier of time subdivisions."""
    slots = (
        '<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2"/>'
        '<TIME_SLOT TIME_SLOT_ID="ts3"/><TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="4000"/>'
    )
    text = eaf(
        tier("t", aligned(1, "ts1", "ts2", "a") + aligned(2, "ts2", "ts3", "b") + aligned(3, "ts3", "ts4", "c")),
        slots=slots,
    )
    assert rows(read(write(tmp_path / "s.eaf", text)))[0][3] == [(1, 2, "a"), (2, 3, "b"), (3, 4, "c")]


def test_elan_offset_of_the_video_moves_the_segments(tmp_path):
    text = eaf(tier("t", aligned(1, "ts1", "ts3", "a")), MEDIA.format(' TIME_ORIGIN="500"'))
    assert rows(read(write(tmp_path / "s.eaf", text)))[0][3] == [(1.5, 3.5, "a")]


@pytest.mark.parametrize(
    ("tiers", "slots", "said"),
    [
        (tier("t", aligned(1, "ts3", "ts1", "a")), "", "line 6, tier 't': the segment [3, 1] s does not end"),
        (tier("t", aligned(1, "ts1", "ts2", "")), "", "tier 't', label: expected a name"),
        (tier("t", aligned(1, "ts1", "ts77", "a")), "", "time slot 'ts77' has no time, nor do its neighbours"),
        (tier("t", referring(1, 2, "a")), "", "refers to an annotation 'a2', which is not there"),
        (tier("t", referring(1, 2, "a") + referring(2, 1, "b")), "", "refers to itself"),
        (
            tier("t", aligned(1, "ts1", "ts2", "a") + aligned(1, "ts3", "ts4", "a")),
            "",
            "line 7: a second annotation has the id 'a1'",
        ),
        (tier("t", "") + tier("t", ""), "", "a second tier has the name 't'"),
        (
            tier("t", aligned(1, "ts1", "ts2", "a") + aligned(2, "ts2", "ts1", "b")),
            '<TIME_SLOT TIME_SLOT_ID="ts1"/><TIME_SLOT TIME_SLOT_ID="ts2"/>',
            "time slot 'ts1' has no time",
        ),
        (tier("t", ""), '<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="soon"/>', "line 4, TIME_VALUE: expected a number"),
        (tier("t", "<ANNOTATION><ALIGNABLE_ANNOTATION/></ANNOTATION>"), "", "line 6: the annotation has no 'TIME_SLOT"),
    ],
)
def test_elan_faults_are_refused_with_their_line(tmp_path, tiers, slots, said):
    with pytest.raises(DataError, match=re.escape(said)):
        read(write(tmp_path / "s.eaf", eaf(tiers, slots=slots)))


def test_elan_tier_that_is_not_there_is_named(tmp_path):
    path = write(tmp_path / "s.eaf", eaf(tier("actions", aligned(1, "ts1", "ts2", "a"))))
    with pytest.raises(DataError, match=r"no tier 'action'; it has 'actions'. Did you mean 'actions'"):
        read(path, ImportOptions(layers=("action",)))


def test_elan_times_in_frames_are_refused(tmp_path):
    path = write(tmp_path / "s.eaf", eaf("").replace("milliseconds", "PAL-frames"))
    with pytest.raises(DataError, match="line 3: times in 'PAL-frames' are not read"):
        read(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            '<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]>\n<ANNOTATION_DOCUMENT>&y;</ANNOTATION_DOCUMENT>',
            "line 1: a document type (DOCTYPE) is refused",
        ),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "DOCTYPE"),
        ("<a>" * 60 + "</a>" * 60, "line 1: more than 50 elements are nested"),
        ("<a></b>", "is not XML: mismatched tag: line 1, column 5"),
        ("", "is not XML: no element found"),
        ("<a>&undefined;</a>", "is not XML: undefined entity"),
        ("<annotations/>", "the outermost element is 'annotations'; expected 'ANNOTATION_DOCUMENT'"),
        (b"\xff\xfe\x00\x00nonsense", "is not XML"),
        ('<?xml version="1.0" encoding="nonsense"?><a/>', "is not XML: unknown encoding"),
        (b"<a>\xff</a>", "is not XML: not well-formed"),
    ],
)
def test_xml_from_strangers_cannot_do_harm(tmp_path, content, said):
    with pytest.raises(DataError, match=re.escape(said)):
        read(write(tmp_path / "s.eaf", content))


def test_xml_in_another_encoding_is_read(tmp_path):
    text = eaf(tier("t", aligned(1, "ts1", "ts2", "öffnen"))).replace('"UTF-8"', '"ISO-8859-1"')
    assert rows(read(write(tmp_path / "s.eaf", text.encode("latin-1"))))[0][3] == [(1, 2, "öffnen")]


# --- VIA


def via(metadata, attributes=None) -> dict:
    """Return a project as VIA 3.0.13 saves it."""
    options = {"1": "Break Egg", "2": "Pour Liquid"}
    return {
        "project": {"pid": "__VIA_PROJECT_ID__", "rev": "1", "pname": "p", "creator": "VIA", "vid_list": ["1", "2"]},
        "config": {"file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}}, "ui": {}},
        "attribute": attributes
        or {
            "1": {"aname": "Activity", "anchor_id": "FILE1_Z2_XY0", "type": 4, "desc": "", "options": options,
                  "default_option_id": ""},
            "2": {"aname": "Object", "anchor_id": "FILE1_Z1_XY1", "type": 1, "desc": "", "options": {}},
        },
        "file": {
            "1": {"fid": "1", "fname": "kitchen.mp4", "type": 4, "loc": 1, "src": ""},
            "2": {"fid": "2", "fname": "https://host/a%20b.webm", "type": 4, "loc": 2, "src": ""},
        },
        "metadata": metadata,
        "view": {"1": {"fid_list": ["1"]}, "2": {"fid_list": ["2"]}},
    }  # fmt: skip


def segment(view, start, end, values, flags=0):
    return {"vid": view, "flg": flags, "z": [start, end], "xy": [], "av": values}


def test_via_temporal_segments_are_read_and_the_rest_is_not(tmp_path):
    metadata = {
        "1_a": segment("1", 1.25, 3.5, {"1": "2"}),
        "2_b": segment("2", 0, 2, {"1": "1"}),
        "1_deleted": segment("1", 5, 6, {"1": "1"}, flags=1),
        "1_box": {"vid": "1", "flg": 0, "z": [2.0], "xy": [2, 10, 20, 40, 50], "av": {"2": "cup"}},
    }
    found = read(write(tmp_path / "via.json", via(metadata)))
    assert rows(found) == [
        ("kitchen", "training", None, [(1.25, 3.5, "Pour Liquid")]),
        ("a b", "training", None, [(0, 2, "Break Egg")]),
    ]
    assert found.remarks == (f"{tmp_path / 'via.json'}: passed over: 1 region or moment: no temporal segments.",)


def test_via_free_text_and_checkboxes(tmp_path):
    attributes = {
        "1": {"aname": "note", "anchor_id": "FILE1_Z2_XY0", "type": 1, "options": {}},
        "2": {"aname": "kind", "anchor_id": "FILE1_Z2_XY0", "type": 2, "options": {"0": "run", "1": "jump"}},
    }
    path = write(tmp_path / "via.json", via({"1_a": segment("1", 1, 2, {"1": "hop", "2": "0,1"})}, attributes))
    with pytest.raises(DataError, match=r"'note', 'kind'. Name the one that holds the label: --layer NAME"):
        read(path)
    assert rows(read(path, ImportOptions(layers=("note",))))[0][3] == [(1, 2, "hop")]
    assert rows(read(path, ImportOptions(layers=("kind",))))[0][3] == [(1, 2, "run"), (1, 2, "jump")]
    with pytest.raises(DataError, match="Did you mean 'kind'"):
        read(path, ImportOptions(layers=("kin",)))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (segment("1", 1, 2, {"1": "9"}), "metadata '1_a': '9' is none of the options '1', '2'"),
        (segment("1", 1, 2, {}), "metadata '1_a': has no label"),
        (segment("7", 1, 2, {"1": "1"}), "metadata '1_a': belongs to view '7', which has no video"),
        (segment("1", "x", 2, {"1": "1"}), "metadata '1_a', start: expected a number"),
        ([], "metadata '1_a': expected an object with a list 'z'"),
    ],
)
def test_via_faults_are_refused_with_their_place(tmp_path, record, said):
    path = write(tmp_path / "via.json", via({"1_a": record}))
    with pytest.raises(DataError, match=re.escape(said)):
        read(path)
    assert len(read(path, LENIENT).annotations.notes) == 1


def test_via_two_files_in_a_view_are_refused(tmp_path):
    project = {**via({}), "view": {"1": {"fid_list": ["1", "2"]}}}
    with pytest.raises(DataError, match=r"view '1': expected one file, found \['1', '2'\]"):
        read(write(tmp_path / "via.json", project))


# --- Label Studio


def labelled(start, end, *labels, layer="videoLabels"):
    return {
        "id": "x", "from_name": layer, "to_name": "video", "type": "timelinelabels", "origin": "manual",
        "value": {"ranges": [{"start": start, "end": end}], "timelinelabels": list(labels)},
    }  # fmt: skip


def task(*results, **data):
    return {
        "id": 7,
        "annotations": [{"id": 3, "was_cancelled": False, "ground_truth": False, "result": list(results)}],
        "data": {"video": "/data/upload/1/0f6c57b0-kitchen_1.mp4", **data},
        "predictions": [],
    }


def test_label_studio_frames_count_from_1_and_include_the_last(tmp_path):
    """At 25 frames a second, frames 26 to 50 are the whole second second."""
    choice = {"type": "choices", "from_name": "scene", "value": {"choices": ["indoor"]}}
    path = write(tmp_path / "ls.json", [task(labelled(26, 50, "jump"), labelled(1, 1, "blink"), choice)])
    found = read(path, ImportOptions(fps=25))
    assert rows(found) == [("kitchen_1", "training", None, [(1, 2, "jump"), (0, 0.04, "blink")])]
    assert found.remarks == (f"{path}: passed over: 1 result: no labelled spans of time.",)
    with pytest.raises(DataError, match=r"task 0, result 0: the file counts frames.*--fps"):
        read(path)


def test_label_studio_rate_of_a_task(tmp_path):
    path = write(tmp_path / "ls.json", [task(labelled(11, 20, "jump"), fps=10)])
    assert rows(read(path))[0][3] == [(1, 2, "jump")]
    assert rows(read(path, ImportOptions(fps=5)))[0][3] == [(2, 4, "jump")]


def test_label_studio_min_export_and_other_names_of_files(tmp_path):
    tasks = [
        {
            "id": 1, "video": "/data/local-files/?d=set%20a/b.mp4", "annotator": 1, "annotation_id": 3,
            "videoLabels": [{"ranges": [{"start": 1, "end": 30}], "timelinelabels": ["run"]}],
        },
        {"id": 2, "clip": "s3://bucket/c.webm?x=1", "ts": [{"start": 0.5, "end": 2, "timeserieslabels": ["a", "b"]}]},
    ]  # fmt: skip
    assert rows(read(write(tmp_path / "ls.json", tasks), ImportOptions(fps=30))) == [
        ("b", "training", None, [(0, 1, "run")]),
        ("c", "training", None, [(0.5, 2, "a"), (0.5, 2, "b")]),
    ]


def test_label_studio_controls_can_be_chosen(tmp_path):
    results = (labelled(1, 10, "a"), labelled(1, 10, "b", layer="second"))
    path = write(tmp_path / "ls.json", [task(*results)])
    found = read(path, ImportOptions(fps=10, layers=("second",)))
    assert rows(found)[0][3] == [(0, 1, "b")]


def test_label_studio_several_annotators_need_a_decision(tmp_path):
    one = task(labelled(1, 10, "a"))
    other = {"id": 4, "result": [labelled(1, 20, "a")]}
    cancelled = {"id": 5, "was_cancelled": True, "result": [labelled(1, 30, "a")]}
    path = write(tmp_path / "ls.json", [{**one, "annotations": [*one["annotations"], other, cancelled]}])
    with pytest.raises(DataError, match="task 0: has 2 annotations; mark one as ground truth or cancel the others"):
        read(path, ImportOptions(fps=10))
    other["ground_truth"] = True
    write(path, [{**one, "annotations": [*one["annotations"], other, cancelled]}])
    assert rows(read(path, ImportOptions(fps=10)))[0][3] == [(0, 2, "a")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "expected a list of tasks"),
        ([3], "task 0: expected an object, found 3"),
        ([{"data": {"text": "hello"}}], "task 0: none of its data is the name of a video file; it has text"),
        ([task(labelled("x", 2, "a"))], "task 0, result 0, start: expected a number of frames, found 'x'"),
        ([task(labelled(None, 2, "a"))], "start: expected a number of frames, found None"),
        ([task(labelled(5, 4, "a"))], "result 0: the segment [0.4, 0.4] s does not end after its start"),
        ([task(labelled(0, 4, "a"))], "result 0, start: -0.1 s lies before the video"),
    ],
)
def test_label_studio_faults_are_refused_with_their_place(tmp_path, content, said):
    with pytest.raises(DataError, match=re.escape(said)):
        read(write(tmp_path / "ls.json", content), ImportOptions(fps=10), "label-studio")


def test_label_studio_rate_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="result 0, frames a second: expected a number, found 'fast'"):
        read(write(tmp_path / "ls.json", [task(labelled(1, 2, "a"), fps="fast")]))


# --- CVAT


def cvat(body: str, meta: str = "") -> str:
    meta = meta or (
        "<task><id>5</id><name>interpolation</name><size>4620</size><mode>interpolation</mode><overlap>5</overlap>"
        "<subset></subset><start_frame>0</start_frame><stop_frame>4619</stop_frame><frame_filter></frame_filter>"
        "<original_size><width>640</width><height>480</height></original_size><source>kitchen.mp4</source></task>"
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>{meta}'
        f"<dumped>2024-09-25 16:05:07.134046+03:00</dumped></meta>\n{body}</annotations>\n"
    )


def track(label: str, *shapes: tuple[int, int], more: str = "") -> str:
    boxes = "".join(
        f'<box frame="{frame}" xtl="0.00" ytl="0.00" xbr="640.00" ybr="480.00" outside="{outside}" occluded="0" '
        f'keyframe="1" z_order="0"></box>\n'
        for frame, outside in shapes
    )
    return f'<track id="0" label="{label}" source="manual"{more}>\n{boxes}</track>\n'


def test_cvat_tracks_end_where_they_go_outside(tmp_path):
    """The frames of the documentation's example of the format: visible on 0, 6 and 13, outside on 1, 7 and 14."""
    body = track("car", (0, 0), (1, 1), (6, 0), (7, 1), (13, 0), (14, 1)) + track("jump", (10, 0), (15, 0), (19, 0))
    found = read(write(tmp_path / "a.xml", cvat(body)), ImportOptions(fps=10))
    expected = [(0.0, 0.1, "car"), (0.6, 0.7, "car"), (1.3, 1.4, "car"), (1.0, 2.0, "jump")]
    assert rows(found) == [("kitchen", "training", None, expected)]


def test_cvat_tags_on_neighbouring_frames_are_one_span(tmp_path):
    meta = "<task><id>1</id><name>walk.mp4</name><mode>annotation</mode><frame_filter>step=5</frame_filter></task>"
    body = "".join(
        f'<image id="{frame}" name="frame_{frame:06d}" width="9" height="9"><tag label="{label}" source="manual"></tag>'
        "</image>\n"
        for frame, label in ((0, "a"), (5, "a"), (10, "b"), (20, "a"))
    )
    found = read(write(tmp_path / "a.xml", cvat(body, meta)), ImportOptions(fps=5))
    assert rows(found) == [("walk", "training", None, [(0, 2, "a"), (4, 5, "a"), (2, 3, "b")])]


def test_cvat_projects_have_many_videos(tmp_path):
    meta = (
        "<project><id>1</id><name>p</name><tasks><task><id>8</id><name>x</name><source>a.mp4</source></task>"
        "<task><id>9</id><name>y</name><source>b.mp4</source></task></tasks></project>"
    )
    body = track("jump", (0, 0), (10, 1), more=' task_id="9" subset="default"')
    found = read(write(tmp_path / "a.xml", cvat(body, meta)), ImportOptions(fps=10))
    assert rows(found) == [("a", "training", None, []), ("b", "training", None, [(0, 1, "jump")])]
    write(tmp_path / "a.xml", cvat(track("jump", (0, 0)), meta))
    with pytest.raises(DataError, match="line 5: belongs to task None, which the file does not describe"):
        read(tmp_path / "a.xml", ImportOptions(fps=10))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (cvat(track("", (0, 0), (5, 1))), "line 5, label: expected a name"),
        (
            cvat(track("a", (0, 0), (5, 1)).replace('"5"', '"five"')),
            "frame: expected a number of a frame, found 'five'",
        ),
        (cvat(track("a", (-1, 0), (5, 1))), "frame: '-1' is no number of a frame"),
        (cvat("", "<task><id>1</id><frame_filter>step=0</frame_filter></task>"), "frame_filter: 'step=0' is no step"),
        (cvat("", " "), "has no <task> in <meta>"),
    ],
)
def test_cvat_faults_are_refused_with_their_place(tmp_path, text, said):
    with pytest.raises(DataError, match=re.escape(said)):
        read(write(tmp_path / "a.xml", text), ImportOptions(fps=10))


@pytest.mark.parametrize("fps", [0, -1, 1e9])
def test_odd_rates_are_refused(tmp_path, fps):
    path = write(tmp_path / "a.xml", cvat(track("a", (0, 0), (5, 1))))
    with pytest.raises(DataError, match="is not between 0 and 1000"):
        read(path, ImportOptions(fps=fps))


# --- THUMOS14


def thumos(folder: Path) -> Path:
    write(folder / "Diving_val.txt", "video_validation_0000051  67.5  75.9\nvideo_validation_0000051  85.9  90.6\n")
    write(folder / "CliffDiving_val.txt", "video_validation_0000051 67.5 75.9\n\n")
    write(folder / "Diving_test.txt", "video_test_0000004  0.2  1.1\n")
    write(folder / "Ambiguous_val.txt", "video_validation_0000051 1.0 2.0\n")
    return folder


def test_thumos_class_files(tmp_path):
    found = read(thumos(tmp_path / "annotation"))
    cliff, dive = "CliffDiving", "Diving"
    assert rows(found) == [
        ("video_validation_0000051", "training", None, [(67.5, 75.9, cliff), (67.5, 75.9, dive), (85.9, 90.6, dive)]),
        ("video_test_0000004", "validation", None, [(0.2, 1.1, "Diving")]),
    ]
    assert [video.ignored.tolist() for video in found.annotations] == [[[1.0, 2.0]], []]
    files = sorted((tmp_path / "annotation").glob("*_val.txt"))
    again = import_annotations(files)
    assert rows(again) == rows(found)[:1]
    assert again.annotations["video_validation_0000051"].ignored.tolist() == [[1.0, 2.0]]


def test_a_thumos_video_with_nothing_but_ambiguous_parts_stays(tmp_path):
    folder = thumos(tmp_path)
    write(folder / "Ambiguous_test.txt", "video_test_0001292 5 6.5\n")
    found = read(folder)
    assert rows(found)[-1] == ("video_test_0001292", "validation", None, [])
    assert found.annotations["video_test_0001292"].ignored.tolist() == [[5.0, 6.5]]


def test_faults_among_ambiguous_parts_are_left_out_as_others(tmp_path):
    folder = thumos(tmp_path)
    write(folder / "Ambiguous_test.txt", "video_test_0000004 5 4\nvideo_test_0000004 6 7\n")
    found = read(folder, LENIENT)
    assert found.annotations["video_test_0000004"].ignored.tolist() == [[6.0, 7.0]]
    assert "line 1: the segment [5, 4] s does not end after its start" in found.annotations.notes[0]


def test_thumos_json_as_gtad_has_it(tmp_path):
    """Times are strings, and the challenge's names of the subsets mean: train on validation, evaluate on test."""
    record = {"segment": ["0.2", "1.1"], "label": "Diving"}
    ambiguous = {"segment": ["2", "3"], "label": "Ambiguous"}
    database = {
        "video_test_0000004": {"subset": "Test", "annotations": [record, ambiguous]},
        "video_validation_0000051": {"subset": "Validation", "annotations": [record]},
    }
    path = write(tmp_path / "thumos_gt.json", {"database": database})
    found = read(path, name="thumos")
    assert [(row[0], row[1], row[3]) for row in rows(found)] == [
        ("video_test_0000004", "validation", [(0.2, 1.1, "Diving")]),
        ("video_validation_0000051", "training", [(0.2, 1.1, "Diving")]),
    ]
    assert [video.ignored.tolist() for video in found.annotations] == [[[2.0, 3.0]], []]
    database["video_test_0000004"]["subset"] = "training"  # OpenTAD names them by their use
    assert [row[1] for row in rows(read(write(path, {"database": database}), name="thumos"))] == [
        "training", "validation",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("Diving_val.txt", "video 1\n", "line 1: expected 'video start end', found 2 values"),
        ("Diving_val.txt", "video 1 2\nvideo x 2\n", "line 2, start: expected a number of seconds, found 'x'"),
        ("Diving.txt", "video 1 2\n", "should end in _val.txt or _test.txt"),
        ("Diving_val.txt", b"\xff", "not UTF-8"),
        ("Ambiguous_val.txt", "video 1\n", "line 1: expected 'video start end', found 2 values"),
        ("Ambiguous_test.txt", "video 3 2\n", "line 1: the segment [3, 2] s does not end after its start"),
        ("Ambiguous_test.txt", "video -1 2\n", "line 1, start: -1 s lies before the video"),
    ],
)
def test_thumos_faults_are_refused_with_their_place(tmp_path, name, text, said):
    with pytest.raises(DataError, match=re.escape(said)):
        read(write(tmp_path / name, text))


# --- ActivityNet's layout and what all importers share


def test_activitynet_hacs_and_actionformer_are_read_as_they_are(tmp_path):
    database = {
        "-a": {"subset": "Training", "duration": "10.5", "fps": 30.0, "url": "x", "annotations": [
            {"segment": [9, 12], "label": "a", "label_id": 3, "segment(frames)": [270.0, 360.0]},
            {"segment": [5, 5], "label": "b", "label_id": 4}]},
        "b": {"subset": "testing"},
    }  # fmt: skip
    found = read(write(tmp_path / "a.json", {"version": "1", "database": database}))
    assert rows(found) == [("-a", "training", 10.5, [(9, 12, "a"), (5, 5, "b")]), ("b", "testing", None, [])]


def test_video_in_two_files_is_refused(tmp_path):
    one = write(tmp_path / "1.csv", "video,start,end,label\na,0,1,x\n")
    two = write(tmp_path / "2.csv", "video,start,end,label\nb,0,1,x\na,2,3,x\n")
    with pytest.raises(DataError, match=r"2\.csv, line 3: video 'a' stands in .*1\.csv too"):
        import_annotations([one, two])
    with pytest.raises(LofiError, match="given twice"):
        import_annotations([one, one])
    other = write(tmp_path / "3.json", {"database": {"a": {"subset": "x"}}})
    with pytest.raises(DataError, match=r"video 'a' stands in .*1\.csv too"):
        import_annotations([one, other])


def test_lenient_import_survives_a_broken_file(tmp_path):
    good = write(tmp_path / "1.csv", "video,start,end,label\na,0,1,x\n")
    bad = write(tmp_path / "2.eaf", "<a>")
    found = import_annotations([bad, good], None, LENIENT)
    assert list(found.annotations.videos) == ["a"]
    assert "is not XML" in found.annotations.notes[0]
    with pytest.raises(DataError, match=r"no usable video; the first of 1 reasons: .*is not XML"):
        import_annotations([bad], None, LENIENT)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    frames = np.zeros((20, 16, 16, 3), np.uint8)
    write_video(folder / "kitchen.mp4", frames, fps=10)
    return folder


def test_durations_and_rates_come_from_the_videos(tmp_path, videos):
    folder = VideoFolder(videos)
    table = write(tmp_path / "a.csv", "video,start,end,label\nkitchen,0,1,x\n")
    assert rows(read(table, ImportOptions(videos=folder)))[0][2] == pytest.approx(2.0)
    known = write(tmp_path / "b.csv", "video,start,end,label,duration\nkitchen,0,1,x,1.9\n")
    assert rows(read(known, ImportOptions(videos=folder)))[0][2] == 1.9
    tracked = write(tmp_path / "a.xml", cvat(track("jump", (5, 0), (15, 1))))
    start, end, _ = rows(read(tracked, ImportOptions(videos=folder)))[0][3][0]
    assert (start, end) == (pytest.approx(0.5), pytest.approx(1.5))


def test_missing_video_is_refused_or_left_out(tmp_path, videos):
    path = write(tmp_path / "a.csv", "video,start,end,label\nkitchen,0,1,x\ngone,0,1,x\n")
    with pytest.raises(DataError, match="No video file for id 'gone'"):
        read(path, ImportOptions(videos=VideoFolder(videos)))
    found = read(path, ImportOptions(videos=VideoFolder(videos), strict=False))
    assert list(found.annotations.videos) == ["kitchen"]
    assert len(found.annotations.notes) == 1


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("a", "a"),
        ("a.mp4", "a"),
        ("C:\\v\\a.b.MKV", "a.b"),
        ("/x/y/-a.webm", "-a"),
        ("x/y", "x/y"),
        ("a.final", "a.final"),
        (".mp4", ".mp4"),
        ("a/ .mp4", "a/ .mp4"),
    ],
)
def test_ids_of_file_names(reference, expected):
    assert video_id_of(reference) == expected


def test_usual_names_of_subsets():
    names = ("Train", "TRAINING", "val", "Validation", "test", "Testing", "Fold 3")
    expected = ["training"] * 2 + ["validation"] * 2 + ["testing"] * 2 + ["Fold 3"]
    assert [canonical_subset(name) for name in names] == expected


def test_formats_are_told_from_the_files(tmp_path):
    contents = {
        "a.csv": "", "a.tsv": "", "a.eaf": "", "a.xml": "", "Diving_val.txt": "", "ls.json": [], "via.json": via({}),
        "an.json": {"database": {}},
    }  # fmt: skip
    found = [guess_format(write(tmp_path / name, content)) for name, content in contents.items()]
    assert found == ["csv", "csv", "elan", "cvat", "thumos", "label-studio", "via", "activitynet"]
    assert guess_format(thumos(tmp_path / "folder")) == "thumos"
    for path in (write(tmp_path / "x.json", {}), write(tmp_path / "x.doc", ""), tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(DataError, match="the format cannot be told"):
            guess_format(path)
    with pytest.raises(LofiError, match=r"format 'ellan' is unknown.*Did you mean 'elan'"):
        import_annotations([tmp_path / "a.eaf"], "ellan")


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6).map(str.strip).filter(bool)
spans = st.tuples(st.floats(0, 1e4), st.floats(1e-3, 1e4)).map(lambda pair: (pair[0], pair[0] + pair[1]))


ids = names.map(lambda name: f"-{name}").filter(lambda name: video_id_of(name) == name)  # "-.mpg" is a file's name


@given(st.dictionaries(ids, st.lists(st.tuples(spans, names), max_size=4), min_size=1))
def test_any_names_and_times_survive_csv(tmp_path_factory, content):
    from lofi_tal.annotations.formats.export import write_csv

    folder = tmp_path_factory.mktemp("csv")
    database = {
        video: {"subset": "training", "annotations": [{"segment": list(span), "label": label} for span, label in found]}
        for video, found in content.items()
    }
    first = read(write(folder / "a.json", {"database": database}))
    write_csv(folder / "a.csv", first.annotations, None)
    assert rows(read(folder / "a.csv")) == rows(first)


@pytest.mark.parametrize(
    "content",
    [
        [
            {"video": "v1.mp4", "events": [{"start": "0:05", "end": 12.5, "label": "run", "score": 0.5}]},
            {"id": "v2", "events": []},
        ],
        {"v1": {"events": [{"start": 5, "end": "12.5", "label": "run"}]}, "v2": []},
    ],
)
def test_events_of_a_video_language_model_are_recognised_and_read(content, tmp_path):
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(content))
    found = import_annotations([path], None, ImportOptions())
    assert {video.video_id: [row[:3] for row in video.segments] for video in found.annotations} == {
        "v1": [(5.0, 12.5, "run")],
        "v2": [],
    }
    path.write_text(json.dumps({"video": "v1", "events": [{"start": 5, "label": "run"}]}))
    with pytest.raises(DataError, match=r"event 0: found .*it has no end"):
        import_annotations([path], None, ImportOptions())
