"""Labels go out of the studio and into it in every format of the project."""

from __future__ import annotations

import base64
import csv
import io
import json
import zipfile

import pytest

from lofi_tal.annotations.formats.export import WRITERS
from tests.studio import action, client_of, desk_of, folder_of, put

ACTIONS = (action("1", 0.5, 1.5, "jump"), action("2", 1.0, 2.0, "run, fast"), action("3", 3.0, 4.0, "jump"))


@pytest.fixture
def folder(tmp_path):
    return folder_of(tmp_path / "videos")


@pytest.fixture
def labelled(folder):
    client = client_of(desk_of(folder))
    put(client, "a", *ACTIONS)
    put(client, "b", action("1", 0.2, 0.8, "sit"))
    return client


def upload(client, name, data, **more):
    coded = base64.b64encode(data).decode()
    return client.post("/api/import", json={"name": name, "base64": coded, **more})


def rows(client, video):
    return [
        (one["start"], one["end"], one["label"]) for one in client.get(f"/api/videos/{video}/entry").json()["segments"]
    ]


@pytest.mark.parametrize("target", WRITERS)
def test_each_format_goes_out_and_comes_back_into_another_studio(labelled, target, tmp_path):
    exported = labelled.get(f"/api/export/{target}")
    assert exported.status_code == 200, exported.text
    disposition = exported.headers["content-disposition"]
    assert disposition.startswith("attachment; filename*=UTF-8''labels")
    name = disposition.rpartition("''")[2]
    other = client_of(desk_of(folder_of(tmp_path / "other")))
    answer = upload(other, name, exported.content)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["segments"], answer.json()["videos"], answer.json()["kept"]) == (4, 2, 0)
    for video in "ab":
        ours, theirs = rows(labelled, video), rows(other, video)
        assert [one[2] for one in ours] == [one[2] for one in theirs]
        for one, two in zip(ours, theirs, strict=True):
            assert one[:2] == pytest.approx(two[:2], abs=0.051)  # half a frame, where the tool counts frames
    assert other.get("/api/videos/a/entry").json()["state"] == "checked"


@pytest.mark.parametrize("target", WRITERS)
def test_a_checked_video_without_actions_is_no_hindrance(labelled, target, tmp_path):
    put(labelled, "c", state="checked")
    exported = labelled.get(f"/api/export/{target}")
    name = exported.headers["content-disposition"].rpartition("''")[2]
    other = client_of(desk_of(folder_of(tmp_path / "other")))
    answer = upload(other, name, exported.content)
    assert answer.status_code == 200, answer.text
    assert answer.json()["segments"] == 4
    assert not any("c.txt" in note for note in answer.json()["notes"])
    assert rows(other, "c") == []


def test_labels_are_not_replaced_unless_it_is_asked_for(labelled):
    table = b"video,start,end,label\na.mp4,1,2,new\nc,1,2,new\nelsewhere,1,2,new\n"
    answer = upload(labelled, "table.csv", table).json()
    assert (answer["segments"], answer["videos"], answer["kept"]) == (1, 1, 1)
    assert any("left as they are: a." in note for note in answer["notes"])
    assert any("no video file for 'elsewhere'" in note for note in answer["notes"])
    assert len(rows(labelled, "a")) == 3
    assert upload(labelled, "table.csv", table, replace=True).json()["segments"] == 2
    assert rows(labelled, "a") == [(1, 2, "new")]
    entry = labelled.get("/api/videos/a/entry").json()
    labelled.post("/api/videos/a/undo", json={"revision": entry["revision"]})
    assert len(rows(labelled, "a")) == 3


def test_the_subset_of_a_video_stays_if_the_file_names_none(labelled):
    put(labelled, "c", subset="testing")
    upload(labelled, "table.csv", b"video,start,end,label\nc,1,2,new\n")
    assert labelled.get("/api/videos/c/entry").json()["subset"] == "testing"
    upload(labelled, "table.csv", b"video,start,end,label,subset\nc,1,2,new\n", replace=True)
    upload(labelled, "t.csv", b"video,start,end,label,subset\nc,1,2,new,val\n", replace=True)
    assert labelled.get("/api/videos/c/entry").json()["subset"] == "validation"


