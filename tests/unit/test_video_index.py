"""Files by video id, as ActivityNet, HACS and Kinetics lay them out."""

from __future__ import annotations

import pytest

from lofi_tal.video import VideoError, find_videos
from tests.importing import touch


def test_ids_are_found_with_and_without_prefix_and_in_class_folders(tmp_path):
    plain = touch(tmp_path / "abc.mp4")
    prefixed = touch(tmp_path / "v_-x_Y.webm")
    inner = touch(tmp_path / "Long jump" / "v_def.MKV")
    touch(tmp_path / "notes.txt")
    touch(tmp_path / ".hidden.mp4")
    touch(tmp_path / "deep" / "deeper" / "ghi.mp4")
    index = find_videos(tmp_path)
    assert dict(index) == {"abc": plain, "v_-x_Y": prefixed, "v_def": inner}
    for video_id, path in {"abc": plain, "v_abc": plain, "-x_Y": prefixed, "v_-x_Y": prefixed, "def": inner}.items():
        assert index[video_id] == index.find(video_id) == index.get(video_id) == path
    assert "ghi" not in index
    assert index.get("ghi") is None
    assert len(index) == 3


def test_id_that_begins_with_the_prefix_is_not_confused(tmp_path):
    files = {name: touch(tmp_path / f"{name}.mp4") for name in ("v_v_abc", "v_abc")}
    index = find_videos(tmp_path)
    assert index["v_abc"] == files["v_v_abc"]
    assert index["abc"] == files["v_abc"]


def test_duplicates_have_one_choice(tmp_path):
    touch(tmp_path / "b" / "x.mp4")
    touch(tmp_path / "a" / "x.mp4")
    touch(tmp_path / "a" / "x.avi")
    assert find_videos(tmp_path).find("x") == tmp_path / "a" / "x.mp4"
    touch(tmp_path / "x.avi")
    assert find_videos(tmp_path).find("x") == tmp_path / "x.avi"
    assert len(find_videos(tmp_path).ambiguous["x"]) == 4


def test_a_link_that_leads_nowhere_is_found_and_gives_way_to_any_file(tmp_path):
    (tmp_path / "x.mp4").symlink_to(tmp_path / "gone")
    (tmp_path / "y.mp4").symlink_to(tmp_path / "y.mp4")
    (tmp_path / "z.mp4").symlink_to(touch(tmp_path / "a" / "x.avi"))
    assert find_videos(tmp_path).find("x") == tmp_path / "a" / "x.avi"
    assert find_videos(tmp_path).find("y") == tmp_path / "y.mp4"
    assert find_videos(tmp_path).find("z") == tmp_path / "z.mp4"


def test_missing_file_names_id_folder_and_the_nearest(tmp_path):
    touch(tmp_path / "v_abcdef.mp4")
    with pytest.raises(VideoError, match="'abcdeg'") as caught:
        find_videos(tmp_path).find("abcdeg")
    assert str(tmp_path) in str(caught.value)
    assert "v_abcdef" in str(caught.value)


def test_ids_never_leave_the_folder(tmp_path):
    touch(tmp_path / "secret.mp4")
    (tmp_path / "videos").mkdir()
    for video_id in ("../secret", str(tmp_path / "secret"), ""):
        with pytest.raises(VideoError):
            find_videos(tmp_path / "videos").find(video_id)


def test_an_id_may_be_the_place_of_a_file_as_in_soccernet(tmp_path):
    files = ["cup/2015/a - b/1_224p.mkv", "cup/2015/a - b/1_720p.mkv", "cup/2015/a - b/2_HQ.mkv",
             "cup/2015/c - d/1_224p.mkv",
             "cup/2015/c - d/1.mkv", "cup/other.mp4"]  # fmt: skip
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    index = find_videos(tmp_path / "**")
    for video_id, name in {
        "cup/2015/a - b/1": files[0],  # the smallest resolution
        "cup/2015/a - b/1_720p": files[1],
        "cup/2015/a - b/2": files[2],
        "cup/2015/c - d/1": files[4],
        "cup/other": files[5],
    }.items():
        assert index.find(video_id) == tmp_path / name
    for wrong in ("2015/a - b/1", "cup/2015/../2015/a - b/1", "cup/2015/a - b/3", "../cup/other"):
        with pytest.raises(VideoError, match="No video file for id"):
            index.find(wrong)


def test_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(VideoError, match="cannot be read"):
        find_videos(tmp_path / "none")
    with pytest.raises(VideoError, match="cannot be read"):
        find_videos(touch(tmp_path / "file.mp4"))
