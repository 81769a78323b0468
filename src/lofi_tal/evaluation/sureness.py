"""Where a model is least sure: which video a person should look at next, told by its detections alone.

Each measure turns the detections of one video into a number; the video with the largest comes first. Labels are not
needed. The measures are those of pool-based active learning (B. Settles, *Active Learning Literature Survey*, 2009),
carried over from one prediction an example to many detections a video. ``docs/which-video-next.md`` compares them.

Legend: N detections of a video, S distinct spans among them, each with the label that scores best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import LofiError, nearest
from lofi_tal.evaluation.calibration import EDGE
from lofi_tal.evaluation.matching import pairwise_tiou
from lofi_tal.segments import Segments, best_labels
from lofi_tal.showing import Shown

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

BEST = 10
"""Spans of a video, those that score best, that the measures of doubt look at."""
NEAR = 1.0
"""Distance of two scores, in logits, up to which they are near: 0.5 is near to 0.27 and to 0.73."""
OVERLAP = 0.3
"""Temporal IoU from which on two detections describe one action in two ways."""


@dataclass(frozen=True, eq=False)
class Doubt:
    """The detections of one video, and what of them is shown.

    Args:
        segments: All of them, with all their labels. Scores are probabilities of being right where the model is
            calibrated; others are taken for probabilities, cut to [0, 1].
        shown: What a person sees.
    """

    segments: Segments
    shown: Shown

    @cached_property
    def spans(self) -> Segments:
        """Every span once, with the label that scores best, by falling score."""
        return self.segments[best_labels(self.segments)].sorted()

    @cached_property
    def probability(self) -> Floats:
        """Score of each span, in [0, 1]: ``(S,)``."""
        return np.clip(self.spans.score, 0.0, 1.0)

    @cached_property
    def limit(self) -> Floats:
        """Lowest score at which each span is shown: ``(S,)``; infinity where its class is never shown."""
        limits = [self.shown.limits.get(label, self.shown.limit) for label in self.spans.label]
        return np.array(limits, dtype=np.float64)

    @cached_property
    def seen(self) -> Mask:
        """Whether each span is shown: ``(S,)``."""
        return self.spans.score >= self.limit

    @cached_property
    def rivals(self) -> list[Floats]:
        """Scores of all labels of each of the best spans, by falling score."""
        spans: dict[tuple[float, float], list[float]] = {}
        for start, end, _, score in self.segments:
            spans.setdefault((start, end), []).append(min(1.0, max(0.0, score)))
        best = self.spans[:BEST]
        return [np.sort(spans[start, end])[::-1] for start, end, _, _ in best]


def expected_mistakes(doubt: Doubt) -> float:
    """Return how many mistakes a person is expected to find.

    A shown span is wrong with probability 1 - p, a hidden one is a missed action with probability p. With calibrated
    scores the sum is the expected number of false alarms and of missed actions that the model has a span for; actions
    without any span are not in it. The idea is that of expected-error estimation (Roy and McCallum, "Toward Optimal
    Active Learning through Sampling Estimation of Error Reduction", 2001), for the present model alone.
    """
    p = doubt.probability
    return float((1 - p[doubt.seen]).sum() + p[~doubt.seen].sum())


def near_threshold(doubt: Doubt) -> float:
    """Return the share of the best spans whose score is within :data:`NEAR` logits of where it begins to be shown.

    Uncertainty sampling (Lewis and Gale, "A Sequential Algorithm for Training Text Classifiers", 1994), with the
    display threshold in place of 0.5. A class that is never shown has no threshold: 0.5 is taken.
    """
    p = doubt.probability[:BEST]
    limit = doubt.limit[:BEST]
    near = np.abs(_logit(p) - _logit(np.where(np.isfinite(limit), limit, 0.5))) <= NEAR
    return float(near.mean()) if len(near) else 0.0


def least_confidence(doubt: Doubt) -> float:
    """Return 1 minus the mean probability of what is shown; of the best span if nothing is, 0 if there is none.

    Least confidence (Culotta and McCallum, "Reducing Labeling Effort for Structured Prediction Tasks", 2005).
    """
    p = doubt.probability
    if not len(p):
        return 0.0
    return float(1 - (p[doubt.seen].mean() if doubt.seen.any() else p[0]))


def class_entropy(doubt: Doubt) -> float:
    """Return the mean entropy of the class scores of the best spans, in nats; each span's scores are made to sum to 1.

    Entropy sampling (Shannon, "A Mathematical Theory of Communication", 1948; Settles, section 3.1). A detection file
    has the best labels of a span only (``detect.classes`` of the recipe), so the entropy is that of these.
    """
    found = []
    for scores in doubt.rivals:
        share = scores / max(float(scores.sum()), EDGE)
        found.append(float(-(share * np.log(np.maximum(share, EDGE))).sum()))
    return float(np.mean(found)) if found else 0.0


def class_margin(doubt: Doubt) -> float:
    """Return how close the second label of a span is to the first: the mean of 1 - (a - b) / (a + b) over the best.

    Margin sampling (Scheffer, Decomain and Wrobel, "Active Hidden Markov Models for Information Extraction", 2001). A
    span with one label counts 0.
    """
    found = []
    for scores in doubt.rivals:
        first, second = float(scores[0]), float(scores[1]) if len(scores) > 1 else 0.0
        found.append(1 - (first - second) / max(first + second, EDGE))
    return float(np.mean(found)) if found else 0.0


def disagreement(doubt: Doubt) -> float:
    """Return how much overlapping detections contradict each other.

    Of each pair of the best spans with a temporal IoU of at least :data:`OVERLAP`: 1 if the labels differ, otherwise
    1 - tIoU; the mean, each pair weighted by the product of its probabilities. The spans play the committee of query
    by committee (Seung, Opper and Sompolinsky, "Query by Committee", 1992), for which one model has to do.
    """
    spans, p = doubt.spans[:BEST], doubt.probability[:BEST]
    one, other = np.triu_indices(len(spans), k=1)
    times = np.stack([spans.start, spans.end], 1)
    tiou = pairwise_tiou(times[one], times[other])
    differ = np.array([spans.label[i] != spans.label[j] for i, j in zip(one, other, strict=True)], dtype=bool)
    weight = np.where(tiou >= OVERLAP, p[one] * p[other], 0.0)
    total = float(weight.sum())
    return float((weight * np.where(differ, 1.0, 1 - tiou)).sum() / total) if total > 0 else 0.0


def shown_actions(doubt: Doubt) -> float:
    """Return how many actions are shown: no doubt at all, only how much there is to look at; for comparison."""
    return float(doubt.seen.sum())


@dataclass(frozen=True)
class Measure:
    """A measure of doubt.

    Args:
        title: What it counts, in a few words.
        value: Returns the number; larger is less sure.
    """

    title: str
    value: Callable[[Doubt], float]


MEASURES: dict[str, Measure] = {
    "confidence": Measure("low scores of what is shown", least_confidence),
    "entropy": Measure("entropy of class scores", class_entropy),
    "margin": Measure("two labels that score alike", class_margin),
    "overlap": Measure("overlapping detections that disagree", disagreement),
    "near": Measure("share of scores near the threshold", near_threshold),
    "mistakes": Measure("expected number of mistakes", expected_mistakes),
    "actions": Measure("number of actions shown", shown_actions),
}
"""By name, those that did best in ``docs/which-video-next.md`` first; the first is the default."""
DEFAULT = next(iter(MEASURES))


def measure_doubt(segments: Segments, shown: Shown) -> dict[str, float]:
    """Return every measure of one video.

    Args:
        segments: All its detections, with calibrated scores where the model has them.
        shown: What of them is shown.

    >>> found = Segments("match", [2, 2, 12], [5, 5, 15], ("jump", "throw", "run"), [0.6, 0.3, 0.2])
    >>> round(measure_doubt(found, Shown(0.5))["mistakes"], 3)  # 0.4 for the shown one, 0.2 for the hidden one
    0.6
    """
    doubt = Doubt(segments, shown)
    return {name: measure.value(doubt) for name, measure in MEASURES.items()}


def next_videos(values: Mapping[str, float | None]) -> list[str]:
    """Return video ids, those of which a model is least sure first; those without detections (None) last.

    >>> next_videos({"a": 0.1, "b": None, "c": 0.7})
    ['c', 'a', 'b']
    """
    return sorted(values, key=lambda name: (values[name] is None, -(values[name] or 0.0)))


def require_measure(name: str, known: Iterable[str] = tuple(MEASURES)) -> str:
    """Return the name of a measure.

    Raises:
        LofiError: If it is none.
    """
    known = tuple(known)
    if name not in known:
        raise LofiError(f"by={name!r} is no measure; allowed: {', '.join(known)}.{nearest(name, known)}")
    return name


def _logit(share: Floats) -> Floats:
    inside = np.clip(share, EDGE, 1 - EDGE)
    logit: Floats = np.log(inside) - np.log1p(-inside)
    return logit
