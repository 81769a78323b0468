"""Files that only look like videos: sent to read other files, to connect somewhere, or to stop a machine."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

from tests.videos import every, make

Content = bytes | str


def hostile_videos(folder: Path, canary: Path, url: str) -> list[Path]:
    """Write the files into a folder of their own.

    Args:
        folder: Is made.
        canary: A video file elsewhere that none of them must reach.
        url: Where nobody must connect to.

    Returns:
        The files.
    """
    folder.mkdir()
    real = {suffix: make(folder / f"real.{suffix}", every(100, 12)).read_bytes() for suffix in ("mp4", "mov", "mkv")}
    for path in folder.glob("real.*"):
        path.unlink()
    (folder / "beside.sub").symlink_to(canary)
    (folder / "spanned.M00").symlink_to(canary)
    for number in range(3):
        (folder / f"film{number:03d}.png").symlink_to(canary)
    files = {**_lists(canary, url), **_large(), **_broken(real), **_names(real["mp4"]), **_references(real, canary)}
    paths = []
    for name, content in files.items():
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        paths.append(path)
    return paths


def _lists(canary: Path, url: str) -> dict[str, Content]:
    """Playlists and scripts, under names of their own and under those of videos."""

    def hls(line: str) -> str:
        return f"#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{line}\n#EXT-X-ENDLIST\n"

    def dash(base: str) -> str:
        return (
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            f'mediaPresentationDuration="PT9S"><Period><BaseURL>{base}</BaseURL><AdaptationSet contentType="video">'
            '<Representation id="1" bandwidth="9"><SegmentList duration="9"><SegmentURL media=""/></SegmentList>'
            "</Representation></AdaptationSet></Period></MPD>"
        )

    keyed = hls(str(canary)).replace("#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="{canary}"\n#EXTINF')
    mapped = hls(str(canary)).replace("#EXTINF", f'#EXT-X-MAP:URI="{canary}"\n#EXTINF')
    return {
        "list.m3u8": hls(str(canary)),
        "list.mp4": hls(str(canary)),
        "list": hls(f"file:{canary}"),
        "web.ts": hls(f"{url}/a.ts"),
        "crypt.mkv": keyed,
        "crypt_web.mp4": keyed.replace(str(canary), f"{url}/key"),
        "map.mov": mapped,
        "master.m3u8": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9\n{canary}\n",
        "joined.m3u8": hls(f"concat:{canary}|{canary}"),
        "sub.mp4": hls(f"subfile,,start,0,end,99,,:{canary}"),
        "script.mp4": f"ffconcat version 1.0\nfile '{canary}'\n",
        "script.ffconcat": f"ffconcat version 1.0\noption safe 0\nfile '{canary}'\nduration 9\n",
        "script_web.avi": f"ffconcat version 1.0\nfile '{url}/a.mp4'\n",
        "dash.mpd": dash(f"{url}/"),
        "dash.mp4": dash(str(canary)),
        "stream.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        "stream.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        "redirect.mp4": f"RTSPtext\n{url.replace('http', 'rtsp')}/a\n",
        "reference.asf": f"[Reference]\nRef1={url}/a.asf\n",
        "winamp.mp4": f"[playlist]\nFile1={canary}\nNumberOfEntries=1\n",
        "filter.mp4": f"movie={canary}\n",
        "chapters.mp4": f";FFMETADATA1\ntitle={canary}\n",
        "drawing.svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{canary}"/></svg>',
        "package.xml": f'<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>{canary}</Id>',
        "said.mp4": "WEBVTT\n\n00:00.000 --> 00:09.000\nhello\n",
        "said.srt": "1\n00:00:00,000 --> 00:00:09,000\nhello\n",
        "beside.idx": "# VobSub index file, v7 (do not modify this line!)\nsize: 720x576\nid: en, index: 0\n"
        "timestamp: 00:00:00:000, filepos: 000000000\n",
    }  # fmt: skip


def gif(width: int, height: int, frames: int = 2, delay: int = 10) -> bytes:
    """Return an animation whose frames change one pixel each."""
    control = b"\x21\xf9\x04\x04" + struct.pack("<H", delay) + b"\x00\x00"
    picture = b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\x00\x02\x02\x44\x01\x00"
    head = b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\x00\x00" + b"\x00\x00\x00\xff\xff\xff"
    return head + (control + picture) * frames + b"\x3b"


def _apng(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    control = struct.pack(">IIIIIHHBB", 0, 1, 1, 0, 0, 1, 10, 0, 0)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    head += chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", control)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def _ivf(width: int, height: int) -> bytes:
    key = b"\x10\x02\x00\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(64)
    head = b"DKIF" + struct.pack("<HH4sHHIIII", 0, 32, b"VP80", width, height, 10, 1, 2, 0)
    return head + b"".join(struct.pack("<IQ", len(key), number) + key for number in range(2))


def _y4m(width: int, height: int, rate: str = "10:1", frames: int = 2) -> bytes:
    frame = b"FRAME\n" + bytes(min(width * height + 2 * (-(-width // 2) * -(-height // 2)), 200_000))
    return f"YUV4MPEG2 W{width} H{height} F{rate} C420jpeg\n".encode() + frame * frames


def _mjpeg(width: int, height: int) -> bytes:
    """Return pictures whose headers claim a size, one after the other."""
    head = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3)
    return (head + b"\x01\x22\x00\x02\x11\x01\x03\x11\x01" + b"\xff\xd9") * 5


def _large() -> dict[str, Content]:
    """Small files that claim large pictures, much time or many frames."""
    return {
        "sixteen_thousand.gif": gif(16000, 16000, 60),
        "largest.gif": gif(65535, 65535),
        "long_times.gif": gif(32, 32, 40, 65535),
        "nothing.gif": gif(0, 0),
        "canvas.apng": _apng(60000, 60000),
        "most.apng": _apng(2**31 - 1, 2**31 - 1),
        "wide.y4m": _y4m(100_000, 100_000),
        "strip.y4m": _y4m(1, 60_000),
        "line.y4m": _y4m(60_000, 1),
        "no_rate.y4m": _y4m(32, 24, "0:0"),
        "fast.y4m": _y4m(32, 24, "2147483647:1", 20),
        "slow.y4m": _y4m(32, 24, "1:2147483647", 20),
        "claims.ivf": _ivf(16383, 16383),
        "allowed.gif": gif(4000, 4000, 3),
        "claims.mjpeg": _mjpeg(65500, 65500),
    }


def _patched(content: bytes, name: bytes, at: int, new: bytes) -> bytes:
    """Return content with some bytes replaced, counted from the end of every ``name``."""
    parts = content.split(name)
    return name.join([parts[0], *(part[:at] + new + part[at + len(new) :] for part in parts[1:])])


def _broken(real: dict[str, bytes]) -> dict[str, Content]:
    """Real files with wrong numbers, boxes in boxes, and bits that flipped."""
    film, matroska = real["mp4"], real["mkv"]
    nested = b""
    for _ in range(2000):
        nested = struct.pack(">I4s", len(nested) + 8, b"moov") + nested
    rest = film[film.index(b"mdat") - 4 :]
    files: dict[str, Content] = {
        "claims.mp4": _patched(film, b"avc1", 24, b"\xff\xff\xff\xff"),
        "no_clock.mp4": _patched(film, b"mdhd", 12, bytes(4)),
        "fast_clock.mp4": _patched(film, b"mdhd", 12, b"\xff\xff\xff\xff"),
        "many_samples.mp4": _patched(film, b"stsz", 8, b"\xff\xff\xff\xff"),
        "many_times.mp4": _patched(film, b"stts", 4, b"\x7f\xff\xff\xff"),
        "long_pictures.mp4": _patched(film, b"stts", 12, b"\x7f\xff\xff\xff"),
        "nested.mp4": struct.pack(">I4s4s4x", 16, b"ftyp", b"isom") + nested,
        "endless_box.mp4": struct.pack(">I4s4s4x", 16, b"ftyp", b"isom") + b"\x00\x00\x00\x01moov" + b"\xff" * 8 + rest,
        "nested.mkv": matroska[:40] + b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" * 500,
        "noise.ts": (b"\x47" + bytes(187)) * 50 + random.Random(0).randbytes(5000),
    }
    for seed in range(6):
        draw = random.Random(seed)
        damaged = bytearray((film, matroska)[seed % 2])
        for _ in range(30):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        files[f"flipped_{seed}.{('mp4', 'mkv')[seed % 2]}"] = bytes(damaged)
    return files


def _names(film: bytes) -> dict[str, Content]:
    """Real videos with names that mean something to a shell, a terminal, FFmpeg or a page."""
    names = (
        "-i.mp4",
        "concat:a|b.mp4",
        "http:a.mp4",
        "[red]bold.mp4",
        "\x1b[31mred\x07.mp4",
        "a\nb.mp4",
        "caf\udce9.mp4",
    )
    other = ("=1+1.mp4", "<script>alert(1)</script>".replace("/", "_") + ".mp4", "a\u202e4pm.mp4", "%s%n%03d.mp4")
    return dict.fromkeys((*names, *other), film)


def _references(real: dict[str, bytes], canary: Path) -> dict[str, Content]:
    """Containers that say that their data are in another file."""
    spanned = b"MLVI" + struct.pack("<I8sQHHIHHIII", 52, b"v2.0\x00\x00\x00\x00", 7, 0, 2, 0, 1, 0, 9, 10, 1)
    pattern = b"\x89PNG\r\n\x1a\n"
    return {"alias.mov": _with_alias(real["mov"], canary), "spanned.MLV": spanned, "film%03d.png": pattern}


def _with_alias(film: bytes, canary: Path) -> bytes:
    """Return a QuickTime file whose data are, it says, in ``canary``: an alias record in its `dref`."""
    path = str(canary).encode()
    path += bytes(len(path) % 2)
    record = bytes(10) + bytes(28) + bytes(12) + bytes([len(canary.name)]) + canary.name.encode().ljust(63, b"\0")
    record += (
        bytes(16) + struct.pack(">hh", 1, 1) + bytes(16) + struct.pack(">HH", 2, len(path)) + path + b"\xff\xff\0\0"
    )
    alias = struct.pack(">I4sI", len(record) + 12, b"alis", 0) + record
    content = bytearray(film)
    for box in _boxes_to(content, (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref")):
        size = int.from_bytes(content[box : box + 4], "big")
        content[box : box + 4] = (size - 12 + len(alias)).to_bytes(4, "big")
    first = box + 16
    content[first : first + 12] = alias
    return bytes(content)


def _boxes_to(content: bytearray, names: tuple[bytes, ...]) -> list[int]:
    """Return where the boxes begin that lead to the last of ``names``."""
    found, start, end = [], 0, len(content)
    for name in names:
        while content[start + 4 : start + 8] != name:
            start += int.from_bytes(content[start : start + 4], "big")
            assert start < end, name
        found.append(start)
        start += 8
    return found
