"""Looks: the shapes, textures, colours and backgrounds of the synthetic videos, in two families that share nothing.

Training and validation draw from different shapes (lobes), textures, background patterns and hues, so a model that
leans on looks gains nothing on validation. Looks are drawn independently of the class.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pattern = Callable[[np.random.Generator, Floats, Floats], Floats]

DETAIL = 4  # sprite texels per pixel: nearest-texel sampling is then exact to an eighth of a pixel


def _stripes(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(1.0, 1.8)
    field: Floats = np.sin(2 * np.pi * frequency * (u * np.cos(angle) + v * np.sin(angle)) + rng.uniform(0, 6))
    return field


def _dots(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    field = np.full(u.shape, -1.0, np.float32)
    for x, y in rng.uniform(-0.8, 0.8, (5, 2)):
        field = np.maximum(field, 1 - 2 * np.minimum(((u - x) ** 2 + (v - y) ** 2) / 0.08, 1))
    return field


def _clouds(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    field = np.zeros(u.shape, np.float32)
    for octave in (0.6, 1.1, 1.9, 3.3):
        for _ in range(3):
            angle = rng.uniform(0, 2 * np.pi)
            wave = np.sin(2 * np.pi * octave * (u * np.cos(angle) + v * np.sin(angle)) + rng.uniform(0, 2 * np.pi))
            field += wave / octave
    even: Floats = field / np.abs(field).max()
    return even


def _checks(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    frequency = rng.uniform(0.7, 1.2)
    first = np.sin(2 * np.pi * frequency * u + rng.uniform(0, 6))
    field: Floats = np.clip(4 * first * np.sin(2 * np.pi * frequency * v + rng.uniform(0, 6)), -1, 1)
    return field


def _rings(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    x, y = rng.uniform(-0.6, 0.6, 2)
    field: Floats = np.sin(2 * np.pi * rng.uniform(1.0, 1.8) * np.hypot(u - x, v - y) + rng.uniform(0, 6))
    return field


def _cells(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    reach = float(np.abs(u).max())
    distance = [np.hypot(u - x, v - y) for x, y in rng.uniform(-reach, reach, (9, 2))]
    tone = rng.uniform(-1, 1, 9).astype(np.float32)
    field: Floats = tone[np.argmin(distance, axis=0)]
    return field


@dataclass(frozen=True)
class Family:
    """What one subset draws its looks from; hues are ranges on the colour circle [0, 1)."""

    textures: tuple[Pattern, ...]
    backgrounds: tuple[Pattern, ...]
    lobes: tuple[int, ...]
    hues: tuple[tuple[float, float], ...]


FAMILIES = {
    "training": Family(
        textures=(_stripes, _dots),
        backgrounds=(_clouds, _stripes),
        lobes=(1, 3),
        hues=((0.0, 0.10), (0.25, 0.35), (0.50, 0.60), (0.75, 0.85)),
    ),
    "validation": Family(
        textures=(_checks, _rings),
        backgrounds=(_cells, _rings),
        lobes=(2, 4),
        hues=((0.125, 0.225), (0.375, 0.475), (0.625, 0.725), (0.875, 0.975)),
    ),
}


def _colour(rng: np.random.Generator, family: Family, light: float, saturation: tuple[float, float]) -> Floats:
    """Return an RGB colour in [0, 255] of a lightness in [0, 1]."""
    hue = rng.uniform(*family.hues[rng.integers(len(family.hues))])
    return np.array(colorsys.hls_to_rgb(hue, light, rng.uniform(*saturation)), np.float32) * 255


@dataclass(frozen=True)
class Sprite:
    """One object: premultiplied RGBA texels ``(S, S, 4)`` over [-1, 1]² in units of the reach, and sizes in pixels."""

    texels: Floats
    radius: float
    reach: float


def draw_sprite(rng: np.random.Generator, subset: str, *, radius: float, ground: float) -> Sprite:
    """Draw a textured object with a lobed outline.

    Args:
        rng: Source of all chance.
        subset: Family of looks: ``"training"`` or ``"validation"``.
        radius: Mean radius in pixels.
        ground: Lightness of the background in [0, 1], from which the object keeps its distance.
    """
    family = FAMILIES[subset]
    reach = radius * 1.62 + 1.5  # the longest lobe, stretched, and its soft rim
    side = 2 * int(np.ceil(reach * DETAIL)) + 1
    v, u = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32) * (reach / radius)
    stretch = rng.uniform(1.12, 1.3)
    across, along = u * stretch, v / stretch
    turn = np.arctan2(along, across)
    outline = 1 + rng.uniform(0.08, 0.16) * np.cos(family.lobes[rng.integers(len(family.lobes))] * turn)
    outline += rng.uniform(0.03, 0.08) * np.cos(rng.choice(family.lobes) * turn + rng.uniform(0, 6))
    alpha = np.clip((outline - np.hypot(across, along)) * radius / 1.5 + 0.5, 0, 1)
    texture = family.textures[rng.integers(len(family.textures))](rng, u, v)
    light, other = ground + rng.uniform(0.38, 0.5), ground + rng.uniform(0.18, 0.26)
    mix = (0.5 + 0.5 * texture)[..., None]
    colours = _colour(rng, family, np.clip(light, 0.05, 0.95), (0.5, 1.0)) * mix
    colours = colours + _colour(rng, family, np.clip(other, 0.05, 0.95), (0.5, 1.0)) * (1 - mix)
    texels = np.concatenate([colours * alpha[..., None], alpha[..., None]], axis=-1).astype(np.float32)
    return Sprite(texels, radius, reach)


def draw_background(rng: np.random.Generator, subset: str, side: int, ground: float) -> Floats:
    """Draw a patterned background of lightness ``ground``.

    Returns:
        ``(side, side, 3)`` in [0, 255].
    """
    family = FAMILIES[subset]
    v, u = np.mgrid[-1.5 : 1.5 : side * 1j, -1.5 : 1.5 : side * 1j].astype(np.float32)
    pattern = family.backgrounds[rng.integers(len(family.backgrounds))](rng, u, v)
    mix = (0.5 + 0.5 * pattern)[..., None]
    depth = rng.uniform(0.04, 0.09)
    bright = _colour(rng, family, ground + depth, (0.1, 0.5))
    return (bright * mix + _colour(rng, family, ground - depth, (0.1, 0.5)) * (1 - mix)).astype(np.float32)
