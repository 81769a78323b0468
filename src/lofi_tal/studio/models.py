"""The model side of the studio: jobs that detect and train, their drafts, runs, and which video to look at next."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lofi_tal.errors import LofiError, counted, nearest
from lofi_tal.evaluation.sureness import DEFAULT, MEASURES, next_videos, require_measure
from lofi_tal.model_folders import find_model, holds_model
from lofi_tal.studio.bringing import DETECT, Bringing, doubt_of
from lofi_tal.studio.classes import split
from lofi_tal.studio.commands import Places, fitting, plan_comparison, plan_detection, plan_training, read_threshold
from lofi_tal.studio.comparisons import COMPARE, PAGE, comparisons_of, read_names
from lofi_tal.studio.desk import Desk
from lofi_tal.studio.drafts import shown_by
from lofi_tal.studio.following import Follower
from lofi_tal.studio.jobs import Job, Jobs, as_line
from lofi_tal.studio.refusals import ConflictError, MissingError
from lofi_tal.studio.run_mistakes import VideoLabels, mistakes_of
from lofi_tal.studio.runs import RunFacts, find_runs, require_run, side_by_side

TRAIN = "train"


class ModelSide:
    """Jobs, drafts and runs of one labels file.

    Args:
        desk: The rest of the studio.
        jobs: Its jobs; those of the work folder if None.
    """

    def __init__(self, desk: Desk, jobs: Jobs | None = None) -> None:
        self.desk = desk
        self.jobs = jobs or Jobs(desk.work / "jobs")
        self.bringing = Bringing(desk.work)
        self.follower = Follower(desk, self.jobs, self.bringing)
        self._starting = threading.Lock()

    def start(self) -> None:
        """Follow the jobs, those of an earlier server among them, until :meth:`close`."""
        self.follower.start()

    def close(self) -> None:
        """Follow them no more; they go on."""
        self.follower.close()

    def running(self) -> list[Job]:
        """Return the jobs that go on when the server ends."""
        return [job for job in self.jobs.all() if job.state == "running"]

    def models(self) -> dict[str, Path]:
        """Return the models that can detect, by name: the one given at the start, those of finished runs, the rest."""
        found = {}
        if self.desk.model is not None and holds_model(find_model(self.desk.model)):
            found[str(self.desk.model)] = self.desk.model.resolve()
        runs = sorted((run for run in self.runs().values() if run.has_model), key=lambda run: not run.finished)
        return found | {run.name: run.path for run in runs}

    def runs(self) -> dict[str, RunFacts]:
        """Return the runs beside the labels and the videos, the latest first."""
        return find_runs((self.desk.labels.parent, self.desk.folder), self.desk.model)

    def draft(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Start a detection: ``model``, ``videos`` (ids, or ``new``), ``threshold``, ``device``.

        Returns:
            The job; with ``preview``, only the command that would run.

        Raises:
            LofiError: If a value is not allowed, or there is nothing to do.
        """
        name, model = self._model(body.get("model"))
        threshold = body.get("threshold")
        threshold = None if threshold is None else read_threshold(threshold)
        files, left = self._files(body.get("videos", "new"))
        notes = [f"Left for the next time: {counted(left, 'new video')}; a command cannot name more."] if left else []
        with self._starting:
            found = _new_folder(self.bringing.found.absolute())
            command = plan_detection(self._places(), model, list(files.values()), found, body.get("device"), threshold)
            if body.get("preview") is True:
                return {"command": as_line([command]), "notes": notes}
            if busy := [job.id for job in self.running() if job.kind == DETECT]:
                raise BusyError(f"A detection is at work ({busy[0]}): stop it, or wait until it has ended.")
            found.mkdir(parents=True)
            facts = {
                "model": name,
                "shown": shown_by(find_model(model)).to_json(),
                "found": found.name,
                "threshold": threshold,
                "videos": {video_id: str(path) for video_id, path in files.items()},
            }
            return self._begun(self.jobs.start(DETECT, [command], facts), notes)

    def train(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Start a training: ``output``, ``recipe``, ``options``; see :func:`~lofi_tal.studio.commands.plan_training`.

        Returns:
            The job; with ``preview``, only the commands that would run, and what the check of the labels says.

        Raises:
            LofiError: If a value is not allowed, or the run is at work already.
            DataError: If the labels cannot be trained on.
        """
        self.desk.flush()
        with self._starting:
            plan = plan_training(self._places(), body, self.runs())
            if body.get("preview") is True:
                return {"command": as_line(plan.commands), "notes": list(plan.notes)}
            for job in self.running():
                if job.kind == TRAIN and job.facts.get("path") == str(plan.output):
                    raise BusyError(f"Run {plan.output.name!r} is at work already ({job.id}).")
            name = plan.output.relative_to(self.desk.labels.parent.absolute()).as_posix()
            facts = {"output": name, "path": str(plan.output), "notes": list(plan.notes)}
            plan.output.parent.mkdir(parents=True, exist_ok=True)
            plan.keep(self.desk.labels)
            return self._begun(self.jobs.start(TRAIN, plan.commands, facts), list(plan.notes))

    def order(self, by: str | None) -> dict[str, Any]:
        """Return the videos that are not checked, those of which the model is least sure first.

        Raises:
            LofiError: If the measure is unknown.
        """
        by = require_measure(by or DEFAULT)
        known = self.bringing.values()
        values: dict[str, float | None] = {}
        for one in self.desk.entries():
            if one["state"] != "checked":
                value = known.get(one["id"], {}).get(by)
                values[one["id"]] = doubt_of(one, by) if value is None and one["drafts"] else value
        return {
            "measures": [{"name": name, "text": measure.title} for name, measure in MEASURES.items()],
            "by": by,
            "videos": [{"id": name, "value": values[name]} for name in next_videos(values)],
        }

    def split(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """See :func:`.classes.split`."""
        return split(self.desk, body, self.runs().values())

    def mistakes(self, name: str, arm: str | None) -> dict[str, Any]:
        """Return what a run got wrong by the labels as they are now; see :func:`.run_mistakes.mistakes_of`."""
        run = require_run(self.runs(), name)
        return mistakes_of(*run.detections(arm), self._labels(), run.events())

    def compare(self, names: Iterable[str]) -> dict[str, Any]:
        """Return runs side by side.

        Raises:
            LofiError: If there is no such run.
        """
        return side_by_side(self._chosen(names))

    def start_comparison(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Start a comparison of ``runs`` (names) by the labels as they are now, which writes a page.

        Returns:
            The job; with ``preview``, only the command that would run.

        Raises:
            LofiError: If there is no such run, or they cannot be compared.
        """
        self.desk.flush()
        with self._starting:
            page = _new_folder(comparisons_of(self.desk.work)) / PAGE
            command = plan_comparison(self._places(), self._chosen(read_names(body)), page)
            if body.get("preview") is True:
                return {"command": as_line([command]), "notes": []}
            page.parent.mkdir(parents=True)
            return self._begun(self.jobs.start(COMPARE, [command], {"page": page.parent.name}), [])

    def _chosen(self, names: Iterable[str]) -> list[RunFacts]:
        """Return runs by their names, the oldest first: the others are compared with it."""
        runs = self.runs()
        wanted = {require_run(runs, name).name for name in names}
        return [run for run in reversed(runs.values()) if run.name in wanted]

    def _labels(self) -> Iterator[VideoLabels]:
        """Yield the labels of the videos that a person has looked through, or that have actions."""
        for one in self.desk.entries():
            rows = [(row["start"], row["end"], row["label"]) for row in one["segments"]]
            if rows or one["state"] == "checked":
                yield VideoLabels(one["id"], rows)

    def _places(self) -> Places:
        folder = self.desk.folder.absolute()
        nested = any(path.absolute().parent != folder for path in self.desk.files().values())
        work, labels = self.desk.work.absolute(), self.desk.labels.absolute()
        return Places(folder, labels, work, nested, self.desk.device)

    def _model(self, name: Any) -> tuple[str, Path]:
        """Return the name and the folder of a model that the server lists; None is the first."""
        models = self.models()
        if name is None and models:
            name = next(iter(models))
        if self.desk.model is not None and name == self.desk.model.name and name not in models:
            name = str(self.desk.model)
        if not isinstance(name, str) or name not in models:
            hint = nearest(name, models) if isinstance(name, str) else ""
            known = ", ".join(models) or "none; train one, or start with --model"
            raise UnknownModelError(f"model: {name!r} is unknown; there are: {known}.{hint}")
        return name, models[name]

    def _files(self, videos: Any) -> tuple[dict[str, Path], int]:
        """Return the files of the videos that a request names: of all new ones those that fit, and how many do not."""
        files = self.desk.files()
        if videos == "new":
            new = [one["id"] for one in self.desk.entries() if one["state"] == "new" and one["id"] in files]
            wanted = new[: fitting([files[one].absolute() for one in new])]
            return {one: files[one].absolute() for one in wanted}, len(new) - len(wanted)
        if isinstance(videos, list) and all(isinstance(one, str) for one in videos):
            wanted = list(dict.fromkeys(videos))
            if unknown := [one for one in wanted if one not in files]:
                raise LofiError(f"videos: there is no video {unknown[0]!r}.{nearest(unknown[0], files)}")
        else:
            raise LofiError('videos: expected a list of ids, or "new".')
        return {one: files[one].absolute() for one in wanted}, 0

    def _begun(self, job: Job, notes: list[str]) -> dict[str, Any]:
        self.desk.tell({"kind": "job", "id": job.id})
        return job.to_json() | {"notes": notes}


def _new_folder(root: Path) -> Path:
    """Return a folder for what a job writes, which nobody has used."""
    number = 1
    while (root / str(number)).exists():
        number += 1
    return root / str(number)


class BusyError(ConflictError):
    """Something like it is at work."""


class UnknownModelError(MissingError):
    """There is no such model."""
