"""What every part of a run needs: recipe, devices, folder, data, and how encoders, heads and data sets are made."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from lofi_tal.config import Recipe
from lofi_tal.data import SnippetDataset, TruthVideo, as_clips, training_windows
from lofi_tal.encoders import Encoder, create_encoder, hash_weights, load_encoder, weights_file
from lofi_tal.errors import LofiError
from lofi_tal.fidelity import Fidelity, Schedule
from lofi_tal.files import hash_file, plain_file
from lofi_tal.heads import Head, create_head, with_classes
from lofi_tal.planning.work import arms_of
from lofi_tal.recipes.encoder import full_of, start_of
from lofi_tal.run.data import Clips, RunData, read_clips, read_data
from lofi_tal.run.folder import RunFolder, caches_beside
from lofi_tal.run.origin import Origin
from lofi_tal.runtime import compile_module, derive_seed, fastest_way, make_fabric, on_first
from lofi_tal.snippets import Windows
from lofi_tal.video import FrameCache, VideoManifest

logger = logging.getLogger("lofi_tal")


class Context:
    """What every part of a run needs.

    Args:
        recipe: What to do.
        folder: Where to.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        compile: Whether encoders are compiled.
        quiet: No progress.
        known: Another one on the same data, whose videos and clips are not read again.
        origin: Weights of a run that this one starts from.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        *,
        device: str = "auto",
        precision: str = "auto",
        compile: str = "off",
        quiet: bool = False,
        known: Context | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.recipe, self.folder, self.origin = recipe, folder, origin
        self.device, self.precision, self.compile, self.quiet = device, precision, compile, quiet
        self.fabric: Fabric = make_fabric(device, precision)  # of what runs an encoder
        self.exact: Fabric = make_fabric(device, "fp32")  # of heads alone: small, and their losses want digits
        cache = recipe.data.cache or folder.common / "cache"
        self.cache = FrameCache(
            cache if recipe.data.cache_gib else None,
            limit_bytes=int(recipe.data.cache_gib * 2**30),
            others=_other_caches(folder, origin),
            decoder=recipe.data.decoder,
        )
        manifest = recipe.data.manifest or folder.common / "videos.jsonl"
        self.manifest = VideoManifest(manifest, workers=recipe.data.workers, patience=folder.patience)
        self._data: RunData | None = None if known is None else known.known_data
        self._clips: Clips | None = None if known is None else known.known_clips

    def data(self) -> RunData:
        """Return the videos, after all checks that need no training; they are read at the first call.

        Raises:
            DataError: If a subset has no truth or readable video, or evaluated videos were trained on by the origin.
        """
        if self._data is None:
            seen = None if self.origin is None else self.origin.seen
            self._data = on_first(lambda: read_data(self.recipe, self.manifest, seen or ()))
            if self.origin is not None:
                self.origin.check_videos(self._data)
                logger.info("%s", self.origin.classes_told(self._data.labels, self.recipe.head.name))
        return self._data

    def clips(self) -> Clips:
        """Return the trimmed clips of stage 1; they are read at the first call.

        Raises:
            LofiError: If the recipe names none.
            DataError: If they cannot be used.
        """
        if self._clips is None:
            self._clips = on_first(lambda: read_clips(self.recipe, self.manifest))
        return self._clips

    @property
    def known_data(self) -> RunData | None:
        """The videos, if they have been read."""
        return self._data

    @property
    def known_clips(self) -> Clips | None:
        """The clips, if they have been read."""
        return self._clips

    @property
    def output(self) -> Path:
        """The run folder."""
        return self.folder.path

    @property
    def first(self) -> bool:
        """Whether this process writes what several processes make together."""
        return bool(self.fabric.global_rank == 0)

    @property
    def full(self) -> Fidelity:
        """Full fidelity."""
        return full_of(self.recipe)

    @property
    def windows(self) -> Windows:
        """How videos are cut."""
        section = self.recipe.snippets
        features = self.recipe.features
        keep = features is not None and features.resize == "keep"
        return Windows(section.count, None if keep else section.window, section.overlap, keep)

    @property
    def schedule(self) -> Schedule:
        """The fidelities of stage 2."""
        section = self.recipe.lofi
        if section is None:
            raise LofiError("The recipe has no stage 2 (`lofi: null`).")
        return section.fidelities_over(self.full)

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms of this recipe, the baseline first."""
        return arms_of(self.recipe)

    @property
    def decoder(self) -> dict[str, str]:
        """What decodes, where it is not the usual one: its pictures differ by rounding."""
        return {} if self.cache.decoder == "pyav" else {"decoder": self.cache.decoder}

    def provenance(self) -> dict[str, str]:
        """Return what features and weights depend on besides the recipe: decoder and compiling if they are unusual."""
        compiled = {} if self.compile == "off" else {"compile": self.compile}
        return {"precision": str(self.fabric.strategy.precision.precision), **self.decoder, **compiled}

    def stage_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return what a stage depends on: its own inputs, the seed, and what all stages depend on."""
        return {**inputs, "seed": self.recipe.seed, **self.origin_inputs(), **self.provenance()}

    def origin_inputs(self) -> dict[str, Any]:
        """Return what stages depend on that start from the weights of a run; nothing without them."""
        return {} if self.origin is None else {"from": self.origin.hash, "classes": list(self.data().labels)}

    def encoder_inputs(self) -> dict[str, Any]:
        """Return what a new encoder depends on."""
        return {"encoder": self.recipe.encoder.start(), "weights": _hash_of_weights(self.recipe.encoder.weights)}

    def new_encoder(self) -> Encoder:
        """Return the encoder that the recipe starts from: with its weights, or random ones."""
        section = self.recipe.encoder
        if section.weights is not None and (section.weights / "encoder.json").is_file():
            return self.saved_encoder(section.weights)
        torch.manual_seed(derive_seed(self.recipe.seed, "encoder"))
        return create_encoder(section.name, pretrained=start_of(section), **section.options)

    def saved_encoder(self, folder: Path) -> Encoder:
        """Return the encoder in a folder, which may name no code but what the recipe, which is the user's, names."""
        section = self.recipe.encoder
        parts = section.options.get("parts", []) if section.name == "joined" else []
        return load_encoder(folder, trusted={section.name, *(str(part.get("name")) for part in parts)})

    def new_head(self, channels: int) -> Head:
        """Return the recipe's head with random weights."""
        return self.head_for(channels, len(self.data().labels))

    def first_head(self, channels: int, *, final: bool = False) -> Head:
        """Return the head from which a training starts: with the weights of the origin, if there is one.

        Args:
            channels: Of the features.
            final: The training sees the selection videos.
        """
        head = self.new_head(channels)
        if self.origin is not None:
            self.origin.give(head, self.data().labels, self.recipe.head.name, final=final)
        return head

    def head_for(self, channels: int, classes: int) -> Head:
        """Return the recipe's head with random weights for so many channels and classes."""
        section = self.recipe.head
        head = create_head(section.name, channels, **with_classes(section.name, section.options, classes))
        _check_length(head, self.windows)
        return head

    def ready(self, encoder: Encoder) -> Encoder:
        """Return an encoder as this run executes it."""
        compile_module(encoder, self.compile)
        return encoder

    def fastest_way(self) -> str:
        """Time the encoder on two videos at the first fidelity that it trains at, and say what is the fastest."""
        fidelity = self.full if self.recipe.lofi is None else self.schedule.fidelities[0]
        shape = (2 * fidelity.snippets, self.recipe.snippets.frames, fidelity.size, fidelity.size, 3)
        way, seconds = fastest_way(self.new_encoder(), as_clips(torch.zeros(shape, dtype=torch.uint8)), self.fabric)
        told = ", ".join(f"{name} {time:.3f} s" for name, time in seconds.items())
        logger.info("Compile: %s (a training step of 2 videos at %s: %s)", way, fidelity, told)
        return way

    def snippets(
        self, videos: Sequence[TruthVideo], *, flip: bool = False, fidelities: Sequence[Fidelity] = ()
    ) -> SnippetDataset:
        """Return videos as their snippets are read; ``fidelities`` are kept of each video that has to be decoded."""
        section, cache = self.recipe.snippets, self.cache
        return SnippetDataset(
            videos, frames=section.frames, stride=section.stride, cache=cache, flip=flip, fidelities=fidelities
        )

    def stage2_videos(self) -> SnippetDataset:
        """Return the videos, or windows of them, on which stage 2 trains."""
        videos = training_windows(self.data().train, self.windows)
        return self.snippets(videos, flip=self.recipe.data.flip, fidelities=self.schedule.fidelities)


def arm_folder(output: Path, arm: str) -> Path:
    """Return the folder of an arm."""
    return output / "arms" / arm


def _other_caches(folder: RunFolder, origin: Origin | None) -> tuple[Path, ...]:
    """Return the caches of other runs in which decoded frames are looked for: that of the origin first."""
    first = () if origin is None or origin.cache is None else (origin.cache,)
    beside = () if folder.shared is not None else caches_beside(folder.path)
    return tuple(dict.fromkeys((*first, *beside)))


def _hash_of_weights(path: Path | None) -> str | None:
    """Return the hash of a file of weights, or of that in the folder of an encoder."""
    if path is None or not path.is_dir():
        return None if path is None else hash_file(path)
    file = weights_file(path)
    plain_file(file, path)
    return hash_weights(file)


def _check_length(head: Head, windows: Windows) -> None:
    """Refuse a head that needs equally many features of every video where videos keep their numbers of them."""
    if windows.keep and not head.takes_mask:
        raise LofiError(
            f"features.resize: keep leaves every video its own number of features, and head {head.name!r} needs "
            "as many of each: take the head actionformer, or another way to resize."
        )
