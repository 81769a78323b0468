"""Time stamps that restart, jump, or lie on another clock: put in line, so that every picture has its place.

A recording that was joined from parts counts from the start again, a receiver that lost its signal leaps ahead, a
faulty recorder writes one stamp of another clock. Sorting such stamps would mix the parts or stretch one picture over
hours. The order in which a file stores its packets is right all the same: stamps are mended by it. Files without such
faults, those of variable frame rate included, are left as they are.

P: packets of the video, in the order of the file. A tick is one unit of the stream's time base.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

LONGEST = {True: Fraction(10), False: Fraction(3600)}
"""Seconds beyond which a step between stamps is a fault and no long picture, by whether the container's stamps are free
to jump (MPEG streams, Ogg). Source: ``max_frame_duration`` of ``fftools/ffplay.c`` in FFmpeg."""
LONG_PICTURE = 10.0
"""Seconds for which a picture may be shown before it is worth a word."""

_REORDERED = 33  # packets by which a picture may be shown later than it is stored: twice the 16 of H.264 and HEVC
_NEAR = 8  # packets before a stray among which the gap that it leaves begins
_STRAY = 16  # packets: so many at most are a stray, more of them a part of the recording
_STRAYS = 0.1  # share of the packets: where more of them are strays, something else is odd
_NAMED = 5  # breaks that are named one by one


@dataclass(frozen=True, eq=False)
class Mended:
    """Stamps in line.

    Args:
        pts: ``(P,)`` presentation times.
        notes: What was wrong, a sentence for each place.
    """

    pts: Integers
    notes: tuple[str, ...]


def mend(pts: Integers, dts: Integers, time_base: Fraction, longest: Fraction) -> Mended | None:
    """Return stamps in line, or None if they are in line already.

    Parts that begin before the end of the one before them, or more than ``longest`` after it, follow it without a gap.
    A few packets on another clock between packets that fit each other take the place that these leave.

    Args:
        pts: ``(P,)`` presentation times.
        dts: ``(P,)`` decoding times; the same as ``pts`` where the file has none.
        time_base: Seconds a tick.
        longest: Seconds; see :data:`LONGEST`.
    """
    step = _usual_step(dts)
    line = _Line(pts, dts, step, slack=max(2 * step, round(Fraction(1, 4) / time_base)), longest=longest / time_base)
    if not line.broken:
        return None
    line.place_parts()
    line.place_strays()
    return Mended(
        _distinct(line.placed, step), _shortened([line.describe(at, time_base) for at in sorted(line.breaks)])
    )


def long_pictures(ticks: Integers, time_base: Fraction) -> tuple[str, ...]:
    """Return a sentence for each picture that is shown far longer than the others, by sorted times ``(F,)``."""
    if len(ticks) < 2:
        return ()
    steps = np.diff(ticks) * float(time_base)
    odd = np.flatnonzero((steps > LONG_PICTURE) & (steps > 100 * np.median(steps)))
    begins = (ticks - ticks[0]) * float(time_base)
    said = [f"there is no picture for {steps[i]:.1f} s after second {begins[i]:.2f} of the pictures" for i in odd]
    return _shortened(said)


class _Line:
    """Stamps that are being put in line."""

    def __init__(self, pts: Integers, dts: Integers, step: int, *, slack: int, longest: Fraction) -> None:
        self.pts, self.dts, self.step, self.slack, self.longest = pts, dts, step, slack, longest
        self.placed = pts.copy()
        self.stray = self._apart()
        self.breaks: set[int] = set(np.flatnonzero(self.stray).tolist())
        steps = np.diff(dts)
        self.broken = bool(self.breaks or (steps < -slack).any() or (steps > float(longest)).any())
        if self.broken:
            cuts = np.flatnonzero((steps < -slack) | (steps > max(2 * slack, 8 * step))) + 1
            self.parts = np.split(np.arange(len(pts)), cuts)

    def _apart(self) -> NDArray[np.bool_]:
        """Say which pictures cannot be shown when they say: before they are stored, or long after."""
        room = self.step * _REORDERED + self.slack
        early, late = self.pts < self.dts - room, self.pts > self.dts + room
        if late.any():  # those whose time comes among the packets that follow only wait for it
            ahead = np.append(self.dts, np.full(_REORDERED, self.dts.min()))
            late = self.pts > np.lib.stride_tricks.sliding_window_view(ahead, _REORDERED + 1).max(axis=1) + room
        apart = np.asarray(early | late)
        return apart if apart.mean() <= _STRAYS else np.zeros(len(apart), dtype=bool)

    def place_parts(self) -> None:
        """Place all parts but strays one after the other."""
        shift, last, ends = 0, 0, list[int]()
        for number, part in enumerate(self.parts):
            good = part[~self.stray[part]]
            if not len(good) or (ends and self._is_stray(number, last)):
                self.stray[part] = True
                self.breaks.add(int(part[0]))
                continue
            if ends and not -self.slack <= self.dts[part[0]] - last <= self.longest:
                shift = max(ends) + self.step - int(self.pts[good].min())
                self.breaks.add(int(part[0]))
            self.placed[part] = self.pts[part] + shift
            ends, last = [*ends[-1:], int(self.placed[good].max())], int(self.dts[part[-1]])
        self._anchor()

    def _is_stray(self, number: int, last: int) -> bool:
        """Say whether a part is short, and the next one goes on where the one before it ended."""
        part, following = self.parts[number], self.parts[number + 1 : number + 2]
        if len(part) > _STRAY or not following:
            return False
        after = int(self.dts[following[0][0]])
        fits = -self.slack <= after - last <= self.longest
        return fits and not last <= self.dts[part[0]] <= self.dts[part[-1]] <= after

    def _anchor(self) -> None:
        """Give the first part that is no stray the times that it says; what comes before it follows from there."""
        whole = next((part for part in self.parts if len(part) > _STRAY and not self.stray[part].all()), self.parts[0])
        good = whole[~self.stray[whole]]
        if len(good):
            self.placed += int(self.pts[good[0]] - self.placed[good[0]])

    def place_strays(self) -> None:
        """Give each stray the first gap that the pictures stored around it leave."""
        good = np.flatnonzero(~self.stray)
        held = sorted(self.placed[good].tolist())
        for index in np.flatnonzero(self.stray).tolist():
            rank = int(np.searchsorted(good, index))
            stored = self.placed[good[max(0, rank - _NEAR) : rank]]
            self.placed[index] = place = _gap(held, int(stored.min()), self.step) if rank else held[0] - self.step
            insort(held, place)

    def describe(self, at: int, time_base: Fraction) -> str:
        """Return what is wrong at a packet."""
        stamp = float(self.pts[at] * time_base)
        if self.stray[at]:
            return f"picture {at} says {stamp:.2f} s and does not fit the pictures around it: put in line with them"
        before = float(self.pts[at - 1] * time_base)
        return f"time stamps go from {before:.2f} s to {stamp:.2f} s at picture {at}: read on without a gap"


def _gap(held: list[int], low: int, step: int) -> int:
    """Return a time that is free among the sorted times ``held``, not long after ``low``."""
    first = bisect_left(held, low)
    near = held[first : first + _NEAR + _REORDERED]
    gaps = list(pairwise(near))
    wide = next((pair for pair in gaps if pair[1] - pair[0] >= 1.5 * step), None)
    if wide is None and near[-1] != held[-1]:
        wide = next((pair for pair in gaps if pair[1] - pair[0] >= 2), None)
    return held[-1] + step if wide is None else wide[0] + min(step, (wide[1] - wide[0]) // 2)


def _distinct(pts: Integers, step: int) -> Integers:
    """Return stamps of which equal ones share the time until the next one, in the order of the file."""
    order = np.argsort(pts, kind="stable")
    ticks = np.append(pts[order], pts.max() + step)
    for index in np.flatnonzero(np.diff(ticks) == 0)[::-1] + 1:
        ticks[index] += (ticks[index + 1] - ticks[index]) // 2
    spread = np.empty_like(pts)
    spread[order] = ticks[:-1]
    return spread


def _usual_step(dts: Integers) -> int:
    steps = np.diff(dts)
    steps = steps[steps > 0]
    return max(1, round(float(np.median(steps)))) if len(steps) else 1


def _shortened(notes: list[str]) -> tuple[str, ...]:
    more = len(notes) - _NAMED
    return tuple(notes[:_NAMED]) + ((f"and {more} more places like these",) if more > 0 else ())
