"""Point events: SoccerNet's mAP, by hand and against its published rules written anew, and its files."""

import itertools
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from lofi_tal.annotations import with_width
from lofi_tal.annotations.formats import ImportOptions, import_annotations
from lofi_tal.annotations.soccernet import (
    RESULTS,
    add_results,
    halves_of,
    read_game,
    read_games,
    write_labels,
    write_results,
)
from lofi_tal.cli.app import app
from lofi_tal.config import DetectSection, make_recipe
from lofi_tal.errors import DataError, LofiError
from lofi_tal.evaluation.spotting import LOOSE, TIGHT, average_over, evaluate_events, right_detections
from lofi_tal.heads import create_head
from lofi_tal.postprocess import as_events, keep_apart
from lofi_tal.run.data import read_data
from lofi_tal.segments import Segments
from lofi_tal.snippets import Windows
from lofi_tal.stages.localise import labelled, localise
from lofi_tal.video import Clock, VideoManifest


def at(video_id, times, labels, scores=None):
    return Segments(video_id, times, times, tuple(labels), np.ones(len(times)) if scores is None else scores)


def test_a_worked_example():
    """One event at 10 s, one at 40 s; detections at 10 s (0.9), 11 s (0.8), 43 s (0.7).

    δ = 1: the first alone is right: precision 1 up to recall 1/2, so 6 of 11 recalls: 6/11. δ = 2: the same, since the
    event at 10 s is taken by then. δ = 6: 43 s is right as well, at precision 2/3: (6 + 5 · 2/3) / 11.
    """
    truth = {"a": at("a", [10, 40], ["goal", "goal"])}
    found = {"a": at("a", [10, 11, 43], ["goal"] * 3, [0.9, 0.8, 0.7])}
    result = evaluate_events(truth, found, [1, 2, 6])
    low, high = 6 / 11, (6 + 5 * 2 / 3) / 11
    assert result.mAP == pytest.approx((low, low, high))
    assert result.average_mAP == pytest.approx((low * 1 + (low + high) / 2 * 4) / 5)
    assert result.events == {"goal": 2}


def test_each_event_takes_its_best_free_detection_in_order_of_time():
    times, scores = np.array([9.0, 10.0, 11.0]), np.array([0.2, 0.9, 0.5])
    assert right_detections(np.array([9.5, 10.5]), times, scores, 2.0).tolist() == [False, True, True]
    assert right_detections(np.array([10.0]), times, scores, 1.0).tolist() == [False, True, False]
    assert right_detections(np.array([12.0]), times, scores, 1.9).tolist() == [False, False, False]


def published(events, found, delta, rate=2, cells=400):
    """Return the AP of one class as the published rules say: dense vectors, 200 thresholds, 11 recalls."""
    rows, total = [], 0
    for true, (times, scores) in zip(events, found, strict=True):
        target, dense = np.zeros(cells), np.full(cells, -1.0)
        target[[int(rate * t) for t in true]] = 1
        for t, score in zip(times, scores, strict=True):
            dense[int(rate * t)] = score
        places, taken = np.flatnonzero(dense >= 0), set()
        for cell in np.flatnonzero(target):
            near = [p for p in places if abs(p - cell) <= delta * rate / 2 and p not in taken]
            if near:
                taken.add(max(near, key=lambda p: dense[p]))
        rows += [(dense[p], p in taken) for p in places]
        total += int(target.sum())
    scores, right = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    points = []
    for threshold in np.linspace(0, 1, 200):
        kept = scores >= threshold
        points.append((right[kept].sum() / total, right[kept].sum() / max(1, kept.sum())))
    return np.mean([max([p for r, p in points if r >= least], default=0) for least in np.arange(11) / 10])


@pytest.mark.parametrize("seed", range(5))
def test_it_equals_the_published_rules_on_random_events(seed):
    rng = np.random.default_rng(seed)
    events = [rng.uniform(0, 190, 8) for _ in range(3)]
    found = [(rng.uniform(0, 190, 25), rng.uniform(0, 1, 25)) for _ in range(3)]
    truth = {str(i): at(str(i), one, ["goal"] * 8) for i, one in enumerate(events)}
    detections = {str(i): at(str(i), times, ["goal"] * 25, scores) for i, (times, scores) in enumerate(found)}
    for tolerances in (TIGHT, LOOSE):
        result = evaluate_events(truth, detections, tolerances)
        assert result.mAP == pytest.approx([published(events, found, delta) for delta in tolerances])
        steps = result.mAP  # evenly spaced: the published integral
        assert result.average_mAP == pytest.approx(
            sum(a + b for a, b in itertools.pairwise(steps)) / 2 / (len(steps) - 1)
        )


