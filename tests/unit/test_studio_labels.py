"""Labels in the studio: kept at once, undone without limit, and never written over what somebody else has changed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from dataclasses import replace
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from lofi_tal.annotations import load_annotations
from lofi_tal.cli.app import app
from lofi_tal.errors import DataError, LofiError
from lofi_tal.studio.contents import Content
from lofi_tal.studio.desk import Desk
from lofi_tal.studio.journal import Journal
from lofi_tal.studio.listing import list_videos
from lofi_tal.studio.place import Place, list_states, restore
from tests.studio import PORT, action, client_of, desk_of, folder_of, on_disk, put


@pytest.fixture
def folder(tmp_path):
    return folder_of(tmp_path / "videos")


def rows(entry):
    return [(one["start"], one["end"], one["label"]) for one in entry["segments"]]


def test_a_change_is_in_the_entry_the_list_and_the_labels_file(folder):
    desk = desk_of(folder)
    client = client_of(desk)
    answer = put(client, "a", action("1", 1, 2), action("2", 0.5, 3, "run"), state="checked", subset="validation")
    assert answer.status_code == 200
    assert rows(answer.json()) == [(0.5, 3, "run"), (1, 2, "jump")]
    listed = {one["id"]: one for one in client.get("/api/videos").json()["videos"]}
    assert (listed["a"]["actions"], listed["a"]["state"], listed["a"]["subset"]) == (2, "checked", "validation")
    assert listed["b"]["state"] == "new"
    assert list(on_disk(desk)) == ["a"]  # a video that nobody has labelled is no background
    read = load_annotations(desk.labels)
    assert read.videos["a"].segments.label == ("run", "jump")
    assert read.videos["a"].subset == "validation"
    classes = client.get("/api/state").json()["classes"]
    assert [(one["name"], one["key"], one["uses"]) for one in classes] == [("run", "1", 1), ("jump", "2", 1)]


def test_undo_and_redo_have_no_limit_and_outlive_a_start(folder):
    client = client_of(desk_of(folder))
    for number in range(30):
        put(client, "a", *(action(str(i), i / 10, i / 10 + 1) for i in range(number + 1)))
    for _ in range(10):
        entry = client.get("/api/videos/a/entry").json()
        client.post("/api/videos/a/undo", json={"revision": entry["revision"]})
    again = client_of(desk_of(folder))
    entry = again.get("/api/videos/a/entry").json()
    assert len(entry["segments"]) == 20
    for left in range(19, -1, -1):
        entry = again.post("/api/videos/a/undo", json={"revision": entry["revision"]}).json()
        assert len(entry["segments"]) == left
    assert not entry["can_undo"]
    same = again.post("/api/videos/a/undo", json={"revision": entry["revision"]}).json()
    assert same == {**entry, "changed": 0}
    for there in range(1, 31):
        entry = again.post("/api/videos/a/redo", json={"revision": entry["revision"]}).json()
        assert len(entry["segments"]) == there
    assert not entry["can_redo"]


def test_a_change_of_many_videos_is_undone_in_all_that_have_not_changed_since(folder):
    desk = desk_of(folder)
    client = client_of(desk)
    for name in ("a", "b", "c"):
        put(client, name, action("1", 1, 2, "jump"))

    def now():
        classes = [one["name"] for one in client_of(desk_of(folder)).get("/api/state").json()["classes"]]
        return [desk.entry(name)["segments"][0]["label"] for name in ("a", "b", "c")], classes

    def step(name, way):
        revision = client.get(f"/api/videos/{name}/entry").json()["revision"]
        return client.post(f"/api/videos/{name}/{way}", json={"revision": revision}).json()["changed"]

    client.post("/api/classes", json={"rename": ["jump", "hop"]})
    assert now() == (["hop", "hop", "hop"], ["hop"])
    assert step("b", "undo") == 3
    assert now() == (["jump", "jump", "jump"], ["jump"])
    assert step("a", "redo") == 3
    assert now() == (["hop", "hop", "hop"], ["hop"])
    put(client, "c", action("1", 1, 3, "hop"))
    assert step("a", "undo") == 2
    assert now() == (["jump", "jump", "hop"], ["jump", "hop"])  # what has changed since stays, and so does its class
    found = {name: [{"segment": [0, 1], "label": "jump", "score": 0.5}] for name in ("a", "b")}
    assert client.post(
        "/api/import", json={"name": "d.json", "text": json.dumps({"results": found}), "as": "drafts"}
    ).is_success
    assert step("a", "undo") == 1  # drafts come to each video by themselves
    assert len(desk.entry("b")["drafts"]) == 1


def test_a_new_change_after_an_undo_takes_the_place_of_what_was_undone(folder):
    client = client_of(desk_of(folder))
    put(client, "a", action("1", 1, 2))
    entry = put(client, "a", action("1", 1, 3)).json()
    entry = client.post("/api/videos/a/undo", json={"revision": entry["revision"]}).json()
    entry = put(client, "a", action("1", 1, 2.5)).json()
    assert not entry["can_redo"]
    entry = client_of(desk_of(folder)).post("/api/videos/a/undo", json={"revision": entry["revision"]}).json()
    assert rows(entry) == [(1, 2, "jump")]


def test_what_the_studio_does_not_know_is_kept(folder):
    known = {"segment": ["1.0", 2], "label": "jump", "annotator": "Ann", "tags": [1, {"x": None}]}
    record = {"subset": "testing", "url": "http://x", "annotations": [known, {"segment": [3, 4], "label": "run"}]}
    path = folder / "labels.json"
    other = {"subset": "training", "annotations": [], "resolution": "64x48"}
    path.write_text(json.dumps({"taxonomy": ["t"], "database": {"z": other, "a": record}, "note": {"by": "us"}}))
    desk = desk_of(folder)
    client = client_of(desk)
    entry = client.get("/api/videos/a/entry").json()
    first, second = entry["segments"]
    put(client, "a", {**first, "end": 2.5}, second, action("new", 0, 1, "sit"))
    desk.flush()
    document = json.loads(path.read_text())
    assert (document["taxonomy"], document["note"]) == (["t"], {"by": "us"})
    assert document["database"]["z"] == other
    assert document["database"]["a"]["url"] == "http://x"
    assert document["database"]["a"]["annotations"] == [
        {"segment": [0.0, 1.0], "label": "sit"},
        {"segment": [1.0, 2.5], "label": "jump", "annotator": "Ann", "tags": [1, {"x": None}]},
        {"segment": [3.0, 4.0], "label": "run"},
    ]


def test_a_second_window_learns_of_a_change_and_cannot_undo_it_unseen(folder):
    desk = desk_of(folder)
    heard = []
    desk.bell.tell = heard.append
    one, two = client_of(desk), client_of(desk)
    seen = two.get("/api/videos/a/entry").json()
    changed = put(one, "a", action("1", 1, 2)).json()
    assert heard == [{"kind": "video", "id": "a", "revision": changed["revision"]}]
    late = two.put("/api/videos/a/entry", json={"revision": seen["revision"], "segments": []})
    assert late.status_code == 409
    assert late.json()["entry"] == changed
    assert two.post("/api/videos/a/undo", json={"revision": seen["revision"]}).status_code == 409


def test_what_an_editor_changes_is_taken_and_ours_can_be_brought_back(folder):
    desk = desk_of(folder)
    client, heard = client_of(desk), []
    put(client, "a", action("1", 1, 2))
    put(client, "b", action("1", 1, 2))
    document = {"version": "1", "database": on_disk(desk)}
    document["database"]["a"]["annotations"] = [{"segment": [2, 3], "label": "sit"}]
    ours = put(client, "a", action("1", 1, 2), action("2", 3, 4)).json()
    put(client, "b", action("1", 1, 3))
    desk.bell.tell = heard.append
    desk.labels.write_text(json.dumps(document))
    desk.flush()
    assert json.loads(desk.labels.read_text()) == document  # not yet read, so not replaced
    desk.look_outside()
    assert {"kind": "labels"} in heard
    entry = client.get("/api/videos/a/entry").json()
    assert rows(entry) == [(2, 3, "sit")]
    assert entry["revision"] > ours["revision"]
    assert [one["segment"] for one in on_disk(desk)["b"]["annotations"]] == [[1, 3]]  # ours, of another video
    entry = client.post("/api/videos/a/undo", json={"revision": entry["revision"]}).json()
    assert rows(entry) == rows(ours)
    assert [one["segment"] for one in on_disk(desk)["a"]["annotations"]] == [[1, 2], [3, 4]]


def test_a_change_by_an_editor_while_the_studio_was_not_running_is_taken_too(folder):
    desk = desk_of(folder)
    put(client_of(desk), "a", action("1", 1, 2))
    put(client_of(desk), "b", action("1", 1, 2))
    document = {"database": on_disk(desk)}
    document["database"]["a"]["annotations"][0]["label"] = "sit"
    del document["database"]["b"]
    desk.labels.write_text(json.dumps(document))
    client = client_of(desk_of(folder))
    entry, gone = (client.get(f"/api/videos/{name}/entry").json() for name in "ab")
    assert (rows(entry), rows(gone)) == ([(1, 2, "sit")], [])
    entry = client.post("/api/videos/a/undo", json={"revision": entry["revision"]}).json()
    assert rows(entry) == [(1, 2, "jump")]


def test_a_file_that_cannot_be_read_is_left_alone_until_it_can(folder):
    desk = desk_of(folder)
    client = client_of(desk)
    put(client, "a", action("1", 1, 2))
    whole = {"database": on_disk(desk)}
    desk.labels.write_text('{"database": {')
    desk.look_outside()
    put(client, "b", action("1", 2, 3))
    desk.flush()
    assert desk.labels.read_text() == '{"database": {'
    assert "not JSON" in client.get("/api/state").json()["problem"]
    desk.labels.write_text(json.dumps(whole))
    desk.look_outside()
    assert list(on_disk(desk)) == ["a", "b"]
    assert client.get("/api/state").json()["problem"] is None


def test_what_the_journal_has_and_the_file_does_not_is_written_after_a_crash(folder):
    desk = desk_of(folder)
    client = client_of(desk)
    put(client, "a", action("1", 1, 2))
    desk.flush()
    put(client, "a", action("1", 1, 2), action("2", 2, 3))
    put(client, "b", action("1", 0, 1))
    journal = desk.work / "journal"
    with journal.open("ab") as file:
        file.write(b'0123456789abcdef {"n": 4, "kind": "cha')  # the key press that was lost
    again = desk_of(folder)  # the first one never wrote these
    assert {name: len(one["annotations"]) for name, one in on_disk(again).items()} == {"a": 2, "b": 1}
    put(client_of(again), "b")
    assert len(Journal(journal).read()) > 3


def test_a_damaged_journal_is_refused_rather_than_followed(folder):
    desk = desk_of(folder)
    for end in (2, 3, 4):
        put(client_of(desk), "a", action("1", 1, end))
    path = desk.work / "journal"
    path.write_text(path.read_text().replace('"n": 2', '"n": 7'))
    with pytest.raises(DataError, match="changes 2 to 2 are damaged"):
        desk_of(folder)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"segments": [action("1", 2, 2)]}, "does not end after its start"),
        ({"segments": [action("1", -1, 2)]}, "outside the video"),
        ({"segments": [action("1", 1, 4.5)]}, r"outside the video, which has [0, 4] s"),
        ({"segments": [action("1", 1, 10**400)]}, "finite"),
        ({"segments": [action("1", True, 2)]}, "finite"),
        ({"segments": [action("1", 1, 2, "")]}, "expected a name"),
        ({"segments": [action("1", 1, 2, "x" * 201)]}, "at most 200"),
        ({"segments": [action("1", 1, 2, None)]}, "expected a name"),
        ({"segments": [action("1", 1, 2), action("1", 2, 3)]}, "twice"),
        ({"segments": {"1": 2}}, "expected a list"),
        ({"segments": [3]}, "expected an object"),
        ({"segments": [{"start": 1, "end": 2, "label": "x"}]}, "id"),
        ({"state": "done"}, "new, draft, checked"),
        ({"state": ["new"]}, "new, draft, checked"),
        ({"subset": 4}, "subset"),
        ({"drafts": [{**action("1", 1, 2), "score": "high"}]}, "score"),
        ({"did": ""}, "did"),
    ],
)
def test_what_cannot_be_is_refused_in_words(folder, body, said):
    desk = desk_of(folder)
    desk.shelf.examine_now(["a"])
    answer = client_of(desk).put(
        "/api/videos/a/entry", content=json.dumps({"revision": 0, **body}).encode(), headers={}
    )
    assert answer.status_code == 400
    assert said in answer.json()["error"]
    assert desk.entry("a")["revision"] == 0


def test_odd_actions_of_a_file_can_stay_as_they_are(folder):
    odd = [{"segment": [3, 9], "label": "two  blanks"}, {"segment": [4, 3.5], "label": "back"}]
    odd.append({"segment": [1, 2], "label": "jump"})
    desk = desk_of(folder, {"a": {"subset": "training", "annotations": odd}})
    desk.shelf.examine_now(["a"])
    client = client_of(desk)
    entry = client.get("/api/videos/a/entry").json()
    answer = put(client, "a", {**entry["segments"][0], "end": 2.5}, *entry["segments"][1:])
    assert rows(answer.json()) == [(1, 2.5, "jump"), (3, 9, "two  blanks"), (4, 3.5, "back")]


def test_classes_are_added_renamed_merged_and_deleted(folder):
    desk = desk_of(folder)
    client = client_of(desk)
    put(client, "a", action("1", 1, 2, "jump"))
    put(client, "b", action("1", 1, 2, "run"))

    def ask(**body):
        return client.post("/api/classes", json=body)

    names = [one["name"] for one in ask(name="sit").json()["classes"]]
    assert names == ["jump", "run", "sit"]
    assert ask(name="sit").status_code == 400
    assert ask(delete="run").status_code == 400
    assert "Did you mean 'run'" in ask(delete="runn").json()["error"]
    assert ask(rename=["jump", "run"]).status_code == 400
    ask(rename=["jump", "hop"])
    assert on_disk(desk)["a"]["annotations"][0]["label"] == "hop"
    ask(rename=["hop", "run"], merge=True)
    ask(key=["sit", "1"])
    classes = client_of(desk_of(folder)).get("/api/state").json()["classes"]
    assert [(one["name"], one["key"], one["uses"]) for one in classes] == [("run", "2", 2), ("sit", "1", 0)]
    assert [one["name"] for one in ask(delete="sit").json()["classes"]] == ["run"]


def test_split_follows_the_rule_of_the_command_and_leaves_tests_alone(tmp_path):
    folder = folder_of(tmp_path / "videos", [f"v{i}" for i in range(11)])
    desk = desk_of(folder)
    client = client_of(desk)
    for i in range(11):
        put(client, f"v{i}", action("1", 1, 2, "jump" if i % 2 else "run"), subset="testing" if i == 10 else "training")
    shown = client.post("/api/split", json={"train": 0.8, "seed": 1, "preview": True}).json()
    assert (shown["changed"], shown["kept"]) == (2, 0)
    assert shown["subsets"] == {"training": 8, "validation": 2, "testing": 1}
    assert " data split " in shown["command"]
    assert shown["command"].endswith("labels.json --shares training=0.8,validation=0.2 --seed 1")
    assert {one["subset"] for one in on_disk(desk).values()} == {"training", "testing"}
    assert client.post("/api/split", json={"train": 0.8, "seed": 1}).json() == shown
    subsets = [one["subset"] for one in on_disk(desk).values()]
    assert {name: subsets.count(name) for name in set(subsets)} == {"training": 8, "validation": 2, "testing": 1}
    assert client.post("/api/split", json={"train": 2}).status_code == 400
    assert client.post("/api/split", json={"revision": None}).status_code == 409


def test_a_split_keeps_the_videos_of_earlier_runs_and_the_command_does_the_same(tmp_path):
    folder = folder_of(tmp_path / "videos", [f"v{i:02}" for i in range(20)])
    desk = desk_of(folder)
    client = client_of(desk)
    for i in range(10):
        put(client, f"v{i:02}", action("1", 1, 2, "jump" if i % 2 else "run"))
    client.post("/api/split", json={"train": 0.8, "seed": 0})
    before = {name: one["subset"] for name, one in on_disk(desk).items()}
    run = desk.labels.parent / "runs" / "first"
    run.mkdir(parents=True)
    for name in ("recipe.yaml", "environment.json"):
        (run / name).write_text("{}")
    shutil.copy(desk.labels, run / "labels.json")
    for i in range(10, 20):
        put(client, f"v{i}", action("1", 1, 2, "jump" if i % 2 else "run"))
    desk.flush()
    copied = shutil.copy(desk.labels, tmp_path / "copy.json")

    answer = client.post("/api/split", json={"train": 0.8, "seed": 1}).json()
    assert (answer["changed"], answer["kept"]) == (2, 10)
    now = {name: one["subset"] for name, one in on_disk(desk).items()}
    assert {name: now[name] for name in before} == before
    assert list(now.values()).count("validation") == 4
    words = shlex.split(answer["command"].replace(str(desk.labels), str(copied)))
    assert CliRunner().invoke(app, words[1:]).exit_code == 0
    assert {video.video_id: video.subset for video in load_annotations(copied)} == now

    client.post("/api/split", json={"train": 0.8, "seed": 1, "keep": False})
    again = {name: one["subset"] for name, one in on_disk(desk).items()}
    assert {name: again[name] for name in before} != before


def test_drafts_replace_those_of_their_kind_and_stay_out_of_the_labels_file(folder):
    desk = desk_of(folder)
    client = client_of(desk)
    put(client, "b", action("1", 1, 2), state="checked")

    def draft(name, source):
        return {**action(name, 1, 2), "score": 0.5, "source": source}

    desk.put_drafts({"a": [draft("m1", "model:x"), draft("m2", "model:x")], "b": [draft("m1", "model:x")]}, "model")
    desk.put_drafts({"a": [draft("i1", "import:y")], "nowhere": [draft("i1", "import:y")]}, "import")
    desk.put_drafts({"a": [draft("m1", "model:z")]}, "model")
    entry = client.get("/api/videos/a/entry").json()
    assert [(one["id"], one["source"]) for one in entry["drafts"]] == [("i1", "import:y"), ("m1", "model:z")]
    assert (entry["state"], desk.entry("b")["state"]) == ("draft", "checked")
    assert list(on_disk(desk)) == ["b"]
    again = desk_of(folder)
    assert again.entry("a")["drafts"] == entry["drafts"]


def test_a_video_whose_last_action_goes_leaves_the_file_if_it_was_not_in_it(folder):
    desk = desk_of(folder, {"b": {"subset": "training", "annotations": []}})
    client = client_of(desk)
    for name in "ab":
        put(client, name, action("1", 1, 2))
    assert list(on_disk(desk)) == ["b", "a"]
    for name in "ab":
        put(client, name)
    assert list(on_disk(desk)) == ["b"]
    put(client, "a", state="checked")  # looked through: background
    assert on_disk(desk)["a"]["annotations"] == []


def test_a_second_studio_on_the_same_labels_says_who_has_them(folder, tmp_path):
    place = Place(folder, folder / "labels.json")
    said = r"Another lofi studio has .*labels.json open\. It is held by process"
    with place.held(), pytest.raises(LofiError, match=said), place.held():
        pass


def test_any_state_can_be_brought_back_and_that_can_be_undone(folder):
    client = client_of(desk_of(folder))
    put(client, "a", action("1", 1, 2), did="Mark")
    put(client, "a", action("1", 1, 3), did="Drag")
    put(client, "b", action("1", 1, 2), state="checked", did="Mark")
    put(client, "a", did="Delete")
    place = Place(folder, folder / "labels.json")
    assert [(one.number, one.did, one.videos) for one in list_states(place)] == [
        (1, "Mark", ("a",)), (2, "Drag", ("a",)), (3, "Mark", ("b",)), (4, "Delete", ("a",)),
    ]  # fmt: skip
    assert restore(place, 2) == 2
    assert list(load_annotations(place.labels).videos) == ["a"]
    desk = desk_of(folder)
    assert (rows(desk.entry("a")), rows(desk.entry("b"))) == ([(1, 3, "jump")], [])
    back = desk.undo("b", desk.entry("b")["revision"])
    assert (rows(back), back["changed"], rows(desk.entry("a"))) == ([(1, 2, "jump")], 2, [])  # in both
    assert restore(place, 0) == 1
    assert json.loads(place.labels.read_text())["database"] == {}
    with pytest.raises(LofiError, match="there are states 0 to 7"):
        restore(place, 8)
    shown = CliRunner().invoke(app, ["studio", str(folder), "--history"])
    assert shown.exit_code == 0
    assert "Restore state 2" in shown.output


def test_the_list_has_videos_without_labels_and_labels_without_videos(folder):
    (folder / "broken.mp4").write_bytes(b"no video")
    desk = desk_of(folder, {"gone": {"subset": "training", "annotations": []}})
    desk.shelf.examine_now(["a", "broken"])
    videos = {one["id"]: one for one in client_of(desk).get("/api/videos").json()["videos"]}
    assert list(videos) == ["gone", "a", "b", "broken", "c"]
    assert (videos["a"]["duration"], videos["a"]["fps"], videos["a"]["width"]) == (4.0, 10.0, 64)
    assert videos["b"]["duration"] is None
    assert "no video file" in videos["gone"]["problem"]
    assert "broken.mp4" in videos["broken"]["problem"]
    assert (videos["gone"]["playable"], videos["broken"]["playable"]) == (False, False)


def test_the_list_looks_at_no_file_and_its_work_grows_as_the_number_of_videos(folder, monkeypatch):
    desk = desk_of(folder)
    desk.shelf.examine_now(["a"])
    film, calls = desk.shelf.films["a"], []

    def work(count):
        names = [f"video {i}" for i in range(count)]
        desk.shelf.films = {name: replace(film, path=folder / f"{name}.mp4", name=f"{name}.mp4") for name in names}
        calls.clear()
        sys.setprofile(lambda frame, event, what: calls.append(event))
        try:
            listed = list_videos(desk)["videos"]
        finally:
            sys.setprofile(None)
        assert [one["id"] for one in listed] == names
        assert {one["duration"] for one in listed} == {4.0}
        return len(calls)

    looks = []
    with monkeypatch.context() as patched:
        for name in ("stat", "lstat", "open", "scandir"):
            patched.setattr(os, name, lambda *args, **more: looks.append(args))
        few, many = work(200), work(2000)
    assert looks == []
    assert many < 11 * few
    assert many < 100 * 2000


def test_a_start_from_contents_of_thousands_of_videos_gives_the_same_file(folder):
    database = {
        f"video {i}": {"subset": "training", "annotations": [{"segment": [i, i + 1], "label": f"c{i % 7}"}]}
        for i in range(2000)
    }
    desk = desk_of(folder, database)
    desk.apply({"video 5": Content("checked", "validation")}, "Empty it")
    changed = on_disk(desk)
    assert changed == {**database, "video 5": {"subset": "validation", "annotations": []}}
    assert list(changed) == list(database)


@pytest.mark.parametrize("name", ["a/entry", "?x=1#y", "two\nlines", "../a", "%2", "\u202e", "é", "a b+c", "__proto__"])
def test_a_video_can_have_any_name(folder, name):
    desk = desk_of(folder, {name: {"subset": "training", "annotations": []}})
    address = f"http://127.0.0.1:{PORT}/api/videos/{quote(name, safe='')}/entry"
    client = client_of(desk)
    answer = client.put(address, json={"revision": 0, "segments": [action("1", 1, 2)]})
    assert answer.json()["id"] == name
    assert client.get(address).json() == answer.json()
    assert list(on_disk(desk)) == [name]


def test_hostile_names_go_through_unchanged(folder):
    name = "<img src=x onerror=alert(1)>\u202e\ud800"
    path = folder / "labels.json"
    path.write_text(json.dumps({"database": {"a": {"subset": "training", "url": name, "annotations": []}}}))
    desk: Desk = desk_of(folder)
    answer = put(client_of(desk), "a", action("1", 1, 2, "<script>\u202e"))
    assert answer.json()["segments"][0]["label"] == "<script>\u202e"
    assert on_disk(desk)["a"]["url"] == name
