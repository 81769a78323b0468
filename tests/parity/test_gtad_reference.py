"""G-TAD against the plain order of its published computation.

Source: Frostinassiky/gtad, branch ``anet``, gtad_lib/models.py.
"""

import pickle

import pytest
import torch
from torch.nn import functional
from torchvision.ops import roi_align

from lofi_tal.errors import DataError
from lofi_tal.heads import GTAD
from lofi_tal.heads.alignment import valid_anchors


def parameters(head):
    return sum(p.numel() for p in head.parameters())


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"in_channels": 400}, 5_563_268),
        ({"in_channels": 512}, 5_584_772),
        ({"in_channels": 2048}, 5_879_684),
        # THUMOS configuration
        (
            {"in_channels": 2048, "inner_bins": 16, "context_bins": 16, "map_kernel": 3, "max_duration": 64},
            5_617_540,
        ),
        # the figure in the published docstring belongs to an older configuration
        ({"in_channels": 400, "context_bins": 32, "map_kernel": 3}, 9_495_428),
    ],
)
def test_parameter_counts(options, count):
    assert parameters(GTAD(**options)) == count


def test_state_dict_names_and_shapes_are_the_published_ones():
    state = {key: tuple(value.shape) for key, value in GTAD(512).state_dict().items()}
    block = {
        "tconvs.0.weight": (128, 256, 1),
        "tconvs.2.weight": (128, 4, 3),
        "tconvs.4.weight": (256, 128, 1),
        "sconvs.0.weight": (128, 512, 1, 1),
        "sconvs.2.weight": (128, 4, 1, 1),
        "sconvs.4.weight": (256, 128, 1, 1),
    }
    expected = {"backbone1.0.weight": (256, 128, 3)}
    for prefix in ("backbone1.2", "backbone2.0", "regu_s.0", "regu_e.0"):
        expected |= {f"{prefix}.{key}": shape for key, shape in block.items()}
    expected |= {"regu_s.1.weight": (1, 256, 1), "regu_e.1.weight": (1, 256, 1)}
    for index, shape in {0: (512, 9216), 2: (128, 512), 4: (128, 128), 6: (128, 128), 8: (2, 128)}.items():
        expected[f"localization.{index}.weight"] = (*shape, 1, 1)
    expected |= {key.replace("weight", "bias"): (shape[0],) for key, shape in list(expected.items())}
    assert state == expected


def reference_gcnext(w, prefix, x):
    batch, _, length = x.shape
    groups = w[f"{prefix}.tconvs.0.weight"].shape[0] // 4

    def conv1d(index, value, **options):
        return functional.conv1d(
            value, w[f"{prefix}.tconvs.{index}.weight"], w[f"{prefix}.tconvs.{index}.bias"], **options
        )

    def conv2d(index, value, **options):
        return functional.conv2d(
            value, w[f"{prefix}.sconvs.{index}.weight"], w[f"{prefix}.sconvs.{index}.bias"], **options
        )

    time = conv1d(4, conv1d(2, conv1d(0, x).relu(), padding=1, groups=groups).relu())
    distance = (x[:, :, :, None] - x[:, :, None, :]).square().sum(1)
    nearest = distance.topk(min(3, length), largest=False).indices
    pairs = torch.stack(
        [torch.cat([x[b][:, nearest[b]], x[b][:, :, None].expand(-1, -1, nearest.shape[2])]) for b in range(batch)]
    )
    semantic = conv2d(4, conv2d(2, conv2d(0, pairs).relu(), groups=groups).relu()).amax(3)
    return (time + semantic + x).relu(), nearest


