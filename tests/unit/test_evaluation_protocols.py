"""The two counts of ActivityNet's validation videos."""

import pytest

from lofi_tal.errors import DataError, LofiError
from lofi_tal.evaluation import evaluate_detections, protocol_videos, require_protocol


def document(ids):
    annotations = [{"label": "a", "segment": [0, 1]}]
    return {"database": {i: {"subset": "validation", "duration": 2, "annotations": annotations} for i in ids}}


def test_the_4728_are_counted_and_the_others_left_out():
    kept = {name for name in protocol_videos("4728") if not name.startswith("v_")}
    kept |= {name for name in protocol_videos("4728") if name.startswith("v_") and len(name) == 11}
    assert len({name for name in kept if len(name) == 11}) == 4728
    ids = sorted(name for name in kept if len(name) == 11)
    truth = document([*ids, *(f"gone{i:07}" for i in range(198))])
    only = require_protocol("4728", truth)
    result = evaluate_detections(truth, {"results": {}}, only=only)
    assert (result.videos, len(result.excluded_videos)) == (4728, 198)
    assert require_protocol("4926", truth) is None
    assert require_protocol("4728", document(f"v_{i}" for i in ids)) is not None


def test_annotations_that_lack_videos_of_the_protocol_are_refused():
    with pytest.raises(DataError, match="has 0 of the 4728 videos"):
        require_protocol("4728", document(["abc"]))
    with pytest.raises(LofiError, match="4728, 4926"):
        require_protocol("4000", document(["abc"]))
