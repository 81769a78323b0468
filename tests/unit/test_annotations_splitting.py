"""Splits: each class in its share, groups whole, the same again for the same seed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lofi_tal.annotations import Annotations, VideoAnnotation, split_annotations
from lofi_tal.errors import DataError, LofiError
from lofi_tal.segments import Segments


def annotations(content: dict[str, tuple[str, ...]]) -> Annotations:
    """Return videos of 10 s with a segment of each of the given classes."""
    return Annotations(
        {
            name: VideoAnnotation(
                name,
                10.0,
                "old",
                Segments.from_activitynet(name, [{"segment": [1, 2], "label": label} for label in labels], 10.0),
            )
            for name, labels in content.items()
        }
    )


def test_every_class_has_its_share():
    """100 videos of a common class, 20 of a rare one, 30 without any: a quarter of each is validation."""
    content = {f"c{i}": ("common", *(("rare",) if i < 20 else ())) for i in range(100)} | {
        f"n{i}": () for i in range(30)
    }
    found = split_annotations(annotations(content), {"training": 3, "validation": 1})
    assert found.counts == {"common": {"training": 75, "validation": 25}, "rare": {"training": 15, "validation": 5}}
    assert found.annotations.subsets["validation"] in (32, 33)
    assert list(found.annotations.videos) == list(content)


def test_groups_stay_whole():
    content = {f"p{person}_{i}": (f"class {i % 3}",) for person in range(10) for i in range(6)}
    found = split_annotations(annotations(content), {"training": 0.8, "validation": 0.2}, group_by=r"^(p\d+)_")
    assert found.groups == 10
    people = {
        name: {v.video_id.split("_")[0] for v in found.annotations.subset(name)} for name in ("training", "validation")
    }
    assert len(people["training"]) == 8
    assert not people["training"] & people["validation"]
    whole_match = split_annotations(annotations(content), {"training": 0.8, "validation": 0.2}, group_by=r"^p\d+")
    assert whole_match.groups == 10


def test_seed_decides():
    content = {f"v{i}": (f"class {i % 4}",) for i in range(40)}
    shares = {"training": 0.5, "validation": 0.5}

    def subsets(seed):
        return [video.subset for video in split_annotations(annotations(content), shares, seed=seed).annotations]

    assert subsets(1) == subsets(1)
    assert subsets(1) != subsets(2)


def test_class_of_one_video_is_trained():
    content = {"a": ("once",), "b": ("common",), "c": ("common",), "d": ("common",)}
    found = split_annotations(annotations(content), {"training": 1, "validation": 9})
    assert found.counts["once"] == {"training": 1, "validation": 0}
    assert found.annotations.subsets == {"training": 2, "validation": 2}


def test_split_that_leaves_a_subset_empty_is_refused():
    with pytest.raises(DataError, match="Subset 'validation' would have no video: 2 groups"):
        split_annotations(annotations({"a": ("x",), "b": ("y",)}), {"training": 1, "validation": 1})


@pytest.mark.parametrize(
    ("shares", "group_by", "error", "said"),
    [
        ({"validation": 1}, None, LofiError, "one of them of 'training'"),
        ({}, None, LofiError, "shares none"),
        ({"training": 0, "validation": 1}, None, LofiError, "positive weights"),
        ({"training": float("nan")}, None, LofiError, "positive weights"),
        ({"training": 1}, "(", LofiError, "no regular expression"),
        ({"training": 1}, r"^p(\d)", DataError, "Video 'a': --group-by .* is not found in its id"),
        ({"training": 1}, r"(x)?a|b", DataError, "is not found"),
    ],
)
def test_unusable_wishes_are_refused(shares, group_by, error, said):
    with pytest.raises(error, match=said):
        split_annotations(annotations({"a": ("x",), "b": ("x",)}), shares, group_by=group_by)


@given(
    st.dictionaries(st.text("ab", min_size=1, max_size=6), st.lists(st.sampled_from("wxyz"), max_size=3), min_size=1),
    st.lists(st.floats(0.1, 10), min_size=2, max_size=3),
    st.integers(0, 9),
)
def test_whatever_is_drawn_every_class_can_be_learnt(content, weights, seed):
    shares = dict(zip(("training", "validation", "testing"), weights, strict=False))
    data = annotations({name: tuple(labels) for name, labels in content.items()})
    try:
        found = split_annotations(data, shares, seed=seed, group_by=r"^.{1,2}")
    except DataError as error:
        assert "would have no video" in str(error)  # noqa: PT017 -- the other outcome
        return
    assert set(found.annotations.subsets) == set(shares)
    assert all(by_subset["training"] for by_subset in found.counts.values())
    for video in found.annotations:
        same = {v.subset for v in found.annotations if v.video_id[:2] == video.video_id[:2]}
        assert same == {video.subset}


def test_kept_videos_stay_and_the_others_fill_the_shares():
    """Ten old videos, 8 and 2; ten new ones make it 16 and 4, whatever the seed says of the old."""
    old = {f"old{i}": (f"class {i % 2}",) for i in range(10)}
    shares = {"training": 0.8, "validation": 0.2}
    first = split_annotations(annotations(old), shares, seed=0).annotations
    keep = {video.video_id: video.subset for video in first}
    for seed in range(5):
        both = old | {f"new{i}": (f"class {i % 2}",) for i in range(10)}
        found = split_annotations(annotations(both), shares, seed=seed, keep=keep).annotations
        assert {video_id: found.videos[video_id].subset for video_id in old} == keep
        assert found.subsets == {"training": 16, "validation": 4}
    assert split_annotations(annotations(old), shares, seed=3, keep=keep).annotations.subsets == first.subsets


def test_kept_subsets_without_a_share_take_nothing_else_and_groups_follow_their_kept_video():
    content = {f"p{person}_{i}": ("run",) for person in range(6) for i in range(2)}
    keep = {"p0_0": "testing", "p1_0": "validation", "elsewhere": "validation"}
    shares = {"training": 0.6, "validation": 0.4}
    found = split_annotations(annotations(content), shares, group_by=r"^(p\d)_", keep=keep)
    subset_of = {video.video_id: video.subset for video in found.annotations}
    assert [name for name, subset in subset_of.items() if subset == "testing"] == ["p0_0", "p0_1"]
    assert subset_of["p1_1"] == "validation"
    assert found.annotations.subsets == {"testing": 2, "validation": 4, "training": 6}
    assert found.counts["run"] == {"training": 6, "validation": 4, "testing": 2}
    with pytest.raises(DataError, match="'p0_0' is to stay in 'testing' and 'p0_1' in 'training'"):
        split_annotations(annotations(content), shares, group_by=r"^(p\d)_", keep={**keep, "p0_1": "training"})


def test_a_class_that_only_a_kept_video_trains_is_free_elsewhere():
    """The rare class trains in a kept video already, so that its other video may be validated."""
    content = {"a": ("rare",), "b": ("rare",), **{f"c{i}": ("common",) for i in range(4)}}
    shares = {"training": 0.5, "validation": 0.5}
    found = split_annotations(annotations(content), shares, keep={"a": "training"})
    assert found.counts["rare"] == {"training": 1, "validation": 1}
    with pytest.raises(DataError, match="3 groups of videos, 3 of which keep their subset, are too few"):
        split_annotations(annotations(dict.fromkeys("abc", ("x",))), shares, keep=dict.fromkeys("abc", "training"))
