"""torchcodec as the decoder: an alternative to PyAV under other licences, with FFmpeg's libraries from the system.

It counts frames as :mod:`lofi_tal.video.frame_times` does, in the order of presentation. It gives whole RGB pictures,
which are then scaled as PyAV's are: the results differ by rounding, as colours are converted before instead of after.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from av.video.frame import VideoFrame

from lofi_tal.errors import LofiError
from lofi_tal.video.container import VideoError
from lofi_tal.video.frame_times import Integers, Timeline

_AT_ONCE = 16  # whole pictures that are held together


def torchcodec_frames(
    path: Path, timeline: Timeline, numbers: Integers, threads: int
) -> Iterator[tuple[int, tuple[int, VideoFrame]]]:
    """Yield each of the rising frame ``numbers`` twice, and its picture, upright.

    Raises:
        LofiError: If torchcodec is not installed or finds no FFmpeg.
        VideoError: If the file cannot be decoded; unlike PyAV, nothing stands in for a damaged frame.
    """
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError, OSError) as error:
        reason = (str(error).strip().splitlines() or ["not installed"])[0]
        raise LofiError(
            f"data.decoder is torchcodec, which does not load ({reason}): install it "
            "(pip install 'lofi-tal[torchcodec]') and FFmpeg's libraries (version 4 to 8), or set data.decoder=pyav."
        ) from error
    try:
        decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=threads, seek_mode="exact")
        count = len(decoder)
        if count != len(timeline.ticks):
            raise VideoError(f"{path}: torchcodec counts {count} frames, the packets {len(timeline.ticks)}.")
        for first in range(0, len(numbers), _AT_ONCE):
            wanted = numbers[first : first + _AT_ONCE].tolist()
            pictures = decoder.get_frames_at(wanted).data.numpy()
            for number, picture in zip(wanted, pictures, strict=True):
                yield number, (number, VideoFrame.from_ndarray(picture, format="rgb24"))
    except (RuntimeError, ValueError, IndexError) as error:
        if isinstance(error, VideoError):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise VideoError(f"{path}: torchcodec cannot decode it ({reason}).") from error
