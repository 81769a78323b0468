"""When each frame of a video is on screen, read from its packets: no header is believed, nothing is decoded through.

Headers lie about the number of frames, the duration and the rate; packets carry each frame's own time stamp,
so that variable frame rates, files without a duration (WebM, GIF) and cut files all come out right.
F: number of frames. A tick is one unit of the stream's time base.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from lofi_tal.video.clock import Clock, has_free_stamps, player_origin, start_on
from lofi_tal.video.container import VideoError, all_frames, check_size, decoded, flushed, open_video, packets
from lofi_tal.video.limits import MAX_PIXELS, MAX_SECONDS
from lofi_tal.video.orientation import Orientation, orientation_of
from lofi_tal.video.stamps import LONGEST, Mended, long_pictures, mend

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

EPSILON = 1e-6
"""Seconds by which a requested time may lie before a frame and still mean it: rounding, less than any frame lasts."""

_JUMPABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # containers with an index that FFmpeg seeks exactly

_FILES = 256  # whose times a process remembers,
_FRAMES = 2**21  # and how many times in all, of 16 bytes: ten videos of two hours
_SETTLED = 2.0  # seconds after which no clock of a file system still shows the time of the last change


@dataclass(frozen=True)
class VideoInfo:
    """What a video file really holds.

    Args:
        path: The file.
        duration: Seconds from the first frame to the end of the last one.
        frames: F, counted from the packets.
        width: Pixels as displayed, after the rotation; the pixel aspect ratio is not applied.
        height: Pixels as displayed.
        rotation: Degrees (0, 90, 180, 270) by which a player turns the coded picture counter-clockwise.
        mirrored: A player changes left and right of the coded picture before it turns it.
        start: Seconds on the player's clock at which the first frame appears; see :class:`Clock`.
        notes: What is odd about the time stamps, a sentence each.
        codec: FFmpeg's name of the codec.
        fps: Mean rate, frames / duration.
        times: ``(F,)`` sorted seconds at which each frame appears, relative to the first.
    """

    path: Path
    duration: float
    frames: int
    width: int
    height: int
    rotation: int
    codec: str
    fps: float
    times: Floats = field(repr=False, compare=False)
    mirrored: bool = False
    start: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def clock(self) -> Clock:
        """The player's clock of this video."""
        return Clock(self.start, self.duration)


@dataclass(frozen=True, eq=False)
class Timeline:
    """The time axis of a file, and what a decoder must know to follow it.

    Args:
        ticks: ``(F,)`` sorted presentation times.
        last: Ticks for which the last frame is shown.
        time_base: Seconds a tick.
        by_rank: Frames are told apart by their order out of the decoder, as their own stamps are missing or guesses.
        keys: ``(K,)`` sorted numbers of the frames at which decoding can begin; empty if only at the start.
        height: Coded pixels, before the rotation.
        width: Coded pixels.
        orientation: From the coded to the displayed picture.
        codec: FFmpeg's name of the codec.
        start: Seconds on the player's clock at which the first frame appears.
        stamps: ``(P,)`` presentation times of the packets, in the order of the file, where its own are not in line.
        notes: What is odd about the time stamps, a sentence each.
    """

    ticks: Integers
    last: int
    time_base: Fraction
    by_rank: bool
    keys: Integers
    height: int
    width: int
    orientation: Orientation
    codec: str
    start: float = 0.0
    stamps: Integers | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def times(self) -> Floats:
        """``(F,)`` seconds from the first frame."""
        return np.asarray((self.ticks - self.ticks[0]) * float(self.time_base), dtype=np.float64)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return float((int(self.ticks[-1] - self.ticks[0]) + self.last) * self.time_base)

    @property
    def display_size(self) -> tuple[int, int]:
        """Height and width after the rotation."""
        return self.orientation.display(self.height, self.width)

    def on_screen(self, times: Floats) -> Integers:
        """Return the number of the frame shown at each of the ``times``; outside the video, the first or the last."""
        return np.clip(np.searchsorted(self.times, times + EPSILON, side="right") - 1, 0, len(self.ticks) - 1)


_recent: OrderedDict[tuple[object, ...] | None, Timeline] = OrderedDict()


