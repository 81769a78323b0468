"""The plain ways that the benchmarks compare with: literal, correct, slow."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import roi_align

from lofi_tal.heads import GTAD, BoundaryMatchingOutputs
from lofi_tal.heads.alignment import valid_anchors
from lofi_tal.heads.gtad import gather_nodes, nearest_nodes


class PlainGTAD(GTAD):
    """G-TAD as published: align all D × L cells of the map, then run its convolutions on the whole map."""

    def forward(self, features: Tensor) -> BoundaryMatchingOutputs:
        """Score boundaries and anchors of ``(B, C, L)`` features."""
        snippets = features.shape[2]
        base = self.backbone1(features)
        start, end = self.regu_s(base).squeeze(1), self.regu_e(base).squeeze(1)
        graph = self.backbone2(base)
        context = gather_nodes(graph, nearest_nodes(graph, self.neighbours)).mean(dim=3)
        boxes = self.boxes(snippets, len(features)).to(features.device)
        aligned = torch.cat(
            [
                roi_align(x[..., None], boxes, (bins, 1), sampling_ratio=-1, aligned=False).squeeze(3)
                for x, bins in ((graph, self.inner_bins), (context, self.context_bins))
            ],
            dim=2,
        )
        maps = aligned.flatten(1).unflatten(0, (len(features), -1)).transpose(1, 2)
        logits = self.localization(maps.unflatten(2, (snippets, snippets)))
        cell = valid_anchors(snippets, snippets, features.device).cell
        anchors = logits.flatten(2)[:, :, cell].transpose(1, 2)
        return BoundaryMatchingOutputs.from_logits(start, end, anchors, snippets, snippets)

    @staticmethod
    def boxes(snippets: int, videos: int) -> Tensor:
        """Return the regions ``(B·D·L, 5)`` of all cells; invalid ones are empty."""
        duration = torch.arange(snippets)[:, None]
        begin = torch.arange(snippets)[None, :]
        length = duration + 1.0
        valid = duration + begin < snippets
        low = torch.where(valid, begin - length / 2, 0.0)
        high = torch.where(valid, begin + duration + length / 2, 0.0)
        one = torch.stack([torch.zeros_like(low), low, torch.ones_like(low), high], dim=2).flatten(0, 1)
        index = torch.arange(videos, dtype=torch.float32).repeat_interleave(len(one))
        return torch.cat([index[:, None], one.repeat(videos, 1)], dim=1)


def soft_nms(
    segments: list[tuple[float, float]], scores: list[float], sigma: float = 0.84, top_k: int = 100
) -> list[tuple[float, float, float]]:
    """Suppress one video's proposals one at a time."""
    segments, scores = list(segments), list(scores)
    kept = []
    while len(scores) > 1 and len(kept) < top_k and max(scores) > 0:
        best = scores.index(max(scores))
        start, end = segments[best]
        for i, (s, e) in enumerate(segments):
            if i != best:
                inter = max(0.0, min(e, end) - max(s, start))
                union = (e - s) + (end - start) - inter
                iou = inter / union if union > 0 else 0.0
                if iou > 0:
                    scores[i] *= math.exp(-(iou**2) / sigma)
        kept.append((start, end, scores[best]))
        del segments[best], scores[best]
    return kept


def evaluate(database: dict, results: dict, thresholds: list[float]) -> float:
    """Return the average mAP, one detection at a time."""
    instances: dict[str, dict[str, list]] = {}
    for video, entry in database.items():
        for annotation in entry["annotations"]:
            instances.setdefault(annotation["label"], {}).setdefault(video, []).append(annotation["segment"])
    detections: dict[str, list] = {label: [] for label in instances}
    for video, records in results.items():
        for record in records:
            if record["label"] in detections:
                detections[record["label"]].append((record["score"], video, record["segment"]))
    total = 0.0
    for label, by_video in instances.items():
        count = sum(map(len, by_video.values()))
        hits: list[list[bool]] = [[] for _ in thresholds]
        taken: set[tuple[int, str, int]] = set()
        for _, video, (start, end) in sorted(detections[label], key=lambda d: -d[0]):
            overlaps = []
            for i, (s, e) in enumerate(by_video.get(video, ())):
                inter = max(0.0, min(e, end) - max(s, start))
                union = (e - s) + (end - start) - inter
                overlaps.append((inter / union if union > 0 else 0.0, i))
            overlaps.sort(reverse=True)
            for t, threshold in enumerate(thresholds):
                free = (i for iou, i in overlaps if iou >= threshold and (t, video, i) not in taken)
                match = next(free, None)
                hits[t].append(match is not None)
                if match is not None:
                    taken.add((t, video, match))
        total += sum(_average_precision(row, count) for row in hits) / len(thresholds)
    return total / len(instances)


def _average_precision(hits: list[bool], instances: int) -> float:
    precision, found = [], 0
    for n, hit in enumerate(hits, start=1):
        found += hit
        precision.append(found / n)
    best, area = 0.0, 0.0
    for hit, value in zip(reversed(hits), reversed(precision), strict=True):
        best = max(best, value)
        area += best / instances if hit else 0.0
    return area