def reference_gtad(head, features):
    """Align every cell of the map with roi_align, then convolve the whole map."""
    w = dict(head.named_parameters())
    length = features.shape[2]
    durations = head.durations(length)
    base = functional.conv1d(features, w["backbone1.0.weight"], w["backbone1.0.bias"], padding=1, groups=4).relu()
    base, _ = reference_gcnext(w, "backbone1.2", base)
    boundaries = []
    for name in ("regu_s", "regu_e"):
        hidden, _ = reference_gcnext(w, f"{name}.0", base)
        boundaries.append(functional.conv1d(hidden, w[f"{name}.1.weight"], w[f"{name}.1.bias"]).sigmoid()[:, 0])
    graph, _ = reference_gcnext(w, "backbone2.0", base)
    nearest = (graph[:, :, :, None] - graph[:, :, None, :]).square().sum(1).topk(min(3, length), largest=False).indices
    context = torch.stack([x[:, index].mean(2) for x, index in zip(graph, nearest, strict=True)])
    boxes = torch.zeros(durations, length, 5)
    boxes[..., 3] = 1
    for d in range(durations):
        for s in range(length - d):
            boxes[d, s, 2], boxes[d, s, 4] = s - (d + 1) / 2, s + d + (d + 1) / 2
    aligned = []
    for x in zip(graph, context, strict=True):
        parts = [
            roi_align(y[None, :, :, None], boxes.view(-1, 5), (bins, 1), sampling_ratio=-1, aligned=False)[..., 0]
            for y, bins in zip(x, (head.inner_bins, head.context_bins), strict=True)
        ]
        aligned.append(torch.cat(parts, 2).flatten(1).T.view(-1, durations, length))
    return *boundaries, head.localization(torch.stack(aligned)).sigmoid()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"inner_bins": 16, "context_bins": 16, "map_kernel": 3, "max_duration": 9},
        {"map_kernel": 3},
    ],
)
@pytest.mark.parametrize("length", [2, 13])
def test_outputs_and_gradients_equal_the_plain_computation(options, length):
    torch.manual_seed(0)
    head = GTAD(16, hidden_1d=32, hidden_2d=16, hidden_3d=24, **options)
    features = torch.randn(2, 16, length, requires_grad=True)
    ours = head(features)
    expected = reference_gtad(head, features)
    valid = valid_anchors(length, head.durations(length)).valid
    torch.testing.assert_close(ours.start, expected[0])
    torch.testing.assert_close(ours.end, expected[1])
    torch.testing.assert_close(ours.iou_map[:, :, valid], expected[2][:, :, valid], atol=1e-5, rtol=1e-5)
    assert (ours.iou_map[:, :, ~valid] == 0).all()
    wanted = [features, *head.parameters()]
    sums = [(o.start.sum() + o.end.sum() + o.iou_map[:, :, valid].square().sum()) for o in (ours,)]
    sums.append(expected[0].sum() + expected[1].sum() + expected[2][:, :, valid].square().sum())
    for got, right in zip(*(torch.autograd.grad(s, wanted) for s in sums), strict=True):
        torch.testing.assert_close(got, right, atol=1e-4, rtol=1e-4)


def test_loads_a_published_checkpoint(tmp_path):
    source = GTAD(16, hidden_1d=32, hidden_2d=16, hidden_3d=24)
    path = tmp_path / "GTAD_best.pth.tar"
    torch.save({"epoch": 7, "state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, path)
    head = GTAD(16, hidden_1d=32, hidden_2d=16, hidden_3d=24)
    head.load_official(path)
    for key, value in source.state_dict().items():
        assert torch.equal(head.state_dict()[key], value)


def test_refuses_checkpoints_that_do_not_fit_or_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("code ran",))

    head = GTAD(16, hidden_1d=32, hidden_2d=16, hidden_3d=24)
    torch.save({"state_dict": GTAD(16, hidden_1d=40, hidden_2d=16, hidden_3d=24).state_dict()}, tmp_path / "other")
    with pytest.raises(DataError, match="does not fit"):
        head.load_official(tmp_path / "other")
    (tmp_path / "evil").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(DataError, match="cannot be loaded safely"):
        head.load_official(tmp_path / "evil")
    with pytest.raises(DataError, match="does not exist"):
        head.load_official(tmp_path / "none")
    torch.save([1], tmp_path / "list")
    with pytest.raises(DataError, match="holds no state dict"):
        head.load_official(tmp_path / "list")
