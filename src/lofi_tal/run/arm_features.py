"""The features of an arm: extracted with its encoder, or published ones."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lofi_tal.artefacts import read_record, sealed
from lofi_tal.data import TruthVideo
from lofi_tal.encoders import Encoder, JoinedEncoder
from lofi_tal.errors import DataError, LofiError, counted
from lofi_tal.features import FeatureSet, FeatureStore
from lofi_tal.files import hash_file, hash_object, write_json
from lofi_tal.progress import Progress
from lofi_tal.run.context import Context, arm_folder
from lofi_tal.run.data import check_read, settled_features
from lofi_tal.run.training import Training
from lofi_tal.runtime import on_first
from lofi_tal.stages.extract import extract, usable

logger = logging.getLogger("lofi_tal")


@dataclass(frozen=True)
class ArmFeatures:
    """The features of an arm.

    Args:
        name: Of the arm.
        context: The run.
        training: Its encoders.
    """

    name: str
    context: Context
    training: Training

    def encoder_folder(self) -> Path:
        """Return the folder of the arm's encoder, which is trained if it is not up to date."""
        if self.name not in self.context.arms:
            raise LofiError(f"arm {self.name!r} is not one of this recipe's: {', '.join(self.context.arms)}.")
        if self.name == "features":
            raise LofiError("The recipe has published features: there is no encoder to extract with; run `lofi head`.")
        folder = self.training.ensure("lofi") if self.name == "lofi" else self.training.start()
        assert folder is not None
        return folder

    def encoder(self) -> Encoder:
        """Return the encoder, with the second one beside it if there is one."""
        encoder, name = self.context.saved_encoder(self.encoder_folder()), self.context.recipe.encoder.name
        second = self.training.ensure("second")
        return encoder if second is None else JoinedEncoder([encoder, self.context.saved_encoder(second)], [name, name])

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """Return what extracted features depend on besides the videos."""
        source, second = self.encoder_folder(), self.training.ensure("second")
        return {
            "encoder": hash_file(source / "encoder.safetensors"),
            **({} if second is None else {"second": hash_file(second / "encoder.safetensors")}),
            "snippets": self.context.recipe.snippets.record(cut=False),
            **self.context.provenance(),
        }

    def extract(self) -> tuple[FeatureStore, list[TruthVideo], dict[str, str]]:
        """Extract the features of all videos.

        Returns:
            The features, the videos that have them, and the reason for each other video.
        """
        context, provenance = self.context, self.made_from
        videos, store = context.data().videos, self._store()
        folder = store.folder
        facts = on_first(lambda: context.folder.begin_features(folder))
        on_first(lambda: _tell_missing(store, videos, facts))
        with context.folder.alone_in(folder), context.folder.leases(folder) as leases:
            figures, failed = extract(
                store,
                context.fabric,
                context.ready(self.encoder()),
                videos=context.snippets(videos),
                windows=context.windows,
                fidelity=context.full,
                workers=context.recipe.data.workers,
                leases=leases,
                quiet=context.quiet,
            )
            check_read(context.recipe, context.data(), failed)
            if context.first and (figures["new"] or not facts.exists()):
                write_json(facts, sealed({**figures, "provenance": provenance, "failed": failed}))
        return store, usable(videos, failed), failed

    def _store(self) -> FeatureStore:
        folder = arm_folder(self.context.output, self.name) / "features"
        if self.context.folder.shared is not None:
            folder = self.context.folder.shared / f"features-{hash_object(self.made_from)}"
        return FeatureStore(folder, self.made_from)

    def look_at_features(self) -> tuple[str, int]:
        """Return the hash of what the features come from, and how many videos have them; nothing is made.

        Raises:
            OutOfDateError: If the encoder is not up to date, in a run that only looks.
        """
        videos = self.context.data().videos
        if self.name == "features":
            return settled_features(self.context.recipe, videos).provenance, len(videos)
        store, noted = self._store(), dict[str, Any]()
        with contextlib.suppress(DataError):
            noted = read_record(store.folder.with_suffix(".json"))
        if "provenance" not in noted or hash_object(noted["provenance"]) != store.provenance:
            return store.provenance, 0
        failed = noted.get("failed", {})
        return store.provenance, sum(store.stamp(video) is not None or video.video_id in failed for video in videos)

    def read(self) -> tuple[FeatureSet, str, dict[str, str]]:
        """Return the features of all videos: extracted with the arm's encoder, or published ones.

        Returns:
            The videos and their features, a hash of what these come from, and the reason for each video without.
        """
        if self.name == "features":
            return self._published()
        store, videos, failed = self.extract()
        return FeatureSet(videos, list(map(store.read, videos))), store.provenance, failed

    def _published(self) -> tuple[FeatureSet, str, dict[str, str]]:
        context, everything = self.context, self.context.data().videos
        published = settled_features(context.recipe, everything)
        videos, arrays, failed = [], [], {}
        with Progress("features", len(everything), quiet=context.quiet) as progress:
            for video in everything:
                try:
                    arrays.append(published.read(video.video_id, video.file.snippets(context.windows)))
                    videos.append(video)
                except DataError as error:
                    failed[video.video_id] = str(error)
                progress.advance(video.video_id)
        if published.turned:
            names = ", ".join(published.turned[:5]) + (", ..." if len(published.turned) > 5 else "")
            logger.warning(
                "Transposed: %s, for they lay the other way: %s.", counted(len(published.turned), "array"), names
            )
        if not arrays:
            raise DataError(f"No features can be read; the first: {next(iter(failed.values()))}")
        check_read(context.recipe, context.data(), failed)
        return FeatureSet(videos, arrays), published.provenance, failed


def _tell_missing(store: FeatureStore, videos: Sequence[TruthVideo], facts: Path) -> None:
    """Say which files of a finished extraction are not there: they were deleted, or the videos are new."""
    if facts.exists():
        failed = read_record(facts).get("failed", {})
        names = [one.video_id for one in videos if one.video_id not in failed and store.stamp(one) is None]
        if names:
            logger.warning(
                "%s without features (%s first): extracting.", counted(len(names), "video"), store.path(names[0])
            )
