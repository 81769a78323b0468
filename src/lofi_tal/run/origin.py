"""What a run starts from: the encoder and the head of a finished run, or of a model folder.

There are two heads. That of the search has not seen the selection videos: stage 2 and the new search start from it.
That of the refit has: only the new refit starts from it. Which videos were trained on is known too, so that choices and
scores come from others.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lofi_tal.config import Recipe
from lofi_tal.encoders import Encoder, adapt_encoder
from lofi_tal.errors import DataError, LofiError, counted
from lofi_tal.files import json_text
from lofi_tal.heads import Head, check_transfer, load_head, takes_classes, transfer_head
from lofi_tal.recipes.encoder import outline_of
from lofi_tal.run.data import RunData

logger = logging.getLogger("lofi_tal")
REPLACED = ("pretrain", "finetune")
"""Stages in whose place the weights come."""
_NAMED = 3  # videos that a message names


@dataclass(frozen=True)
class Origin:
    """What a run starts from.

    Args:
        run: The run folder, or the model folder.
        arm: The arm of the run; None for a model folder.
        hash: Of the weights and the classes.
        labels: Class names of the weights.
        seen: Ids of the videos that encoder and head have been trained on; None if nothing says so.
        fitted: Ids of those that the head of the refit has been trained on.
        snippets: What the encoder saw, as the model has it.
        encoder: Folder of the encoder; None for published features.
        head: Folder of the head that has not seen the selection videos.
        refit: Folder of the head that has.
        cache: Frames that the run has decoded.
    """

    run: str
    arm: str | None
    hash: str
    labels: tuple[str, ...]
    seen: frozenset[str] | None
    fitted: frozenset[str] | None
    snippets: dict[str, Any]
    encoder: Path | None
    head: Path
    refit: Path
    cache: Path | None

    def __str__(self) -> str:
        return f"{self.run}" + (f", arm {self.arm}" if self.arm else "") + f" (hash {self.hash})"

    @property
    def facts(self) -> dict[str, Any]:
        """What records of the new run say of it."""
        return {"run": self.run, "arm": self.arm, "hash": self.hash}

    def give(self, head: Head, labels: Sequence[str], trusted: str, *, final: bool) -> None:
        """Give a head the weights from which it starts.

        Args:
            head: Changed in place.
            labels: Its classes.
            trusted: The recipe's head, which may be a path to code.
            final: It is that of the refit.
        """
        source = load_head(self.refit if final else self.head, trusted=trusted)
        try:
            transfer_head(head, labels, source, self.labels)
        except LofiError as error:
            raise LofiError(f"{self.run} cannot be started from: {error}") from error

    def check(self, recipe: Recipe, load: Callable[[Path], Encoder], build: Callable[[int, int], Head]) -> None:
        """Refuse a recipe to which the weights do not belong.

        Args:
            recipe: The recipe.
            load: Loads an encoder.
            build: Builds the recipe's head for so many channels and classes.

        Raises:
            LofiError: If something differs; the message names both values.
        """
        try:
            _check_recipe(recipe, self.encoder)
            source = load_head(self.head, trusted=recipe.head.name)
            channels = source.in_channels
            if self.encoder is not None:
                encoder = load(self.encoder)
                _check_encoder(recipe, encoder)
                channels = encoder.channels
                adapt_encoder(encoder, **recipe.encoder.adapting())
            check_transfer(build(channels, 1), source)
        except LofiError as error:
            raise type(error)(f"{self.run} cannot be started from: {error}") from error
        ours = recipe.snippets.record()
        differ = [f"{key} {self.snippets.get(key)} -> {ours[key]}" for key in ("frames", "stride", "size")
                  if self.snippets.get(key) != ours[key]]  # fmt: skip
        if differ and self.encoder is not None:
            logger.warning("Snippets differ from those of %s: %s.", self.run, ", ".join(differ))

    def classes_told(self, labels: Sequence[str], head: str) -> str:
        """Return in words which classes of the weights are kept, which are new and which are gone.

        Args:
            labels: Classes of the new run.
            head: Name of its head.
        """
        kept = [label for label in labels if label in self.labels]
        new = [label for label in labels if label not in self.labels]
        gone = [label for label in self.labels if label not in labels]
        parts = [f"{len(kept)} kept"]
        parts += [f"{len(names)} {what} ({_first(names)})" for what, names in (("new", new), ("gone", gone)) if names]
        weights = "new ones start from random weights" if takes_classes(head) else f"all are the same to head {head}"
        return f"Classes of {self.run}: {', '.join(parts)}; {weights}, and class scores of segments are fitted anew."

    def check_videos(self, data: RunData) -> None:
        """Refuse to evaluate on videos that the weights were trained on, and warn of choices made on them.

        Raises:
            DataError: If there are some.
        """
        known = (self.seen or frozenset()) | (self.fitted or frozenset())
        if leaked := [video.video_id for video in data.evaluation if video.video_id in known]:
            raise DataError(
                f"{self.run} was trained on {counted(len(leaked), 'video')} to be evaluated ({_first(leaked)}): the "
                "scores would mean nothing. Move them back to the training subset, or train from scratch, without "
                "--from."
            )
        if caution := self.caution(data):
            logger.warning("%s", caution)

    def caution(self, data: RunData) -> str:
        """Return what to say if scores or choices may come from videos that the weights were trained on."""
        if self.seen is None:
            return (
                f"{self.run} does not say which videos it was trained on. If validation or selection videos are among "
                "them, scores and thresholds look better than they are."
            )
        known = [video.video_id for video in data.selection if video.video_id in self.seen]
        if not known:
            return ""
        return (
            f"{len(known)} of {len(data.selection)} selection videos ({_first(known)}) were trained on in {self.run}: "
            "thresholds and calibration look better than they are."
        )


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _check_recipe(recipe: Recipe, encoder: Path | None) -> None:
    """Refuse a recipe of another kind."""
    kinds = ("published features", "videos")
    if (encoder is None) != (recipe.features is not None):
        raise LofiError(
            f"it was trained on {kinds[encoder is not None]}, the recipe is for {kinds[recipe.features is None]}."
        )
    if recipe.second is not None:
        raise LofiError("the recipe has a second encoder (second), and one alone can be started from: set second=null.")
    if recipe.head.weights is not None:
        raise LofiError(f"the head of the recipe is taken from {recipe.head.weights}: set head.weights=null.")


def _check_encoder(recipe: Recipe, encoder: Encoder) -> None:
    """Refuse a recipe with another encoder."""
    section, wanted = recipe.encoder, outline_of(recipe.encoder)
    name = wanted.name or section.name
    if encoder.name != name:
        raise LofiError(f"its encoder is {encoder.name!r}, that of the recipe {name!r} (encoder.name).")
    found, asked = _plain(encoder.config), _plain(wanted.config)
    for key in sorted(found.keys() | asked.keys()):
        if found.get(key) != asked.get(key):
            raise LofiError(
                f"its encoder has {key}={found.get(key)!r}, that of the recipe {key}={asked.get(key)!r} "
                "(encoder.options)."
            )
    if section.save == "adapter" and encoder.base is None:
        raise LofiError("it holds all weights, and the recipe saves adapters alone: set encoder.save=all.")


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """Return arguments as they come back from JSON."""
    plain: dict[str, Any] = json.loads(json_text(config))
    return plain
