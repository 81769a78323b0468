"""Looks at held-out videos during stage 2: their loss, and the mAP of the proposals without classes.

A look changes nothing of the training: no random state, no statistics, no weights. It is cheap, for it takes few
videos at the lowest fidelity of the schedule, and needs no gradients.

Shapes: L snippets, T frames, S × S pixels, C channels.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from lofi_tal.config import DetectSection, LofiSection
from lofi_tal.data import Batch, Request, SnippetDataset, TruthVideo, make_batches
from lofi_tal.errors import RunError
from lofi_tal.evaluation import as_one_class, ground_truth_of
from lofi_tal.fidelity import Fidelity
from lofi_tal.heads import Proposals
from lofi_tal.runtime import gather, rank_and_size
from lofi_tal.segments import Segments
from lofi_tal.stages.end_to_end import EndToEnd, video_generator
from lofi_tal.stages.extract import encode_snippets
from lofi_tal.stages.localise import labelled, suppress
from lofi_tal.stages.scoring import evaluate_known
from lofi_tal.video import Clock

SHARE = 0.03
"""Most of the stage's work that looks take by themselves, counted in pixels encoded."""
_MOST = 32  # videos or windows of a look
_STEP = 3.0  # times the work of a forward pass that a step of training takes


@dataclass(frozen=True)
class Watch:
    """What is looked at, and when.

    Args:
        videos: Held-out videos, or windows of them.
        indices: Of those that are looked at.
        fidelity: At which.
        every: Epochs between two looks.
        detect: Post-processing of the proposals.
        tiou: Thresholds of the mAP.
        workers: Loader processes.
        seed: Of what the loss draws, which is the same at every look.
    """

    videos: SnippetDataset
    indices: tuple[int, ...]
    fidelity: Fidelity
    every: int
    detect: DetectSection
    tiou: Sequence[float]
    workers: int
    seed: int

    @property
    def seen(self) -> SnippetDataset:
        """The videos or windows that are looked at."""
        return self.videos.of([self.videos.videos[index] for index in self.indices])

    def after(self, model: EndToEnd, fabric: Fabric, epoch: int) -> dict[str, float]:
        """Return what :meth:`look` sees, if there is a look after this epoch, counted from 0."""
        return {} if (epoch + 1) % self.every else self.look(model, fabric)

    def look(self, model: EndToEnd, fabric: Fabric) -> dict[str, float]:
        """Return ``held_out/loss``, ``held_out/mAP`` and ``held_out/seconds``, the same in every process.

        Every process takes as many videos, for losses count over all of them.
        """
        began = time.monotonic()
        rank, ranks = rank_and_size()
        mine = self.indices[rank::ranks]
        losses, seen = [], []
        with torch.no_grad(), _as_it_is(model, fabric):
            for index, batch in zip(mine, self._batches(mine), strict=True):
                video = self.videos.videos[index]
                # one that cannot be read has black pictures: all processes must take as many turns
                frames = batch.frames if batch.indices else torch.zeros(1, *self.videos.shape(self.fidelity)).byte()
                loss, proposals = self._see(model, fabric, frames[0], video)
                if batch.indices:
                    losses.append(loss)
                    seen.append((index, proposals))
        gathered = gather((losses, seen))
        every_loss = [loss for some, _ in gathered for loss in some]
        found = [one for _, some in gathered for one in some]
        if not found:
            return {}
        return {
            "held_out/loss": math.fsum(every_loss) / len(every_loss),
            "held_out/mAP": self._score(found),
            "held_out/seconds": round(time.monotonic() - began, 3),
        }

    def _batches(self, indices: Sequence[int]) -> Iterator[Batch[TruthVideo]]:
        """Yield the videos, by loader processes where they must be decoded and shared memory is not short."""
        requests = [[Request(index, self.fidelity, None)] for index in indices]
        videos = [self.videos.videos[index] for index in indices]
        cached = all(self.videos.cache.holds(v.file.path, [self.videos.view(v, self.fidelity)]) for v in videos)
        workers, begun = 0 if cached else self.workers, False
        try:
            for batch in make_batches(self.videos, requests, workers, count=1, fidelities=[self.fidelity]):
                begun = True
                yield batch
        except RunError:
            if begun:
                raise
            yield from make_batches(self.videos, requests, 0, count=1, fidelities=[self.fidelity])

    def _see(self, model: EndToEnd, fabric: Fabric, frames: Tensor, video: TruthVideo) -> tuple[float, Proposals]:
        """Return the loss and the proposals of one video of frames ``(L, T, S, S, 3)``."""
        features = encode_snippets(model.encoder, frames, fabric).clone().to(fabric.device)  # (L, C)
        logits = None if model.snippet_classifier is None else model.snippet_classifier(features)[None]
        outputs = model.head(features.T[None].contiguous())
        draws = [video_generator(self.seed, 0, video.name)]
        loss = float(model.losses((outputs, logits), [video], draws)["total"])
        return loss, suppress(model.head.proposals(outputs, self.detect.preset), [1.0], self.detect)[0]

    def _score(self, found: Sequence[tuple[int, Proposals]]) -> float:
        """Return the average mAP of the proposals, each window a video of its own; all labels count as one."""
        videos = [self.videos.videos[index] for index, _ in found]
        true = [_segments(video.name, video.segments, torch.ones(len(video.labels))) for video in videos]
        truth = as_one_class(ground_truth_of(true))
        proposed = [_segments(self.videos.videos[index].name, p.segments, p.scores) for index, p in found]
        return evaluate_known(truth, proposed, self.tiou).average_mAP