def test_one_tolerance_is_its_own_average_and_bad_input_is_named():
    truth = {"a": at("a", [1], ["hit"])}
    assert average_over([0.4], [1.0]) == 0.4
    assert evaluate_events(truth, {}, [0.5]).average_mAP == 0
    with pytest.raises(LofiError, match="must be positive seconds that grow"):
        evaluate_events(truth, {}, [2, 1])
    with pytest.raises(DataError, match="has no event"):
        evaluate_events({"a": Segments.empty("a")}, {}, [1])
    with pytest.raises(DataError, match="'b' for one"):
        evaluate_events(truth, {"b": at("b", [1], ["hit"])}, [1])
    with pytest.raises(DataError, match=r"score 1\.5"):
        evaluate_events(truth, {"a": at("a", [1], ["hit"], [1.5])}, [1])


LABELS = {
    "UrlLocal": "england/2014/a - b/",
    "annotations": [
        {"gameTime": "1 - 05:38", "label": "Goal", "position": "338140", "team": "home", "visibility": "visible"},
        {"gameTime": "2 - 00:05", "label": "Foul", "team": "away"},
    ],
}


@pytest.fixture
def games(tmp_path):
    folder = tmp_path / "labels" / "england" / "2014" / "a - b"
    folder.mkdir(parents=True)
    (folder / "Labels-v2.json").write_text(json.dumps(LABELS))
    return tmp_path / "labels"


def test_files_of_soccernet_are_read_and_results_written_and_read_again(games, tmp_path):
    truth = read_games(games, "Labels-v2.json")
    assert list(truth) == ["england/2014/a - b/1", "england/2014/a - b/2"]
    assert truth["england/2014/a - b/1"].start.tolist() == [338.14]
    assert truth["england/2014/a - b/2"].label == ("Foul",)
    assert truth["england/2014/a - b/2"].end.tolist() == [5.0]
    found = {"england/2014/a - b/1": Segments("x", [338], [339], ("Goal",), [0.75])}
    (path,) = write_results(tmp_path / "out", found)
    assert path == tmp_path / "out" / "england/2014/a - b" / RESULTS
    entry = json.loads(path.read_text())["predictions"][0]
    assert entry == {
        "gameTime": "1 - 05:38", "label": "Goal", "position": "338500", "half": "1", "confidence": "0.75",
    }  # fmt: skip
    again = read_game(path)["england/2014/a - b/1"]
    assert (again.start.tolist(), again.score.tolist()) == ([338.5], [0.75])
    for strange in ("a", "../a/1", "a/b"):
        with pytest.raises(DataError, match="no half of a game"):
            write_results(tmp_path / "out", {strange: truth["england/2014/a - b/1"]})


@pytest.mark.parametrize(
    "entry",
    [{}, 3, {"gameTime": "5:38", "label": "Goal"}, {"gameTime": "1 - 05:38", "label": "Goal", "position": "-1"},
     {"gameTime": "1 - 05:38", "label": "Goal", "position": "nan"}, {"gameTime": 1, "label": "Goal"}],
)  # fmt: skip
def test_a_malformed_entry_is_named(tmp_path, entry):
    path = tmp_path / "Labels-v2.json"
    path.write_text(json.dumps({"annotations": [LABELS["annotations"][0], entry]}))
    with pytest.raises(DataError, match=r"annotations\[1\]"):
        read_game(path)


