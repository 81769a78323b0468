"""Annotation files: what is tolerated, what is refused and where, and what training gets of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lofi_tal.annotations import Annotations, load_annotations, require_truth, save_annotations
from lofi_tal.errors import DataError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def write(tmp_path: Path, database, **others) -> Path:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"version": "1", "taxonomy": [], "database": database, **others}))
    return path


def video(subset="training", duration=10.0, annotations=((1.0, 4.0, "jump"),)):
    records = [{"segment": [start, end], "label": label} for start, end, label in annotations]
    return {"duration": duration, "subset": subset, "annotations": records}


def test_file_is_read_as_it_is(tmp_path):
    path = write(
        tmp_path,
        {
            "-a_b": {**video(annotations=[(1, 4, "jump"), (0, 99, "run")]), "url": "x", "resolution": "1x1"},
            "v_c": {"duration": "12.5", "subset": "validation", "annotations": [{"segment": ["1.5", 2], "label": "é"}]},
            "d": {"subset": "testing", "ignored": [{"segment": ["3", 1], "why": "blurred"}]},
            "e": {"subset": "testing", "duration": None, "annotations": None, "ignored": None},
        },
    )
    loaded = load_annotations(path)
    assert list(loaded.videos) == ["-a_b", "v_c", "d", "e"]
    assert loaded.labels == ("jump", "run", "é")
    assert loaded["-a_b"].segments.end.tolist() == [4, 99]
    assert (loaded["v_c"].duration, loaded["c"].segments.start.tolist()) == (12.5, [1.5])
    assert loaded["v_-a_b"] is loaded["-a_b"]
    assert (loaded["d"].duration, len(loaded["d"].segments)) == (None, 0)
    assert [v.video_id for v in loaded] == list(loaded.videos)
    assert [v.ignored.tolist() for v in loaded] == [[], [], [[3, 1]], []]
    assert len(loaded) == 4
    assert len(loaded.with_truth()) == 2
    assert loaded.notes == ()


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ([], r"video 'x': expected an object"),
        ({"duration": 3}, r"video 'x': has no 'subset'"),
        ({**video(), "subset": 3}, r"video 'x', subset: expected a name, found 3"),
        ({**video(), "subset": " "}, r"subset: expected a name"),
        (video(duration=-1), r"duration: is -1"),
        (video(duration=True), r"duration: expected a number"),
        (video(duration="long"), r"duration: expected a number of seconds, found 'long'"),
        (video(duration=float("nan")), r"duration: nan is not a finite"),
        (video(duration="inf"), r"duration: inf is not a finite"),
        (video(duration=10**400), r"duration: expected a number"),
        ({**video(), "annotations": {}}, r"annotations: expected a list"),
        ({**video(), "annotations": ["x"]}, r"annotation 0: expected an object"),
        ({**video(), "annotations": [{"label": "a"}]}, r"annotation 0: has no 'segment'"),
        ({**video(), "annotations": [{}]}, r"annotation 0: has no 'label' and no 'segment'"),
        (
            {**video(), "annotations": [{"segment": [1], "label": "a"}]},
            r"annotation 0, segment: expected \[start, end\]",
        ),
        ({**video(), "annotations": [{"segment": "1,2", "label": "a"}]}, r"segment: expected \[start, end\]"),
        ({**video(), "ignored": {}}, r"video 'x', ignored: expected a list"),
        ({**video(), "ignored": [[0, 1]]}, r"video 'x', ignored part 0: expected an object"),
        ({**video(), "ignored": [{"segment": [0, 1]}, {}]}, r"ignored part 1: has no 'segment'"),
        ({**video(), "ignored": [{"segment": [0]}]}, r"ignored part 0, segment: expected \[start, end\]"),
        ({**video(), "ignored": [{"segment": [0, "x"]}]}, r"ignored part 0, segment: expected a number"),
        (video(annotations=[(0, 1, "a"), (1, None, "a")]), r"video 'x', annotation 1, segment: expected a number"),
        (video(annotations=[(0, float("inf"), "a")]), r"annotation 0, segment: inf is not a finite"),
        (video(annotations=[(0, 1, "")]), r"annotation 0, label: expected a name"),
        (video(annotations=[(0, 1, None)]), r"annotation 0, label: expected a name"),
        (video(annotations=[(0, 1, "\ud800")]), r"label: '\\ud800' holds half a character"),
        (video(annotations=[([[[[[[[[1]]]]]]]], 1, "a")]), r"segment: expected a number"),
    ],
)
def test_faulty_records_are_refused_with_their_place(tmp_path, record, said):
    path = write(tmp_path, {"fine": video(), "x": record})
    with pytest.raises(DataError, match=said) as caught:
        load_annotations(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 400


def test_lenient_reading_leaves_out_and_says_what(tmp_path):
    path = write(tmp_path, {"fine": video(), "x": [], "y": video(annotations=[(0, None, "a"), (0, 1, "b")])})
    loaded = load_annotations(path, strict=False)
    assert list(loaded.videos) == ["fine", "y"]
    assert loaded["y"].segments.label == ("b",)
    assert len(loaded.notes) == 2
    assert "'x'" in loaded.notes[0]
    path = write(tmp_path, {"z": {**video(), "ignored": [{"segment": [0, None]}, {"segment": [1, 2]}]}})
    loaded = load_annotations(path, strict=False)
    assert loaded["z"].ignored.tolist() == [[1, 2]]
    assert "ignored part 0" in loaded.notes[0]
    with pytest.raises(DataError, match="no usable video"):
        load_annotations(write(tmp_path, {"x": []}), strict=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("[]", "expected"),
        ("{}", "expected"),
        ('{"database": []}', "expected"),
        ('{"database": {}}', "holds no video"),
        ('{"database": {"a": 1, "b": 2, "a": 3}}', "the key 'a' stands twice"),
        ('{"database": ', "line 1"),
        ("[" * 100_000, "nests"),
        ('{"database": {"a": ' + "9" * 5000 + "}}", "a"),
        ("\ufeff{}", "expected"),
    ],
)
def test_files_that_are_no_annotations_are_refused(tmp_path, text, said):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        load_annotations(path)
    assert str(path) in str(caught.value)


def test_missing_and_binary_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_annotations(tmp_path / "none.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        load_annotations(tmp_path / "b.json")


def test_subsets_are_named_when_one_is_unknown(tmp_path):
    loaded = load_annotations(write(tmp_path, {"a": video(), "b": video("validation"), "c": video("validation")}))
    assert list(loaded.subset("validation").videos) == ["b", "c"]
    with pytest.raises(
        DataError, match=r"'trainin'.*'training' \(1 video\), 'validation' \(2 videos\).*mean 'training'"
    ):
        loaded.subset("trainin")


def test_labels_of_a_subset_are_its_own(tmp_path):
    loaded = load_annotations(
        write(tmp_path, {"a": video("validation", annotations=[(0, 1, "z")]), "b": video(), "c": video("testing")})
    )
    assert loaded.subset("training").labels == ("jump",)
    assert loaded.labels == ("z", "jump")


def test_subset_without_truth_is_refused_before_training(tmp_path):
    loaded = load_annotations(
        write(tmp_path, {"a": video(), "b": {"subset": "testing"}, "c": video("testing", annotations=())})
    )
    assert len(require_truth(loaded, "training")) == 1
    with pytest.raises(DataError, match=r"'testing' has 2 videos, none with a segment.*'training' \(1 video\)"):
        require_truth(loaded, "testing")
    with pytest.raises(DataError, match="none at all"):
        require_truth(load_annotations(write(tmp_path, {"b": {"subset": "training"}})), "training")


def test_cleaning_clips_and_drops_and_says_so(tmp_path):
    spans = [(1, 4, "in"), (-1, 2, "early"), (8, 11, "late"), (3, 3, "zero"), (5, 2, "back"), (12, 13, "out")]
    endless = {"subset": "training", "annotations": [{"segment": [-1, 500], "label": "in"}]}
    unsure = [{"segment": span} for span in ([-1, 2], [3, 4], [5, 5], [9, 11])]
    path = write(tmp_path, {"a": video(annotations=spans), "b": endless, "c": {**video(), "ignored": unsure}})
    loaded = load_annotations(path)
    cleaned, changes = loaded.clean()
    notes = list(map(str, changes))
    segments = cleaned["a"].segments
    assert segments.label == ("in", "early", "late")
    np.testing.assert_array_equal(segments.start, [1, 0, 8])
    np.testing.assert_array_equal(segments.end, [4, 2, 10])
    assert cleaned["b"].segments.end.tolist() == [500]
    assert cleaned["c"].ignored.tolist() == [[0, 2], [3, 4], [9, 10]]
    assert notes[6] == "c, ignored part 0 [-1, 2] s clipped to [0, 2] s."
    assert len(notes) == 9
    assert notes[0] == "a, annotation 1 (early) [-1, 2] s clipped to [0, 2] s."
    assert "does not end after its start" in notes[2]
    assert [change.label for change in changes if change.dropped] == ["zero", "back", "out", ""]
    assert len(loaded["a"].segments) == 6
    assert cleaned.clean()[1] == []


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(str.strip)
times = st.floats(-1e8, 1e8)


@given(
    st.dictionaries(
        names,
        st.tuples(
            st.tuples(names, st.none() | st.floats(1e-3, 1e6), st.lists(st.tuples(times, times, names), max_size=4)),
            st.lists(st.tuples(times, times), max_size=2),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_saved_annotations_come_back(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("round")
    entries = {
        key: {**video(*value), "ignored": [{"segment": span} for span in unsure]}
        for key, (value, unsure) in content.items()
    }
    first = load_annotations(write(folder, entries))
    save_annotations(folder / "again.json", first)
    second = load_annotations(folder / "again.json")
    assert list(first.videos) == list(second.videos)
    for a, b in zip(first, second, strict=True):
        assert (a.duration, a.subset, a.segments.label) == (b.duration, b.subset, b.segments.label)
        np.testing.assert_array_equal(a.segments.start, b.segments.start)
        np.testing.assert_array_equal(a.segments.end, b.segments.end)
        np.testing.assert_array_equal(a.ignored, b.ignored)


def test_annotations_are_made_by_hand_too():
    assert Annotations({}).labels == ()
    assert len(Annotations({})) == 0


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the data folder is absent")
def test_activitynet_has_its_published_counts():
    """Oracle: counts of the subset that G-TAD and BMN use, and the odd segments known in it."""
    loaded = load_annotations(SHARED / "activitynet_v1-3.json")
    assert loaded.subsets == {"training": 9649, "validation": 4728, "testing": 4851}
    assert len(loaded.labels) == 200
    for subset, instances, dropped in (("training", 14859, 9), ("validation", 7293, 3)):
        chosen = loaded.subset(subset)
        assert sum(len(v.segments) for v in chosen) == instances
        cleaned, changes = chosen.clean()
        assert sum(change.dropped for change in changes) == dropped
        assert sum(len(v.segments) for v in cleaned) == instances - dropped
    with pytest.raises(DataError, match="'testing' has 4851 videos"):
        require_truth(loaded, "testing")
