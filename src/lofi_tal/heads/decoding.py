"""From boundary probabilities and a score map to proposals (G-TAD and BMN).

Source: Frostinassiky/gtad, branch ``anet``, ``gtad_inference.py``.

Legend: B videos, L snippets, D durations.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lofi_tal.heads.contract import Proposals, check_preset


def boundary_candidates(probabilities: Tensor) -> Tensor:
    """Return where boundaries may lie: ``(B, L)`` boolean.

    A cell is a candidate if it is strictly above both neighbours or above half the video's maximum. The first
    and the last cell have one neighbour each and are never candidates by themselves.
    """
    candidates = torch.zeros_like(probabilities, dtype=torch.bool)
    inner = probabilities[:, 1:-1]
    peak = (inner > probabilities[:, :-2]) & (inner > probabilities[:, 2:])
    candidates[:, 1:-1] = peak | (inner > 0.5 * probabilities.amax(dim=1, keepdim=True))
    return candidates


def decode_boundary_map(start: Tensor, end: Tensor, scores: Tensor, preset: str = "fixed") -> list[Proposals]:
    """Return every anchor whose two boundaries are candidates.

    Args:
        start: ``(B, L)`` probabilities; the first cell is always a candidate.
        end: ``(B, L)`` probabilities; the last cell is always a candidate.
        scores: ``(B, D, L)`` confidence of the anchor that begins at snippet s (column) and is d + 1 snippets
            long (row).
        preset: The anchor's last snippet is s + d and it ends at e = s + d + 1. ``official`` looks for the
            end in cell e and keeps e < L, so nothing can end with the video. ``fixed`` looks in the anchor's
            last cell e - 1, as the start is looked up in its first, and keeps e <= L.

    Raises:
        LofiError: If the preset is unknown.
    """
    check_preset(preset)
    start, end, scores = (part.detach().float().cpu() for part in (start, end, scores))
    durations, snippets = scores.shape[1:]
    starts, ends = boundary_candidates(start), boundary_candidates(end)
    starts[:, 0] = True
    ends[:, -1] = True
    cell = end_cells(snippets, durations) + (preset == "official")
    keep = starts[:, None, :] & ends[:, cell.clamp(max=snippets - 1)] & (cell < snippets)
    proposals = []
    for video_keep, video_scores in zip(keep, scores, strict=True):
        duration, begin = video_keep.nonzero(as_tuple=True)
        segments = torch.stack([begin, begin + duration + 1], dim=1).float() / snippets
        proposals.append(Proposals(segments, video_scores[duration, begin]))
    return proposals


def end_cells(snippets: int, durations: int) -> Tensor:
    """Return the last snippet of every anchor: ``(D, L)``, beyond L - 1 for invalid ones."""
    return torch.arange(snippets) + torch.arange(durations)[:, None]