def probe_video(path: Path | str) -> VideoInfo:
    """Read the time axis, size and codec of a video file without decoding it through.

    A video that only stores fields (interlaced MPEG-TS) or whose packets have no time stamps is decoded once instead.

    Raises:
        VideoError: If the file is missing, empty, not a video, or not one frame of it can be decoded.
    """
    path = Path(path)
    timeline = scan(path)
    height, width = timeline.display_size
    frames = len(timeline.ticks)
    return VideoInfo(
        path=path,
        duration=timeline.duration,
        frames=frames,
        width=width,
        height=height,
        rotation=timeline.orientation.turns * 90,
        mirrored=timeline.orientation.mirrored,
        start=timeline.start,
        notes=timeline.notes,
        codec=timeline.codec,
        fps=frames / timeline.duration,
        times=timeline.times.copy(),
    )


def scan(path: Path) -> Timeline:
    """Return the time axis of a file, as it is now.

    Each process remembers those of the files that it read last: the windows of a long video are read one by one, and
    reading all packets of two hours takes longer than decoding a window.

    Raises:
        VideoError: As for :func:`probe_video`.
    """
    identity = _identity(path)
    timeline = _recent.pop(identity, None) or _read_packets(path)
    if identity is not None and identity == _identity(path):
        _recent[identity] = timeline
        while len(_recent) > _FILES or sum(len(held.ticks) for held in _recent.values()) > _FRAMES:
            _recent.popitem(last=False)
    return timeline


def _identity(path: Path) -> tuple[object, ...] | None:
    """Return what tells a file from every other one and from itself as it was; None if nothing does yet.

    A file that has just been changed can change again without another time of change, which comes in ticks.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    if time.time() - status.st_ctime < _SETTLED:
        return None
    return str(path.absolute()), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass
class _Stored:
    """What the packets of a file say: ``(P,)`` each, and P' of those that are shown."""

    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    keys: list[bool] = field(default_factory=list)
    shown: list[bool] = field(default_factory=list)

    def add(self, packet: Packet[VideoStream]) -> None:
        """Note a packet; one that an edit list cuts is decoded and never shown."""
        self.pts.append(packet.pts)
        self.dts.append(packet.dts)
        self.durations.append(packet.duration or 0)
        self.keys.append(packet.is_keyframe)
        self.shown.append(not packet.is_discard)

    def mend(self, time_base: Fraction, longest: Fraction) -> Mended | None:
        """Return the stamps of all packets in line, or None if they are, or some are missing."""
        shown = np.flatnonzero(self.shown)
        if not all(self.pts[index] is not None for index in shown.tolist()):
            return None
        pts = np.array([self.pts[index] for index in shown.tolist()], dtype=np.int64)
        mended = mend(pts, _decoding_times(pts, [self.dts[index] for index in shown.tolist()]), time_base, longest)
        if mended is None:
            return None
        stamps = np.array([stamp or 0 for stamp in self.pts], dtype=np.int64)
        stamps[shown] = mended.pts
        return replace(mended, pts=stamps)

    def known(self, stamps: Integers | None) -> list[tuple[int, int, bool]]:
        """Return ``(pts, duration, key)`` of the packets that are shown and have a stamp, sorted."""
        pts = self.pts if stamps is None else stamps.tolist()
        rows = zip(pts, self.durations, self.keys, self.shown, strict=True)
        return sorted((stamp, duration, key) for stamp, duration, key, shown in rows if shown and stamp is not None)


def _decoding_times(pts: Integers, dts: list[int | None]) -> Integers:
    """Return decoding times without gaps: the one before stands for a missing one; without any, those of display."""
    first = next((stamp for stamp in dts if stamp is not None), None)
    if first is None:
        return pts
    filled = []
    for stamp in dts:
        first = first if stamp is None else stamp
        filled.append(first)
    return np.array(filled, dtype=np.int64)


