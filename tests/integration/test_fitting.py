"""Stage 2 can do what it is for: encoder and head together learn a few videos by heart, from random weights."""

import torch

from lofi_tal.config import DetectSection
from lofi_tal.data import Request, as_clips
from lofi_tal.demo import demo_recipe
from lofi_tal.encoders import load_encoder
from lofi_tal.run import Run
from lofi_tal.snippets import Windows
from lofi_tal.stages.localise import localise
from lofi_tal.stages.scoring import evaluate, truth_of

SETTINGS = (
    "data.selection_share=0",
    "data.workers=0",
    "data.flip=false",
    "encoder.options={width: 8, stem: compact}",
    "snippets={count: 32, frames: 4, stride: 2, size: 32}",
    "pretrain=null",
    "lofi.schedule=t",
    "lofi.r_t=2",
    "lofi.epochs=50",
    "lofi.batch=8",
    "lofi.lr=3e-3",
    "lofi.class_loss=0",
    "head.options={hidden_1d: 32, hidden_2d: 16, hidden_3d: 32}",
)


def test_stage_2_fits_a_few_videos_and_carries_over_to_full_fidelity(benchmark_set, tmp_path, monkeypatch):
    """Eight videos in one batch: mAP of the head of stage 2 on the grid it was trained on, and on one twice as fine."""
    pipeline = Run(
        demo_recipe(benchmark_set, seed=0, overrides=SETTINGS), tmp_path, device="cpu", precision="fp32", quiet=True
    )
    heads, make_head = [], pipeline.new_head
    monkeypatch.setattr(pipeline, "new_head", lambda channels: heads.append(make_head(channels)) or heads[-1])
    encoder = load_encoder(pipeline.ensure("lofi")).eval()
    videos, labels = pipeline.data().train, pipeline.data().labels
    dataset, truth = pipeline.snippets(videos), truth_of(videos, labels, "all")
    (low,) = pipeline.schedule.fidelities
    found = {}
    for fidelity in (low, pipeline.full):
        batch = dataset.batch([Request(index, fidelity, None) for index in range(len(videos))])
        with torch.inference_mode():
            features = [encoder(as_clips(frames)).T for frames in batch.frames]
        windows = Windows(fidelity.snippets, None, pipeline.windows.overlap)
        detect = DetectSection(**pipeline.recipe.detect.model_dump())
        proposals = localise(heads[0].eval(), features, windows, detect)
        found[fidelity.snippets] = evaluate(truth, videos, proposals, [], labels).oracle
    assert found[16].mAP[0] > 0.95  # tIoU 0.5
    assert found[16].average_mAP > 0.7
    assert found[32].average_mAP > 0.6
