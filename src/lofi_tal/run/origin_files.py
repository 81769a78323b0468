"""Where the weights are that a run starts from: in the folder of a finished run, and in a copy of its own.

The copy (``origin/`` in the run folder) is made before anything else: a run that was stopped goes on without the other
folder, and without being told again.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from lofi_tal.artefacts import check_files, check_words, sealed
from lofi_tal.encoders import ENCODER_FILES, save_encoder
from lofi_tal.errors import DataError, LofiError
from lofi_tal.files import hash_file, hash_object, write_json
from lofi_tal.folders import replaced
from lofi_tal.heads import HEAD_FILES, load_head, save_head
from lofi_tal.localizer import LocalizerFile
from lofi_tal.model_files import read_description
from lofi_tal.model_folders import RECORD
from lofi_tal.planning.work import arms_of
from lofi_tal.recipes import load_recipe
from lofi_tal.run.context import Context
from lofi_tal.run.folder import RunFolder, holds_run
from lofi_tal.run.origin import Origin
from lofi_tal.runtime import StageRecord, fault

_COPY, _REFIT, _RECORD = "origin", "refit", "stage.json"
_RESULT: dict[str, Any] = {"run": str, "labels": list, "snippets": dict, "has_encoder": bool}


def origin_of(folder: RunFolder, start_from: Path | str | None) -> Origin | None:
    """Return what a run starts from: what it is told, or what it has begun from.

    Args:
        folder: Of the run; nothing is written there.
        start_from: Run folder, folder of an arm, or model folder; None goes on as the run in ``folder`` began.

    Raises:
        LofiError: If the run in the folder began from something else, or ``start_from`` is no finished run or model.
        DataError: If a file is damaged.
    """
    copy = folder.path / _COPY
    why = fault(copy) if copy.is_dir() else ""
    if why and start_from is None:
        raise DataError(f"{copy} is damaged ({why}). Say again what the run starts from, with --from.")
    known = None if why else _copied(copy)
    if start_from is None:
        return known
    asked = Path(start_from).absolute()
    if known is not None and known.run == str(asked) and not asked.exists():
        return known  # the copy is all that is needed
    if asked.resolve() == folder.path.absolute().resolve():
        raise LofiError(f"{start_from} is the folder of this run itself: give another output folder.")
    origin = read_origin(asked)
    if known is not None and known.hash == origin.hash:
        return known
    if why and _hash_of(copy) in ("", origin.hash):
        return origin  # it is copied again; stages that began from something else say so
    if not folder.overwrite and (known is not None or holds_run(folder.path)):
        began = "without other weights" if known is None else f"from {known}"
        raise LofiError(
            f"{folder.path} holds a run that began {began}, not from {origin}. Choose another output folder, or add "
            "--overwrite to begin it again."
        )
    return origin


def read_origin(path: Path) -> Origin:
    """Return the weights of a finished run (of its last arm), of an arm of it, or of a model folder.

    Raises:
        LofiError: If there is none, or the run is not finished.
        DataError: If a file is damaged.
    """
    if (path / "recipe.yaml").is_file():
        return _of_arm(path / "arms" / arms_of(load_recipe(path / "recipe.yaml", needs_data=False))[-1], path)
    arm = path.parent if path.name == "model" else path
    if arm.parent.name == "arms" and (run := arm.parent.parent / "recipe.yaml").is_file():
        return _of_arm(arm, path, run.parent)
    if (path / RECORD).is_file():
        return _of_model(path)
    if holds_run(path):
        raise LofiError(f"{path} holds a run without its recipe.yaml: give the model folder in it, arms/lofi/model.")
    raise LofiError(f"{path} holds neither a run nor a model: give a folder that `lofi run` wrote, such as runs/first.")


def _of_arm(arm: Path, told: Path, run: Path | None = None) -> Origin:
    """Return the weights of an arm of a run; ``told`` is how it was named."""
    run = run or told
    if why := fault(arm / "evaluation"):
        raise LofiError(
            f"{told} is not finished, or damaged ({why}). Finish it first, which also makes damaged files anew: "
            f"lofi run {run / 'recipe.yaml'} -o {run} --resume"
        )
    model, lr = arm / "model", StageRecord.read(arm / "evaluation").result["chosen"].get("lr")
    head = model if lr is None else arm / "head" / f"lr-{lr:g}"
    before = _copied(run / _COPY)
    earlier = (frozenset(), frozenset()) if before is None else (before.seen, before.fitted)
    seen, fitted = _videos(head, earlier[0]), _videos(arm / "head" / _REFIT, earlier[1])
    recipe = load_recipe(run / "recipe.yaml", needs_data=False)
    origin = _of_model(model, head)
    cache = recipe.data.cache or run / "cache"
    found = {"run": str(told), "arm": arm.name, "seen": seen, "fitted": fitted if fitted is not None else seen}
    return Origin(**{**vars(origin), **found, "cache": cache})


def _videos(stage: Path, earlier: frozenset[str] | None) -> frozenset[str] | None:
    """Return the ids of the videos that a head was trained on, with those of what it began from; None if unknown."""
    with contextlib.suppress(DataError, KeyError, TypeError):
        return None if earlier is None else earlier | frozenset(StageRecord.read(stage).inputs["videos"])
    return None


def _of_model(model: Path, head: Path | None = None) -> Origin:
    """Return the weights of a model folder, and the head that has not seen the selection videos, if there is one."""
    described = read_description(model / RECORD, LocalizerFile)
    head, encoder = head or model, model if described.has_encoder else None
    check_files(model, *HEAD_FILES, *(ENCODER_FILES if encoder else ()))
    hashes = [hash_file(model / name) for name in (*HEAD_FILES, *(ENCODER_FILES if encoder else ()))]
    word = hash_object([*hashes, hash_file(head / HEAD_FILES[0]), list(described.labels)])
    return Origin(
        run=str(model), arm=None, hash=word, labels=described.labels, seen=None, fitted=None,
        snippets=described.snippets.record(), encoder=encoder, head=head, refit=model, cache=None,
    )  # fmt: skip


def copy_origin(origin: Origin, context: Context) -> Origin:
    """Copy the weights into the folder of a run, all of them or none, and return them there.

    Args:
        origin: The weights; those that are there already stay.
        context: The run.
    """
    copy = context.output / _COPY
    if origin.head == copy:
        return origin
    with replaced(copy, (_RECORD, *ENCODER_FILES, *HEAD_FILES, _REFIT), _RECORD) as new:
        if origin.encoder is not None:
            encoder = context.saved_encoder(origin.encoder)
            save_encoder(encoder, encoder.name or "", new, {"from": origin.facts})
        for source, target in ((origin.head, new), (origin.refit, new / _REFIT)):
            save_head(load_head(source, trusted=context.recipe.head.name), target)
        names = sorted(str(path.relative_to(new)) for path in new.rglob("*") if path.is_file())
        result = {
            **origin.facts, "labels": origin.labels, "snippets": origin.snippets,
            "seen": None if origin.seen is None else sorted(origin.seen),
            "fitted": None if origin.fitted is None else sorted(origin.fitted),
            "cache": None if origin.cache is None else str(origin.cache), "has_encoder": origin.encoder is not None,
        }  # fmt: skip
        record = StageRecord(_COPY, origin.hash, {"hash": origin.hash}, 0.0, 0, result, check_words(new, names))
        write_json(new / _RECORD, sealed(vars(record)))
    copied = _copied(copy)
    assert copied is not None
    return copied


def _hash_of(copy: Path) -> str:
    """Return the hash of the weights that a copy was made of; an empty string if its record is damaged."""
    with contextlib.suppress(DataError):
        return StageRecord.read(copy).fingerprint
    return ""


def _copied(copy: Path) -> Origin | None:
    """Return what is in the copy of a run; None if there is none.

    Raises:
        DataError: If its record is damaged.
    """
    if not copy.is_dir():
        return None
    record = StageRecord.read(copy)
    result = record.result
    if not all(isinstance(result.get(key), kind) for key, kind in _RESULT.items()):
        raise DataError(f"{copy / _RECORD} is not of this version.")
    seen, fitted = (None if result[key] is None else frozenset(result[key]) for key in ("seen", "fitted"))
    return Origin(
        run=result["run"], arm=result["arm"], hash=record.fingerprint, labels=tuple(result["labels"]), seen=seen,
        fitted=fitted, snippets=result["snippets"], encoder=copy if result["has_encoder"] else None, head=copy,
        refit=copy / _REFIT, cache=None if result["cache"] is None else Path(result["cache"]),
    )  # fmt: skip
