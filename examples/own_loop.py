"""The paper's three stages with a training loop of one's own.

python examples/own_loop.py labels.json videos/ model/
"""

from __future__ import annotations

import argparse

import torch

import lofi_tal as lofi


def main() -> None:
    """Train on the training videos, evaluate on the validation videos, and save the localiser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations")
    parser.add_argument("videos")
    parser.add_argument("model", help="folder to write")
    parser.add_argument("--encoder", default="tsm_resnet18")
    parser.add_argument("--pretrained", help="imagenet, kinetics400, or a weights file")
    parser.add_argument("--snippets", type=int, default=100)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()

    videos = lofi.load_videos(options.annotations, options.videos, "training")
    full = lofi.full_fidelity(options.snippets, options.size)
    schedule = lofi.create_schedule("long", full, r_t=4, r_s=2)  # S-, T- and ST-LoFi in turn
    encoder = lofi.create_encoder(options.encoder, pretrained=options.pretrained)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = lofi.EndToEnd(encoder, lofi.create_head("gtad", encoder.channels)).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, weight_decay=1e-4)

    for batch in lofi.batches(videos, schedule, epochs=options.epochs, batch=4):
        losses = model.loss(batch)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        print(batch.fidelity, {name: round(loss.item(), 3) for name, loss in losses.items()})

    features, _ = lofi.extract(encoder, videos, full)
    localizer = lofi.fit_head(features, videos.labels, encoder=encoder, fidelity=full)
    localizer.save_pretrained(options.model)

    validation = lofi.load_videos(options.annotations, options.videos, "validation", labels=videos.labels)
    detections, failed = localizer.predict_many(video.file.path for video in validation)
    for path, reason in failed.items():
        print(f"{path} was left out: {reason}")
    result = lofi.evaluate(options.annotations, detections, "validation")
    print(f"average mAP {result.average_mAP:.4f}; best detections of {detections[0].video_id}:")
    print(detections[0][:3])


if __name__ == "__main__":
    main()
