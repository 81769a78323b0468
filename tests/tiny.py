"""What makes a run on the smallest benchmark take seconds."""

SETTINGS = (
    "data.selection_share=0.3",
    "data.workers=0",
    "encoder.options={width: 8}",
    "snippets={count: 12, frames: 4, stride: 2, size: 32}",
    "pretrain.epochs=2",
    "pretrain.batch=4",
    "lofi.epochs=3",
    "lofi.batch=2",
    "lofi.r_s=1.5",
    "head.epochs=4",
    "head.batch=4",
    "head.options={hidden_1d: 32, hidden_2d: 16, hidden_3d: 32}",
    "classifier.epochs=4",
)
