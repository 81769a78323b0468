"""Recipes with one fault each, and what the message says of it."""

BASE = """
data: {annotations: labels.json, videos: videos}
pretrain: null
snippets: {count: 8, frames: 4, stride: 2, size: 32}
"""
"""Whole but for its videos: the folder is empty."""


def setting(section: str, **values: str) -> str:
    """Return a recipe in which a section is written in full."""
    inner = ", ".join(f"{key}: {value}" for key, value in values.items())
    lines = [line for line in BASE.splitlines() if not line.startswith(f"{section}:")]
    return "\n".join([*lines, f"{section}: {{{inner}}}", ""])


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
DATA = "annotations: labels.json, videos: videos"
RECIPES: dict[str, tuple[str | bytes, str]] = {
    "infinite rate": (setting("lofi", lr=".inf"), "no finite number"),
    "rate of 1e999": (setting("lofi", lr="1e999"), "no finite number"),
    "not a number": (setting("lofi", lr=".nan"), "no finite number"),
    "infinite option": (setting("encoder", options="{width: .inf}"), "no finite number"),
    "count": (setting("snippets", count="1000000000"), "at most 10,000"),
    "frames": (setting("snippets", frames="1000000"), "at most 1,000"),
    "size": (setting("snippets", size="100000"), "at most 4,096"),
    "pixels": (setting("snippets", frames="1000", size="4096"), "pixels"),
    "tiny windows": (setting("snippets", window="1.0e-9"), "greater than or equal to 0.1"),
    "dense windows": (setting("snippets", count="10000", window="0.5"), "a second"),
    "overlap": (setting("snippets", window="5", overlap="0.9999999"), "less than or equal to 0.95"),
    "batch": (setting("lofi", batch="10000000000"), "at most 100,000"),
    "epochs": (setting("head", epochs="10000000000"), "at most 1,000,000"),
    "workers": (f"{BASE}\n".replace("videos: videos", "videos: videos, workers: 100000"), "at most 1,000"),
    "hidden": (setting("classifier", hidden="100000000"), "at most 65,536"),
    "width": (setting("encoder", options="{width: 1000000}"), "more than"),
    "width of the head": (setting("head", options="{hidden_3d: 99999, inner_bins: 99999}"), "more than"),
    "layers of the head": (setting("head", name="anchor_free", options="{levels: 99999}"), "at most 32"),
    "samples of the head": (setting("head", name="bmn", options="{samples: 99999}"), "at most 100"),
    "many rates": (setting("head", lrs=str([0.1] * 20_001)), "values"),
    "seed": (f"{BASE}seed: {10**39}\n", "at most"),
    "thousands of digits": (f"{BASE}seed: {'9' * 5000}\n", "a number of 5,000 characters"),
    "hexadecimal": (f"{BASE}seed: 0x{'f' * 5000}\n", "a number of 5,002 characters"),
    "base sixty": (f"{BASE}seed: {':'.join(['59'] * 30_000)}\n", "a number of"),
    "key twice": (f"{BASE}seed: 1\nseed: 2\n", "'seed' stands twice"),
    "key twice inside": (setting("head", lrs="[0.1], lrs: [0.2]"), "'lrs' stands twice"),
    "deep": (f"{BASE}tracking: {'[' * 50_000}\n", "too deeply"),
    "rather deep": (f"{BASE}tracking: {{csv: {'[' * 40}{']' * 40}}}\n", "levels deep"),
    "aliases": (f"{LAUGHS}{BASE}", "stands for more than"),
    "alias in itself": (f"{BASE}tracking: &a {{csv: *a}}\n", "alias"),
    "Latin-1": (BASE.encode() + b"name: caf\xe9\n", "not UTF-8"),
    "UTF-16": (BASE.encode("utf-16"), "not UTF-8"),
    "tab": (f"{BASE}head:\n\tname: gtad\n", "not valid YAML"),
    "zero byte": (f'{BASE}name: "a\\0b"\n', "zero byte"),
    "half a character": (f'{BASE}name: "a\\ud800b"\n', "half a character"),
    "Python object": (f"{BASE}name: !!python/object/apply:os.abort []\n", "could not determine a constructor"),
    "tag": (f"{BASE}seed: !!int no\nname: !!timestamp no\n", "not usable YAML"),
    "date": (f"{BASE}name: 2020-01-01\n", "holds a date"),
    "bytes": (setting("encoder", options="{width: !!binary /w==}"), "holds a bytes"),
    "large": (f"{BASE}# {'x' * 10**6}\n", "characters"),
    "upwards": (f"{BASE}name: ../../x\n", "plain name"),
    "absolute": (f"{BASE}name: /tmp/lofi-strangers\n", "plain name"),
    "long name": (f"{BASE}name: {'x' * 5000}\n", "plain name"),
    "extends another": (f"extends: ../canary\n{BASE}", "neither a file beside"),
    "extends absolutely": (f"extends: /etc/passwd\n{BASE}", "neither a file beside"),
    "extends itself": (f"extends: recipe.yaml\n{BASE}", "extend each other"),
    "extends a list": (f"extends: [a]\n{BASE}", "neither a file beside"),
    "a list": ("- a\n- b\n", "holds no settings"),
    "long value": (setting("lofi", schedule="x" * 9000), "unknown"),
    "mapping as a key": (f"{BASE}? {{a: 1}}\n: 2\n", "not valid YAML"),
    "number as a key": (f"{BASE}7: 2\n", "not a known setting|should be strings"),
    "foreign manifest": (f"{BASE}\n".replace("videos: videos", "videos: videos, manifest: ../canary"), "no manifest"),
    "pipe as a manifest": (f"{BASE}\n".replace("videos: videos", "videos: videos, manifest: pipe"), "no plain file"),
    "folder as a manifest": (
        f"{BASE}\n".replace("videos: videos", "videos: videos, manifest: videos"),
        "no plain file",
    ),
}
READS_CANARY = {"foreign manifest"}
"""It names the canary itself, and only looks whether it is a manifest."""
