"""What has changed since a stage was made, in words."""

import json
from pathlib import Path

import pytest
import torch

from lofi_tal.data import TruthVideo, VideoFile, video_contents
from lofi_tal.errors import LofiError
from lofi_tal.runtime import Outcome, open_stage
from lofi_tal.runtime.differences import difference


def video(*segments, file="stamp", duration=60.0):
    return {"file": file, "duration": duration, "segments": [list(one) for one in segments]}


def videos(**items):
    return {"data": {"unit": "video", "items": items}}


POUR, STIR = (4.1, 9.8, "pour"), (30.0, 41.5, "stir")
BEFORE = videos(kitchen_03=video(POUR, STIR), kitchen_04=video(POUR))


def told(now):
    return difference({"data": "a"}, {"data": "b"}, BEFORE, now)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (
            videos(kitchen_03=video((4.2, 9.8, "pour"), STIR), kitchen_04=video(POUR), a=video(), b=video()),
            "1 segment of kitchen_03 changed; 2 videos added (a, b)",
        ),
        (videos(kitchen_03=video(POUR, STIR)), "1 video removed (kitchen_04)"),
        (videos(kitchen_03=video(), kitchen_04=video(POUR)), "2 segments of kitchen_03 removed"),
        (videos(kitchen_03=video(POUR, STIR), kitchen_04=video(POUR, STIR)), "1 segment of kitchen_04 added"),
        (
            videos(kitchen_03=video(POUR, STIR, file="new"), kitchen_04=video(POUR, file="new")),
            "file of 2 videos (kitchen_03, kitchen_04) changed",
        ),
        (videos(kitchen_03=video(POUR, STIR), kitchen_04=video(POUR, duration=61.0)), "duration of kitchen_04 changed"),
        (
            videos(kitchen_03=video(POUR, STIR), kitchen_04=video(POUR) | {"start": 0.5}),
            "start of kitchen_04 changed",
        ),
        (BEFORE, "order or rounding of the videos"),
    ],
)
def test_changed_videos_are_told_in_words(now, expected):
    assert told(now) == expected


def test_segments_are_told_on_the_clock_of_the_annotations():
    file = VideoFile(Path("a.mp4"), "stamp", duration=8.0, frames=80, start=2.0)
    truth = TruthVideo("a", file, torch.tensor([[0.25, 0.5]]), torch.tensor([0]))
    assert video_contents([truth], ["pour"])["items"]["a"]["segments"] == [[4.0, 6.0, "pour"]]


def test_a_video_that_the_draw_holds_out_now_is_not_removed():
    then, now = videos(a=video(), b=video()), videos(a=video(), c=video())
    then["data"]["held out"], now["data"]["held out"] = ["c"], ["b"]
    assert difference({"data": 1}, {"data": 2}, then, now) == "1 video held out now (b); 1 video no longer held out (c)"


def test_many_files_are_counted_and_the_first_are_named():
    now = videos(kitchen_03=video(POUR, STIR), kitchen_04=video(POUR), **{f"v{i}": video() for i in range(9)})
    assert told(now) == "9 videos added (v0, v1, v2, ...)"


def test_settings_go_by_their_names_in_the_recipe():
    before = {"flip": True, "lofi": {"lr": 0.1, "epochs": 3}, "search": {"lrs": [0.1]}, "start": "a"}
    now = {"flip": False, "lofi": {"lr": 0.2, "epochs": 3}, "search": {"lrs": [0.2]}, "start": "b"}
    assert difference(before, now, {}, {}).split("; ") == [
        "data.flip: True -> False",
        "lofi.lr: 0.1 -> 0.2",
        "head.lrs: [0.1] -> [0.2]",
        "the encoder that it starts from changed",
    ]


def test_what_features_were_made_from_is_told():
    then, now = ({"features": {"inputs": {"encoder": name, "snippets": {"size": 32}}}} for name in "ab")
    assert difference({"features": 1}, {"features": 2}, then, now) == "the features: the encoder changed"


def test_a_stage_keeps_what_its_hashes_stand_for(tmp_path):
    open_stage(tmp_path, "lofi", {"data": "a"}, contents=BEFORE).finish(Outcome(1.0, 1, {}))
    with pytest.raises(LofiError, match=r"\(1 video added \(a\)\)"):
        open_stage(tmp_path, "lofi", {"data": "b"}, contents=videos(**BEFORE["data"]["items"], a=video()))


@pytest.mark.parametrize("damage", ["gone", "other", "broken"])
def test_a_stage_without_them_shows_its_hashes(tmp_path, damage):
    open_stage(tmp_path, "lofi", {"data": "a"}, contents=BEFORE)
    kept = tmp_path / "contents.json"
    if damage == "gone":
        kept.unlink()
    else:
        content = {**json.loads(kept.read_text()), "fingerprint": "of another stage"}
        kept.write_text(json.dumps(content) if damage == "other" else "{")
    with pytest.raises(LofiError, match="data: 'a' -> 'b'"):
        open_stage(tmp_path, "lofi", {"data": "b"}, contents=BEFORE)
