"""A video file, open: its packets and frames, with every way to fail turned into one line."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from lofi_tal.errors import DataError
from lofi_tal.video import watch
from lofi_tal.video.limits import FORMATS, LISTS, MAX_ASPECT, MAX_PIXELS

_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS), "max_pixels": str(MAX_PIXELS)}


class VideoError(DataError):
    """A video file that cannot be used: the message names the file and the reason."""


@contextlib.contextmanager
def open_video(path: Path, threads: int = 1) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a local file and yield it with its best video stream, ready to decode with ``threads`` threads.

    All that reads videos comes here. The file may be a stranger's: only the formats in
    :data:`~lofi_tal.video.limits.FORMATS` are opened, and nothing in a file leads to another one or to the network.
    PyAV keeps FFmpeg's own log silent unless the application switches it on.

    Raises:
        VideoError: If the file is missing, empty or not a video, is too large, hangs, or was given up.
    """
    if reason := watch.given_up(path):
        raise VideoError(reason)
    with watch.reading(path):
        _check_file(path)
        with _opened(path) as container:
            stream = _best_stream(path, container)
            stream.codec_context.thread_count = threads
            if threads > 1:
                stream.codec_context.thread_type = "AUTO"
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            yield container, stream


def _opened(path: Path) -> InputContainer:
    try:
        return av.open(
            str(path.absolute()),  # or a name such as "concat:a|b" would be a protocol
            options=_OPTIONS,
            metadata_errors="ignore",
            mode="r",
            timeout=watch.SILENCE_SECONDS,  # for opening, and for each packet
        )
    except av.error.ExitError as error:
        raise VideoError(f"{watch.silence(path)}.") from error
    except (av.error.FFmpegError, UnicodeError) as error:
        raise VideoError(f"{path}: {_why_not_opened(path, error)}.") from error


def packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Yield the packets that carry data, in decoding order; a damaged file ends where reading fails.

    Raises:
        VideoError: If the file hangs.
    """
    try:
        for packet in container.demux(stream):
            watch.note_sign_of_life()
            if packet.size:
                yield packet
    except av.error.ExitError as error:
        raise VideoError(f"{watch.silence(Path(container.name))}.") from error
    except av.error.FFmpegError:
        return


def decoded(packet: Packet[VideoStream]) -> list[VideoFrame]:
    """Return the frames that this packet completes; a damaged packet completes none."""
    try:
        return packet.decode()
    except av.error.FFmpegError:
        return []


def flushed(stream: VideoStream) -> list[VideoFrame]:
    """Return the frames that the decoder still holds after the last packet."""
    try:
        return stream.decode(None)
    except av.error.FFmpegError:
        return []


def all_frames(
    container: InputContainer,
    stream: VideoStream,
    wanted: Container[int] | None = None,
    stamps: Sequence[int] | None = None,
) -> Iterator[VideoFrame]:
    """Yield every frame that can be decoded from here on, in the order of presentation.

    Args:
        container: The open file.
        stream: Its video.
        wanted: Time stamps of frames that are needed: of the others, those that no frame refers to may be left out.
        stamps: Presentation times that the packets get in the place of their own, from the start of the file.
    """
    sparing = False
    for number, packet in enumerate(packets(container, stream)):
        if stamps is not None and number < len(stamps):
            packet.pts = stamps[number]
        if wanted is not None and sparing != (packet.pts not in wanted):
            sparing = not sparing
            stream.codec_context.skip_frame = "NONREF" if sparing else "DEFAULT"
        yield from decoded(packet)
    yield from flushed(stream)


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise VideoError(f"{path}: is a folder, not a video file.")
        if not path.exists() and path.is_symlink():
            raise VideoError(f"{path}: is a link that leads nowhere ({path.readlink()}).")
        if not path.exists():
            raise VideoError(f"{path}: does not exist.")
        if not path.is_file():
            raise VideoError(f"{path}: is not a regular file.")
        if path.stat().st_size == 0:
            raise VideoError(f"{path}: is empty (0 bytes).")
        with path.open("rb"):
            pass
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror}).") from error


def _why_not_opened(path: Path, error: Exception) -> str:
    with path.open("rb") as handle:
        head = handle.read(4096)
    if head[4:8] == b"ftyp":
        return "an MP4 file without its index (moov): it was cut short while it was copied or recorded"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    listed = next((what for mark, what in LISTS.items() if start.startswith(mark)), None)
    listed = LISTS[b"<MPD"] if b"<MPD" in head else listed
    if listed:
        return f"is {listed}, not a video; what it names is not opened: give the video files themselves"
    if getattr(error, "errno", None) == errno.EINVAL:  # FFmpeg knows the format, and it is none of ours
        return "is a text, a still picture, sound or a list of files, not a video"
    return f"is not a video that FFmpeg can read ({getattr(error, 'strerror', None) or error})"


def check_size(path: Path, height: int, width: int) -> None:
    """Refuse frames that are too large to be worked with.

    Raises:
        VideoError: If they have more than :data:`~lofi_tal.video.limits.MAX_PIXELS`, or one side is more than
            :data:`~lofi_tal.video.limits.MAX_ASPECT` times the other.
    """
    if height * width > MAX_PIXELS:
        most = f"at most {MAX_PIXELS} pixels a frame are read"
        raise VideoError(f"{path}: its frames are {width} × {height} pixels; {most}: downsample it.")
    if max(height, width) > MAX_ASPECT * min(height, width) > 0:
        most = f"one side may be at most {MAX_ASPECT} times the other"
        raise VideoError(f"{path}: its frames are {width} × {height} pixels; {most}.")


def _best_stream(path: Path, container: InputContainer) -> VideoStream:
    # a cover picture is a video stream of one frame
    videos = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not videos:
        has = "only audio" if container.streams.audio else "no video stream"
        raise VideoError(f"{path}: has {has}, not a video.")
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in videos else videos[0]
    # a stream whose codec this FFmpeg lacks has no codec context, whatever the type annotation says
    if getattr(stream, "codec_context", None) is None:
        raise VideoError(f"{path}: its video codec is not known to this FFmpeg.")
    check_size(path, stream.codec_context.height, stream.codec_context.width)
    return stream
