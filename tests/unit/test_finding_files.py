"""Video files by what they hold, names in any form, companions passed over, folders searched, near names suggested."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path

import av
import numpy as np
import pytest

from lofi_tal.annotations.formats import ImportOptions, VideoFolder, import_annotations
from lofi_tal.annotations.formats.thumos import class_files
from lofi_tal.cli import app as cli
from lofi_tal.cli.common import pasted, with_home
from lofi_tal.config import FeaturesSection, make_recipe
from lofi_tal.detection import _video_files
from lofi_tal.errors import nearest_id
from lofi_tal.features import PublishedFeatures
from lofi_tal.recipes import load_recipe
from lofi_tal.video import VideoError, VideoManifest, find_videos, list_videos
from tests.importing import touch, write


def film(path: Path, container: str, codec: str = "mpeg2video") -> Path:
    """Encode 25 frames into any container."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(25):
            picture = np.full((48, 64, 3), 9 * number, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode(None))
    return path


# --- by content, not by a list of suffixes


@pytest.mark.parametrize(
    ("name", "container", "codec"),
    [
        ("dvd.vob", "vob", "mpeg2video"),
        ("camera.asf", "asf", "mpeg4"),
        ("broadcast.mxf", "mxf", "mpeg2video"),
        ("raw.h264", "h264", "libx264"),
        ("disc.evo", "vob", "mpeg2video"),  # these suffixes are in no list
        ("recorder.nvr", "matroska", "mjpeg"),
        ("phone", "mp4", "libx264"),
        ("take.2", "avi", "mpeg4"),
        ("Überwachung.MP4_original", "mp4", "libx264"),
    ],
)
def test_whatever_ffmpeg_opens_is_a_video(tmp_path, name, container, codec):
    path = film(tmp_path / name, container, codec)
    touch(path.with_suffix(".txt"), b"notes\n" * 50)
    touch(path.with_suffix(".srt"), b"1\n00:00:01,000 --> 00:00:02,000\nhello\n")
    index = find_videos(tmp_path)
    assert index.find(Path(name).stem) == index.find(name) == path
    assert list_videos(tmp_path) == _video_files([tmp_path]) == [path]
    assert VideoManifest(None, workers=1).examine([path])[path].frames == 25


def test_what_is_no_video_is_not_taken_for_one(tmp_path):
    touch(tmp_path / "a.txt", b"a text\n" * 100)
    touch(tmp_path / "a.json", b'{"database": {}}')
    np.save(tmp_path / "a.npy", np.zeros((20, 8), np.float32))
    with av.open(str(tmp_path / "a.png"), "w", format="image2") as file:
        stream = file.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
    assert "a" not in find_videos(tmp_path)
    assert list_videos(tmp_path) == []


def test_ids_may_be_whole_names_of_files(tmp_path):
    path = film(tmp_path / "cafe.mp4", "mp4", "libx264")
    index = find_videos(tmp_path)
    assert index["cafe"] == index["cafe.mp4"] == path
    assert index.get("cafe.mkv") is None
    assert index.get("mp4") is None


def test_usual_suffixes_come_first(tmp_path):
    film(tmp_path / "a.xyz", "mp4", "libx264")
    assert find_videos(tmp_path).find("a").suffix == ".xyz"
    film(tmp_path / "a.mkv", "matroska", "libx264")
    assert find_videos(tmp_path).find("a").suffix == ".mkv"


# --- names in any Unicode form


