"""Features of several videos in memory, and the part that a window sees.

Shapes: C channels, L snippets of a window, N of a video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lofi_tal.data import TruthVideo
from lofi_tal.snippets import Window


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Videos or windows of them, and their features ``(C, N)`` on the CPU."""

    videos: Sequence[TruthVideo]
    features: Sequence[Tensor]

    @property
    def channels(self) -> int:
        """C."""
        return self.features[0].shape[0]

    def of(self, videos: Sequence[TruthVideo]) -> FeatureSet:
        """Return the part of the set that holds ``videos``, or windows of its videos."""
        index = {video.video_id: i for i, video in enumerate(self.videos)}
        return FeatureSet(
            videos, [window_features(self.features[index[video.video_id]], video.window) for video in videos]
        )


def stack_features(features: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return features ``(C, N_i)`` as a batch ``(B, C, N)``, and what else a head must be given.

    That is nothing if all are as long; otherwise shorter ones are filled with 0, and there is a mask ``(B, N)``.
    """
    counts = [one.shape[1] for one in features]
    longest = max(counts)
    if min(counts) == longest:
        return torch.stack(list(features)), {}
    filled = torch.stack([functional.pad(one, (0, longest - one.shape[1])) for one in features])
    return filled, {"mask": torch.arange(longest) < torch.tensor(counts)[:, None]}


def window_features(features: Tensor, window: Window | None) -> Tensor:
    """Return the part ``(C, L)`` of a video's features ``(C, S)`` that a window sees."""
    return features if window is None or window.whole else features[:, torch.from_numpy(window.snippets)]