def command(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_the_command_evaluates_folders_of_games_and_files(games, tmp_path):
    write_results(tmp_path / "out", read_games(games, "Labels-v2.json"))
    found = command(games, tmp_path / "out", "--events", "tight", "--json")
    assert json.loads(found.stdout)["average_mAP"] == 1
    labels, results = tmp_path / "labels.json", tmp_path / "results.json"
    entry = {"duration": 20, "subset": "validation", "annotations": [{"segment": [4, 4], "label": "hit"}]}
    labels.write_text(json.dumps({"database": {"a": entry}}))
    results.write_text(json.dumps({"results": {"a": [{"segment": [3, 6], "label": "hit", "score": 0.9}]}}))
    assert json.loads(command(labels, results, "--events", "0.5,1,2", "--json").stdout)["mAP"] == [0.0, 1.0, 1.0]
    shown = command(labels, results, "--events", "close")
    assert shown.exit_code == 0
    assert "1 video, 1 event, 1 detection" in shown.stdout
    wrong = command(labels, results, "--events", "narrow")
    assert "loose, tight, close" in str(wrong.exception)
    assert "Labels-v2.json" in str(command(tmp_path / "out", results, "--events", "tight").exception)


def event_recipe(folder, **data):
    (folder / "features").mkdir()
    database = {}
    for number, subset in enumerate(["training"] * 3 + ["validation"] * 2):
        np.save(folder / "features" / f"v{number}.npy", np.random.default_rng(number).normal(size=(20, 8)))
        times = [0.5, 10.0, 19.9]
        entries = [{"segment": [t, t], "label": ("hit", "miss")[i % 2]} for i, t in enumerate(times)]
        database[f"v{number}"] = {"duration": 20, "subset": subset, "annotations": entries}
    (folder / "labels.json").write_text(json.dumps({"database": database}))
    data = {"annotations": str(folder / "labels.json"), "workers": 0, "selection_share": 0.0, **data}
    return make_recipe({"data": data, "features": {"sources": [str(folder / "features")]}, "snippets": {"count": 20}})


def test_events_are_short_segments_if_the_recipe_says_so_and_left_out_as_before_if_not(tmp_path):
    plain = event_recipe(tmp_path)
    with pytest.raises(DataError, match="are point events, and need a width"):
        read_data(plain, VideoManifest(None))
    assert "events" not in plain.data.model_dump(mode="json")
    wide = plain.model_copy(update={"data": plain.data.model_copy(update={"events": 2.0})})
    data = read_data(wide, VideoManifest(None))
    spans = [(video.segments * 20).round().tolist() for video in data.train]
    assert spans == [[[0, 2], [9, 11], [19, 20]]] * 3
    assert data.truth.segment.tolist()[:3] == [[0.0, 1.5], [9.0, 11.0], [18.9, 20.0]]
    assert data.dropped == ()
    with pytest.raises(LofiError, match=r"data\.events"):
        make_recipe({"data": {**plain.data.model_dump(mode="json"), "events": 0, "videos": "videos"}})


def test_the_width_leaves_segments_and_what_is_malformed_alone():
    odd = [
        {"segment": [1, 3]},
        {"segment": ["4", "4.0"]},
        {"segment": [30, 30]},
        {"segment": [1]},
        {"segment": [None] * 2},
        7,
    ]
    labels = {"version": 1, "database": {"a": {"duration": "20", "annotations": odd}, "b": None}}
    wide = with_width(labels, 1.0)
    assert wide["database"]["a"]["annotations"] == [odd[0], {"segment": [3.5, 4.5]}, *odd[2:]]
    assert wide["database"]["b"] is None
    assert with_width([], 1.0) == []


def test_a_head_finds_events_that_are_short_segments_and_their_middles_are_the_times():
    """Overfitted: 4 videos of 40 s with 40 snippets, a channel for each class is on in the snippet of its event."""
    rng, truth, segments, labels, features = np.random.default_rng(0), {}, [], [], torch.zeros(4, 4, 40)
    for number in range(4):
        times = rng.choice(np.arange(2, 38, 4), 4, replace=False) + 0.5
        names = rng.integers(0, 2, 4)
        features[number, names, times.astype(int)] = 3
        truth[str(number)] = at(str(number), times, [("hit", "miss")[name] for name in names])
        segments.append(torch.tensor(np.stack([times - 1, times + 1], 1) / 40).float())
        labels.append(torch.tensor(names))
    features += 0.1 * torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    head = create_head("actionformer", 4, num_classes=2, width=32, levels=3, stem_blocks=1, drop_path=0.0)
    optimizer = torch.optim.Adam(head.parameters(), lr=4e-3)
    for _ in range(100):
        optimizer.zero_grad()
        head.loss(head(features), segments, labels)["total"].backward()
        optimizer.step()
    found = localise(head.eval(), list(features), Windows(40), DetectSection())
    spans = {str(n): labelled(str(n), Clock(0.0, 40.0), *one, ("hit", "miss")) for n, one in enumerate(found)}
    assert evaluate_events(truth, spans, [1.0, 2.0, 5.0]).average_mAP > 0.9


def test_checks_and_statistics_accept_events_if_they_are_told(tmp_path):
    event_recipe(tmp_path)
    labels = str(tmp_path / "labels.json")
    run = lambda *arguments: CliRunner().invoke(app, ["data", *arguments])  # noqa: E731
    assert run("check", labels, "--json").exit_code == 3
    checked = run("check", labels, "--events", "2", "--json")
    assert checked.exit_code == 0
    assert "empty-segment" not in checked.stdout
    assert run("stats", labels, "--json").exit_code == 4
    told = run("stats", labels, "--events", "2", "--json")
    assert told.exit_code == 0
    assert json.loads(told.stdout)["instances"] == 15


def test_the_tight_average_is_that_of_the_published_code_on_the_same_draw():
    """The figure is that of ``average_mAP`` of the package SoccerNet 0.2.0, on a grid of two cells a second."""
    draw, cells, truth, found = np.random.default_rng(39), 300, {}, {}
    for name in ("v0", "v1"):
        events, detections = [], []
        for label in ("c0", "c1", "c2"):
            events += [(cell / 2, label, 1.0) for cell in draw.choice(cells, 8, replace=False)]
            places = draw.choice(cells, 25, replace=False)
            detections += [(cell / 2, label, score) for cell, score in zip(places, draw.random(25), strict=True)]
        truth[name], found[name] = (at(name, *zip(*rows, strict=True)) for rows in (events, detections))
    assert evaluate_events(truth, found, TIGHT).average_mAP == pytest.approx(0.0642609025384145, abs=1e-12)


def test_of_a_class_the_best_of_near_events_is_kept():
    times, scores = np.array([5.0, 1.0, 1.8, 2.6, 1.1]), np.array([0.1, 0.5, 0.9, 0.8, 0.3])
    labels = ["hit", "hit", "hit", "hit", "miss"]
    assert keep_apart(times, scores, labels, 1.0).tolist() == [0, 2, 4]
    assert keep_apart(times, scores, labels, 0.8).tolist() == [0, 1, 2, 3, 4]  # as far as the spacing is far enough
    assert keep_apart(times, scores, labels, 0.0).tolist() == [0, 1, 2, 3, 4]
    chain = keep_apart(np.array([1.0, 1.6, 2.2]), np.array([0.9, 0.8, 0.7]), ["hit"] * 3, 1.0)
    assert chain.tolist() == [0, 2]  # what is dropped suppresses nothing


def test_times_are_middles_and_where_the_video_cuts_a_segment_half_a_width_from_its_other_end():
    spans = Segments("a", [0, 4, 19.1, 0, 6.0], [1.5, 6, 20, 3, 6.6], ("hit",) * 5, [0.9, 0.8, 0.7, 0.1, 0.2], 20.0)
    found = as_events(spans, 2.0, 0.0)
    assert found.time == pytest.approx([0.5, 5, 20, 1.5, 6.3])
    assert len(as_events(spans, 2.0)) == 3
    assert as_events(spans, None) is spans
    late = Segments("a", [3, 2], [4.2, 3.8], ("hit",) * 2, [1, 1], 23.0)
    assert as_events(late, 2.0, 0.0, begin=3.0).time == pytest.approx([3.2, 3.0])


def test_events_say_their_time_in_every_form():
    found = Segments("a", [3, 8], [5, 10], ("hit", "miss"), [0.5, 0.25], 20.0, time=[4.25, 9.0])
    assert found.to_activitynet()[0] == {"label": "hit", "score": 0.5, "segment": [3.0, 5.0], "time": 4.25}
    assert Segments.from_activitynet("a", found.to_activitynet()).time.tolist() == [4.25, 9.0]
    assert found[1:].times.tolist() == [9.0]
    assert found.to_csv().splitlines()[:2] == ["video,time,label,score", "a,4.250,hit,0.500000"]
    assert found.to_srt().startswith("1\n00:00:03,000 --> 00:00:05,000\nhit 0.50 at 0:04.25\n")
    assert "4.25 s" in repr(found)
    assert found.to_dataframe()["time"].tolist() == [4.25, 9.0]
    assert evaluate_events({"a": at("a", [4.25], ["hit"])}, {"a": found}, [0.1], rate=None).average_mAP == 1


def test_the_spacing_is_for_events(tmp_path):
    content = event_recipe(tmp_path).model_dump(mode="json")
    assert "spacing" not in content["detect"]
    content["detect"]["spacing"] = 1.0
    with pytest.raises(LofiError, match=r"set data\.events"):
        make_recipe(content)
    content["data"]["events"] = 2.0
    assert make_recipe(content).detect.spacing == 1.0


def test_video_files_are_halves_of_the_games_of_their_folders(tmp_path):
    game = tmp_path / "england" / "2014" / "a - b"
    named = {game / "1_224p.mkv": "1_224p", game / "2.mp4": "2", tmp_path / "kick.mp4": "kick"}
    assert list(halves_of(named, [tmp_path]).values()) == [
        "england/2014/a - b/1", "england/2014/a - b/2", "kick/1",
    ]  # fmt: skip
    assert next(iter(halves_of(named, [game, *named]).values())) == "a - b/1"
    with pytest.raises(DataError, match="are both half a - b/1"):
        halves_of({game / "1_224p.mkv": "x", game / "1_HQ.mkv": "y"}, [])


def test_results_of_one_half_leave_those_of_the_other(tmp_path):
    for half, time in (("g/1", 3.0), ("g/2", 4.0), ("g/1", 5.0)):
        add_results(tmp_path, half, Segments("x", [time - 1], [time + 1], ("hit",), [0.5], time=[time]))
    found = read_game(tmp_path / "g" / RESULTS)
    assert [found[name].start.tolist() for name in ("g/1", "g/2")] == [[5.0], [4.0]]


def test_labels_of_soccernet_are_converted_there_and_back(games, tmp_path):
    run = lambda *arguments: CliRunner().invoke(app, ["data", "convert", *map(str, arguments)])  # noqa: E731
    told = run(games, "-o", tmp_path / "labels.json")
    assert told.exit_code == 0
    database = json.loads((tmp_path / "labels.json").read_text())["database"]
    name = "england/2014/a - b/1"
    assert database[name]["annotations"] == [{"segment": [338.14, 338.14], "label": "Goal"}]
    assert run(tmp_path / "labels.json", "--to", "soccernet", "-o", tmp_path / "again").exit_code == 0
    path = tmp_path / "again" / "england/2014/a - b/Labels-v2.json"
    assert json.loads(path.read_text())["annotations"][0] == {
        "gameTime": "1 - 05:38", "label": "Goal", "position": "338140", "team": "not applicable",
        "visibility": "visible",
    }  # fmt: skip
    before, after = read_games(games, "Labels-v2.json"), read_games(tmp_path / "again", "Labels-v2.json")
    assert {name: list(one) for name, one in before.items()} == {name: list(one) for name, one in after.items()}
    assert run(path, "-o", tmp_path / "one.json").exit_code == 0
    assert json.loads((tmp_path / "one.json").read_text())["database"].keys() == database.keys()
    assert run(tmp_path / "labels.json", "--to", "soccernet", "-o", path).exception is not None


def test_ball_events_and_other_videos_are_games_of_one_half(tmp_path):
    (tmp_path / "in" / "g").mkdir(parents=True)
    ball = {"UrlLocal": "g", "annotations": [{"gameTime": "1 - 00:01", "label": "PASS", "position": "1040"}]}
    (tmp_path / "in" / "g" / "Labels-ball.json").write_text(json.dumps(ball))
    found = import_annotations([tmp_path / "in"]).annotations
    assert list(found.videos) == ["g/1"]
    write_labels(tmp_path / "out", {"../kick": at("../kick", [2.0], ["hit"]), "b": at("b", [3.0], ["hit"])})
    paths = sorted((tmp_path / "out").rglob("Labels-v2.json"))
    assert [read_game(path)[f"{path.parent.name}/1"].start.tolist() for path in paths] == [[2.0], [3.0]]


def test_a_lenient_import_leaves_out_what_is_malformed_in_a_game(tmp_path):
    path = tmp_path / "Labels-v2.json"
    path.write_text(json.dumps({"UrlLocal": "g", "annotations": [*LABELS["annotations"], {"label": "Goal"}]}))
    with pytest.raises(DataError, match=r"annotations\[2\]"):
        import_annotations([path])
    found = import_annotations([path], options=ImportOptions(strict=False)).annotations
    assert [len(video.segments) for video in found] == [1, 1]
    assert "annotations[2]" in found.notes[0]