@pytest.mark.parametrize("name", ["Küche_01", "한글", "Café", "がぎぐ", "Việt Nam", "Ω", "café.final"])
@pytest.mark.parametrize(("stored", "asked"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFKD", "NFC")])
def test_names_match_in_any_unicode_form(tmp_path, name, stored, asked):
    path = touch(tmp_path / f"{unicodedata.normalize(stored, name)}.mp4")
    index = find_videos(tmp_path)
    assert index.find(unicodedata.normalize(asked, name)) == path
    assert index.find(unicodedata.normalize(asked, f"v_{name}")) == path


def test_features_match_in_any_unicode_form(tmp_path):
    np.save(tmp_path / f"{unicodedata.normalize('NFD', 'Küche')}.npy", np.zeros((4, 2), np.float32))
    assert not isinstance(PublishedFeatures([tmp_path], 4).place("Küche"), str)


def test_imported_ids_are_composed(tmp_path):
    name = unicodedata.normalize("NFD", "Küche")
    path = write(tmp_path / "a.csv", f"video,start,end,label\n{name}.mp4,0,1,rühren\nKüche.mp4,1,2,rühren\n")
    found = import_annotations([path]).annotations
    assert list(found.videos) == ["Küche"]
    assert len(found["Küche"].segments) == 2


# --- companions


@pytest.mark.parametrize(
    "name",
    ["._cut.mp4", ".cut.mp4", "cut.mp4.part", "cut.crdownload", "cut.LRV", "cut.THM", "__MACOSX/cut.mp4",
     "@eaDir/cut.mp4", "$RECYCLE.BIN/cut.mp4", ".Trashes/cut.mp4"],
)  # fmt: skip
def test_companions_are_passed_over(tmp_path, name):
    companion = touch(tmp_path / name, b"\x00\x05\x16\x07" * 50)
    assert "cut" not in find_videos(tmp_path)
    assert "cut" not in find_videos(tmp_path / "**")
    assert list_videos(tmp_path) == list_videos(tmp_path / "**") == []
    path = touch(tmp_path / "cut.mp4")
    assert find_videos(tmp_path).find("cut") == path
    assert list_videos(tmp_path / "**") == [path]
    assert companion.exists()


def test_companions_of_features_and_class_files_are_passed_over(tmp_path):
    np.save(tmp_path / "cut.npy", np.zeros((4, 2), np.float32))
    touch(tmp_path / "._cut.npy", b"\x00\x05\x16\x07")
    touch(tmp_path / "._other.npy", b"\x00\x05\x16\x07")
    touch(tmp_path / "__MACOSX" / "other.npy", b"\x00\x05\x16\x07")
    features = PublishedFeatures([tmp_path], 4)
    assert features.read("cut").shape == (2, 4)
    assert isinstance(features.place("other"), str)
    touch(tmp_path / "Diving_val.txt")
    touch(tmp_path / "._Diving_val.txt")
    assert class_files(tmp_path) == [tmp_path / "Diving_val.txt"]


# --- folders


def test_deeper_folders_are_searched_where_that_is_asked_for(tmp_path):
    path = touch(tmp_path / "2024" / "may" / "cam 1" / "x.mp4")
    with pytest.raises(VideoError, match="Deeper folders are searched with --recursive"):
        find_videos(tmp_path).find("x")
    assert find_videos(tmp_path / "**").find("x") == path
    assert list_videos(tmp_path) == []
    assert list_videos(tmp_path / "**") == [path]
    shallow = touch(tmp_path / "2025" / "x.avi")
    assert find_videos(tmp_path / "**").find("x") == shallow  # the nearer one


def test_links_back_do_not_end_in_a_circle(tmp_path):
    path = touch(tmp_path / "a" / "b" / "x.mp4")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert find_videos(tmp_path / "**").find("x").samefile(path)
    assert find_videos(tmp_path / "**").files["x"] == (path,)


@pytest.fixture
def lofi(monkeypatch, capsys):
    """Return a function that runs a command line, and gives exit status and what it said."""

    def run(*arguments) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["lofi", *map(str, arguments)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def test_the_commands_search_where_they_are_asked_to(tmp_path, lofi):
    film(tmp_path / "v" / "a" / "b" / "x.vob", "vob")
    table = write(tmp_path / "t.csv", "filename,onset,offset,behavior\nx,0.2,0.6,jump\n")
    columns = "video=filename,start=onset,end=offset,label=behavior"
    out = tmp_path / "l.json"
    arguments = ("data", "convert", table, "--columns", columns, "--videos", tmp_path / "v", "-o", out)
    status, said = lofi(*arguments)
    assert status == 3
    assert "--recursive" in said
    assert lofi(*arguments, "--recursive")[0] == 0
    status, said = lofi("data", "check", out, "--videos", tmp_path / "v", "--workers", 1)
    assert "missing-video" in said
    status, said = lofi("data", "check", out, "--videos", tmp_path / "v", "--workers", 1, "--recursive")
    assert "missing-video" not in said


def test_the_help_lists_the_formats_of_the_registry(lofi):
    status, said = lofi("data", "convert", "--help")
    assert status == 0
    for name in ("boris", "elan-text", "audacity", "frame-wise", "coin", "cvat"):
        assert name in said


# --- near names


@pytest.mark.parametrize(
    ("wanted", "known", "expected"),
    [
        ("video_12", ["video_1", "video_12_rgb", "video_13"], "video_12_rgb"),
        ("abc", ["xyz", "v_abc_flow"], "v_abc_flow"),
        ("v_abc", ["abc-i3d", "v_abd"], "abc-i3d"),
        ("Kitchen", ["KITCHEN"], "KITCHEN"),
        ("kitchen", ["2024-05-01_kitchen_left", "hall"], "2024-05-01_kitchen_left"),
        ("vid_07", ["vid_7", "vid_08"], "vid_7"),
        ("kicthen", ["hall", "kitchen"], "kitchen"),
        ("video_12", ["video_13", "video_112"], None),  # another number is another video
        ("v_aaaaaaaaaaa", ["v_bbbbbbbbbbb"], None),
        ("", ["a"], None),
    ],
)
def test_near_names(wanted, known, expected):
    assert nearest_id(wanted, known) == ("" if expected is None else f" Did you mean {expected!r}?")


def test_missing_features_name_the_near_ones(tmp_path):
    np.save(tmp_path / "a_rgb.npy", np.zeros((4, 2), np.float32))
    assert str(PublishedFeatures([tmp_path], 4).place("a")).endswith("Did you mean 'a_rgb'?")


# --- paths as people type them


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    touch(tmp_path / "videos" / "a.mp4")
    assert find_videos("~/videos").find("a") == tmp_path / "videos" / "a.mp4"
    content = {"data": {"annotations": "~/a.json", "videos": "~/videos"}, "features": {"sources": "~/tc"}}
    recipe = make_recipe(content)
    assert recipe.data.annotations == tmp_path / "a.json"
    assert recipe.features == FeaturesSection(sources=(tmp_path / "tc",))
    path = write(tmp_path / "r" / "r.yaml", "data: {annotations: ~/a.json, videos: v}\nfeatures: {sources: ~/tc}\n")
    recipe = load_recipe(path, ("data.videos=~/videos",))
    assert (recipe.data.annotations, recipe.data.videos) == (tmp_path / "a.json", tmp_path / "videos")
    assert recipe.features.sources == (tmp_path / "tc",)
    assert make_recipe({"data": {"annotations": "~a.json", "videos": "v"}}).data.annotations == Path("~a.json")


def test_one_value_will_do_where_a_list_is_meant(tmp_path):
    path = write(tmp_path / "f.yaml", "data: {annotations: a.json}\nfeatures: {sources: tc}\nhead: {lrs: 0.001}\n")
    recipe = load_recipe(path)
    assert recipe.features.sources == (tmp_path / "tc",)
    assert recipe.head.lrs == (0.001,)


def test_arguments_that_the_shell_leaves_are_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/anna")
    given = ["data", "check", "~/l.json", "--videos=~/v", "--set", "data.videos=~/v", "--group-by", "a~/b", "~x"]
    expected = ["data", "check", "/home/anna/l.json", "--videos=/home/anna/v", "--set", "data.videos=/home/anna/v"]
    assert with_home(given) == [*expected, "--group-by", "a~/b", "~x"]


def test_suggested_commands_can_be_pasted():
    assert pasted("lofi", "run", Path("my set #2/recipe.yaml")) == "lofi run 'my set #2/recipe.yaml'"
    assert pasted("lofi", "run", Path("r.yaml")) == "lofi run r.yaml"


def test_rates_come_from_files_of_any_container(tmp_path):
    film(tmp_path / "v" / "ward.mxf", "mxf")
    lines = write(tmp_path / "ward.txt", "walk\n" * 10 + "fall\n" * 15)
    found = import_annotations([lines], None, ImportOptions(videos=VideoFolder(tmp_path / "v"))).annotations
    assert found["ward"].segments.end.tolist() == pytest.approx([0.4, 1.0])
    shutil.rmtree(tmp_path / "v")


def test_reported_ways_to_lay_out_videos(tmp_path):
    """Linked folders (trackma 44), folders named as videos (diffusion-pipe 422), capitals (DeepLabCut 2763)."""
    clip = touch(tmp_path / "2024" / "vid183.mp4" / "clip01.mp4")
    (tmp_path / "disk").mkdir()
    linked = touch(tmp_path / "elsewhere" / "b.MOV")
    (tmp_path / "disk" / "more").symlink_to(linked.parent)
    index = find_videos(tmp_path / "**")
    assert index.find("clip01") == clip
    assert index.find("b").samefile(linked)
    assert "vid183" not in index


def test_reported_names_with_the_kind_of_camera(tmp_path):
    """AUTSL has <id>_color.mp4 and <id>_depth.mp4 (mmaction2 525)."""
    for name in ("signer0_sample1_color", "signer0_sample1_depth", "signer0_sample10_color"):
        touch(tmp_path / f"{name}.mp4")
    with pytest.raises(VideoError, match="Did you mean 'signer0_sample1_color'"):
        find_videos(tmp_path).find("signer0_sample1")
