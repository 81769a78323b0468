"""What encoders take, and the fidelities that follow from it."""

import pytest

from lofi_tal.config import make_recipe
from lofi_tal.encoders import outline_encoder
from lofi_tal.errors import LofiError
from lofi_tal.fidelity import Takes, create_schedule, full_fidelity
from lofi_tal.recipes.encoder import full_of, outline_of, takes_of
from tests.encoders import TINY

PATCHES = Takes(size_multiple=16, frame_multiple=2, fewest=2)


def recipe(snippets, **encoder):
    return make_recipe({"data": {"annotations": "a.json", "videos": "v"}, "encoder": encoder, "snippets": snippets})


def test_phases_are_rounded_to_what_the_encoder_takes():
    """224 / sqrt(2) is 158 in the paper, and 160 in whole patches of 16."""
    plain = create_schedule("long", full_fidelity(100, 224)).fidelities
    patches = create_schedule("long", full_fidelity(100, 224, PATCHES)).fidelities
    assert [one.size for one in plain] == [112, 224, 158]
    assert [one.size for one in patches] == [112, 224, 160]
    assert [str(one) for one in patches] == ["S 100×112px", "T 25×224px", "ST 50×160px"]
    assert [one.snippets for one in plain] == [one.snippets for one in patches]


def test_fidelities_of_one_size_are_refused_where_sizes_cannot_change_and_too_small_ones_too():
    fixed = full_fidelity(100, 224, Takes(smallest=224, largest=224, sizes_change=False))
    assert create_schedule("t", fixed, r_s=1).fidelities[0].size == 224
    with pytest.raises(LofiError, match="takes frames of 224 px only: set r_s = 1"):
        create_schedule("s", fixed)
    with pytest.raises(LofiError, match="at least 32 px are needed by the encoder: lower r_s"):
        create_schedule("s", full_fidelity(100, 48, Takes(smallest=32)))


@pytest.mark.parametrize(("size", "nearest"), [(158, 160), (150, 144), (153, 160), (1, 16), (224, 224), (1000.4, 1008)])
def test_the_nearest_size(size, nearest):
    assert PATCHES.nearest_size(size) == nearest


def test_limits_hold_at_both_ends():
    takes = Takes(size_multiple=14, smallest=28, largest=100, frame_multiple=4, fewest=3, most=10)
    assert [takes.nearest_size(one) for one in (1, 28, 99, 500)] == [28, 28, 98, 98]
    assert [takes.nearest_frames(one) for one in (1, 5, 9, 100)] == [4, 4, 8, 8]
    assert takes.size_text == "height and width are multiples of 14, from 28 to 100 pixels"


def test_encoders_side_by_side_take_what_all_take():
    together = Takes.together([PATCHES, Takes(size_multiple=14, smallest=32, square=True), Takes(most=8)])
    assert (together.size_multiple, together.smallest, together.square) == (112, 32, True)
    assert (together.nearest_frames(9), together.nearest_size(224)) == (8, 224)
    with pytest.raises(LofiError, match="scale pictures differently"):
        Takes.together([PATCHES, Takes(resize=1.0)])
    with pytest.raises(LofiError, match="no common size"):
        Takes.together([Takes(largest=100), Takes(smallest=200)])


def test_a_recipe_in_sizes_that_its_encoder_does_not_take_is_refused_with_the_nearest():
    pytest.importorskip("transformers")
    options = {"name": "vjepa2", "options": TINY["vjepa2"]}
    made = recipe({"count": 8, "frames": 4, "size": 64}, **options)
    assert takes_of(made).size_multiple == 16
    assert [one.size for one in made.lofi.fidelities_over(full_of(made)).fidelities] == [32, 64, 48]
    with pytest.raises(LofiError, match=r"'vjepa2' does not take frames of 60 × 60 pixels: .* nearest is 64 \(snip"):
        full_of(recipe({"size": 60, "frames": 4}, **options))
    with pytest.raises(LofiError, match=r"does not take clips of 5 frames: .* multiples of 2, .* The nearest is 4"):
        full_of(recipe({"size": 64, "frames": 5}, **options))


def test_an_outline_needs_no_memory_and_draws_nothing(tmp_path):
    import torch

    torch.manual_seed(3)
    before = torch.get_rng_state()
    encoder = outline_encoder("r3d_18", {})
    assert all(parameter.is_meta for parameter in encoder.parameters())
    assert torch.equal(torch.get_rng_state(), before)
    section = recipe({}, name="tsm_resnet18", options={"width": 8}).encoder
    assert outline_of(section).channels == 64
