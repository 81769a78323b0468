"""The model side of the studio over HTTP: what may be started, what becomes of it, and what is refused.

The commands are those of the project, but a script stands for ``lofi``: it writes what `lofi detect` would.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path

import pytest

pytest.importorskip("starlette")

from starlette.testclient import TestClient

from lofi_tal.artefacts import sealed
from lofi_tal.evaluation.sureness import MEASURES
from lofi_tal.files import read_json, write_json, write_text
from lofi_tal.segments import Segments, detections_to_activitynet
from lofi_tal.studio.application import create_app
from lofi_tal.studio.desk import Desk
from lofi_tal.studio.jobs import Jobs
from lofi_tal.studio.models import ModelSide
from lofi_tal.studio.server import _say_goodbye
from tests.waiting import until

LOFI = """
import json, sys
from pathlib import Path
command, *rest = sys.argv[1:]
if command == "detect":
    out = Path(rest[rest.index("--out") + 1])
    for number, video in enumerate(rest[: rest.index("--model")]):
        rows = [{"label": "run", "score": s, "segment": [i, i + 1]} for i, s in enumerate([0.9 - number / 5, 0.2, 0.1])]
        name = Path(video).stem
        (out / f"{name}.json").write_text(json.dumps({"results": {name: rows}}))
"""
PROGRAM = (sys.executable, "-S", "-c", LOFI)


def make_run(path: Path, detections: list[Segments] = (), *, score: float = 0.5, seed: int = 0) -> Path:
    """Write what a finished run leaves, as far as the studio reads it."""
    write_text(
        path / "recipe.yaml", f"seed: {seed}\nlofi: {{epochs: 3, lr: 0.1}}\ndata: {{annotations: /there.json}}\n"
    )
    write_json(path / "environment.json", sealed({}))
    arm = path / "arms" / "lofi"
    scores = {"fused": {"average_mAP": score}, "oracle": {"average_mAP": 2 * score}}
    stage = {"result": {"scores": scores}, "seconds": 12.5, "peak_memory_bytes": 1000}
    write_json(arm / "evaluation" / "stage.json", sealed(stage))
    write_json(arm / "model" / "localizer.json", sealed({"threshold": 0.25}))
    write_json(arm / "detections.json", detections_to_activitynet(detections))
    return path


@pytest.fixture
def folder(tmp_path):
    """Four videos, of which one has labels and is checked."""
    for name in ("a", "b", "c", "d"):
        (tmp_path / "videos").mkdir(exist_ok=True)
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(b"none")
    rows = [{"segment": [0, 2], "label": "run"}, {"segment": [5, 9], "label": "jump"}]
    entry = {"duration": 20.0, "subset": "validation", "annotations": rows}
    training = {"duration": 20.0, "subset": "training", "annotations": rows}
    database = {"database": {"d": entry, "t": training}}
    write_json(tmp_path / "videos" / "labels.json", database)
    return tmp_path / "videos"


@pytest.fixture
def open_studio(folder):
    """Return how to start the application, as often as the test wants."""
    started = []

    def start(program=PROGRAM, **desk):
        place = Desk(folder, folder / "labels.json", **desk)
        guard = create_app(place, token="t", host="127.0.0.1", port=8000)
        guard.app.state.models = ModelSide(place, Jobs(place.work / "jobs", program))
        headers = {"Authorization": "token t", "X-Lofi-Studio": "1", "Content-Type": "application/json"}
        client = TestClient(guard, base_url="http://127.0.0.1:8000", headers=headers).__enter__()
        started.append(client)
        return client

    yield start
    for client in started:
        client.__exit__(None, None, None)


def post(client, path, **body):
    return client.post(path, content=json.dumps(body))


def wait_for(client, name):
    def job():
        return client.get(f"/api/jobs/{name}").json()

    until(lambda: job()["state"] != "running")
    return job()


def wait_for_text(client, name, text):
    def said():
        return client.get(f"/api/jobs/{name}").json()["text"]

    until(lambda: said() == text, told=said)


def drafts_in(client, video_id, count):
    def found():
        return client.get(f"/api/videos/{video_id}/entry").json()["drafts"]

    until(lambda: len(found()) == count, told=found)
    return found()


def test_a_model_drafts_and_says_what_to_look_at_next(folder, open_studio):
    model = make_run(folder / "runs" / "first")
    client = open_studio()
    assert client.get("/api/models").json() == ["runs/first"]
    shown = post(client, "/api/drafts", videos="new", preview=True).json()["command"]
    assert client.get("/api/jobs").json() == []
    assert {one["value"] for one in client.get("/api/order").json()["videos"]} == {None}
    job = post(client, "/api/drafts", videos="new").json()
    assert (job["kind"], job["command"]) == ("detect", shown)
    words = shlex.split(job["command"])
    files = [str(folder / f"{name}.mp4") for name in ("a", "b", "c")]
    assert words[:6] == ["lofi", "detect", *files, "--model"]
    assert words[6] == str(model)
    assert wait_for(client, job["id"])["state"] == "done"
    (draft,) = drafts_in(client, "a", 1)
    assert draft["source"] == "model:runs/first", "the model shows what scores 0.25"
    assert (draft["start"], draft["end"], draft["label"], draft["score"]) == (0, 1, "run", 0.9)
    drafts_in(client, "c", 1)
    wait_for_text(client, job["id"], "done: 3 drafts in 3 videos")
    unsure = post(client, "/api/drafts", videos=["a"], threshold=0.99).json()["id"]
    wait_for_text(client, unsure, "done: no draft in 1 video, for the model is not sure enough; lower the lowest score")
    post(client, "/api/drafts", videos=["a"])
    drafts_in(client, "a", 1)
    order = client.get("/api/order?by=confidence").json()
    assert [one["id"] for one in order["videos"]] == ["c", "b", "a"], "d and t are checked"
    assert order["videos"][0]["value"] == pytest.approx(0.5)
    assert [one["name"] for one in order["measures"]] == list(MEASURES)


def test_drafts_come_in_after_a_restart_once_and_checked_videos_get_none(folder, open_studio):
    make_run(folder / "runs" / "first")
    client = open_studio(model=folder / "runs" / "first")
    client.app.app.state.models.close()  # nobody follows the job
    job = post(client, "/api/drafts", videos=["a", "d"], threshold=0.15).json()
    assert wait_for(client, job["id"])["state"] == "done"
    assert client.get("/api/videos/a/entry").json()["drafts"] == []
    again = open_studio()
    assert [one["score"] for one in drafts_in(again, "a", 2)] == [0.9, 0.2], "all spans from the threshold on"
    assert again.get("/api/videos/d/entry").json()["drafts"] == []
    entry = again.get("/api/videos/a/entry").json()
    body = {"revision": entry["revision"], "state": "draft", "drafts": [], "did": "Reject"}
    assert again.put("/api/videos/a/entry", content=json.dumps(body)).status_code == 200
    third = open_studio()
    third.app.app.state.models.follower.look()
    assert third.get("/api/videos/a/entry").json()["drafts"] == [], "what was rejected does not come back"


def test_a_model_of_a_run_that_is_at_work_comes_after_those_of_finished_runs(folder, open_studio):
    for when, name in enumerate(("first", "second", "third")):
        os.utime(make_run(folder / "runs" / name) / "recipe.yaml", (when, when))
    (folder / "runs" / "third" / "arms" / "features").mkdir()  # begun
    given = open_studio(model=folder / "runs" / "third")
    assert open_studio().get("/api/models").json() == ["runs/second", "runs/first", "runs/third"]
    assert given.get("/api/models").json()[0] == str(folder / "runs" / "third")


def test_training_is_checked_first_and_runs_check_init_and_run(folder, open_studio):
    client = open_studio()
    answer = post(client, "/api/jobs", kind="train", output="second", options={"settings": {"lofi.epochs": 2}})
    job = answer.json()
    check, init, run = (shlex.split(part) for part in job["command"].split(" && "))
    names = (".labels.json.studio/trained/second/labels.json", "runs/second.yaml", "runs/second")
    labels, recipe, output = (str(folder / name) for name in names)
    assert read_json(Path(labels)) == read_json(folder / "labels.json")  # those of its start: later ones do not count
    assert check[:6] == ["lofi", "data", "check", labels, "--videos", str(folder)]
    assert init == ["lofi", "init", "--annotations", labels, "--videos", str(folder), "-o", recipe, "--overwrite"]
    assert run == ["lofi", "run", recipe, "-o", output, "--device", "auto", "--set", "lofi.epochs=2"]
    assert job["output"] == "runs/second"
    assert wait_for(client, job["id"])["state"] == "done"
    text = client.get(f"/api/jobs/{job['id']}/log").json()
    assert [line[:7] for line in text["text"].splitlines()] == ["$ lofi "] * 3
    assert client.get(f"/api/jobs/{job['id']}/log?from={text['next']}").json() == {"text": "", "next": text["next"]}


def test_labels_that_cannot_be_trained_on_are_refused_with_what_the_check_says(folder, open_studio):
    write_json(folder / "labels.json", {"database": {"a": {"subset": "training", "annotations": []}}})
    answer = post(open_studio(), "/api/jobs", kind="train", output="x")
    assert answer.status_code == 400
    assert "Nothing can be trained yet" in answer.json()["error"]
    assert "validation" in answer.json()["error"]


def test_a_recipe_of_a_run_is_given_the_labels_and_videos_at_hand(folder, open_studio):
    make_run(folder / "runs" / "first")
    client = open_studio()
    body = {"output": "again", "recipe": "runs/first", "options": {"unchecked": True}, "preview": True}
    words = shlex.split(post(client, "/api/jobs", kind="train", **body).json()["command"])
    assert words[:3] == ["lofi", "run", str(folder / "runs/first/recipe.yaml")]
    assert f'data.annotations="{folder / "labels.json"}"' in words
    resumed = {"output": "first", "options": {"resume": True, "unchecked": True}, "preview": True}
    words = shlex.split(post(client, "/api/jobs", kind="train", **resumed).json()["command"])
    assert words[2:] == [str(folder / "runs/first/recipe.yaml"), "-o", str(folder / "runs/first"),
                         "--device", "auto", "--resume"]  # fmt: skip


def test_a_training_starts_from_a_finished_run_and_says_what_changed_since(folder, open_studio):
    run = make_run(folder / "runs" / "first")
    before = read_json(folder / "labels.json")
    before["database"]["d"]["annotations"].pop()
    write_json(run / "labels.json", before)
    client = open_studio()
    body = {"kind": "train", "output": "again", "options": {"from": "runs/first", "unchecked": True}}
    shown = post(client, "/api/jobs", **body, preview=True).json()
    words = shlex.split(shown["command"])
    assert words[:3] == ["lofi", "run", str(run / "recipe.yaml")], "its recipe, with the labels at hand"
    assert words[words.index("--from") + 1] == str(run)
    assert "Labels changed since runs/first: 1 of 2 videos differ: 1 added." in shown["notes"]
    job = post(client, "/api/jobs", **body).json()
    kept = folder / ".labels.json.studio" / "trained" / "again" / "labels.json"
    assert job["command"].replace(str(kept), str(folder / "labels.json")) == shown["command"]
    assert wait_for(client, job["id"])["state"] == "done"
    write_json(run / "labels.json", read_json(folder / "labels.json"))
    assert "The labels are those of runs/first." in post(client, "/api/jobs", **body, preview=True).json()["notes"]


def test_a_recipe_beside_the_labels_may_be_taken_but_no_link_out(folder, open_studio):
    write_text(folder / "own.yaml", "seed: 1\n")
    write_text(folder.parent / "outside.yaml", "seed: 1\n")
    (folder / "link.yaml").symlink_to(folder.parent / "outside.yaml")
    client = open_studio()
    body = {"kind": "train", "output": "x", "options": {"unchecked": True}, "preview": True}
    words = shlex.split(post(client, "/api/jobs", recipe="own.yaml", **body).json()["command"])
    assert words[:3] == ["lofi", "run", str(folder / "own.yaml")]
    refused = post(client, "/api/jobs", recipe="link.yaml", **body)
    assert refused.status_code == 400
    assert "allowed: own.yaml." in refused.json()["error"]


TRAIN = {"kind": "train", "output": "x"}


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("jobs", {"kind": "shell"}, 400, "kind"),
        ("jobs", TRAIN | {"output": "../x"}, 400, "output"),
        ("jobs", TRAIN | {"output": "/tmp/x"}, 400, "output"),
        ("jobs", TRAIN | {"output": "--overwrite"}, 400, "output"),
        ("jobs", TRAIN | {"output": "out"}, 400, "link that leads out"),
        ("jobs", TRAIN | {"output": "first"}, 400, "exists"),
        ("jobs", TRAIN | {"recipe": "/etc/passwd"}, 400, "recipe"),
        ("jobs", TRAIN | {"recipe": "../recipe.yaml"}, 400, "recipe"),
        ("jobs", TRAIN | {"options": {"settings": {"data.videos": "/etc"}}}, 400, "no number"),
        ("jobs", TRAIN | {"options": {"settings": {"lofi.epochs=1 --set x": 1}}}, 400, "no key"),
        ("jobs", TRAIN | {"options": {"device": "cpu; rm"}}, 400, "device"),
        ("jobs", TRAIN | {"options": {"budget": "--help"}}, 400, "budget"),
        ("jobs", TRAIN | {"options": {"from": "/etc"}}, 400, "no finished run; allowed: runs/first."),
        ("jobs", TRAIN | {"options": {"shell": True}}, 400, "unknown"),
        ("jobs", TRAIN | {"options": []}, 400, "expected an object"),
        ("jobs", TRAIN | {"options": {"resume": 1}}, 400, "neither true nor false"),
        ("jobs", TRAIN | {"options": {"resume": True}}, 400, "no run 'x' to resume"),
        ("drafts", {"model": "/tmp"}, 404, "model"),
        ("drafts", {"model": 5}, 404, "model"),
        ("drafts", {"videos": ["../a"]}, 400, "no video"),
        ("drafts", {"videos": []}, 400, "no video to detect in"),
        ("drafts", {"videos": "all"}, 400, "list of ids"),
        ("drafts", {"threshold": 2}, 400, "threshold"),
        ("drafts", {"threshold": True}, 400, "threshold"),
    ],
)
def test_what_a_request_may_not_ask_for(folder, open_studio, path, body, status, said):
    make_run(folder / "runs" / "first")
    (folder / "runs" / "out").symlink_to(folder.parent)
    write_text(folder.parent / "recipe.yaml", "seed: 1\n")
    client = open_studio()
    answer = post(client, f"/api/{path}", **body)
    assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
    assert client.get("/api/jobs").json() == []


def test_drafts_from_files_are_ordered_too(folder, open_studio):
    client = open_studio()
    scores = {"a": 0.9, "b": 0.6, "c": 0.8}
    rows = [Segments(name, [0], [1], ("run",), [score]) for name, score in scores.items()]
    text = json.dumps(detections_to_activitynet(rows))
    body = {"format": "auto", "name": "found.json", "text": text, "as": "drafts"}
    assert client.post("/api/import", content=json.dumps(body)).status_code == 200
    order = client.get("/api/order").json()["videos"]
    assert [(one["id"], round(one["value"], 6)) for one in order] == [("b", 0.4), ("c", 0.2), ("a", 0.1)]


def test_a_job_that_somebody_else_wrote_leads_to_nothing_outside(folder, open_studio):
    outside = folder.parent / "outside"
    write_json(outside / "a.json", detections_to_activitynet([Segments("a", [0], [1], ("secret",), [1])]))
    facts = {"model": "m", "threshold": None, "videos": {"a": "/x/a.mp4"}}
    shown = {"everything": True, "limit": None, "limits": {}, "one_label": True}
    client = open_studio()
    models = client.app.app.state.models
    for name, more in (
        ("1", {"found": "../../../outside", "shown": shown}),
        ("2", {"found": "1", "shown": 5}),
        ("3", {}),
    ):
        job = {"kind": "detect", "commands": [["detect"]], "facts": {**facts, **more}, "created": 1.0, "starter": {}}
        write_json(models.jobs.folder / name / "job.json", job)
        write_json(models.jobs.folder / name / "state.json", {"state": "done", "ended": 2.0})
    models.follower.look()
    assert len(client.get("/api/jobs").json()) == 3
    assert client.get("/api/videos/a/entry").json()["drafts"] == []


def test_of_too_many_videos_those_are_taken_that_a_command_can_name(folder, open_studio, monkeypatch):
    make_run(folder / "runs" / "first")
    monkeypatch.setattr("lofi_tal.studio.commands.MOST_ARGUMENTS", 2 * len(f"{folder}/a.mp4 "))
    client = open_studio()
    answer = post(client, "/api/drafts", videos="new", preview=True).json()
    assert (answer["command"].count(".mp4"), answer["notes"]) == (2, [
        "Left for the next time: 1 new video; a command cannot name more."
    ])  # fmt: skip
    refused = post(client, "/api/drafts", videos=["a", "b", "c"], preview=True)
    assert "choose 2, and more afterwards" in refused.json()["error"]


def test_one_detection_at_a_time_which_the_studio_names_when_it_ends(folder, open_studio):
    make_run(folder / "runs" / "first")
    client = open_studio((sys.executable, "-S", "-c", "import time; time.sleep(60)"))
    models = client.app.app.state.models
    job = post(client, "/api/drafts").json()
    assert post(client, "/api/drafts").status_code == 409
    assert [one.id for one in models.running()] == [job["id"]]
    said, warned = [], []
    _say_goodbye(client.app.app.state.desk, models, said.append, warned.append)
    assert said[0] == "Everything is saved."
    assert said[1].startswith(f"Still running: {job['command']}.")
    assert (len(said), warned) == (2, [])
    assert post(client, f"/api/jobs/{job['id']}/stop").status_code == 200
    assert wait_for(client, job["id"])["state"] == "stopped"


def test_a_found_action_with_another_class_is_doubled_as_in_the_report_and_all_but_missed_ones_have_scores(
    folder, open_studio
):
    rows = [(0, 2, "run", 0.9), (0.1, 2, "jump", 0.8), (7, 11, "jump", 0.7), (14, 15, "run", 0.6)]
    start, end, label, score = zip(*rows, strict=True)
    make_run(folder / "runs" / "first", [Segments("d", start, end, label, score)])
    found = open_studio().get("/api/runs/runs/first/mistakes").json()
    (video,) = found["videos"]
    (twice,) = video["doubled"]
    assert (twice["label"], twice["truth"]["label"]) == ("jump", "run")
    assert {kind: [one["score"] for one in video[kind]] for kind, count in found["counts"].items() if count} == {
        "doubled": [0.8], "misplaced": [0.7], "false": [0.6]
    }  # fmt: skip


def test_mistakes_of_a_run_are_those_by_the_labels_as_they_are_now(folder, open_studio):
    rows = [(0, 2, "run", 0.9), (0.1, 2, "run", 0.8), (5, 9, "run", 0.7), (14, 15, "run", 0.6), (16, 17, "run", 0.1)]
    start, end, label, score = zip(*rows, strict=True)
    make_run(folder / "runs" / "first", [Segments("d", start, end, label, score), Segments.empty("gone")])
    client = open_studio()
    found = client.get("/api/runs/runs/first/mistakes").json()
    assert found["unlabelled"] == ["gone"]
    assert found["counts"] == {"missed": 0, "doubled": 1, "mislabelled": 1, "misplaced": 0, "false": 1}
    (video,) = found["videos"]
    assert (video["id"], video["right"]) == ("d", 1)
    truth = {"start": 5, "end": 9, "label": "jump"}
    assert video["mislabelled"] == [{"start": 5, "end": 9, "label": "run", "score": 0.7, "truth": truth}]
    assert video["doubled"][0]["truth"] == {"start": 0, "end": 2, "label": "run"}
    entry = client.get("/api/videos/d/entry").json()
    rows = [(4.9, 12, "run"), (14, 17, "run"), (17, 19, "run")]
    segments = [{"id": str(i), "start": s, "end": e, "label": label} for i, (s, e, label) in enumerate(rows)]
    body = {"revision": entry["revision"], "state": "checked", "segments": segments, "did": "Correct"}
    assert client.put("/api/videos/d/entry", content=json.dumps(body)).status_code == 200
    (video,) = client.get("/api/runs/runs/first/mistakes").json()["videos"]
    assert [one["truth"]["start"] for one in video["misplaced"]] == [14]
    assert [(one["start"], one["score"], one["truth"]) for one in video["missed"]] == [(17, None, None)]
    assert [one["start"] for one in video["false"]] == [0, 0.1]


def test_runs_are_listed_and_compared(folder, open_studio):
    make_run(folder / "runs" / "first", score=0.25)
    make_run(folder / "runs" / "second", score=0.375, seed=7)
    write_text(folder / "runs" / "begun" / "recipe.yaml", "a: [" * 100)
    write_json(folder / "runs" / "begun" / "environment.json", {})
    client = open_studio()
    runs = {one["name"]: one for one in client.get("/api/runs").json()}
    assert (runs["runs/first"]["finished"], runs["runs/begun"]["finished"]) == (True, False)
    assert runs["runs/first"]["map"] == {"lofi": {"fused": 0.25, "oracle": 0.5}}
    assert runs["runs/first"]["settings"]["lofi.epochs"] == 3
    table = client.get("/api/compare?runs=runs/first,runs/second").json()
    assert {"name": "lofi, own class scores", "unit": "mAP", "values": [0.25, 0.375]} in table["rows"]
    assert {"name": "time", "unit": "s", "values": [12.5, 12.5]} in table["rows"]
    assert table["runs"] == ["runs/first", "runs/second"], "the oldest first"
    assert table["settings"] == [{"name": "seed", "values": [0, 7]}]
    assert client.get("/api/compare?runs=runs/first,nothing").status_code == 404
    assert client.get("/api/compare").status_code == 400
    assert client.get("/api/runs/runs/begun/mistakes").status_code == 400
    assert client.get("/api/runs/../../etc/mistakes").status_code == 404
    assert client.get("/api/jobs/..%2f..%2fx/log").status_code == 404
    assert client.get("/api/order?by=luck").status_code == 400
    write_text(folder / "runs" / "first" / "arms" / "lofi" / "detections.json", '{"results": {"d": 5}}')
    assert client.get("/api/runs/runs/first/mistakes").status_code == 400, "a damaged file is said, not a fault"


def test_the_full_comparison_is_a_job_whose_page_may_ask_for_nothing(folder, open_studio):
    first, second = (make_run(folder / "runs" / name) for name in ("first", "second"))
    program = """
