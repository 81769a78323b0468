"""Decoding against the published enumeration (Frostinassiky/gtad, branch ``anet``, gtad_inference.py)."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lofi_tal.errors import LofiError
from lofi_tal.heads.decoding import decode_boundary_map


def bins(p, forced):
    top = max(p)
    marks = [0] * len(p)
    marks[forced] = 1
    for j in range(1, len(p) - 1):
        if (p[j] > p[j - 1] and p[j] > p[j + 1]) or p[j] > 0.5 * top:
            marks[j] = 1
    return marks


def reference_decode(start, end, scores, preset):
    length, durations = len(start), len(scores)
    start_bin, end_bin = bins(start, 0), bins(end, length - 1)
    found = []
    for d in range(durations):
        for s in range(length):
            e = s + d + 1
            cell = e if preset == "official" else e - 1
            if cell < length and start_bin[s] and end_bin[cell]:
                found.append((s / length, e / length, scores[d][s]))
    return found


@given(data=st.data(), length=st.integers(1, 9), preset=st.sampled_from(["official", "fixed"]))
@settings(max_examples=80, deadline=None)
def test_equals_the_published_enumeration(data, length, preset):
    durations = data.draw(st.integers(1, length))
    values = st.integers(0, 4).map(lambda n: n / 4)  # ties and plateaus are likely
    row = st.lists(values, min_size=length, max_size=length)
    start, end = data.draw(row), data.draw(row)
    scores = data.draw(st.lists(row, min_size=durations, max_size=durations))
    (ours,) = decode_boundary_map(torch.tensor([start]), torch.tensor([end]), torch.tensor([scores]), preset)
    expected = reference_decode(start, end, scores, preset)
    got = [(*segment, score) for segment, score in zip(ours.segments.tolist(), ours.scores.tolist(), strict=True)]
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert a == pytest.approx(b)


def test_only_the_fixed_preset_reaches_the_end_of_the_video():
    start = torch.ones(1, 10)
    scores = torch.ones(1, 10, 10)
    (official,) = decode_boundary_map(start, start, scores, "official")
    (fixed,) = decode_boundary_map(start, start, scores, "fixed")
    assert official.segments.max() == pytest.approx(0.9)
    assert fixed.segments.max() == 1


def test_unknown_preset_is_an_error():
    with pytest.raises(LofiError, match="allowed: fixed, official"):
        decode_boundary_map(torch.ones(1, 3), torch.ones(1, 3), torch.ones(1, 3, 3), "best")
