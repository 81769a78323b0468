"""A tracker of one's own: the loss of every tenth step in a text file, `losses.txt` in the folder of each stage.

PYTHONPATH=examples lofi run recipe.yaml --set "tracking={own_tracker:LossFile: {every: 10}}"

A tracker has the two methods of Fabric's loggers; those of Lightning can be named in the same way.
"""

from __future__ import annotations

from pathlib import Path


class LossFile:
    """Writes the loss of some steps.

    Args:
        folder: Folder of the stage; lofi-tal gives it to what names it.
        stage: Name of the stage, likewise.
        every: Steps from one line to the next; an option of the recipe.
    """

    def __init__(self, folder: Path, stage: str, every: int = 1) -> None:
        self.file = (folder / "losses.txt").open("a", encoding="utf-8")
        self.stage, self.every = stage, every

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write one line."""
        if step is not None and step % self.every == 0:
            self.file.write(f"{self.stage} {step} {metrics['loss']:.4f}\n")

    def finalize(self, status: str) -> None:
        """Write how the stage ended."""
        self.file.write(f"{status}\n")
        self.file.close()
