"""Make the files that the package ships: the demonstration's stage-1 encoder, a localiser, and a video to try it on.

    lofi demo --from-scratch -o RUN                     # a quarter of an hour on a CPU
    python -m benchmarks.shipped encoder RUN            # its stage 1 -> src/lofi_tal/shipped/demo_encoder
    python -m benchmarks.shipped localizer RUN          # its arm `lofi`, and one of its validation videos

Weights of two and more dimensions become float16. Every folder gets a card: data, recipe, accuracy, command, hash.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from lofi_tal.demo import overlap
from lofi_tal.files import hash_file, read_json, write_bytes, write_json, write_text
from lofi_tal.segments import Segments
from lofi_tal.shipped import DEMO_ENCODER, DEMO_LOCALIZER, DEMO_TRUTH, DEMO_VIDEO

_CARD = """# {title}

{what}

* Data: the embedded benchmark (`{preset}`, seed {seed}), rendered by `lofi_tal.synthetic`; nobody else's data.
* Recipe: `{recipe}`; command: `{command}`
* Made on: {device}, torch {torch}
* {accuracy}
* Weights as float16: {hashes}
* Licence: Apache-2.0, as the package.

Small and synthetic: good for demonstrations and tests, for nothing else.
"""


def main() -> None:
    """Make one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("encoder", "localizer"))
    parser.add_argument("run", type=Path, help="Folder of a finished `lofi demo`.")
    options = parser.parse_args()
    ship_encoder(options.run) if options.what == "encoder" else ship_localizer(options.run)


def ship_encoder(run: Path) -> None:
    """Take the encoder of stage 1."""
    copy_folder(run / "pretrain", DEMO_ENCODER, ("encoder.json", "encoder.safetensors"))
    accuracy = read_json(run / "pretrain" / "stage.json")["result"]["accuracy"]
    write_card(
        run,
        DEMO_ENCODER,
        title="Stage-1 encoder of the demonstration",
        what="A TSM-ResNet-18 of a quarter of the width, trained to classify short clips of ten motions. Other motions "
        "than those that the demonstration localises.",
        accuracy=f"Accuracy: {accuracy:.1%} of the held-out clips",
    )


def ship_localizer(run: Path) -> None:
    """Take the localiser of the arm with stage 2, and the validation video on which it does best."""
    names = sorted(path.name for path in (run / "arms/lofi/model").iterdir())
    copy_folder(run / "arms/lofi/model", DEMO_LOCALIZER, names)
    scores = read_json(run / "report.json")["arms"][-1]["scores"]
    write_card(
        run,
        DEMO_LOCALIZER,
        title="Localiser of the demonstration",
        what="TSM-ResNet-18 of a quarter of the width, trained end to end at low fidelity, G-TAD, and a classifier.",
        accuracy=f"Average mAP at tIoU 0.5:0.05:0.95 on {scores['fused']['videos']} validation videos: "
        f"{scores['fused']['average_mAP']:.1%}; class-agnostic {scores['agnostic']['average_mAP']:.1%}",
    )
    database = read_json(run / "data" / "annotations.json")["database"]
    found = read_json(run / "arms/lofi/detections.json")["results"]
    met = {name: overlap(Segments.from_activitynet(name, found[name]), truth_in(database, name)) for name in found}
    several = [name for name in met if len(database[name]["annotations"]) > 1]
    name = max(several, key=met.__getitem__)
    shutil.copyfile(run / "data" / "videos" / f"{name}.mp4", DEMO_VIDEO)
    write_json(DEMO_TRUTH, {"version": "demo", "database": {DEMO_VIDEO.stem: database[name]}})


def truth_in(database: dict[str, Any], name: str) -> Segments:
    """Return the true segments of a video."""
    return Segments.from_activitynet(name, [{**one, "score": 1.0} for one in database[name]["annotations"]])


def copy_folder(source: Path, target: Path, names: list[str] | tuple[str, ...]) -> None:
    """Copy files, weights as float16; vectors (biases, statistics of BatchNorm) stay as they are."""
    for name in names:
        if name.endswith(".safetensors"):
            tensors = load_file(source / name)
            write_bytes(target / name, save({key: halved(tensor) for key, tensor in tensors.items()}))
        elif name.endswith(".json"):
            write_json(target / name, read_json(source / name))


def halved(tensor: torch.Tensor) -> torch.Tensor:
    """Return weights in float16."""
    return tensor.half() if tensor.is_floating_point() and tensor.dim() > 1 else tensor


def write_card(run: Path, folder: Path, **texts: Any) -> None:
    """Write the folder's README.md."""
    machine, data = read_json(run / "environment.json"), read_json(run / "data" / "dataset.json")
    hashes = ", ".join(f"{path.name} {hash_file(path)}" for path in sorted(folder.glob("*.safetensors")))
    text = _CARD.format(
        **texts,
        preset=data["preset"],
        seed=data["seed"],
        recipe="demo",
        command=(run / "command.txt").read_text().strip().splitlines()[-1],
        device=machine["processor"],
        torch=machine["versions"]["torch"],
        hashes=hashes,
    )
    write_text(folder / "README.md", text)


if __name__ == "__main__":
    main()
