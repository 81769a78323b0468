"""Videos in the studio: every byte can be asked for, every browser can play them, and times stay the project's own."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from lofi_tal.errors import LofiError
from lofi_tal.studio.proxies import Share, proxy_ticks, write_proxy
from lofi_tal.studio.serving import Part, read_range
from lofi_tal.video import decode_frames, probe_video
from lofi_tal.video.frame_times import scan
from tests.studio import client_of, desk_of, folder_of
from tests.videos import GREY, every, make, with_matrix


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-", Part(0, 10)),
        ("bytes=0-0", Part(0, 1)),
        ("bytes=9-9", Part(9, 10)),
        ("bytes=9-", Part(9, 10)),
        ("bytes=-1", Part(9, 10)),
        ("bytes=-99", Part(0, 10)),
        ("bytes=2-99", Part(2, 10)),
        ("bytes = 3 - 4", Part(3, 5)),
        ("BYTES=3-4", Part(3, 5)),
        ("", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=4-3", None),
        ("items=0-1", None),
        ("bytes=0-1,3-4", None),
        ("bytes=a-b", None),
        ("bytes=" + "9" * 30 + "-", None),
        ("bytes=0-1-2", None),
    ],
)
def test_a_range_header_means_what_the_standard_says(header, part):
    assert read_range(header, 10) == part


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_beyond_the_end_is_told_apart(header):
    with pytest.raises(ValueError):  # noqa: PT011
        read_range(header, 10)


@pytest.fixture
def folder(tmp_path):
    return folder_of(tmp_path / "videos", ["a"])


def test_each_range_gives_exactly_its_bytes(folder):
    whole = (folder / "a.mp4").read_bytes()
    size = len(whole)
    client = client_of(desk_of(folder))
    plain = client.get("/media/a")
    assert (plain.status_code, plain.content) == (200, whole)
    assert plain.headers["accept-ranges"] == "bytes"
    for header, first, end in (
        ("bytes=0-", 0, size),
        (f"bytes={size - 1}-", size - 1, size),
        ("bytes=-1", size - 1, size),
        ("bytes=0-0", 0, 1),
        (f"bytes=5-{size + 99}", 5, size),
        ("bytes=7-11", 7, 12),
    ):
        answer = client.get("/media/a", headers={"Range": header})
        assert (answer.status_code, answer.content) == (206, whole[first:end])
        assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/{size}"
        assert answer.headers["content-length"] == str(end - first)
        head = client.head("/media/a", headers={"Range": header})
        assert (head.status_code, head.headers["content-length"], head.content) == (206, str(end - first), b"")
    beyond = client.get("/media/a", headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")


def test_a_part_of_another_version_of_the_file_is_never_mixed_in(folder):
    client = client_of(desk_of(folder))
    etag = client.get("/media/a").headers["etag"]
    part = {"Range": "bytes=0-3"}
    assert client.get("/media/a", headers={**part, "If-Range": etag}).status_code == 206
    assert client.get("/media/a", headers={"If-None-Match": etag}).status_code == 304
    with (folder / "a.mp4").open("ab") as file:
        file.write(b"more")
    assert client.get("/media/a", headers={**part, "If-Range": etag}).status_code == 200
    assert client.get("/media/a", headers={**part, "If-Range": "Thu, 01 Jan 1970 00:00:00 GMT"}).status_code == 200


def _make_hevc10(path):
    """Write a 10-bit HEVC file of 20 pictures that grow brighter, at a variable rate."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx265", rate=10, options={"x265-params": "log-level=none:bframes=2"})
        stream.width, stream.height, stream.pix_fmt = 64, 96, "yuv420p10le"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(20):
            picture = np.full((96, 64, 3), 10 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p10le")
            frame.pts, frame.time_base = 100 * number + 30 * (number % 3), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def _proxied(client, video):
    """Return the description of a video's proxy once it is ready."""
    for _ in range(600):
        media = client.get(f"/api/videos/{video}/media").json()
        if media["state"] != "making":
            return media
        client.portal.call(__import__("anyio").sleep, 0.05)
    raise AssertionError(media)


def test_a_10_bit_hevc_file_gets_a_proxy_with_the_time_of_each_frame(tmp_path):
    folder = folder_of(tmp_path / "videos", ["plain"])
    _make_hevc10(folder / "hevc.mp4")
    desk = desk_of(folder)
    told = []
    with client_of(desk) as client:
        desk.bell.tell = told.append
        media = _proxied(client, "hevc")
        assert (media["state"], media["url"], media["problem"]) == ("ready", "/proxy/hevc", None)
        times = np.frombuffer(client.get("/api/videos/hevc/frames").content, "<f8")
        (tmp_path / "proxy.mp4").write_bytes(client.get(media["url"]).content)
        assert client.get("/api/videos/plain/media").json()["state"] == "original"
    assert {"kind": "media", "id": "hevc", "state": "ready", "share": 1.0} in told
    proxy = probe_video(tmp_path / "proxy.mp4")
    source = probe_video(folder / "hevc.mp4")
    assert (proxy.codec, proxy.start, proxy.frames, proxy.height, proxy.width) == ("h264", 0.0, 20, 96, 64)
    assert np.abs(proxy.times + media["offset"] - times).max() < 1e-4
    assert abs(proxy.duration - source.duration) < 1e-4
    decoded = decode_frames(tmp_path / "proxy.mp4", proxy.times).frames[:, 48, 32].mean(1)
    assert np.abs(decoded - 10 * np.arange(20)).max() < 6  # each picture at its own time
    with av.open(str(tmp_path / "proxy.mp4")) as file:
        assert file.streams.video[0].codec_context.pix_fmt == "yuv420p"


def test_times_of_a_file_whose_first_picture_is_late_are_right_through_its_proxy(tmp_path):
    folder = folder_of(tmp_path / "videos", [])
    make(folder / "late.mkv", every(100, 30, start=3000), sound=0.0)
    desk = desk_of(folder)
    with client_of(desk) as client:
        media = _proxied(client, "late")
        times = np.frombuffer(client.get("/api/videos/late/frames").content, "<f8")
        (tmp_path / "proxy.mp4").write_bytes(client.get(media["url"]).content)
        desk.shelf.examine_now(["late"])
        entry = client.get("/api/videos/late/entry").json()
    assert (media["offset"], times[0], entry["clock"]) == (3.0, 3.0, {"start": 3.0, "end": 6.0})
    proxy = decode_frames(tmp_path / "proxy.mp4", [4.05 - media["offset"]])
    assert abs(proxy.frames.mean() - GREY * 10) < 4  # on the player's clock, 4.05 s is the eleventh picture
    assert abs(proxy.times[0] + media["offset"] - 4.0) < 1e-4


def test_a_portrait_video_stays_upright(tmp_path):
    folder = folder_of(tmp_path / "videos", [])
    make(tmp_path / "flat.mp4", every(100, 5))
    with_matrix(folder / "turned.mp4", tmp_path / "flat.mp4", 0, 1, -1, 0)
    desk = desk_of(folder)
    desk.shelf.examine_now(["turned"])
    client = client_of(desk)
    listed = client.get("/api/videos").json()["videos"][0]
    assert (listed["width"], listed["height"]) == (48, 64)
    assert client.get("/api/videos/turned/media").json()["state"] == "original"
    write_proxy(folder / "turned.mp4", tmp_path / "proxy.mp4", Share())
    proxy = probe_video(tmp_path / "proxy.mp4")
    assert (proxy.width, proxy.height, proxy.rotation) == (48, 64, 0)
    thumb = client.get("/thumb/turned")
    assert thumb.headers["content-type"] == "image/jpeg"
    (tmp_path / "thumb.jpg").write_bytes(thumb.content)
    with av.open(str(tmp_path / "thumb.jpg")) as file:
        assert (file.streams.video[0].width, file.streams.video[0].height) == (320, 427)


@pytest.mark.parametrize(
    ("name", "options", "state"),
    [
        ("x.mp4", {}, "original"),
        ("x.mov", {}, "original"),
        ("x.mkv", {}, "making"),
        ("x.avi", {"codec": "mpeg4"}, "making"),
        ("x.mpg", {"codec": "mpeg2video", "rate": 25}, "making"),
        ("x.webm", {"codec": "libvpx-vp9"}, "original"),
    ],
)
def test_what_some_browser_cannot_play_is_copied(tmp_path, name, options, state):
    folder = folder_of(tmp_path / "videos", [])
    make(folder / name, every(40, 10), **options)
    desk = desk_of(folder)
    media = client_of(desk).get("/api/videos/x/media").json()
    assert (media["state"], media["offset"]) == (state, 0.0)
    desk.shelf.examine_now(["x"])
    assert client_of(desk).get("/api/videos").json()["videos"][0]["playable"] == (state == "original")


def test_a_broken_video_says_why_and_can_be_tried_again(tmp_path):
    folder = folder_of(tmp_path / "videos", [])
    (folder / "broken.mp4").write_bytes(b"this is no video at all")
    client = client_of(desk_of(folder))
    for answer in (
        client.get("/api/videos/broken/media"),
        client.post("/api/videos/broken/media", json={}),
        client.get("/thumb/broken"),
        client.get("/api/videos/broken/frames"),
        client.get("/strip/broken?from=0&to=1"),
    ):
        assert answer.status_code == 400
        assert "broken.mp4" in answer.json()["error"]
    assert client.get("/proxy/broken").status_code == 404


def onset(path):
    """Return when the sound of a file begins to be loud, in seconds, and when it ends."""
    with av.open(str(path)) as file:
        blocks = [(frame.time, frame.sample_rate, abs(frame.to_ndarray()).max(0)) for frame in file.decode(audio=0)]
    loud = [time + np.argmax(wave > 0.2) / rate for time, rate, wave in blocks if (wave > 0.2).any()]
    return loud[0], blocks[-1][0] + len(blocks[-1][2]) / blocks[-1][1]


@pytest.mark.parametrize(("name", "start", "sound"), [("x.mkv", 0, 0.0), ("x.mkv", 2000, 1.0), ("x.mp4", 0, 1.5)])
def test_a_proxy_has_the_sound_where_it_belongs(tmp_path, name, start, sound):
    """A tone begins 3 s after the first picture, whatever came first, and wherever the clock of the file begins."""
    make(tmp_path / name, every(100, 60, start), sound=sound, loud=start / 1000 + 3.0)
    write_proxy(tmp_path / name, tmp_path / "proxy.mp4", Share())
    proxy = probe_video(tmp_path / "proxy.mp4")
    assert (proxy.frames, proxy.start) == (60, 0.0)
    assert proxy.times[:3] == pytest.approx([0, 0.1, 0.2])
    begins, ends = onset(tmp_path / "proxy.mp4")
    assert begins == pytest.approx(3.0, abs=0.03)
    assert ends <= 6.1


def test_damaged_sound_costs_no_picture(tmp_path):
    make(tmp_path / "x.mkv", every(100, 30), sound=0.0)
    with av.open(str(tmp_path / "x.mkv")) as file, av.open(str(tmp_path / "bad.mkv"), "w") as bad:
        tracks = {stream.index: bad.add_stream_from_template(stream) for stream in file.streams}
        for packet in file.demux():
            if packet.dts is not None:
                noise = av.Packet(bytes(packet)[::-1]) if packet.stream.type == "audio" else packet
                noise.pts, noise.dts, noise.time_base = packet.pts, packet.dts, packet.time_base
                noise.stream = tracks[packet.stream.index]
                bad.mux(noise)
    write_proxy(tmp_path / "bad.mkv", tmp_path / "proxy.mp4", Share())
    assert probe_video(tmp_path / "proxy.mp4").frames == 30


def test_a_proxy_that_is_stopped_leaves_nothing(folder, tmp_path):
    share = Share()
    share.stop()
    with pytest.raises(LofiError, match="stopped"):
        write_proxy(folder / "a.mp4", tmp_path / "proxies" / "a.mp4", share)
    assert list((tmp_path / "proxies").iterdir()) == []


def test_frames_that_are_nearly_at_one_time_stay_apart(tmp_path):
    make(tmp_path / "x.mp4", [0, 1, 2, 500])
    ticks = proxy_ticks(scan(tmp_path / "x.mp4"))
    assert ticks[:4] == [0, 90, 180, 45000]
    assert (np.diff(ticks) > 0).all()


def test_a_link_within_the_folder_plays_as_its_file_does(folder):
    (folder / "link.mp4").symlink_to(folder / "a.mp4")
    desk = desk_of(folder)
    desk.shelf.examine_now(["a", "link"])
    client = client_of(desk)
    assert client.get("/api/videos/link/media").json()["state"] == "original"
    assert client.get("/media/link").content == (folder / "a.mp4").read_bytes()
    assert {one["id"]: one["playable"] for one in client.get("/api/videos").json()["videos"]}["link"] is True


def test_a_strip_shows_frames_side_by_side(folder, tmp_path):
    answer = client_of(desk_of(folder)).get("/strip/a?from=0&to=4&count=4")
    (tmp_path / "strip.jpg").write_bytes(answer.content)
    with av.open(str(tmp_path / "strip.jpg")) as file:
        assert (file.streams.video[0].width, file.streams.video[0].height) == (320, 60)


def test_files_are_examined_in_the_background_and_events_tell(folder):
    desk = desk_of(folder)
    told = []
    desk.bell.tell = told.append
    with client_of(desk) as client:
        for _ in range(200):
            if told:
                break
            client.portal.call(__import__("anyio").sleep, 0.05)
        assert {"kind": "videos"} in told
        assert client.get("/api/videos").json()["videos"][0]["duration"] == 4.0
    again = desk_of(folder)
    again.shelf.examine_now(["a"])
    assert (again.work / "videos.jsonl").read_text().count("\n") == 1  # known from the first time
