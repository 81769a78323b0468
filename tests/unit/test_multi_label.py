"""Several classes at once: where every instant has two classes, all heads find both; one label a span does not."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lofi_tal.classifier import class_overlaps, class_probabilities, fit_classifier, load_classifier, save_classifier
from lofi_tal.config import DetectSection
from lofi_tal.data import TruthVideo, VideoFile
from lofi_tal.encoders import create_encoder
from lofi_tal.evaluation import assess, detections_of, ground_truth_of, judge
from lofi_tal.heads import Proposals, create_head, with_classes
from lofi_tal.segments import Segments
from lofi_tal.showing import Shown
from lofi_tal.snippets import Windows
from lofi_tal.stages.end_to_end import EndToEnd, overlapping_class_loss, snippet_labels
from lofi_tal.stages.localise import ClassScorer, fuse, localise
from lofi_tal.stages.scoring import evaluate_known, truth_of

LABELS = ("run", "jump", "wave", "shout")
SNIPPETS, VIDEOS = 24, 6
TRACKS = ((0, 1), (2, 3))
"""Two classes take turns in each track, so every instant has one class of each."""


def overlapping_set(seed=0):
    """Return videos and features ``(8, L)`` in which each class lights up two channels while it lasts."""
    rng = np.random.default_rng(seed)
    videos, features = [], []
    for number in range(VIDEOS):
        content, segments, labels = rng.normal(0, 0.1, (8, SNIPPETS)), [], []
        for track, classes in enumerate(TRACKS):
            cuts = [0, *sorted(rng.choice(np.arange(5, SNIPPETS - 4, 5) + track, 2, replace=False)), SNIPPETS]
            first = int(rng.integers(2))
            for turn, (start, end) in enumerate(itertools.pairwise(cuts)):
                label = classes[(first + turn) % 2]
                content[[label, label + 4], start:end] += 1
                segments.append([start / SNIPPETS, end / SNIPPETS])
                labels.append(label)
        file = VideoFile(Path(f"{number}.mp4"), f"{number}", 24.0, 240)
        videos.append(TruthVideo(f"{number}", file, torch.tensor(segments).float(), torch.tensor(labels)))
        features.append(torch.tensor(content).float())
    return videos, features


HEADS = {
    "gtad": ({"hidden_1d": 32, "hidden_2d": 16, "hidden_3d": 32}, 4e-3, 60),
    "bmn": ({"hidden_1d": 32, "hidden_2d": 16, "hidden_3d": 32}, 4e-3, 60),
    "actionformer": ({"width": 32, "levels": 4, "stem_blocks": 1, "drop_path": 0.0}, 4e-3, 150),
    "anchor_free": ({"hidden": 32, "levels": 4, "stem_blocks": 1, "window": 9}, 4e-3, 150),
}


def overfitted(name, videos, features):
    options, lr, steps = HEADS[name]
    torch.manual_seed(0)
    head = create_head(name, 8, **with_classes(name, options, len(LABELS)))
    optimizer = torch.optim.Adam(head.parameters(), lr=lr)
    inputs, generator = torch.stack(features), torch.Generator().manual_seed(0)
    for step in range(steps):
        if step == steps * 2 // 3:
            optimizer.param_groups[0]["lr"] = lr / 5
        loss = head.loss(
            head(inputs), [video.segments for video in videos], [video.labels for video in videos], generator
        )["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head.eval()


def found_by(head, videos, features, classifier, detect):
    scorer = ClassScorer(classifier, "proposal")
    proposals = localise(head, features, Windows(SNIPPETS), detect, scorer=scorer)
    return [
        fuse(video.video_id, video.clock, one, proposed, classifier, LABELS, detect)
        for video, one, proposed in zip(videos, features, proposals, strict=True)
    ]


def fitted(videos, features):
    return fit_classifier(
        features,
        [video.segments for video in videos],
        [video.labels for video in videos],
        len(LABELS),
        epochs=150, lr=1e-2, hidden=64, dropout=0.1, seed=0, multi_label=True,
    )  # fmt: skip


def one_class_an_instant(found):
    """Return detections of which none overlaps a better one: what a system with one label an instant can give."""
    results = []
    for segments in found:
        kept = []
        for index in np.argsort(-segments.score, kind="stable"):
            s, e = segments.start[index], segments.end[index]
            if all(e <= segments.start[k] + 1e-6 or s >= segments.end[k] - 1e-6 for k in kept):
                kept.append(index)
        results.append(segments[np.array(kept)])
    return results


@pytest.mark.parametrize("name", HEADS)
def test_two_classes_at_every_instant_are_found(name):
    """Overfitted; one class an instant, as a single-label system decodes, cannot even find half of the instances."""
    videos, features = overlapping_set()
    head = overfitted(name, videos, features)
    truth = truth_of(videos, LABELS, "training")
    classifier = None if head.num_classes else fitted(videos, features)
    found = found_by(head, videos, features, classifier, DetectSection(multi_label=True))
    assert evaluate_known(truth, found, [0.5]).average_mAP > 0.9
    assert evaluate_known(truth, one_class_an_instant(found), [0.5]).average_mAP < 0.65


def test_one_span_of_two_classes_has_a_high_score_for_both_and_is_shown_with_both(tmp_path):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12, 6, 20, generator=generator) * 0.1
    features[:, :2, 5:12] += 1
    features[:6, 2, 14:18] += 1
    spans = [torch.tensor([[0.25, 0.6], [0.25, 0.6], *([[0.7, 0.9]] if i < 6 else [])]) for i in range(12)]
    labels = [torch.tensor([0, 1, *([2] if i < 6 else [])]) for i in range(12)]
    options = {"epochs": 150, "lr": 1e-2, "hidden": 32, "dropout": 0.1, "seed": 0}
    several, one = (fit_classifier(list(features), spans, labels, 3, **options, multi_label=m) for m in (True, False))
    span, score = torch.tensor([[0.25, 0.6]]), torch.ones(1)
    high, exclusive = (class_probabilities(c, features[0], span, score, "proposal")[0] for c in (several, one))
    assert high[:2].min() > 0.7 > 0.3 > high[2]
    assert exclusive.sum() == pytest.approx(1)
    assert exclusive.min() < exclusive[:2].min() < 0.6

    scored = ClassScorer(several, "proposal")(features[0], Proposals(span, score))
    assert scored.labels[:2].sort().values.tolist() == [0, 1]
    video = TruthVideo("a", VideoFile(Path("a.mp4"), "a", 20.0, 200), spans[0], labels[0])
    found = fuse("a", video.clock, features[0], scored, several, LABELS, DetectSection(multi_label=True))
    assert set(Shown(0.5, one_label=False).of(found).label) == {"run", "jump"}
    assert len(Shown(0.5).of(found)) == 1

    save_classifier(several, tmp_path, {})
    again = load_classifier(tmp_path)[0]
    assert again.multi_label
    assert torch.equal(class_probabilities(again, features[0], span, score, "proposal")[0], high)


def test_overlap_with_a_class_is_the_best_of_its_instances():
    spans, truth = torch.tensor([[0.0, 0.5], [0.5, 1.0]]), torch.tensor([[0.0, 0.5], [0.25, 0.75], [0.0, 1.0]])
    found = class_overlaps(spans, truth, torch.tensor([0, 2, 2]), 3)
    assert found.tolist() == [[1.0, 0.0, 0.5], [0.0, 0.0, 0.5]]
    assert class_overlaps(spans, truth[:0], torch.zeros(0, dtype=torch.long), 2).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_the_class_loss_of_stage_2_learns_all_classes_of_a_snippet():
    """Worked out by hand: four snippets, of which the first two have class 0, the second one class 2 as well."""
    segments, labels = [torch.tensor([[0.0, 0.5], [0.3, 0.5]])], [torch.tensor([0, 2])]
    target = snippet_labels(segments[0], labels[0], 4, 3)
    assert target.tolist() == [[1, 0, 0], [1, 0, 1], [0, 0, 0], [0, 0, 0]]
    logits = torch.zeros(1, 4, 3)
    assert overlapping_class_loss(logits, segments, labels).item() == pytest.approx(3 * math.log(2))
    logits[0, 1, 2] = -2.0  # misses class 2 where class 0 is as well
    wrong = math.log(1 + math.exp(2)) - math.log(2)
    loss = overlapping_class_loss(logits, segments, labels)
    assert loss.item() == pytest.approx(3 * math.log(2) + wrong / 2 / 2)  # one of two snippets, half of the loss
    weighted = overlapping_class_loss(logits, segments, labels, torch.tensor([1.0, 5.0, 3.0]))
    assert weighted.item() == pytest.approx(loss.item() + 2 * math.log(1 + math.exp(2)) / 2 / 2)
    nothing = overlapping_class_loss(logits, [torch.zeros(0, 2)], [torch.zeros(0, dtype=torch.long)])
    assert nothing.item() == pytest.approx((11 * math.log(2) + math.log(1 + math.exp(-2))) / 4)


def test_end_to_end_has_the_class_layer_that_fits():
    encoder = create_encoder("tsm_resnet18_narrow", width=8)
    head = create_head("anchor_free", encoder.channels, num_classes=4, hidden=8, heads=2)
    outputs = {several: EndToEnd(encoder, head, 4, multi_label=several).snippet_classifier for several in (False, True)}
    assert (outputs[False].out_features, outputs[True].out_features) == (5, 4)
    assert outputs[True].bias.tolist() == pytest.approx([-math.log(4)] * 4)


def test_verdicts_count_every_label_of_a_span_only_where_classes_overlap():
    truth = Segments("a", [1, 1], [5, 5], ("run", "jump"), [1, 1])
    found = Segments("a", [1, 1], [5, 5], ("run", "jump"), [0.9, 0.8])
    known = ground_truth_of([truth], "validation")
    assert judge([found], known).right.tolist() == [True]
    assert judge([found], known, several=True).right.tolist() == [True, True]
    seen = [assess(known, detections_of([found], known), replicates=5, several=several) for several in (False, True)]
    assert [one.point.rates.recall.value for one in seen] == [0.5, 1.0]


def test_the_setting_changes_no_fingerprint_while_unset_and_travels_with_the_model():
    assert "multi_label" not in DetectSection().model_dump(mode="json")
    assert DetectSection(multi_label=True).model_dump(mode="json")["multi_label"] is True
