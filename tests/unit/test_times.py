"""Times before work: the work of a recipe is counted, seconds are arithmetic on it, a budget takes little away."""

import pytest

from lofi_tal.config import make_recipe
from lofi_tal.errors import LofiError
from lofi_tal.planning.budget import MARGIN, changed_recipe, fit_budget, parse_duration
from lofi_tal.planning.work import Amounts, estimate, step_seconds, work_of
from lofi_tal.progress import Expected, clock_text, spoken

DATA = {"annotations": "a.json", "videos": "v"}
AMOUNTS = Amounts(clips=40, clip_checks=10, windows=20, refit_windows=24, train=20, selection=4, evaluation=8)


def recipe(**sections):
    return make_recipe({
        "data": DATA, "snippets": {"count": 16, "frames": 4, "size": 64}, "pretrain": {"epochs": 6, "batch": 16},
        "lofi": {"epochs": 12, "batch": 8}, "head": {"epochs": 5, "batch": 8}, **sections,
    })  # fmt: skip


def counts(made, amounts=AMOUNTS):
    found = {}
    for work in work_of(made, amounts):
        found[work.key] = found.get(work.key, 0) + work.count
    return found


def test_work_counts_epochs_rates_refits_and_both_arms():
    found = counts(recipe(baseline=True))
    assert found["pretrain"] == 6 * 3
    assert found["pretrain check"] == 1
    assert found["lofi S 16×32px"] == found["lofi T 4×64px"] == found["lofi ST 8×45px"] == 4 * 3
    assert found["head"] == 2 * (5 * 5 * 3 + 5 * 3)  # five rates on 20 videos, the refit on 24; two arms
    assert found["head start"] == 2 * 6
    assert found["extract"] == found["extract again"] == 32
    assert found["files"] == 82
    assert counts(recipe())["head"] == found["head"] / 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.62, "0.6 s"), (42.2, "42 s"), (101.0, "2 min"), (862, "14 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_a_time_in_words_names_its_unit(seconds, text):
    assert spoken(seconds) == text


def test_without_selection_videos_one_rate_is_taken_unseen():
    found = counts(recipe(), Amounts(clips=40, windows=20, train=20, evaluation=8))
    assert found["head"] == 5 * 3
    assert found.keys().isdisjoint({"score", "choices"})


def test_what_nobody_has_measured_is_not_known():
    made = recipe(pretrain=None, lofi=None)
    found = estimate(made, AMOUNTS, {"head": 2.0})
    assert found.total == 2.0 * counts(made)["head"]
    assert "features of baseline" in found.unknown
    assert "head of baseline: refit" not in found.unknown


def test_data_are_read_beside_a_step_as_far_as_cores_go():
    assert step_seconds(2.0, 3.0, workers=0, cores=8, threads=4) == 5.0
    assert step_seconds(2.0, 3.0, workers=2, cores=8, threads=4) == 2.0
    assert step_seconds(2.0, 6.0, workers=2, cores=8, threads=4) == 3.0
    assert step_seconds(2.0, 2.0, workers=2, cores=1, threads=1) == 4.0
    assert step_seconds(2.0, 6.0, workers=4, cores=2, threads=0) == 3.0  # a GPU computes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30min", 1800),
        ("2h", 7200),
        ("1h30min", 5400),
        ("1:30:00", 5400),
        ("30:00", 1800),
        ("1.5 h", 5400),
    ],
)
def test_times_are_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["30", "", "soon", "-5min", "0s", "1:75", "5 parsec", "1h30"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(LofiError, match="such as 90s"):
        parse_duration(text)


def seconds_of(made):
    """A second for each unit, pixels counted."""
    pixels = (made.snippets.size / 64) ** 2
    found = counts(made)
    return sum(count * (1 if key.startswith(("head", "score", "choices")) else pixels) for key, count in found.items())


def test_a_budget_takes_what_costs_the_result_least():
    made = recipe()
    whole = seconds_of(made)
    assert fit_budget(made, seconds_of, 2 * whole)[0] == []
    rates, changed = fit_budget(made, seconds_of, (whole - 1) / MARGIN)
    assert rates == ["head.lrs=[0.0005, 0.001, 0.002]"]
    settings, changed = fit_budget(made, seconds_of, 0.6 * whole)
    assert seconds_of(changed) <= MARGIN * 0.6 * whole
    assert changed == changed_recipe(made, settings)
    assert changed.lofi.epochs % 3 == 0  # whole cycles
    with pytest.raises(LofiError, match="the shortest run takes about"):
        fit_budget(made, seconds_of, 0.01 * whole)


def test_with_published_features_only_the_head_is_changed():
    made = recipe()
    content = {**made.model_dump(mode="json"), "features": {"sources": ["features"]}}
    settings, _ = fit_budget(make_recipe(content), lambda one: one.head.epochs, 0.5 * made.head.epochs / MARGIN)
    assert settings
    assert all(setting.startswith("head.") for setting in settings)


def test_what_is_left_of_all_tasks_is_corrected_by_what_was_taken():
    expected = Expected([("pretrain", 10.0), ("extract", 20.0), ("lofi", 70.0)])
    expected.begin("pretrain")
    assert expected.left(0.0, 0.0) == 100.0
    assert expected.left(0.5, 10.0) == pytest.approx(2 * 95.0)  # twice as slow as foreseen
    expected.end(1.0, 20.0)
    expected.begin("extract 32×48px")
    assert expected.left(0.5, 10.0) == pytest.approx(30 / 20 * 80.0)
    left = expected.left(1.0, 20.0)
    expected.end(1.0, 20.0)
    expected.begin("something else")
    assert expected.left(0.5, 1000.0) == left  # it was not foreseen, and says nothing about the others
    expected.end(1.0, 1000.0)
    assert expected.left(0.0, 0.0) == left == pytest.approx(40 / 30 * 70.0)
    expected.begin("lofi")
    assert expected.left(1.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("seconds", "digits", "text"),
    [(2.1, 2, "0:02.10"), (83.456, 2, "1:23.46"), (59.999, 2, "1:00.00"), (59.96, 1, "1:00.0"), (-0.5, 1, "0:00.0")],
)
def test_a_place_in_a_video_has_less_than_sixty_seconds(seconds, digits, text):
    assert clock_text(seconds, digits) == text
