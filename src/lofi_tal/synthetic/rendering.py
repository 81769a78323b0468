"""Rendering: poses and looks in, frames out, one at a time so that all memory stays in the cache.

F: number of frames, S: side of the square frame in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lofi_tal.synthetic.looks import DETAIL, Sprite

Floats = NDArray[np.float32]
Frames = NDArray[np.uint8]

MARGIN = 8  # pixels of background beyond a frame of the usual size, for the camera to move in


@dataclass(frozen=True)
class Actor:
    """An object and what it does: ``(F, 5)`` poses with x, y in pixels of the frame (see `motions.DEGREES`)."""

    sprite: Sprite
    poses: NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """Everything that is seen.

    Args:
        background: ``(S + 2·margin, S + 2·margin, 3)`` in [0, 255].
        camera: ``(F, 2)`` shift of the camera in pixels (x, y), less than ``margin - 1``.
        margin: Pixels of background beyond the frame.
        light: ``(F,)`` brightness, about 1.
        actors: From back to front.
        noise: ``(2·S, 2·S, 3)`` sensor noise; each frame takes a random window of it.
        windows: ``(F, 2)`` corner (x, y) of that window, in [0, S].
    """

    background: Floats
    camera: NDArray[np.float64]
    margin: int
    light: NDArray[np.float64]
    actors: tuple[Actor, ...]
    noise: Floats
    windows: NDArray[np.int64]


def render(scene: Scene) -> Iterator[Frames]:
    """Yield the frames ``(S, S, 3)`` of a scene, RGB."""
    size = len(scene.background) - 2 * scene.margin
    for number, camera in enumerate(scene.camera):
        frame = _view(scene.background, camera, scene.margin)
        for actor in scene.actors:
            x, y, angle, log_size, log_aspect = actor.poses[number].tolist()
            _stamp(frame, actor.sprite, (x - camera[0], y - camera[1]), angle, log_size, log_aspect)
        frame *= np.float32(scene.light[number])
        left, top = scene.windows[number]
        frame += scene.noise[top : top + size, left : left + size]
        yield np.clip(frame, 0, 255, out=frame).astype(np.uint8)


def _view(background: Floats, camera: NDArray[np.float64], margin: int) -> Floats:
    """Return the ``(S, S, 3)`` part of the background that the camera sees, bilinear between pixels."""
    size = len(background) - 2 * margin
    left, top = np.floor(camera).astype(int) + margin
    x, y = (camera - np.floor(camera)).astype(np.float32)
    part = background[top : top + size + 1, left : left + size + 1]
    rows = part[:, :-1] + x * (part[:, 1:] - part[:, :-1])
    view: Floats = rows[:-1] + y * (rows[1:] - rows[:-1])
    return view


def _stamp(
    frame: Floats, sprite: Sprite, centre: tuple[float, float], angle: float, log_size: float, log_aspect: float
) -> None:
    """Draw a sprite into a frame, in place.

    The angle turns the object first; size and aspect then stretch it along the frame's axes.
    """
    wide, high = np.exp(log_size + log_aspect / 2), np.exp(log_size - log_aspect / 2)
    columns = _covered(centre[0], sprite.reach * wide, len(frame))
    rows = _covered(centre[1], sprite.reach * high, len(frame))
    if not (columns.size and rows.size):
        return
    cos, sin, side = np.cos(angle), np.sin(angle), len(sprite.texels)
    # Where each pixel lies in the sprite, in texels from its corner; the two axes add up.
    dx, dy = (columns - centre[0]) * (DETAIL / wide), (rows - centre[1])[:, None] * (DETAIL / high)
    middle = side // 2 + 0.5
    column = ((dx * cos + middle) + dy * sin).astype(np.int32)
    row = ((dy * cos + middle) - dx * sin).astype(np.int32)
    last = side - 1  # the rim of a sprite is transparent, so what lies beyond it can be read from the rim
    colours = sprite.texels[np.clip(row, 0, last), np.clip(column, 0, last)]
    patch = frame[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    patch *= 1 - colours[..., 3:]
    patch += colours[..., :3]


def _covered(centre: float, reach: float, size: int) -> NDArray[np.int64]:
    """Return the pixels of one axis that an object covers, within the frame."""
    return np.arange(max(int(centre - reach), 0), min(int(centre + reach) + 2, size))