def _read_packets(path: Path) -> Timeline:
    """Read all packets, and decode the first two frames for what only they tell."""
    stored, head = _Stored(), list[VideoFrame]()
    with open_video(path) as (container, stream):
        for packet in packets(container, stream):
            if len(head) < 2:
                head += decoded(packet)
            stored.add(packet)
        if not head:
            head += flushed(stream)
        if not head or not any(stored.shown):
            raise VideoError(
                f"{path}: not one frame can be decoded: it is damaged, or has more than {MAX_PIXELS} pixels a frame."
            )
        check_size(path, head[0].height, head[0].width)
        # AVI stores no presentation times: with reordered frames the stamps are guesses in the order of decoding
        guessed = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
        jumpable = container.format.name in _JUMPABLE and all(stored.shown)
        time_base, step, codec = _time_base(stream), _nominal_step(stream), stream.codec_context.codec.canonical_name
        free, origin, begin = has_free_stamps(container), player_origin(container), stream.start_time

    mended = None if guessed else stored.mend(time_base, LONGEST[free])
    known = stored.known(None if mended is None else mended.pts)
    ticks = np.array([pts for pts, _, _ in known], dtype=np.int64)
    notes = () if mended is None else mended.notes
    last = known[-1][1] if known else 0
    if len(known) < sum(stored.shown) or _are_fields(head, np.array([row[0] for row in stored.known(None)])):
        ticks, guessed, notes = _ticks_by_decoding(path, step, time_base, LONGEST[free])
        last, jumpable, mended = 0, False, None
    if last <= 0:
        last = max(1, round(float(np.median(np.diff(ticks))))) if len(ticks) > 1 else step
    strict = bool((np.diff(ticks) > 0).all()) and mended is None
    keys = [number for number, (_, _, key) in enumerate(known) if key] if jumpable and strict and not guessed else []
    first = (begin or 0) if guessed else int(ticks[0])
    _check_length(path, (int(ticks[-1] - ticks[0]) + last) * time_base)
    return Timeline(
        ticks=ticks,
        last=last,
        time_base=time_base,
        by_rank=guessed,
        keys=np.array(keys, dtype=np.int64),
        height=head[0].height,
        width=head[0].width,
        orientation=orientation_of(head[0]),
        codec=codec,
        start=_start(start_on(origin, first * time_base), doubtful=free and bool(notes)),
        stamps=None if mended is None else mended.pts,
        notes=(*notes, *long_pictures(ticks, time_base)),
    )


def _check_length(path: Path, seconds: Fraction) -> None:
    if not 0 < seconds <= MAX_SECONDS:
        raise VideoError(
            f"{path}: lasts {float(seconds):g} s by its time stamps; more than 0 and at most {MAX_SECONDS:g} s "
            f"({MAX_SECONDS / 86400:g} days) are read: cut it, or write its time stamps anew "
            "(ffmpeg -i IN -c copy OUT)."
        )


def _start(seconds: float, *, doubtful: bool) -> float:
    """Return where the first frame lies on the player's clock; a player of parts begins with the first of them."""
    return 0.0 if doubtful and not 0 <= seconds < LONGEST[True] else seconds


def _time_base(stream: VideoStream) -> Fraction:
    return stream.time_base or Fraction(1, 1000)


def _nominal_step(stream: VideoStream) -> int:
    """Return the ticks of a frame by the header, for where there is nothing better."""
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    return max(1, round(1 / (rate * _time_base(stream))))


def _are_fields(head: list[VideoFrame], ticks: Integers) -> bool:
    """Say whether each packet is one field, half a frame: then the first two frames are two stamps apart."""
    if len(head) < 2 or not head[1].interlaced_frame:
        return False
    first, second = (frame.pts for frame in head[:2])
    if first is None or second is None:
        return True
    return int(np.searchsorted(ticks, second) - np.searchsorted(ticks, first)) == 2


def _ticks_by_decoding(
    path: Path, step: int, time_base: Fraction, longest: Fraction
) -> tuple[Integers, bool, tuple[str, ...]]:
    """Decode everything; return the ticks, whether frames are told apart by rank alone, and what is odd.

    Where stamps are missing or cannot be put in line, ticks are ranks at a constant ``step``.
    """
    with open_video(path) as (container, stream):
        stamps = [frame.pts for frame in all_frames(container, stream)]
    ticks = np.array([stamp for stamp in stamps if stamp is not None], dtype=np.int64)
    ranks = np.arange(len(stamps), dtype=np.int64) * step
    if len(ticks) < len(stamps):
        return ranks, True, ()
    mended = mend(ticks, ticks, time_base, longest)
    if mended is None and bool((np.diff(ticks) > 0).all()):
        return ticks, False, ()
    if mended is not None and bool((np.diff(mended.pts) > 0).all()):
        return mended.pts, True, mended.notes
    return ranks, True, () if mended is None else mended.notes
