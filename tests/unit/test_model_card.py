"""The card of a model folder: licence, classes and use, for people."""

import pytest

from lofi_tal import Localizer
from lofi_tal.config import DetectSection
from lofi_tal.encoders import create_encoder
from lofi_tal.heads import create_head

SMALL = {"width": 8, "heads": 2, "levels": 2, "windows": 3, "stem_blocks": 1}
SNIPPETS = {"count": 12, "frames": 4, "stride": 2, "size": 32}


@pytest.fixture
def localizer():
    encoder = create_encoder("tsm_resnet18_narrow", width=8)
    encoder.licence = "CC-BY-NC-4.0"
    labels = ["run", "jump | `high`\nand far"]
    return Localizer(
        encoder=encoder, encoder_name="tsm_resnet18_narrow", classifier=None, labels=labels, snippets=SNIPPETS,
        head=create_head("actionformer", encoder.channels, num_classes=2, **SMALL), detect=DetectSection(),
        device="cpu",
        facts={"recipe": "falls", "arm": "lofi", "seed": 3, "chosen": {
            "pooling": "video", "selection_mAP": {"video": {"fused": 0.3336, "agnostic": 0.5754}}}},
    )  # fmt: skip


def test_a_model_folder_says_what_it_finds_under_which_licence_and_how_to_use_it(localizer, tmp_path):
    localizer.save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: lofi-tal\n")
    assert "# falls" in card
    assert "`run`, `jump / 'high' and far`. It knows no other classes." in card
    assert "| licence of the weights that it started from | CC-BY-NC-4.0 |" in card
    assert "| encoder | `tsm_resnet18_narrow`, 0.2 million parameters |" in card
    assert "| input | 12 snippets of 4 frames, 32 pixels |" in card
    assert "| scores | not calibrated |" in card
    assert "33.4 % (own class scores), 57.5 % (class-agnostic)" in card
    assert "| recipe | recipe `falls`, arm `lofi`, seed `3` |" in card
    assert "lofi detect video.mp4 --model FOLDER" in card


def test_the_card_belongs_to_no_check_and_is_replaced_with_the_model(localizer, tmp_path):
    localizer.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("changed by hand")
    (tmp_path / "notes.txt").write_text("kept")
    loaded = Localizer.from_pretrained(tmp_path, device="cpu")
    assert loaded.encoder.licence == "CC-BY-NC-4.0"
    loaded.facts = {}
    loaded.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "# model" in card
    assert "selection videos" not in card
    assert (tmp_path / "notes.txt").read_text() == "kept"
