"""Videos in and out: what a file really holds, frames at given times and size, a cache of them, and writing."""

from lofi_tal.video.cache import FrameCache, entry_bytes
from lofi_tal.video.clock import Clock
from lofi_tal.video.container import VideoError
from lofi_tal.video.decode import (
    DecodedFrames,
    View,
    check_decoder,
    decode_frames,
    decode_views,
    stream_frames,
)
from lofi_tal.video.frame_times import VideoInfo, probe_video
from lofi_tal.video.index import (
    EVERYWHERE,
    SUFFIXES,
    VideoIndex,
    everywhere,
    find_videos,
    is_video,
    known_as,
    list_videos,
)
from lofi_tal.video.manifest import VideoManifest, VideoRecord
from lofi_tal.video.pictures import Picture
from lofi_tal.video.writing import write_video

__all__ = [
    "EVERYWHERE",
    "SUFFIXES",
    "Clock",
    "DecodedFrames",
    "FrameCache",
    "Picture",
    "VideoError",
    "VideoIndex",
    "VideoInfo",
    "VideoManifest",
    "VideoRecord",
    "View",
    "check_decoder",
    "decode_frames",
    "decode_views",
    "entry_bytes",
    "everywhere",
    "find_videos",
    "is_video",
    "known_as",
    "list_videos",
    "probe_video",
    "stream_frames",
    "write_video",
]
