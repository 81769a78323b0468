"""Bootstrap of the mAP of point events: equal to evaluating what is drawn, paired, and of the right sign."""

import numpy as np
import pytest

from lofi_tal.errors import LofiError
from lofi_tal.evaluation.bootstrap import draw_videos
from lofi_tal.evaluation.spotting import TIGHT, evaluate_events
from lofi_tal.evaluation.spotting_draws import compare_events, replicated_events
from lofi_tal.segments import Segments

VIDEOS = 12


def drawn(generator, most, *, scored):
    found = {}
    for name in (f"v{i}" for i in range(VIDEOS)):
        count = generator.integers(0, most)
        times = np.sort(generator.uniform(0, 60, count))
        scores = generator.uniform(0, 1, count) if scored else np.ones(count)
        found[name] = Segments(name, times, times, tuple(generator.choice(["hit", "pass", "rare"], count)), scores)
    return found


def repeated(videos, counts):
    """Return each video as often as it is drawn."""
    return {
        f"{name}-{copy}": Segments(f"{name}-{copy}", one.start, one.end, one.label, one.score)
        for (name, one), count in zip(videos.items(), counts, strict=True)
        for copy in range(count)
    }


@pytest.mark.parametrize("seed", range(3))
def test_a_replicate_is_the_evaluation_of_the_videos_that_are_drawn(seed):
    generator = np.random.default_rng(seed)
    truth, found = drawn(generator, 4, scored=False), drawn(generator, 12, scored=True)
    truth["v0"] = Segments("v0", [5.0], [5.0], ("once",), [1.0])  # a class that some draws do not have
    replicates = replicated_events(truth, found, TIGHT, 20, seed)
    weights = np.concatenate(list(draw_videos(VIDEOS, 20, seed)))
    assert (weights[:, 0] == 0).any()
    for counts, values in zip(weights, replicates, strict=True):
        expected = evaluate_events(repeated(truth, counts), repeated(found, counts), TIGHT)
        assert values == pytest.approx(expected.mAP, abs=1e-12)


def test_differences_are_to_the_first_and_paired():
    generator = np.random.default_rng(7)
    truth = drawn(generator, 4, scored=False)
    poor, good = drawn(generator, 12, scored=True), truth
    found = compare_events(truth, [poor, good, poor], replicates=50)
    assert [one.average_mAP.value for one in found.systems] == [
        evaluate_events(truth, one).average_mAP for one in (poor, good, poor)
    ]
    better, same = found.differences
    assert better.average_mAP.value == found.systems[1].average_mAP.value - found.systems[0].average_mAP.value
    assert better.average_mAP.low > 0
    assert (same.average_mAP.low, same.average_mAP.high) == (0.0, 0.0)
    assert all(0 <= one.low <= one.value <= one.high <= 1 for part in found.systems for one in part.mAP)
    assert found == compare_events(truth, [poor, good, poor], replicates=50)
    assert found.events == sum(evaluate_events(truth, poor).events.values())


@pytest.mark.parametrize("wrong", [{"replicates": 1}, {"confidence": 1.0}])
def test_draws_that_say_nothing_are_refused(wrong):
    truth = {"a": Segments("a", [5.0], [5.0], ("hit",), [1.0])}
    with pytest.raises(LofiError, match="must be at least 2"):
        compare_events(truth, [truth], **wrong)
