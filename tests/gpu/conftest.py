"""Where the tests marked `gpu` run: on the first CUDA device, or, to try their code, on a CPU (--gpu-device=cpu)."""

import os

# before CUDA is initialised: without it cuBLAS has no deterministic products
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import pytest
import torch

from lofi_tal.demo import demo_recipe
from lofi_tal.run import Run
from lofi_tal.synthetic import make_dataset

SETTINGS = (
    "data.selection_share=0.3",
    "data.workers=1",
    "encoder.options={width: 8}",
    "snippets={count: 12, frames: 4, stride: 2, size: 32}",
    "pretrain.epochs=1",
    "pretrain.batch=4",
    "pretrain.dropout=0",
    "pretrain.optimizer=sgd",
    "pretrain.lr=0.01",
    "lofi.epochs=2",
    "lofi.batch=3",
    "lofi.r_s=1.5",
    "lofi.optimizer=sgd",
    "lofi.lr=0.01",
    "lofi.clip_norm=1.0",
    "lofi.class_loss=0.5",
    "head.epochs=2",
    "head.batch=4",
    "head.lrs=[1e-3]",
    "head.options={hidden_1d: 32, hidden_2d: 16, hidden_3d: 32}",
    "classifier.epochs=2",
    "baseline=false",
)


def pytest_addoption(parser):
    parser.addoption("--gpu-device", default="cuda", choices=("cuda", "cpu"), help="where tests marked gpu run")


@pytest.fixture(scope="session")
def device(request):
    name = request.config.getoption("--gpu-device", default="cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return torch.device(name)


@pytest.fixture
def cuda(device):
    if device.type != "cuda":
        pytest.skip("has a meaning on CUDA alone")
    return device


@pytest.fixture(scope="session")
def recipe(device, tmp_path_factory):
    dataset = make_dataset(tmp_path_factory.mktemp("tiny"), preset="tiny", seed=0, workers=2)
    return demo_recipe(dataset, seed=0, overrides=SETTINGS)


@pytest.fixture(scope="session")
def run_of(recipe, tmp_path_factory):
    """Return a whole run on a device in a precision; each is made once."""
    made = {}

    def run(device, precision):
        if (device, precision) not in made:
            folder = tmp_path_factory.mktemp("runs") / f"{device}-{precision}"
            pipeline = Run(recipe, folder, device=device, precision=precision, quiet=True)
            with pipeline.open():
                made[device, precision] = (pipeline, pipeline.run())
        return made[device, precision]

    return run


@pytest.fixture
def exact():
    """Products and convolutions in fp32 as they are on a CPU."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def deterministic():
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
