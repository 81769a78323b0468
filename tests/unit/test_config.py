"""Recipes: every mistake is named, every shipped recipe is valid, and comments do not change values."""

from pathlib import Path

import pytest
import yaml

from lofi_tal.config import Recipe, make_recipe, path_settings
from lofi_tal.errors import LofiError
from lofi_tal.recipes import load_recipe, parse_yaml, recipe_names, shipped_recipe
from lofi_tal.recipes.writing import commented_recipe, save_recipe

DATA = {"annotations": "labels.json", "videos": "videos"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": DATA, "lofi": {"schedul": "t"}}, r"'lofi.schedul' is not a known setting. Did you mean 'schedule'"),
        ({"data": DATA, "hed": {}}, r"'hed' is not a known setting. Did you mean 'head'"),
        ({"data": DATA, "lofi": {"r_t": -1}}, r"'lofi.r_t' is -1"),
        ({"data": DATA, "snippets": {"count": "many"}}, r"'snippets.count' is 'many'"),
        ({"data": DATA, "lofi": {"schedule": 3}}, r"'lofi.schedule' is 3: input should be a valid string"),
        (
            {"data": DATA, "lofi": {"schedule": "shrot"}},
            r"'lofi.schedule': schedule 'shrot' is unknown; known: full, s, t, .* Did you mean 'short'\?$",
        ),
        ({"data": DATA, "encoder": {"options": {"pretrained": "imagenet"}}}, r": set encoder\.pretrained or .*\.$"),
        ({"data": {"annotations": "a.json"}}, r"data.videos \(a folder of videos\) is missing"),
    ],
)
def test_a_mistake_is_named_with_its_place(content, message):
    with pytest.raises(LofiError, match=message):
        make_recipe(content)


def test_defaults_are_the_papers():
    """Paper sec. 4.3: SGD 0.1 without momentum, halved every 5 epochs, batch 16, soft-NMS 0.84, top 100."""
    recipe = make_recipe({"data": DATA})
    assert recipe.lofi is not None
    assert (recipe.lofi.lr, recipe.lofi.momentum, recipe.lofi.lr_step, recipe.lofi.lr_gamma) == (0.1, 0.0, 5, 0.5)
    assert (recipe.lofi.batch, recipe.lofi.class_loss, recipe.lofi.schedule) == (16, 0.0, "long")
    assert recipe.head.lrs == (2e-4, 5e-4, 1e-3, 2e-3, 5e-3)
    assert (recipe.detect.sigma, recipe.detect.top_k) == (0.84, 100)
    assert (recipe.snippets.count, recipe.snippets.size) == (100, 224)


def test_overrides_and_relative_paths(tmp_path):
    (tmp_path / "recipe.yaml").write_text("data: {annotations: labels.json, videos: v}\n")
    recipe = load_recipe(tmp_path / "recipe.yaml", ("lofi.lr=1e-2", "pretrain=null", "head.lrs=[1e-3]"))
    assert recipe.lofi is not None
    assert recipe.lofi.lr == 0.01
    assert recipe.pretrain is None
    assert recipe.head.lrs == (0.001,)
    assert recipe.data.annotations == tmp_path / "labels.json"
    with pytest.raises(LofiError, match=r"section\.key=value"):
        load_recipe(tmp_path / "recipe.yaml", ("lofi.lr",))
    with pytest.raises(LofiError, match="not a section"):
        load_recipe(tmp_path / "recipe.yaml", ("seed.x=1", "seed=1", "seed.x=1"))


def test_unreadable_recipes_end_in_one_message(tmp_path):
    with pytest.raises(LofiError, match="cannot be read"):
        load_recipe(tmp_path / "missing.yaml")
    (tmp_path / "bad.yaml").write_text("data: [")
    with pytest.raises(LofiError, match="not valid YAML"):
        load_recipe(tmp_path / "bad.yaml")
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(LofiError, match="no settings"):
        load_recipe(tmp_path / "empty.yaml")


def test_a_run_folder_in_place_of_a_recipe_is_told_from_it(tmp_path):
    (tmp_path / "recipe.yaml").write_text("seed: 0")
    with pytest.raises(LofiError, match=r"is a run folder: give .*recipe\.yaml, and the folder as -o"):
        load_recipe(tmp_path)


def test_numbers_in_exponent_form_are_numbers():
    assert parse_yaml("a: 1e-4\nb: [1e-3, 2]\nc: -1.5E3\nd: 3", "x") == {
        "a": 1e-4,
        "b": [1e-3, 2],
        "c": -1500.0,
        "d": 3,
    }


def test_a_recipe_survives_being_written_with_and_without_comments():
    recipe = make_recipe({"data": DATA, "pretrain": None, "lofi": {"lr": 3e-5}})
    for text in (save_recipe(recipe), commented_recipe(recipe, "A heading\nof two lines", {"lofi.lr": "a: # reason"})):
        assert make_recipe(parse_yaml(text, "x")) == recipe


def test_every_setting_is_documented():
    text = commented_recipe(make_recipe({"data": DATA}), "", {})
    settings = [line for line in text.splitlines() if line.startswith("  ") and ":" in line]
    assert len(settings) > 40
    assert all("  # " in line for line in settings), [line for line in settings if "  # " not in line]


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid(name):
    content = shipped_recipe(name)
    content["data"] = {**DATA, **content.get("data", {})}
    assert isinstance(make_recipe(content), Recipe)


def test_an_unknown_shipped_recipe_names_the_nearest():
    with pytest.raises(LofiError, match="Did you mean 'demo'"):
        shipped_recipe("dmeo")


def test_every_setting_that_is_a_path_is_taken_from_the_folder_of_the_recipe(tmp_path):
    """The list comes from the types: a path that is added is not forgotten."""
    content = {"data": {**DATA, "manifest": "m.jsonl", "clips": "c.csv", "clips_root": "clips", "cache": "k"}}
    content |= {"encoder": {"weights": "w.safetensors"}, "classifier": {"scores": "s.json"}}
    content |= {"features": {"sources": ["a", "/b"]}, "head": {"weights": "gtad.pth.tar"}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    loaded = load_recipe(tmp_path / "recipe.yaml").model_dump()
    for section, key in path_settings():
        value = loaded[section][key]
        for path in value if isinstance(value, tuple) else [value]:
            assert path.is_absolute(), (section, key)
    assert loaded["data"]["manifest"] == tmp_path / "m.jsonl"
    assert loaded["features"]["sources"][1] == Path("/b")


def test_shipped_recipes_go_by_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ("data.annotations=a.json", "data.videos=v")
    assert load_recipe(Path("bench"), data).snippets.size == 48
    assert load_recipe(Path("anet13_acp")).lofi is None
    assert load_recipe(Path("bench"), needs_data=False).name == "bench"
    with pytest.raises(LofiError, match=r"'bench' has no data of its own: add --set data.annotations"):
        load_recipe(Path("bench"))
    with pytest.raises(LofiError, match=r"Shipped recipes go by their names\. Did you mean 'bench'"):
        load_recipe(Path("bnch"))
    Path("bench").write_text("name: mine\ndata: {annotations: a.json, videos: v}")
    assert load_recipe(Path("bench")).name == "mine"  # a file comes first
