"""What a run reads before it trains: videos with truth, clips, class scores of another system."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from lofi_tal.annotations import (
    Annotations,
    Change,
    CheckReport,
    FindingLine,
    check_examined,
    group_findings,
    judge_mirroring,
    load_annotations,
    load_clip_list,
    parse_annotations,
    read_labels,
    require_truth,
    require_usable,
)
from lofi_tal.config import Recipe
from lofi_tal.data import Excerpt, TruthVideo, VideoFile, find_files, split_selection, truth_videos, video_files
from lofi_tal.errors import DataError, LofiError, counted
from lofi_tal.evaluation import GroundTruth, load_ground_truth
from lofi_tal.features import FeatureGrid, PublishedFeatures, find_features
from lofi_tal.postprocess import ClassScores, read_cuhk_scores, read_hacs_scores
from lofi_tal.video import VideoIndex, VideoManifest, find_videos

logger = logging.getLogger("lofi_tal")
_TOLD_BY_THE_RUN = ("missing-video", "undecodable-video", "segment-outside", "empty-segment")


@dataclass(frozen=True, eq=False)
class RunData:
    """The videos of a run.

    Args:
        labels: Class names in the order of their numbers.
        train: Training videos without the selection part.
        selection: Training videos on which choices are made.
        evaluation: Videos that are evaluated.
        failed: Reason for each video that cannot be read.
        truth: The instances of the evaluated subset, as they stand in the annotation file.
        dropped: Segments and ignored parts of both subsets that lie outside their video or have no length.
        findings: What `lofi data check` would say besides.
        annotations: All of them, as the file had them.
    """

    labels: tuple[str, ...]
    train: list[TruthVideo]
    selection: list[TruthVideo]
    evaluation: list[TruthVideo]
    failed: dict[str, str]
    truth: GroundTruth
    dropped: tuple[Change, ...] = ()
    findings: tuple[FindingLine, ...] = ()
    annotations: Annotations = field(default_factory=lambda: Annotations({}))

    @property
    def videos(self) -> list[TruthVideo]:
        """All of them."""
        return [*self.train, *self.selection, *self.evaluation]


@dataclass(frozen=True, eq=False)
class Clips:
    """The clips of stage 1.

    Args:
        train: To learn from.
        validate: For the accuracy at the end.
        labels: Class names in the order of their numbers.
        missing: Reason for each clip that is not there or cannot be read.
    """

    train: list[Excerpt]
    validate: list[Excerpt]
    labels: list[str]
    missing: dict[str, str]


def published_features(recipe: Recipe) -> PublishedFeatures:
    """Return the recipe's published features.

    Raises:
        LofiError: If it has none.
    """
    section = recipe.features
    if section is None:
        raise LofiError("The recipe has no published features (features.sources).")
    keep, grid = section.resize == "keep", None
    if section.stride is not None:
        grid = FeatureGrid(section.stride, section.span or section.stride, section.fps, keep)
    return PublishedFeatures(
        section.sources, recipe.snippets.count, resize=section.resize, axes=section.axes, grid=grid
    )


def settled_features(recipe: Recipe, videos: Sequence[TruthVideo]) -> PublishedFeatures:
    """Return the recipe's published features, once it is clear which way the arrays of these videos lie.

    Raises:
        DataError: If arrays contradict features.axes, or may lie either way.
    """
    features = published_features(recipe)
    features.settle({video.video_id: video.file.duration for video in videos})
    return features


def read_data(recipe: Recipe, manifest: VideoManifest, seen: Collection[str] = ()) -> RunData:
    """Read annotations and join them with the files, after all checks that need no training.

    Args:
        recipe: Says where they lie.
        manifest: What is known of the files.
        seen: Ids of videos on which the first weights have been trained: choices are made on others where there are.

    Raises:
        DataError: If a subset has no truth or no readable video, a class has no truth that lies in its videos, or too
            many videos are lost.
    """
    section = recipe.data
    document = read_labels(section.annotations, section.events)
    annotations = parse_annotations(document, section.annotations)
    subsets = [require_truth(annotations, name) for name in (section.train_subset, section.eval_subset)]
    index = None if recipe.features is not None or section.videos is None else find_videos(section.videos)
    found = [_find(recipe, manifest, index, subset) for subset in subsets]
    files, failed = found[0][0] | found[1][0], found[0][1] | found[1][1]
    report = check_subsets(annotations, (section.train_subset, section.eval_subset), index, manifest)
    require_usable(report)
    clocks = {video_id: file.clock for video_id, file in files.items()}
    cleaned = [subset.clean(clocks, report.unusable) for subset in subsets]
    labels = cleaned[0][0].labels
    train, evaluation = (truth_videos(one, *lost, labels) for (one, _), lost in zip(cleaned, found, strict=True))
    unlabelled = subsets[0].without_truth().videos.keys()
    negatives = [video for video in train if video.video_id in unlabelled]
    train = [video for video in train if len(video.labels)]
    if not train:
        raise DataError(f"No readable video of subset {section.train_subset!r} has a segment; nothing to train on.")
    if section.flip and recipe.features is None and (mirroring := judge_mirroring(labels)).contradicted:
        logger.warning("data.flip is true, but %s. Set data.flip: false.", mirroring.reason)
    kept, selection = split_selection(train, section.selection_share, recipe.seed, seen)
    _tell_unused(recipe, len(negatives))
    if section.background:
        kept += negatives
    changes = {str(change): change for _, several in cleaned for change in several if change.dropped}
    others = group_findings(one for one in report.findings if one.kind not in _TOLD_BY_THE_RUN)
    for line in others:
        logger.warning("%s", line)
    truth = load_ground_truth(document, section.eval_subset)
    dropped, findings = tuple(changes.values()), tuple(others)
    original = annotations if section.events is None else load_annotations(section.annotations)
    return RunData(labels, kept, selection, evaluation, failed, truth, dropped, findings, original)


def _tell_unused(recipe: Recipe, count: int) -> None:
    """Say what becomes of training videos without segments."""
    if count and recipe.data.background:
        logger.info("Negatives (data.background): %s without segments.", counted(count, "training video"))
    elif count:
        logger.warning(
            "Not used: %s without segments. If nothing happens in them, set data.background=true to train stage 2 and "
            "the head on them as negatives.",
            counted(count, "training video"),
        )


def _find(
    recipe: Recipe, manifest: VideoManifest, index: VideoIndex | None, annotations: Annotations
) -> tuple[dict[str, VideoFile], dict[str, str]]:
    """Return the video or feature file of each video of a subset that has one, and the reason for each other one."""
    if recipe.features is not None:
        files, failed = find_features(annotations, published_features(recipe))
    else:
        assert index is not None
        files, failed = find_files(annotations, index, manifest)
    check_losses(recipe, failed, len(annotations))
    return files, failed


def check_subsets(
    annotations: Annotations,
    subsets: tuple[str, str],
    index: VideoIndex | None,
    manifest: VideoManifest,
) -> CheckReport:
    """Return what `lofi data check` says of the subsets that are trained on and evaluated, without decoding anything.

    Args:
        annotations: As loaded.
        subsets: Subset that is trained on, and subset that is evaluated.
        index: The video files; None for features.
        manifest: What is known of the files, which have been examined.
    """
    used = Annotations({video.video_id: video for video in annotations if video.subset in subsets})
    if index is None:
        return check_examined(used, None, {}, subsets)
    paths = {path.absolute(): path for path in (index[name] for name in used.videos if name in index)}
    records = {path: manifest.known[str(full)] for full, path in paths.items() if str(full) in manifest.known}
    return check_examined(used, index, records, subsets)


def check_losses(recipe: Recipe, failed: dict[str, str], count: int) -> None:
    """Stop a run that has lost too many of its videos.

    Args:
        recipe: Says how many may be lost.
        failed: Reason for each lost video.
        count: Of all videos.

    Raises:
        DataError: If the share is above data.max_lost; the message names the first of them.
    """
    limit = recipe.data.max_lost
    if len(failed) > limit * count:
        video_id, reason = next(iter(failed.items()))
        what, hint = ("videos", " `lofi data check` lists them all.") if recipe.features is None else ("features", "")
        raise DataError(
            f"{len(failed)} of {count} {what} cannot be read, more than data.max_lost={limit:g} allows; the first, "
            f"{video_id}: {reason.removesuffix('.')}.{hint}"
        )


def check_read(recipe: Recipe, data: RunData, failed: dict[str, str]) -> None:
    """Stop a run that has features of too few videos of a subset; ``failed`` says why of each without them."""
    for videos in ([*data.train, *data.selection], data.evaluation):
        ids = [video.video_id for video in videos]
        check_losses(recipe, {video_id: failed[video_id] for video_id in ids if video_id in failed}, len(ids))


def read_clips(recipe: Recipe, manifest: VideoManifest) -> Clips:
    """Read the clips of stage 1.

    Raises:
        LofiError: If the recipe has none.
    """
    section = recipe.data
    if section.clips is None or section.clips_root is None:
        raise LofiError(
            "Stage 1 needs data.clips (a CSV label,youtube_id,time_start,time_end,split) and data.clips_root; "
            "without clips set `pretrain: null`, and encoder.weights or encoder.pretrained."
        )
    clips, missing = load_clip_list(section.clips, section.clips_root)
    files, failed = video_files({str(clip.path): clip.path for clip in clips}, manifest)
    good = [(clip, Excerpt.whole(files[str(clip.path)], clip.label)) for clip in clips if str(clip.path) in files]
    train = [excerpt for clip, excerpt in good if clip.split == "train"]
    labels = sorted({excerpt.label for excerpt in train})
    validate = [excerpt for clip, excerpt in good if clip.split != "train" and excerpt.label in set(labels)]
    return Clips(train, validate, labels, {str(name): "no such file" for name in missing} | failed)


def read_class_scores(recipe: Recipe, data: RunData) -> ClassScores | None:
    """Read the recipe's class scores from another system, if it has any.

    Raises:
        DataError: If the file is malformed, or lacks an evaluated video or every class.
    """
    section = recipe.classifier
    if section.scores is None:
        return None
    if section.layout == "cuhk":
        scores = read_cuhk_scores(section.scores)
    else:
        scores = read_hacs_scores(section.scores, sorted(data.labels), data.truth.videos)
    if not set(scores.labels) & set(data.labels):
        raise DataError(
            f"{section.scores} scores none of the classes of {recipe.data.annotations}: it has "
            f"{', '.join(scores.labels[:3])}, ..., the annotations have {', '.join(data.labels[:3])}, ..."
        )
    for video in data.evaluation:
        scores.of(video.video_id)
    return scores
