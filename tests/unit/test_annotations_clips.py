"""Clip lists in the layout of Kinetics."""

from __future__ import annotations

from pathlib import Path

import pytest

from lofi_tal.annotations import Clip, load_clip_list
from lofi_tal.errors import DataError
from tests.importing import touch

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
HEADER = "label,youtube_id,time_start,time_end,split\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "clips.csv"
    path.write_text(text)
    return path


def test_kinetics_names_are_found(tmp_path):
    root = tmp_path / "root"
    files = [
        touch(root / "air_drumming" / "-x_000005_000015.mp4"),
        touch(root / "clean and jerk" / "abc.webm"),
        touch(root / "passing_American_football_in_game" / "b_000000_000010.mkv"),
        touch(root / "massaging_persons_feet" / "v_c.mp4"),
    ]
    path = write(
        tmp_path,
        "label,youtube_id,time_start,time_end,split,is_cc\n"
        "air drumming,-x,5,15,train,0\n"
        "clean and jerk,abc,000001,000011,training,1\n"
        "passing American football (in game),b,0.0,10.0,train,0\n"
        '"massaging person\'s feet",c,,,test,0\n'
        "air drumming,gone,1,2,validate,0\n",
    )
    clips, missing = load_clip_list(path, root)
    assert [clip.path for clip in clips] == files
    assert clips[0] == Clip(files[0], "air drumming", "train")
    assert [clip.split for clip in clips] == ["train", "train", "train", "test"]
    assert missing == ["air drumming/gone_000001_000002 or gone"]


def test_cut_is_preferred_to_the_whole_video(tmp_path):
    touch(tmp_path / "a" / "x.mp4")
    cut = touch(tmp_path / "a" / "x_000001_000002.mp4")
    clips, _ = load_clip_list(write(tmp_path, HEADER + "a,x,1,2,train\n"), tmp_path)
    assert [clip.path for clip in clips] == [cut]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column 'label'.*found nothing"),
        ("youtube_id,time_start,time_end,split\nx,1,2,test\n", "no column 'label'"),
        (HEADER, "lists no clips"),
        (HEADER + ",x,1,2,train\n", "line 2: the label is empty"),
        (HEADER + '"""""",x,1,2,train\n', "line 2: the label is empty"),
        (HEADER + "a,,1,2,train\n", "line 2: the youtube_id is empty"),
        (HEADER + "a\n", "line 2: the youtube_id is empty"),
        (HEADER + "a,x,1,2,trian\n", "line 2: split is 'trian'.*Did you mean 'train'"),
        (HEADER + "a,x,1,2,train\nb,y,1,2,val\n", "1 classes of the validation clips.*'b'"),
        (HEADER + 'a,"x,1,2,train\n', "is not CSV"),
        (HEADER + "a,nowhere,1,2,train\n", "None of the 1 clips"),
        (HEADER + "a,../secret,1,2,train\n", "None of the 1 clips"),
        (HEADER + "..,secret,1,2,train\n", "None of the 1 clips"),
    ],
)
def test_lists_that_cannot_be_used_are_refused(tmp_path, text, said):
    touch(tmp_path / "root" / "a" / "x.mp4")
    touch(tmp_path / "secret.mp4")
    with pytest.raises(DataError, match=said):
        load_clip_list(write(tmp_path, text), tmp_path / "root")


def test_list_of_validation_clips_alone_is_fine(tmp_path):
    touch(tmp_path / "a" / "x.mp4")
    clips, missing = load_clip_list(write(tmp_path, HEADER + "a,x,1,2,val\n"), tmp_path)
    assert (len(clips), missing) == (1, [])


def test_missing_list_and_folder_are_said(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load_clip_list(tmp_path / "none.csv", tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        load_clip_list(write(tmp_path, HEADER + "a,x,1,2,val\n"), tmp_path / "none")


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the data folder is absent")
def test_real_list_loads_whole():
    clips, missing = load_clip_list(SHARED / "weizmann" / "clips.csv", SHARED / "weizmann" / "clips")
    assert (len(clips), missing) == (27, [])
    assert {clip.label for clip in clips} == {"walk", "run", "side"}
    assert sum(clip.split == "train" for clip in clips) == 18