def make_watch(
    videos: SnippetDataset,
    section: LofiSection,
    full: Fidelity,
    *,
    training: int,
    detect: DetectSection,
    tiou: Sequence[float],
    workers: int,
    seed: int,
) -> Watch | None:
    """Return what stage 2 looks at, or None if nothing is held out or the recipe wants no looks.

    Args:
        videos: Held-out videos, or windows of them.
        section: Of stage 2; ``watch`` is how often, and unset so that looks take at most :data:`SHARE` of the work.
        full: Full fidelity.
        training: Number of training videos or windows.
        detect: Post-processing.
        tiou: Thresholds.
        workers: Loader processes.
        seed: Of stage 2.
    """
    ranks = rank_and_size()[1]
    if not len(videos) or section.watch == 0:
        return None
    fidelities = section.fidelities_over(full).fidelities
    lowest = min(fidelities, key=lambda fidelity: (fidelity.cost(), -fidelity.snippets))
    epoch = _STEP * training * sum(one.cost() for one in fidelities) / len(fidelities)  # its work, in pixels encoded
    allowed = SHARE * epoch / lowest.cost()  # videos of a look after each epoch
    count = min(len(videos), _MOST, max(1, int(allowed * section.epochs)) if section.watch is None else _MOST)
    count = max(ranks, count // ranks * ranks)
    every = section.watch or min(section.epochs, max(1, math.ceil(count / allowed)))
    indices = tuple(int((turn + 0.5) * len(videos) / count) for turn in range(count))
    return Watch(videos, indices, lowest, every, detect, tiou, workers, seed)


@contextlib.contextmanager
def _as_it_is(model: nn.Module, fabric: Fabric) -> Iterator[None]:
    """Let a model be evaluated, and leave it and every random state as they were."""
    modes = [(module, module.training) for module in model.modules()]
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    # what is compiled for training would be compiled again for these shapes
    compiles = "torch._dynamo" in sys.modules  # which takes a second to load
    model.eval()
    try:
        with (
            torch.random.fork_rng(devices),
            torch.compiler.set_stance("force_eager") if compiles else contextlib.nullcontext(),
        ):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _segments(name: str, spans: Tensor, scores: Tensor) -> Segments:
    """Return spans ``(N, 2)``, shares of a video, as segments of a video of one second."""
    classes = torch.zeros(len(spans), dtype=torch.long)
    return labelled(name, Clock(0.0, 1.0), spans.cpu(), scores.cpu(), classes, ("action",))
