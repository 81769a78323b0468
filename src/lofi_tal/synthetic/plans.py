"""Plans: what each video shows, drawn before anything is rendered.

A plan depends on (seed, role, index) alone, so it is the same whatever else is made, in whatever order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lofi_tal.errors import LofiError, nearest
from lofi_tal.synthetic.looks import draw_background, draw_sprite
from lofi_tal.synthetic.motions import SOURCE, TARGET, Span, perform
from lofi_tal.synthetic.rendering import MARGIN, Actor, Frames, Scene, render

FPS = 10.0
SIZE = 64
SUBSETS = ("training", "validation")
ROLES = ("training", "validation", "clip_training", "clip_validation")
BYSTANDERS = 1
BYSTANDER_RADIUS = (7.0, 10.0)  # pixels
_DRAWS = 1000  # plans of which one must overlap
_FAR = 5_040_000  # beyond all indices of a preset, and a multiple of any number of classes up to 10
ACTOR_RADIUS = (10.0, 13.0)
HOMES = (25.0, 39.0)  # where the acting object stays, in pixels


@dataclass(frozen=True)
class Preset:
    """How much is made.

    Args:
        name: As the user calls it.
        classes: Number of target classes, and of source classes that are none of them.
        videos: Training and validation videos, at least ``classes`` training ones.
        clips: Training and validation clips of every source class.
        seconds: Shortest and longest video.
        clip_seconds: Shortest and longest clip.
        broad: Whether the clips show the target classes as well, as Kinetics has most of ActivityNet's.
        scale: Pixels of a video for each of :data:`SIZE`.
    """

    name: str
    classes: int
    videos: tuple[int, int]
    clips: tuple[int, int]
    seconds: tuple[float, float]
    clip_seconds: tuple[float, float] = (2.0, 2.8)
    broad: bool = False
    scale: int = 1

    @property
    def size(self) -> int:
        """Side of the square frames in pixels."""
        return SIZE * self.scale

    @property
    def targets(self) -> tuple[str, ...]:
        """Classes of the videos."""
        return tuple(TARGET)[: self.classes]

    @property
    def sources(self) -> tuple[str, ...]:
        """Classes of the clips."""
        return tuple(SOURCE)[: self.classes] + (self.targets if self.broad else ())


PRESETS = {
    preset.name: preset
    for preset in (
        Preset("tiny", classes=4, videos=(8, 4), clips=(4, 1), seconds=(7.0, 10.0)),
        Preset("demo", classes=10, videos=(100, 60), clips=(110, 30), seconds=(20.0, 30.0)),
        Preset("small", classes=10, videos=(200, 80), clips=(110, 30), seconds=(20.0, 30.0)),
        Preset("bench", classes=10, videos=(240, 360), clips=(240, 40), seconds=(20.0, 60.0)),
        Preset("bench_broad", classes=10, videos=(240, 360), clips=(240, 20), seconds=(20.0, 60.0), broad=True),
        Preset("bench_gpu", classes=10, videos=(240, 120), clips=(240, 20), seconds=(20.0, 40.0), scale=2),
    )
}


def find_preset(name: str) -> Preset:
    """Return a preset by name.

    Raises:
        LofiError: If there is none of that name.
    """
    if name not in PRESETS:
        raise LofiError(f"preset {name!r} is unknown; allowed: {', '.join(PRESETS)}.{nearest(name, PRESETS)}")
    return PRESETS[name]


@dataclass(frozen=True)
class Plan:
    """One video or clip.

    Args:
        seed: Of the data set.
        role: One of ``ROLES``.
        index: Position within the role.
        label: The one class of the video.
        scene: Number of the look; each look is used once by every class, so looks cannot tell the class.
        spans: What the acting object does, frame 0 to the end; the spans with a label are the instances.
        like: Classes that the class-less motion resembles in kind.
        scale: Pixels of a frame for each of :data:`SIZE`; all lengths of a plan are in units of these.
        others: What a second acting object does meanwhile, of another class; none in a video of one class.
    """

    seed: int
    role: str
    index: int
    label: str
    scene: int
    spans: tuple[Span, ...]
    like: tuple[str, ...]
    scale: int = 1
    others: tuple[Span, ...] = ()

    @property
    def id(self) -> str:
        """Name of the video, without anything that tells the class."""
        return f"{self.role}_{self.index:05d}"

    @property
    def subset(self) -> str:
        """``"training"`` or ``"validation"``."""
        return self.role.removeprefix("clip_")

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.spans[-1].end

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / FPS

    @property
    def instances(self) -> tuple[Span, ...]:
        """The spans that show a class."""
        return tuple(span for span in (*self.spans, *self.others) if span.label is not None)

    def render(self) -> Iterator[Frames]:
        """Yield the frames ``(SIZE · scale, SIZE · scale, 3)``."""
        return render(build_scene(self))


def _generator(seed: int, role: str, index: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, ROLES.index(role), index, purpose])


def plan_video(preset: Preset, seed: int, role: str, index: int) -> Plan:
    """Plan an untrimmed video with one to four instances of one class.

    Lengths are shares of the video between 0.08 and 0.6, about 0.3 in the middle; what is left over goes before,
    between and behind the instances.
    """
    rng = _generator(seed, role, index, 0)
    frames = round(rng.uniform(*preset.seconds) * FPS)
    count = int(rng.choice(4, p=(0.55, 0.3, 0.1, 0.05))) + 1
    shares = rng.uniform(*((0.25, 0.6), (0.18, 0.42), (0.12, 0.26), (0.08, 0.2))[count - 1], count)
    lengths = np.maximum(np.round(shares * frames).astype(int), int(0.08 * frames) + 1)
    gap = min(15, int(0.06 * frames))
    rest = frames - int(lengths.sum()) - gap * (count - 1)
    cuts = np.sort(rng.integers(0, rest + 1, count))
    label = preset.targets[index % preset.classes]
    spans: list[Span] = []
    for number, length in enumerate(lengths):
        start = int(cuts[number] + lengths[:number].sum() + gap * number)
        spans += [*_background(rng, spans[-1].end if spans else 0, start), Span(start, start + int(length), label)]
    spans += _background(rng, spans[-1].end, frames)
    like = (label, label, *preset.targets)
    return Plan(seed, role, index, label, index // preset.classes, tuple(spans), like, preset.scale)


def with_overlap(plan: Plan, preset: Preset) -> Plan:
    """Return a planned video in which a second object acts too, in another class; one action of each overlaps.

    The second object does what the first of another plan of the same length would do, drawn until actions of both share
    time.
    """
    classes = preset.classes
    other = (preset.targets.index(plan.label) + 1 + plan.scene % (classes - 1)) % classes
    seconds = plan.frames / FPS
    alike = replace(preset, seconds=(seconds, seconds))
    for attempt in range(_DRAWS):
        index = (attempt + 1) * _FAR + plan.index // classes * classes + other
        drawn = plan_video(alike, plan.seed, plan.role, index).spans
        if _share_time(plan.spans, drawn):
            return replace(plan, others=drawn, like=(*plan.like, preset.targets[other], preset.targets[other]))
    raise AssertionError("no plan overlaps: every video is up to a half action")  # pragma: no cover


def _share_time(first: Sequence[Span], second: Sequence[Span]) -> bool:
    """Say whether an action of each shares at least half of the shorter one."""
    acts = [[span for span in spans if span.label is not None] for spans in (first, second)]
    return any(
        2 * (min(a.end, b.end) - max(a.start, b.start)) >= min(a.end - a.start, b.end - b.start)
        for a in acts[0]
        for b in acts[1]
    )


def _background(rng: np.random.Generator, start: int, end: int) -> list[Span]:
    """Cut frames [start, end) into class-less spans of about the length of instances."""
    spans: list[Span] = []
    while start < end:
        length = int(rng.integers(30, 120))
        stop = end if end - start - length < 20 else start + length
        spans.append(Span(start, stop, None))
        start = stop
    return spans


def plan_clip(preset: Preset, seed: int, role: str, index: int) -> Plan:
    """Plan a trimmed clip: one source class from the first frame to the last."""
    rng = _generator(seed, role, index, 0)
    frames = round(rng.uniform(*preset.clip_seconds) * FPS)
    look, source = divmod(index, len(preset.sources))
    label = preset.sources[source]
    return Plan(seed, role, index, label, look, (Span(0, frames, label),), preset.sources, preset.scale)


def build_scene(plan: Plan) -> Scene:
    """Draw the looks and motions of a plan; looks and motions come from different random streams."""
    rng = _generator(plan.seed, plan.role, plan.scene, 1)
    ground = float(rng.uniform(0.15, 0.35))
    size, scale = SIZE * plan.scale, plan.scale
    background = draw_background(rng, plan.subset, size + 2 * MARGIN * scale, ground)
    radii = [*rng.uniform(*BYSTANDER_RADIUS, BYSTANDERS), rng.uniform(*ACTOR_RADIUS)]
    sprites = [draw_sprite(rng, plan.subset, radius=float(radius) * scale, ground=ground) for radius in radii]
    noise = (rng.standard_normal((2 * size, 2 * size, 3)) * rng.uniform(2, 5)).astype(np.float32)

    rng = _generator(plan.seed, plan.role, plan.index, 2)
    time = np.arange(plan.frames)
    home = rng.uniform(*HOMES, 2)
    actors = []
    for sprite in sprites[:-1]:
        poses = perform(rng, tuple(_background(rng, 0, plan.frames)), like=plan.like, radius=sprite.radius / scale)
        poses[:, :2] += _distant(rng, home) + _entry(rng, plan.frames)
        poses[:, :2] *= scale
        actors.append(Actor(sprite, poses))
    poses = perform(rng, plan.spans, like=plan.like, radius=sprites[-1].radius / scale)
    poses[:, :2] += home + 6 * np.sin(2 * np.pi * (time[:, None] / rng.uniform(35, 90, 2) + rng.uniform(size=2)))
    poses[:, :2] *= scale
    actors.append(Actor(sprites[-1], poses))
    if plan.others:
        actors.append(_second_actor(plan, home, ground))
    return Scene(
        background=background,
        camera=_camera(rng, plan.frames) * scale,
        margin=MARGIN * scale,
        light=1 + 0.03 * np.sin(time / rng.uniform(3, 15)) + 0.01 * rng.standard_normal(plan.frames),
        actors=tuple(actors),
        noise=noise,
        windows=rng.integers(0, size, (plan.frames, 2)),
    )


def _second_actor(plan: Plan, home: NDArray[np.float64], ground: float) -> Actor:
    """Draw the other acting object; from streams of its own, so that all else stays as it is without it."""
    rng = _generator(plan.seed, plan.role, plan.scene, 3)
    radius = float(rng.uniform(*ACTOR_RADIUS))
    sprite = draw_sprite(rng, plan.subset, radius=radius * plan.scale, ground=ground)
    rng = _generator(plan.seed, plan.role, plan.index, 4)
    poses = perform(rng, plan.others, like=plan.like, radius=radius)
    poses[:, :2] += _distant(rng, home)
    poses[:, :2] *= plan.scale
    return Actor(sprite, poses)


def _distant(rng: np.random.Generator, home: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draw a place for a bystander, away from the acting object."""
    points = rng.uniform(4, SIZE - 4, (16, 2))
    far = points[np.hypot(*(points - home).T) > 26]
    chosen: NDArray[np.float64] = far[0] if len(far) else points[0]
    return chosen


def _entry(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Return ``(F, 2)`` offsets of an object that comes into the picture at some time, or is there from the start."""
    if rng.uniform() < 0.7:
        return np.zeros((frames, 2))
    arrival = rng.uniform(0, 0.7) * frames
    away = np.clip((arrival + 15 - np.arange(frames)) / 15, 0, 1)
    angle = rng.uniform(0, 2 * np.pi)
    offsets: NDArray[np.float64] = 90 * away[:, None] * np.array([np.cos(angle), np.sin(angle)])
    return offsets


def _camera(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Return ``(F, 2)`` slow drift with a hand's tremor, within the margin."""
    time = np.arange(frames)[:, None]
    drift = 3.5 * np.sin(2 * np.pi * (time / rng.uniform(80, 250, 2) + rng.uniform(size=2)))
    tremor = rng.uniform(0.1, 0.35) * rng.standard_normal((frames, 2))
    camera: NDArray[np.float64] = np.clip(drift + tremor, -(MARGIN - 1.1), MARGIN - 1.1)
    return camera
