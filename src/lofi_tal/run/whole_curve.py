"""The learning curve of a whole system: the encoder, too, is trained on a share of the videos.

Each point is a run of its own, in ``arms/<arm>/whole_curve/<videos>-<draw>``: ACP+ and stage 2 on the drawn videos,
features of these and of the evaluated ones, and stage 3 as in :mod:`lofi_tal.run.curve`. Stage 1 learns from clips and
not from these videos: its encoder is that of the run. The drawn videos that the run selects on train the head and the
class scores alone, as in the run itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lofi_tal.data import TruthVideo
from lofi_tal.errors import LofiError
from lofi_tal.evaluation.learning_curve import CurvePoint
from lofi_tal.run.arms import ArmResult
from lofi_tal.run.context import Context
from lofi_tal.run.curve import DRAWS, SHARES, CurveRun
from lofi_tal.run.data import RunData
from lofi_tal.run.folder import RunFolder, holds_run
from lofi_tal.run.run import Run
from lofi_tal.run.training import Training


class WholeCurveRun(CurveRun):
    """One arm of a run, of which all stages are trained on fewer videos."""

    where = "whole_curve"

    def drawn(self, known: ArmResult, videos: Sequence[TruthVideo], draw: int) -> CurvePoint:
        """Return the figures of one draw of videos, all stages of which are trained now or were before."""
        context = self.context
        ids = {video.video_id for video in videos}
        data = context.data()
        train = [video for video in data.train if video.video_id in ids]
        if not any(len(video.labels) for video in train):
            raise LofiError(f"{len(videos)} videos are all of the selection part: choose larger --shares.")
        selection = [video for video in data.selection if video.video_id in ids]
        part = _Part(context, self.folder / self.where / f"{len(videos)}-{draw}", draw)
        part.use(replace(data, train=train, selection=selection))
        training = Training(part)
        for stage in ("pretrain", "second"):
            training.made[stage] = self.training.ensure(stage)
        return CurveRun(self.name, part, training).drawn(known, videos, draw)


class _Part(Context):
    """A run on some of the videos of another one, in a folder of its own."""

    def __init__(self, run: Context, folder: Path, draw: int) -> None:
        recipe = run.recipe
        cache = run.cache.folder or recipe.data.cache
        data = recipe.data.model_copy(update={"cache": cache})
        super().__init__(
            recipe.model_copy(update={"seed": recipe.seed + draw, "data": data}),
            RunFolder(folder, shared=None, patience=None, resume=holds_run(folder), overwrite=True, tracking={}),
            device=run.device,
            precision=run.precision,
            compile=run.compile,
            quiet=run.quiet,
            origin=run.origin,
        )

    def use(self, data: RunData) -> None:
        """Take videos that have been read."""
        self._data = data


def whole_curve(run: Run, arm: str, shares: Sequence[float] = SHARES, draws: int = DRAWS) -> list[CurvePoint]:
    """Return the learning curve of an arm of a run with all stages that learn from its videos.

    See :meth:`~lofi_tal.run.curve.CurveRun.points`.

    Raises:
        LofiError: If no encoder of the arm learns from these videos.
    """
    trains = run.recipe.finetune is not None or (arm == "lofi" and run.recipe.lofi is not None)
    if arm == "features" or not trains:
        raise LofiError(
            f"--all-stages: the encoder of arm {arm!r} does not learn from these videos (no ACP+, no stage 2): leave "
            "--all-stages out."
        )
    return WholeCurveRun(arm, run, run.training).points(shares, draws)
