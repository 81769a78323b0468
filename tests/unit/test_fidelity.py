"""Fidelities and schedules against the paper's own configurations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lofi_tal.errors import LofiError
from lofi_tal.fidelity import create_schedule, full_fidelity, list_schedules, reduced

PAPER = full_fidelity(100, 224)


def test_the_papers_three_configurations():
    """Paper sec. 3.2: S 100×112, T 25×224, ST 50×158, all about a quarter of full fidelity."""
    schedule = create_schedule("long", PAPER)
    assert [(f.name, f.snippets, f.size) for f in schedule.fidelities] == [
        ("S", 100, 112),
        ("T", 25, 224),
        ("ST", 50, 158),
    ]
    for fidelity in schedule.fidelities:
        assert fidelity.cost() / PAPER.cost() == pytest.approx(0.25, rel=0.01)


def test_long_cycle_changes_at_epoch_starts():
    schedule = create_schedule("long", PAPER, c_l=2)
    assert [schedule.at(epoch=e, step=e * 603).name for e in range(8)] == ["S", "S", "T", "T", "ST", "ST", "S", "S"]
    assert schedule.at(epoch=1, step=999).name == "S"


def test_short_cycle_runs_on_across_epochs():
    schedule = create_schedule("short", PAPER, c_s=16)
    names = [schedule.at(epoch=step // 20, step=step).name for step in range(64)]
    assert names == ["S"] * 16 + ["T"] * 16 + ["ST"] * 16 + ["S"] * 16


@given(st.sampled_from(list_schedules()), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_schedule_is_a_pure_function_of_epoch_and_step(name, epoch, step):
    first, second = create_schedule(name, PAPER), create_schedule(name, PAPER)
    assert first.at(epoch=epoch, step=step) == second.at(epoch=epoch, step=step)
    assert first.at(epoch=epoch, step=step) in first.fidelities


@given(st.integers(4, 400), st.floats(1, 4), st.floats(1, 4))
def test_ratios_are_free_and_rounded(snippets, r_t, r_s):
    fidelity = reduced("x", full_fidelity(snippets, 224), r_t, r_s)
    assert abs(fidelity.snippets - snippets / r_t) <= 0.5
    assert abs(fidelity.size - 224 / r_s) <= 0.5


@pytest.mark.parametrize("ratio", [-1.0, 0.0, 0.5, float("nan"), float("inf")])
def test_a_ratio_below_one_is_refused_with_its_value(ratio):
    with pytest.raises(LofiError, match="r_t"):
        create_schedule("t", PAPER, r_t=ratio)
    with pytest.raises(LofiError, match="r_s"):
        create_schedule("s", PAPER, r_s=ratio)


def test_unknown_schedules_and_empty_phases_are_refused():
    with pytest.raises(LofiError, match="Did you mean 'short'"):
        create_schedule("shrot", PAPER)
    with pytest.raises(LofiError, match="c_l"):
        create_schedule("long", PAPER, c_l=0)
    with pytest.raises(LofiError, match="lower r_t"):
        reduced("T", full_fidelity(2, 224), 5.0, 1.0)


def test_a_cycle_of_ones_own_goes_round_its_list():
    full = full_fidelity(100, 224)
    schedule = create_schedule("long", full, c_l=2, cycle=[(1.0, 2.0), (4.0, 1.0), (1.0, 1.0)])
    seen = [schedule.at(epoch=epoch, step=0) for epoch in range(7)]
    assert [(f.snippets, f.size) for f in seen[::2]] == [(100, 112), (25, 224), (100, 224), (100, 112)]
    assert seen[0] == seen[1]
    with pytest.raises(LofiError, match="use short or long"):
        create_schedule("t", full, cycle=[(1.0, 2.0)])
    with pytest.raises(LofiError, match="r_t = 0"):
        create_schedule("long", full, cycle=[(0.0, 2.0)])
