"""Run atheris on one target: ``python -m fuzz.run TARGET CORPUS [libFuzzer options]``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lofi_tal.annotations", "lofi_tal.files"]):
    from fuzz.targets import SEEDS, attack, vary


def main() -> None:
    """Write the seeds into the corpus folder, and fuzz until libFuzzer's options say stop.

    Half of the inputs are files as they come, the others decide what is exchanged in a valid file.
    """
    name, corpus = sys.argv[1], Path(sys.argv[2])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed{number}").write_bytes(seed)
    with tempfile.TemporaryDirectory() as folder:

        def one(data: bytes) -> None:
            attack(name, vary(name, data) if len(data) % 2 else data, Path(folder))

        atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
