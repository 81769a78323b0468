"""Random annotations and detections for the tests of the evaluation, and the plainest tIoU."""

from hypothesis import strategies as st

VIDEOS = ("a", "b", "c")
SPANS = st.tuples(st.integers(0, 8), st.integers(0, 8)).map(sorted)


def tiou(a, b):
    inter = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - inter
    return inter / union if union > 0 else 0.0


def draw_database(draw, labels, **more):
    """Draw small videos on a coarse grid, so that tIoUs tie and hit thresholds; one instance is always there.

    Args:
        draw: Of a composite strategy.
        labels: Class names.
        more: Strategies of further keys of a video.
    """
    annotation = st.fixed_dictionaries({"label": st.sampled_from(labels), "segment": SPANS})
    database = {
        video: {
            "subset": "validation",
            "annotations": draw(st.lists(annotation, max_size=4)),
            **{key: draw(strategy) for key, strategy in more.items()},
        }
        for video in VIDEOS
    }
    database["a"]["annotations"].append({"label": "run", "segment": [0, 4]})
    return database


def draw_results(draw, database):
    """Draw detections of the classes that are there, some in a video that is not; scores are all different."""
    known = sorted({a["label"] for entry in database.values() for a in entry["annotations"]})
    detection = st.fixed_dictionaries({"label": st.sampled_from(known), "segment": SPANS})
    results = {video: draw(st.lists(detection, max_size=6)) for video in [*database, "elsewhere"]}
    count = sum(map(len, results.values()))
    scores = iter(draw(st.permutations([i / (count + 1) for i in range(count)])))
    return {video: [{**one, "score": next(scores)} for one in records] for video, records in results.items()}
