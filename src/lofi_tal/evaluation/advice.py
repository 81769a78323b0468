"""What to do next: the errors that cost most, in words, with what helps against each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lofi_tal.evaluation.documents import GroundTruth
from lofi_tal.evaluation.mistakes import Mistakes

LEAST = 0.05
"""Share of the instances (or of what is shown) below which an error is not worth a word."""
_SHORT = 1.25  # short actions are missed so much more often than all


@dataclass(frozen=True)
class Advice:
    """One error and what helps.

    Args:
        kind: One of :data:`~lofi_tal.evaluation.mistakes.MISTAKES`, ``none``, or ``nothing shown``.
        count: How often it happens.
        error: What goes wrong, in a sentence.
        action: What to try, in sentences.
    """

    kind: str
    count: int
    error: str
    action: str


def advise(truth: GroundTruth, mistakes: Mistakes) -> tuple[Advice, ...]:
    """Return what to do next, the most frequent error first; errors below :data:`LEAST` are left out.

    Args:
        truth: The instances.
        mistakes: In what is shown of them.
    """
    there, shown = len(truth.label), mistakes.shown
    if there and not shown:
        return (_nothing_shown(there),)
    found = [
        _wrong_labels(mistakes, there),
        _boundaries(mistakes, there),
        _missed(truth, mistakes, there),
        _false_alarms(mistakes, shown),
        _doubles(mistakes, shown),
    ]
    bases = (there, there, there, shown, shown)
    worth = [one for one, base in zip(found, bases, strict=True) if one.count >= LEAST * max(1, base) and one.count]
    if not worth:
        return (Advice("none", 0, "No kind of error stands out.", "Look at the worst videos one by one."),)
    return tuple(sorted(worth, key=lambda one: -one.count))


def _nothing_shown(there: int) -> Advice:
    return Advice(
        "nothing shown",
        there,
        f"Nothing scores enough to be shown: all {there} actions are missed.",
        "Train longer (head.epochs, lofi.epochs), check the labels with `lofi data check`, and begin with public "
        "weights (encoder.pretrained).",
    )


def _wrong_labels(mistakes: Mistakes, there: int) -> Advice:
    count = mistakes.counts["wrong label"]
    pairs = [f"{true} is taken for {seen} ({times} times)" for true, seen, times in mistakes.confused()]
    most = f" Most often {'; '.join(pairs)}." if pairs else ""
    return Advice(
        "wrong label",
        count,
        f"{count} of {there} actions are found in time but get a wrong label.{most}",
        "Let stage 2 learn the classes (lofi.class_loss: 1.0), give more clips of the confused classes, or begin with "
        "public weights (encoder.pretrained). Classes that even people confuse are better joined.",
    )


def _boundaries(mistakes: Mistakes, there: int) -> Advice:
    count = mistakes.counts["boundaries"]
    return Advice(
        "boundaries",
        count,
        f"{count} of {there} actions are found with boundaries that are off by more than tIoU 0.5 allows.",
        "Take more snippets a video (a larger snippets.count, L), or shorter windows (snippets.window); train stage 2, "
        "whose loss moves boundaries; check that labels agree on where actions begin.",
    )


def _missed(truth: GroundTruth, mistakes: Mistakes, there: int) -> Advice:
    missed = mistakes.state == 2
    count = int(missed.sum())
    length = truth.segment[:, 1] - truth.segment[:, 0]
    edge = float(np.quantile(length, 1 / 3)) if there else 0.0
    short = length <= edge
    share, all_of_them = float(missed[short].mean()) if short.any() else 0.0, count / max(1, there)
    if count and share > _SHORT * all_of_them:
        return Advice(
            "missed",
            count,
            f"{count} of {there} actions are missed, short ones above all: {100 * share:.0f} % of those up to "
            f"{edge:.3g} s, {100 * all_of_them:.0f} % of all.",
            "Keep more snippets at low fidelity (a smaller lofi.r_t, or lofi.schedule: s), take a larger "
            "snippets.count, or cut long videos into windows (snippets.window).",
        )
    return Advice(
        "missed",
        count,
        f"{count} of {there} actions are missed: nothing that is shown overlaps them with their label. Detections that "
        f"score too little to be shown would find {mistakes.below} of them.",
        "Show more (`lofi detect --min-precision` with a smaller share, or --threshold), train longer, or label more "
        "videos.",
    )


def _false_alarms(mistakes: Mistakes, shown: int) -> Advice:
    count = mistakes.counts["false alarm"]
    seen = mistakes.confusion[-1, :-1]
    worst = f", most of {mistakes.labels[int(seen.argmax())]} ({int(seen.max())})" if count else ""
    return Advice(
        "false alarm",
        count,
        f"{count} of {shown} shown detections are where nothing happens{worst}.",
        "Show fewer (`lofi detect --min-precision 0.8`), and train on videos in which nothing happens "
        "(data.background: true). Look whether these actions are there and were not labelled.",
    )


def _doubles(mistakes: Mistakes, shown: int) -> Advice:
    count = mistakes.counts["double"]
    return Advice(
        "double",
        count,
        f"{count} of {shown} shown detections repeat, with its label or another, an action that another has found.",
        "Suppress overlaps harder: a smaller detect.sigma.",
    )
