"""What an encoder learns in stage 1: the class of a clip (ACP), the arrow of time, or the speed of a clip.

A task says how clips are sampled, what is shown of them, what the right answers are, and what a wrong one costs. Arrow
of Time: Wei et al., "Learning and Using the Arrow of Time" (CVPR 2018); SpeedNet: Benaim et al. (CVPR 2020).

Shapes: B clips of the data, N examples, T frames, S × S pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from lofi_tal.registry import Registry

TASKS: Registry[Callable[[], Task]] = Registry("task", "lofi_tal.tasks")
"""Tasks by name; those of other packages are entry points of the group `lofi_tal.tasks`."""
_SCALES = (0.5, 1.0)  # of the random size of clips in SpeedNet's task, against cues of scaling and compression


@TASKS.register("acp")
class Task:
    """Action classification (ACP), and the base of every other task."""

    labels: tuple[str, ...] = ()
    """What the task tells apart; nothing stands for the classes of the clips."""
    sampling: str | None = None
    """``dense``, ``uniform``, or ``pace`` (every clip at two paces); None leaves it to the recipe."""

    def examples(self, frames: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is shown, and what is right.

        Args:
            frames: ``(B, T, S, S, 3)`` uint8; ``(B, 2, T, S, S, 3)`` with the sampling ``pace``.
            classes: ``(B,)`` class numbers of the clips.

        Returns:
            Clips ``(N, T, S, S, 3)`` and answers ``(N,)``.
        """
        return frames, classes

    def augment(self, clips: Tensor) -> Tensor:
        """Return clips ``(N, T, S, S, 3)`` as training sees them, of any size."""
        return clips

    def loss(self, logits: Tensor, answers: Tensor) -> Tensor:
        """Return the mean loss of logits ``(N, K)``."""
        return functional.cross_entropy(logits, answers)


@TASKS.register("arrow")
class ArrowOfTime(Task):
    """Whether a clip runs forwards; both versions of a clip are in one batch."""

    labels = ("forwards", "backwards")

    def examples(self, frames: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Return every clip forwards, then every clip backwards."""
        return _pair(frames, frames.flip(1))


@TASKS.register("speed")
class Speed(Task):
    """Whether a clip is sped up (SpeedNet); both versions of a clip are in one batch."""

    labels = ("own pace", "sped up")
    sampling = "pace"

    def examples(self, frames: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Return every clip at its own pace, then every clip sped up."""
        return _pair(*frames.unbind(1))

    def augment(self, clips: Tensor) -> Tensor:
        """Return the clips at one random size."""
        return random_size(clips)


def _pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([first, second]), torch.arange(2, device=first.device).repeat_interleave(len(first))


def random_size(frames: Tensor) -> Tensor:
    """Scale clips ``(N, T, S, S, 3)`` to one random size of at least 16 pixels (from torch's generator)."""
    count, length, side = frames.shape[:3]
    share = _SCALES[0] + (_SCALES[1] - _SCALES[0]) * float(torch.rand(()))
    size = max(16, round(share * side))
    flat = frames.flatten(0, 1).permute(0, 3, 1, 2)
    if flat.is_cuda:  # which has no antialiasing of bytes
        scaled = functional.interpolate(flat.float(), (size, size), mode="bilinear", antialias=True)
        scaled = scaled.round_().clamp_(0, 255).to(torch.uint8)
    else:
        scaled = functional.interpolate(flat, (size, size), mode="bilinear", antialias=True)
    return scaled.permute(0, 2, 3, 1).view(count, length, size, size, 3)


def list_tasks() -> tuple[str, ...]:
    """Return the names that :func:`create_task` knows."""
    return TASKS.names()


def create_task(name: str) -> Task:
    """Return a task of stage 1 by its name, or by ``package.module:factory``, which runs the code of that module.

    Raises:
        LofiError: If there is none of this name.
    """
    return TASKS.get(name, dotted=True)()
