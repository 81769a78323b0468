"""Where the metrics of a training go besides `metrics.jsonl`: loggers by name, with the interface of Fabric's.

A factory of a logger takes the options of the recipe and, of these, what its signature names: ``folder`` (of the stage;
``root_dir`` and ``save_dir`` are the same as text), ``stage`` (its name) and ``start`` (first step of a resumed stage).
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from lofi_tal.errors import LofiError
from lofi_tal.files import hash_object
from lofi_tal.registry import Registry

logger = logging.getLogger("lofi_tal")


class MetricLogger(Protocol):
    """What Fabric's loggers have; `lightning.fabric.loggers.Logger` documents it."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write the metrics of a step."""

    def finalize(self, status: str) -> None:
        """End; ``status`` is ``success``, ``interrupted`` or ``failed``."""


LOGGERS: Registry[Callable[..., MetricLogger]] = Registry("logger", "lofi_tal.loggers")
"""Loggers by name; those of other packages are entry points of the group `lofi_tal.loggers`."""
DEFAULT_TRACKING: Mapping[str, Mapping[str, Any]] = {"tensorboard": {}}


def list_loggers() -> tuple[str, ...]:
    """Return the names of the loggers that a recipe's `tracking` knows."""
    return LOGGERS.names()


def create_logger(name: str, options: Mapping[str, Any], *, folder: Path, stage: str, start: int) -> MetricLogger:
    """Build a logger.

    Args:
        name: One of :func:`list_loggers`, or ``package.module:factory``, which runs the code of that module.
        options: Of the recipe.
        folder: Folder of the stage.
        stage: Its name.
        start: First step; those from it on are written again.

    Raises:
        LofiError: If the name is unknown, an option is not one of the logger's, or it makes no logger.
    """
    factory, given = _bound(name, options, folder=folder, stage=stage, start=start)
    made = factory(**given)
    if not callable(getattr(made, "log_metrics", None)) or not callable(getattr(made, "finalize", None)):
        raise LofiError(
            f"tracking.{name}: a logger has the methods log_metrics and finalize, a {type(made)} lacks one."
        )
    return made


def _bound(name: str, options: Mapping[str, Any], **known: Any) -> tuple[Callable[..., MetricLogger], dict[str, Any]]:
    """Return the factory of a logger and its arguments: the options, and what its signature names of the rest."""
    factory = LOGGERS.get(name, dotted=True)
    known |= {"root_dir": str(known["folder"]), "save_dir": str(known["folder"])}
    signature = inspect.signature(factory)
    given = {**{key: value for key, value in known.items() if key in signature.parameters}, **options}
    try:
        signature.bind(**given)
    except TypeError as error:
        raise LofiError(f"tracking.{name}: {error}.") from error
    return factory, given


def check_tracking(tracking: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse loggers that cannot be built, before a stage begins.

    Raises:
        LofiError: If a name is unknown, its code cannot be imported, an option is not one of the logger's, or a package
            that it needs is missing.
    """
    for name, options in tracking.items():
        factory, _ = _bound(name, options, folder=Path(), stage="", start=0)
        needs = getattr(factory, "needs", None)
        if needs is not None and find_spec(needs) is None:
            raise LofiError(f"tracking.{name} needs a package that is missing: pip install {needs}.")


class Trackers:
    """The loggers of one training; one that fails is dropped with a warning, and never ends it.

    Args:
        tracking: Options of each logger by its name.
        folder: Folder of the stage.
        stage: Its name.
        start: First step.
    """

    def __init__(self, tracking: Mapping[str, Mapping[str, Any]], *, folder: Path, stage: str, start: int) -> None:
        self.loggers: dict[str, MetricLogger] = {}
        for name, options in tracking.items():
            try:
                self.loggers[name] = create_logger(name, options, folder=folder, stage=stage, start=start)
            except LofiError:
                raise
            except Exception as error:
                self._drop(name, error)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Write the metrics of a step to every logger."""
        self._each("log_metrics", metrics, step)

    def close(self, *, success: bool) -> None:
        """End every logger."""
        self._each("finalize", "success" if success else "interrupted")

    def _each(self, method: str, *arguments: Any) -> None:
        for name, one in list(self.loggers.items()):
            try:
                getattr(one, method)(*arguments)
            except Exception as error:
                self._drop(name, error)
                del self.loggers[name]
                if method == "log_metrics":
                    with contextlib.suppress(Exception):
                        one.finalize("failed")

    def _drop(self, name: str, error: Exception) -> None:
        kind = type(error).__name__
        logger.warning("tracking.%s: %s: %s; it gets no more metrics of this stage.", name, kind, error)


@LOGGERS.register("tensorboard")
class TensorBoard:
    """Event files in ``tensorboard/``; on a resume, steps that are run again are replaced."""

    def __init__(self, *, folder: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1 if start else None)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write the metrics of a step."""
        for key, value in metrics.items():
            self.board.add_scalar(key, value, step)

    def finalize(self, status: str) -> None:
        """Close the file."""
        self.board.close()


@LOGGERS.register("csv")
def csv(*, folder: Path, start: int, flush_logs_every_n_steps: int = 10) -> MetricLogger:
    """Write ``csv/from-step-<start>/metrics.csv`` with Fabric's logger."""
    from lightning_fabric.loggers.csv_logs import CSVLogger

    made: Any = CSVLogger(
        folder, name="csv", version=f"from-step-{start}", flush_logs_every_n_steps=flush_logs_every_n_steps
    )
    return made  # type: ignore[no-any-return]


@LOGGERS.register("wandb")
class WandB:
    """A run of Weights & Biases for each stage, resumed with it; options are those of `wandb.init`."""

    needs = "wandb"

    def __init__(self, *, folder: Path, stage: str, **options: Any) -> None:
        import wandb

        own = {"dir": str(folder), "name": stage, "id": hash_object(str(folder.resolve()))[:8], "resume": "allow"}
        self.run = wandb.init(**{**own, **options})

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write the metrics of a step."""
        self.run.log(metrics, step=step)

    def finalize(self, status: str) -> None:
        """End the run."""
        self.run.finish(exit_code=0 if status == "success" else 1)


@LOGGERS.register("mlflow")
class MLflow:
    """A run of MLflow for each stage.

    Args:
        folder: Folder of the stage; ``mlruns/`` in it is the store if no other is given.
        stage: Name of the run.
        experiment: Name of the experiment.
        tracking_uri: Of a server or a store.
    """

    needs = "mlflow"

    def __init__(
        self, *, folder: Path, stage: str, experiment: str = "lofi-tal", tracking_uri: str | None = None
    ) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri or (folder.resolve() / "mlruns").as_uri())
        found = self.client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self.client.create_experiment(experiment)
        self.run_id = self.client.create_run(number, run_name=stage).info.run_id

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write the metrics of a step."""
        for key, value in metrics.items():
            self.client.log_metric(self.run_id, key, value, step=step)

    def finalize(self, status: str) -> None:
        """End the run."""
        self.client.set_terminated(self.run_id, "FINISHED" if status == "success" else "KILLED")