def test_frames_are_seconds_by_a_rate_and_what_cannot_be_used_is_told(labelled):
    text = "video,start,end,label\nc,10,20,new\nc,20,10,wrong\n"
    body = {"name": "frames.csv", "text": text, "format": "csv", "fps": 10}
    answer = labelled.post("/api/import", json=body).json()
    assert rows(labelled, "c") == [(1, 2, "new")]
    assert any("does not end after its start" in note for note in answer["notes"])
    assert not any("/tmp" in note for note in answer["notes"])


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("found.json", {"results": {"v_c": [{"segment": [1, 2], "label": "new", "score": 0.25}]}}),
        ("events.json", [{"video": "c", "events": [{"start": "0:01", "end": 2, "label": "new", "score": 0.25}]}]),
        ("c.json", {"events": [{"start": 1, "end": 2, "label": "new", "score": 0.25}]}),
        ("labels.json", {"database": {"c": {"subset": "x", "annotations": [{"segment": [1, 2], "label": "new"}]}}}),
    ],
)
def test_detections_events_and_labels_come_in_as_drafts(labelled, name, document):
    answer = labelled.post("/api/import", json={"name": name, "text": json.dumps(document), "as": "drafts"})
    assert answer.json()["videos"] == 1, answer.text
    entry = labelled.get("/api/videos/c/entry").json()
    draft = entry["drafts"][0]
    assert (draft["start"], draft["end"], draft["label"], entry["segments"]) == (1, 2, "new", [])
    assert (draft["score"], draft["source"]) == (1.0 if name == "labels.json" else 0.25, f"import:{name}")
    assert entry["state"] == "draft"


def test_drafts_that_are_actions_already_are_left_out_and_counted(labelled):
    entry = labelled.get("/api/videos/a/entry").json()
    rows = [{"segment": [one["start"], one["end"]], "label": one["label"], "score": 0.5} for one in entry["segments"]]
    rows.append(
        {"segment": [rows[0]["segment"][0], rows[0]["segment"][1] + 0.1], "label": rows[0]["label"], "score": 0.5}
    )
    answer = labelled.post(
        "/api/import", json={"name": "d.json", "text": json.dumps({"results": {"a": rows}}), "as": "drafts"}
    ).json()
    assert answer["segments"] == 1
    assert f"Left out, for they are actions already: {len(rows) - 1} drafts." in answer["notes"]
    assert len(labelled.get("/api/videos/a/entry").json()["drafts"]) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "x.json", "text": "{}", "format": "activitynets"}, "Did you mean 'activitynet'"),
        ({"name": "x.json", "text": "{}"}, "x.json"),
        ({"name": "x.json"}, "as text or as base64"),
        ({"name": "x.json", "text": "{}", "base64": "e30="}, "as text or as base64"),
        ({"name": "", "text": "{}"}, "name of the file"),
        ({"name": "..", "text": "{}"}, "name of the file"),
        ({"name": "x" * 200, "text": "{}"}, "name of the file"),
        ({"name": "x.zip", "text": "no zip"}, "no zip file"),
        ({"name": "x.json", "text": "{}", "as": "truth"}, "labels, drafts"),
        ({"name": "x.csv", "text": "video,start,end,label\nq,1,2,x\n"}, "no video file for 'q'"),
        (
            {"name": "x.json", "text": '{"database": {"q": {"duration": 9, "subset": "x"}}}'},
            "None of the videos of the file is here",
        ),
        ({"name": "x.json", "text": '{"results": 3}', "as": "drafts"}, "results"),
    ],
)
def test_what_cannot_come_in_is_refused_in_words(labelled, body, said):
    answer = labelled.post("/api/import", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert "lofi-studio-" not in answer.json()["error"]  # the folder in which the file lay for a moment


def test_a_zip_file_cannot_write_elsewhere_or_unpack_to_gigabytes(labelled, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../../outside.csv", "video,start,end,label\nc,1,2,new\n")
    assert upload(labelled, "x.zip", packed.getvalue()).json()["segments"] == 1
    assert not list(tmp_path.rglob("outside.csv"))
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.csv", bytes(65 * 2**20))
    answer = upload(labelled, "x.zip", bomb.getvalue())
    assert (answer.status_code, "unpack it first" in answer.text) == (400, True)


def test_export_says_what_is_missing(folder):
    client = client_of(desk_of(folder, {"gone": {"subset": "training", "annotations": []}}))
    assert client.get("/api/export/csv").status_code == 200
    assert "'gone'" in client.get("/api/export/cvat").json()["error"]
    assert client.get("/api/export/cvta").status_code == 404
    empty = client_of(desk_of(folder_of(folder.parent / "empty")))
    assert "nothing to export" in empty.get("/api/export/csv").json()["error"]


def test_a_label_that_a_spreadsheet_would_run_is_guarded_on_the_way_out(labelled):
    put(labelled, "c", action("1", 1, 2, "=cmd|' /C calc'!A0"))
    table = list(csv.DictReader(io.StringIO(labelled.get("/api/export/csv").text)))
    assert not any(row["label"].startswith("=") for row in table)
