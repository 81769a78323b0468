"""What comes with the package is what its cards say, and works."""

import re

import pytest
import torch

from lofi_tal.demo import overlap
from lofi_tal.encoders import load_encoder
from lofi_tal.files import hash_file, read_json
from lofi_tal.localizer import Localizer
from lofi_tal.segments import Segments
from lofi_tal.shipped import DEMO_ENCODER, DEMO_LOCALIZER, DEMO_TRUTH, DEMO_VIDEO


@pytest.mark.parametrize("folder", [DEMO_ENCODER, DEMO_LOCALIZER])
def test_the_cards_name_the_hashes_of_the_weights(folder):
    said = dict(re.findall(r"(\w+\.safetensors) ([0-9a-f]{16})", (folder / "README.md").read_text()))
    assert said == {path.name: hash_file(path) for path in folder.glob("*.safetensors")}


def test_the_encoder_is_a_whole_one_in_full_precision():
    encoder = load_encoder(DEMO_ENCODER)
    assert encoder.channels == 128
    assert {tensor.dtype for tensor in encoder.parameters()} == {torch.float32}


def test_the_localiser_finds_most_actions_of_the_video():
    localizer = Localizer.from_pretrained(DEMO_LOCALIZER, device="cpu", precision="fp32")
    shown = localizer.predict(DEMO_VIDEO, threshold=localizer.threshold)
    (record,) = read_json(DEMO_TRUTH)["database"].values()
    truth = Segments.from_activitynet("demo_video", [{**one, "score": 1.0} for one in record["annotations"]])
    assert len(shown)
    assert overlap(shown, truth) > 0.5