import sys
from pathlib import Path
Path(sys.argv[sys.argv.index("--output") + 1]).write_text("<title>compared</title>")
"""
    client = open_studio((sys.executable, "-S", "-c", program))
    body = {"kind": "compare", "runs": ["runs/second", "runs/first"]}
    shown = post(client, "/api/jobs", **body, preview=True).json()["command"]
    job = post(client, "/api/jobs", **body).json()
    assert job["command"] == shown
    labels = str(folder / "labels.json")
    assert shlex.split(shown)[:6] == ["lofi", "compare", str(first), str(second), "--annotations", labels]
    assert wait_for(client, job["id"])["state"] == "done"
    page = client.get(f"/api/jobs/{job['id']}/page")
    assert page.text == "<title>compared</title>"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'")
    assert "allow-same-origin" not in policy
    assert "sandbox" not in client.get("/").headers["Content-Security-Policy"]
    jobs = client.app.app.state.models.jobs
    facts = {"kind": "compare", "commands": [["compare"]], "created": 1.0, "starter": {}}
    write_json(jobs.folder / "1" / "job.json", {**facts, "facts": {"page": "../../../outside"}})
    write_json(jobs.folder / "1" / "state.json", {"state": "done", "ended": 2.0})
    assert client.get("/api/jobs/1/page").status_code == 404
    assert post(client, "/api/jobs", kind="compare", runs=["runs/first"]).status_code == 400
    assert post(client, "/api/jobs", kind="compare", runs="runs/first").status_code == 400


def test_a_run_that_is_a_link_out_of_the_folder_is_none(folder, open_studio, tmp_path):
    make_run(tmp_path / "elsewhere")
    (folder / "runs").mkdir()
    (folder / "runs" / "link").symlink_to(tmp_path / "elsewhere")
    assert open_studio().get("/api/runs").json() == []
    given = open_studio(model=tmp_path / "elsewhere" / "arms" / "lofi" / "model")
    assert [one["name"] for one in given.get("/api/runs").json()] == [str(tmp_path / "elsewhere")]
