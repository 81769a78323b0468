"""Frames of one video file by rising number, with jumps over what nobody needs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType, VideoFrame

from lofi_tal.video.container import VideoError, all_frames, open_video
from lofi_tal.video.frame_times import Integers, Timeline

_WORTH_A_JUMP = 30
"""Frames that a seek has to spare: it empties the decoder's pipeline, which costs a few frames itself."""

_SPARING = ("h264", "hevc", "mpeg4")
"""Codecs whose decoders in FFmpeg leave out a frame of their own accord the moment they are told (dav1d does not)."""


class FrameReader:
    """Frames of one file by rising number, with jumps over what nobody needs.

    Between the wanted frames the decoder leaves out those that no other frame refers to (most of the B-frames).
    A jump goes to a key frame, and counts only if the decoder then really begins with that frame, intra-coded;
    otherwise (gradual refresh, a wrong index) the file is read again from its start, without jumps.
    """

    def __init__(self, path: Path, timeline: Timeline, threads: int, *, wanted: Integers) -> None:
        self.path, self.timeline, self.threads = path, timeline, threads
        # frames that are told apart by their rank must all come; several threads decode ahead of what is set here
        spares = threads == 1 and not timeline.by_rank and timeline.codec in _SPARING
        self.wanted = set(timeline.ticks[np.unique(wanted)].tolist()) if spares else None
        self.stamps = None if timeline.stamps is None else timeline.stamps.tolist()
        self.keys = timeline.keys
        self.before: tuple[int, VideoFrame] | None = None
        self.now: tuple[int, VideoFrame] | None = None

    def __enter__(self) -> FrameReader:
        self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def _open(self) -> None:
        self.stack = ExitStack()
        self.container, self.stream = self.stack.enter_context(open_video(self.path, self.threads))
        self.frames = self._numbered()

    def nearest(self, wanted: int) -> tuple[int, VideoFrame]:
        """Return frame ``wanted``, or the nearest one that can be decoded; ``wanted`` must not fall."""
        if self.now is None or self.now[0] < wanted:
            self._jump(wanted)
        while self.now is None or self.now[0] < wanted:
            following = next(self.frames, None)
            if following is None:
                break
            self.before, self.now = self.now, following
        candidates = [pair for pair in (self.before, self.now) if pair is not None]
        if not candidates:
            raise VideoError(f"{self.path}: not one frame can be decoded.")
        return min(candidates, key=lambda pair: abs(pair[0] - wanted))

    def _numbered(self) -> Generator[tuple[int, VideoFrame], None, None]:
        """Yield frames with their numbers, which rise; those that come out of turn are left out."""
        ticks = self.timeline.ticks
        for rank, frame in enumerate(all_frames(self.container, self.stream, self.wanted, self.stamps)):
            if self.timeline.by_rank:
                number = rank
            elif frame.pts is None:
                continue
            else:
                number = int(np.searchsorted(ticks, frame.pts, side="right")) - 1
            if (-1 if self.now is None else self.now[0]) < number < len(ticks):
                yield number, frame

    def _jump(self, wanted: int) -> None:
        """Go to the last key frame up to ``wanted`` if that spares enough frames."""
        index = int(np.searchsorted(self.keys, wanted, side="right")) - 1
        here = -1 if self.now is None else self.now[0]
        if index < 0 or self.keys[index] - here < _WORTH_A_JUMP:
            return
        key = int(self.keys[index])
        self.frames.close()  # or the time since its last packet would count as that of the seek
        try:
            self.container.seek(int(self.timeline.ticks[key]), stream=self.stream, backward=True)
            self.frames = self._numbered()
            # frames before the key frame may lean on what was skipped
            landed = next((pair for pair in self.frames if pair[0] >= key), None)
        except av.error.FFmpegError:
            landed = None
        if landed is not None and landed[0] == key and landed[1].pict_type == PictureType.I:
            self.before, self.now = self.now, landed
        else:
            self.stack.close()
            self.keys = self.keys[:0]
            self._open()
