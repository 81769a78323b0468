"""What the stages feed on: videos and their windows with truth, clips, and loaders whose order is set by the step."""

from lofi_tal.data.clips import ClipDataset, Excerpt, background, clip_contents, excerpts, whole_files_fit
from lofi_tal.data.crops import Square, as_clips, crop, multi_scale_crop
from lofi_tal.data.items import Batch, FrameDataset, Request, Sample
from lofi_tal.data.loading import make_batches, make_loader, make_training_loader
from lofi_tal.data.order import StepRequests, centre_requests, epoch_batches, steps_per_epoch
from lofi_tal.data.snippets import SnippetDataset, fill, stream_snippets
from lofi_tal.data.videos import (
    TruthVideo,
    VideoFile,
    Videos,
    content_hash,
    count_instances,
    find_files,
    split_selection,
    truth_videos,
    video_contents,
    video_files,
)
from lofi_tal.data.windows import VISIBLE, WHOLE, cut_actions, training_windows, within

__all__ = [
    "VISIBLE", "WHOLE", "Batch", "ClipDataset", "Excerpt", "FrameDataset", "Request", "Sample", "SnippetDataset",
    "Square", "StepRequests", "TruthVideo", "VideoFile", "Videos", "as_clips", "background", "centre_requests",
    "clip_contents", "content_hash", "count_instances", "crop", "cut_actions", "epoch_batches", "excerpts", "fill",
    "find_files", "make_batches", "make_loader", "make_training_loader", "multi_scale_crop", "split_selection",
    "steps_per_epoch", "stream_snippets", "training_windows", "truth_videos", "video_contents", "video_files",
    "whole_files_fit", "within",
]  # fmt: skip
