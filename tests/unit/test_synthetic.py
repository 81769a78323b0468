"""The embedded benchmark is deterministic, whole, and cannot be solved without looking at the pattern of motion."""

import csv
import itertools
import json

import numpy as np
import pytest

from lofi_tal.errors import LofiError
from lofi_tal.synthetic import PRESETS, make_dataset, measure_controls
from lofi_tal.synthetic.controls import watch
from lofi_tal.synthetic.dataset import plan_dataset
from lofi_tal.synthetic.plans import FPS, find_preset
from lofi_tal.video import probe_video


def test_a_broad_stage_1_changes_the_clips_and_no_video():
    narrow, broad = (plan_dataset(PRESETS[name], 0) for name in ("bench", "bench_broad"))
    assert narrow[0] == broad[0]
    shown = [[clip.label for clip in clips if clip.role == "clip_training"] for _, clips in (narrow, broad)]
    assert set(shown[0]) == set(PRESETS["bench"].sources)
    assert set(shown[1]) == set(PRESETS["bench"].sources) | set(PRESETS["bench"].targets)
    assert {part.count(label) for part in shown for label in part} == {240}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("synthetic") / "a", preset="tiny", seed=0, workers=1)


def content(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_processes(tiny, tmp_path):
    again = make_dataset(tmp_path / "b", preset="tiny", seed=0, workers=2)
    assert content(tiny.root) == content(again.root)


def test_another_seed_gives_other_videos():
    first, second = (plan_dataset(find_preset("tiny"), seed)[0][0] for seed in (0, 1))
    assert not np.array_equal(next(iter(first.render())), next(iter(second.render())))


def test_an_interrupted_dataset_is_completed_and_a_strange_folder_refused(tiny, tmp_path):
    before = content(tiny.root)
    victim = sorted(tiny.videos.iterdir())[1]
    kept = sorted(tiny.videos.iterdir())[0].stat().st_mtime_ns
    victim.unlink()
    make_dataset(tiny.root, preset="tiny", seed=0, workers=1)
    assert content(tiny.root) == before
    assert sorted(tiny.videos.iterdir())[0].stat().st_mtime_ns == kept
    with pytest.raises(LofiError, match="another data set"):
        make_dataset(tiny.root, preset="tiny", seed=1, workers=1)
    (tmp_path / "diary.txt").write_text("mine")
    with pytest.raises(LofiError, match="not empty"):
        make_dataset(tmp_path, preset="tiny", seed=0)
    with pytest.raises(LofiError, match="Did you mean 'small'"):
        find_preset("smal")


def test_boundaries_are_exact_to_a_frame_and_the_files_agree(tiny):
    database = json.loads(tiny.annotations.read_text())["database"]
    subsets = {entry["subset"] for entry in database.values()}
    assert subsets == {"training", "validation"}
    trained = {a["label"] for e in database.values() if e["subset"] == "training" for a in e["annotations"]}
    for video_id, entry in database.items():
        info = probe_video(tiny.videos / f"{video_id}.mp4")
        assert info.frames == pytest.approx(entry["duration"] * FPS)
        assert info.duration == pytest.approx(entry["duration"], abs=1e-3)
        spans = sorted(annotation["segment"] for annotation in entry["annotations"])
        assert 1 <= len(spans) <= 4
        assert len({annotation["label"] for annotation in entry["annotations"]}) == 1
        assert entry["annotations"][0]["label"] in trained
        for start, end in spans:
            assert 0 <= start < end <= entry["duration"]
            assert (start * FPS) % 1 == pytest.approx(0, abs=1e-6) or (start * FPS) % 1 == pytest.approx(1, abs=1e-6)
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


def test_with_overlap_every_video_has_two_classes_at_once_and_the_first_stays_as_it_is(tiny, tmp_path):
    assert "overlap" not in json.loads((tiny.root / "dataset.json").read_text())
    made = make_dataset(tmp_path / "two", preset="tiny", seed=0, clips=False, overlap=True, workers=1)
    before, after = (json.loads(one.annotations.read_text())["database"] for one in (tiny, made))
    for video_id, entry in after.items():
        assert entry["duration"] == before[video_id]["duration"]
        first, labels = before[video_id]["annotations"], {a["label"] for a in entry["annotations"]}
        assert entry["annotations"][: len(first)] == first
        assert len(labels) == 2
        second = entry["annotations"][len(first) :]
        assert any(
            a["segment"][0] < b["segment"][1] and b["segment"][0] < a["segment"][1] for a in first for b in second
        )
    assert {a["label"] for e in after.values() for a in e["annotations"]} == set(PRESETS["tiny"].targets)
    name = "training_00000.mp4"
    assert (made.videos / name).read_bytes() != (tiny.videos / name).read_bytes()
    for root, overlap in ((tiny.root, True), (made.root, False)):
        with pytest.raises(LofiError, match="overlap"):
            make_dataset(root, preset="tiny", seed=0, clips=False, overlap=overlap, workers=1)


def test_source_and_target_classes_are_disjoint_unless_broad_and_every_clip_is_there(tiny):
    for preset in PRESETS.values():
        assert set(preset.targets) & set(preset.sources) == (set(preset.targets) if preset.broad else set())
    assert len(PRESETS["small"].targets) >= 8
    assert len(PRESETS["small"].sources) >= 8
    rows = list(csv.DictReader(tiny.clips_csv.open()))
    assert {row["split"] for row in rows} == {"train", "val"}
    assert all((tiny.clips / row["label"] / f"{row['youtube_id']}.mp4").exists() for row in rows)


def test_presets_have_the_lengths_that_they_promise():
    """Median instance about 0.3 of its video, over many plans of `bench` (nothing is rendered)."""
    videos, clips = plan_dataset(PRESETS["bench"], 0)
    assert len(clips) >= 2000
    assert sum(plan.subset == "validation" for plan in videos) >= 300
    shares = [(span.end - span.start) / plan.frames for plan in videos for span in plan.instances]
    assert 0.2 <= float(np.median(shares)) <= 0.4
    assert all(20 <= plan.duration <= 60 for plan in videos)


def test_neither_the_amount_of_motion_nor_one_frame_solves_the_benchmark():
    """Controls without any network on 40 + 20 rendered videos; the margins allow for so small a sample."""
    videos, _ = plan_dataset(PRESETS["small"], 0)
    training = [plan for plan in videos if plan.subset == "training"][:40]
    validation = [plan for plan in videos if plan.subset == "validation"][:20]
    found = measure_controls(watch(np.stack(list(plan.render())), plan) for plan in [*training, *validation])
    assert found.inside_auc < 0.65
    assert 0.9 < found.energy_ratio < 1.1
    assert found.frame_accuracy < 0.25  # chance is 0.1
