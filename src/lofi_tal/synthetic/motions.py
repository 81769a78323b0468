"""Motions: what an object does, as one velocity for each frame.

A motion has five degrees of freedom (``DEGREES``): place (x right, y down), angle, log size and log aspect. Velocities
are given in *rim pixels per frame*: the distance that the object's rim travels, whatever moves it. Every motion, with
or without a class, is scaled to a mean speed drawn from one distribution, so the amount of motion says nothing about
the class, nor whether there is an action at all. The object's pose is a leaky sum of the velocities.

A class is a closed path in these five dimensions, run through once a period. Source classes also have an arrow of time,
as actions of real things have: they begin with vigour and die away. A random mirror (x and angle change sign)
is part of every motion, so a horizontal flip of the picture never changes a class.

F: number of frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Cycle = Callable[[Floats], Floats]

DEGREES = ("x", "y", "angle", "size", "aspect")
PERIOD = (10.0, 16.0)  # frames in one cycle: 8 frames at stride 2 show one to one and a half cycles
SPEED = (2.1, 3.1)  # rim pixels per frame
LIVELY = 1.1  # class-less motion is this much quicker, to make up for its pauses and changes of mind
UNEVEN = 0.3  # speed of the aimless motion on top of a class's, relative to it
FRAGMENT = (5, 12)  # frames for which class-less motion keeps to one thing

# Rim pixels of a radian, of a unit of log size and of log aspect, in units of the object's radius. Chosen so that the
# same speed in rim pixels changes about the same amount of picture, measured on rendered objects.
RIM = np.array([1.0, 1.0, 0.47, 1.6, 0.5])
# What is left of an offset after one frame: objects come back to their place, and keep any angle.
LEAK = np.array([0.9, 0.9, 1.0, 0.88, 0.88])


def _path(**columns: Floats) -> Floats:
    """Return ``(F, 5)`` offsets from named columns; the others stay zero."""
    length = len(next(iter(columns.values())))
    path = np.zeros((length, len(DEGREES)))
    for name, values in columns.items():
        path[:, DEGREES.index(name)] = values
    return path


def _sin(phase: Floats, cycles: float = 1.0) -> Floats:
    return np.sin(2 * np.pi * cycles * phase)


def _cos(phase: Floats, cycles: float = 1.0) -> Floats:
    return np.cos(2 * np.pi * cycles * phase)


def _saw(phase: Floats) -> Floats:
    """Return a rounded saw tooth in [-1, 1]: it rises in a quarter of the period and falls in the rest."""
    fraction, rise = phase % 1.0, 0.25
    tooth: Floats = np.where(
        fraction < rise, -np.cos(np.pi * fraction / rise), np.cos(np.pi * (fraction - rise) / (1 - rise))
    )
    return tooth


def _square(phase: Floats) -> Floats:
    """Return one coordinate of a point that runs along a square at an even speed."""
    side: Floats = np.clip(4 * np.abs((phase % 1.0) - 0.5) - 1, -0.5, 0.5) * 2
    return side


TARGET: dict[str, Cycle] = {
    "shake_horizontal": lambda p: _path(x=_sin(p)),
    "shake_vertical": lambda p: _path(y=_sin(p)),
    "circle": lambda p: _path(x=_cos(p), y=_sin(p)),
    "figure_eight": lambda p: _path(x=_sin(p), y=0.6 * _sin(p, 2)),
    "spin": lambda p: _path(angle=p),
    "swing": lambda p: _path(x=_sin(p), y=0.35 * _cos(p, 2), angle=-0.6 * _sin(p)),
    "leap": lambda p: _path(y=-_saw(p)),
    "drop": lambda p: _path(y=_saw(p)),
    "gulp": lambda p: _path(size=_saw(p)),
    "swell": lambda p: _path(size=-_saw(p)),
}
SOURCE: dict[str, Cycle] = {
    "pulse": lambda p: _path(size=_sin(p)),
    "slash": lambda p: _path(x=_sin(p), y=_sin(p)),
    "oval_flat": lambda p: _path(x=_cos(p), y=0.4 * _sin(p)),
    "oval_tall": lambda p: _path(x=0.4 * _cos(p), y=_sin(p)),
    "wobble": lambda p: _path(angle=_sin(p)),
    "lurch": lambda p: _path(x=_saw(p)),
    "flatten": lambda p: _path(aspect=_saw(p)),
    "spring": lambda p: _path(aspect=-_saw(p)),
    "roll": lambda p: _path(x=_sin(p), angle=0.8 * _sin(p)),
    "square": lambda p: _path(x=_square(p), y=_square(p + 0.25)),
}
CYCLES = TARGET | SOURCE
VIGOUR = 0.55  # how much faster than its mean a source class is at its beginning, and slower at its end


def _mirror(rng: np.random.Generator) -> Floats:
    side = rng.choice((-1.0, 1.0))
    return np.array([side, 1.0, side, 1.0, 1.0])


def _paced(velocity: Floats, speed: float) -> Floats:
    """Scale velocities to a mean speed."""
    return velocity * (speed / max(float(np.linalg.norm(velocity, axis=1).mean()), 1e-9))


def cycle(rng: np.random.Generator, label: str, frames: int, speed: float) -> Floats:
    """Return ``(F, 5)`` velocities of a class: its path, again and again, with a slightly uneven tempo and strength."""
    period, start = rng.uniform(*PERIOD), rng.uniform()
    time = np.arange(frames + 1)
    sway = 0.04 * np.sin(2 * np.pi * (time / rng.uniform(30, 60) + rng.uniform()))
    offsets = CYCLES[label](start + time / period + sway)
    whole = np.diff(CYCLES[label](np.arange(65) / 64), axis=0)
    gain = speed * period / np.linalg.norm(whole, axis=1).sum()
    strength = 1 + 0.15 * np.sin(2 * np.pi * (time / rng.uniform(25, 60) + rng.uniform()))[1:, None]
    if label in SOURCE:
        strength = strength * np.linspace(1 + VIGOUR, 1 - VIGOUR, frames)[:, None]
    motion: Floats = gain * strength * np.diff(offsets, axis=0) * _mirror(rng)
    return motion + _wander(rng, frames, np.ones(len(DEGREES)), UNEVEN * speed)


def _wander(rng: np.random.Generator, frames: int, freedom: Floats, speed: float) -> Floats:
    """Return smooth motion without a pattern: three sines of unrelated periods for every degree of freedom."""
    frequency = rng.uniform(1 / 14, 1 / 6.5, (3, 1, len(DEGREES)))
    turns = frequency * np.arange(frames + 1)[:, None] + rng.uniform(size=frequency.shape)
    offsets = (np.sin(2 * np.pi * turns) * rng.uniform(0.4, 1, frequency.shape) / frequency).sum(axis=0)
    return _paced(np.diff(offsets, axis=0) * freedom, speed)


def _used(label: str) -> Floats:
    """Return how much each degree of freedom moves in a class."""
    used: Floats = np.abs(np.diff(CYCLES[label](np.arange(17) / 16), axis=0)).mean(axis=0)
    return used


def _kin(label: str, among: dict[str, Cycle]) -> list[str]:
    """Return the classes that move a degree of freedom which ``label`` moves too."""
    return [other for other in among if (_used(label) * _used(other)).any()] or list(among)


def _freedom(rng: np.random.Generator, label: str) -> Floats:
    """Return how much each degree of freedom moves in class-less motion that resembles ``label`` in kind."""
    used = _used(label)
    if used[:2].any():  # a place moves in any direction, not along the class's axis
        angle = rng.uniform(0, np.pi)
        used[:2] = used[:2].max() * np.maximum(np.abs([np.cos(angle), np.sin(angle)]), 0.35)
    freedom: Floats = used / used.max() + rng.uniform(0, 0.25, len(DEGREES))
    return freedom


def restless(rng: np.random.Generator, label: str, frames: int, speed: float) -> Floats:
    """Return ``(F, 5)`` velocities of class-less motion as lively as class ``label``.

    Short fragments follow each other: aimless wandering in the degrees of freedom that the class uses, less than half
    a cycle of some target class, one run of a source class, now and then a pause. The fragments are cut so that none
    shows a target class.
    """
    fragments: list[Floats] = []
    left = frames
    while left > 0:
        length = int(rng.integers(FRAGMENT[0], FRAGMENT[1] + 1))
        choice = rng.choice(4, p=(0.6, 0.2, 0.16, 0.04))
        if choice == 0:
            fragment = _wander(rng, length, _freedom(rng, label), speed)
        elif choice == 1:
            fragment = cycle(rng, str(rng.choice(_kin(label, TARGET))), min(length, int(0.45 * PERIOD[0]) + 1), speed)
        elif choice == 2:
            fragment = cycle(rng, str(rng.choice(_kin(label, SOURCE))), length, speed)
        else:
            fragment = _wander(rng, length // 2 + 1, np.ones(len(DEGREES)), 0.2 * speed)
        fragments.append(fragment)
        left -= len(fragment)
    return np.concatenate(fragments)[:frames]


@dataclass(frozen=True)
class Span:
    """Frames [start, end) in which an object does one thing: a class, or (``label`` None) nothing in particular."""

    start: int
    end: int
    label: str | None


def perform(rng: np.random.Generator, spans: tuple[Span, ...], *, like: tuple[str, ...], radius: float) -> Floats:
    """Return ``(F, 5)`` poses of an object that goes through ``spans``.

    Args:
        rng: Source of all chance.
        spans: Spans that follow each other from frame 0 to F.
        like: Classes that class-less spans resemble in kind; one is drawn for each.
        radius: Of the object in pixels.

    Returns:
        x and y as offsets in pixels, angle in radians, log size, log aspect.
    """
    motions: list[Floats] = []
    for span in spans:
        speed, frames = rng.uniform(*SPEED), span.end - span.start
        if span.label is not None:
            motions.append(cycle(rng, span.label, frames, speed))
        else:
            motions.append(restless(rng, str(rng.choice(like)), frames, LIVELY * speed))
    velocity = np.concatenate(motions) / np.where(np.arange(len(DEGREES)) < 2, 1.0, radius) / RIM
    poses: Floats = np.zeros_like(velocity)
    pose = np.array([0.0, 0.0, rng.uniform(0, 2 * np.pi), 0.0, 0.0])
    for frame, step in enumerate(velocity):
        pose = LEAK * pose + step
        poses[frame] = pose
    return poses
