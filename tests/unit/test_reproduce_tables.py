"""Tables as data, intervals against numbers worked by hand, what grids allow, probes, results, documents."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lofi_tal.cli.reproduce import _seeds
from lofi_tal.errors import DataError, LofiError
from lofi_tal.reproduce import ROWS, TABLES, find_rows, find_tables, open_base, update_document, write_tables
from lofi_tal.reproduce.grid import grid_facts
from lofi_tal.reproduce.probe import average_precision, best_cut, f1, probe
from lofi_tal.reproduce.results import read_results, settings_hash, write_result
from lofi_tal.reproduce.statistics import paired, spread, t_quantile
from lofi_tal.stages.data import TruthVideo, VideoFile
from lofi_tal.stages.head import FeatureSet

BASES = ("bench", "demo", "anet13_tsm_r18_gtad_long", "hacs_tsm_r18_gtad_long")


@pytest.mark.parametrize(
    ("degrees", "expected"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (7, 2.3646), (30, 2.0423)]
)
def test_t_quantiles_are_those_of_printed_tables(degrees, expected):
    assert t_quantile(degrees) == pytest.approx(expected, abs=6e-5)


def test_t_quantile_of_another_confidence():
    assert t_quantile(10, 0.99) == pytest.approx(3.1693, abs=6e-5)


def test_a_spread_is_the_t_interval_worked_by_hand():
    """Mean 4, deviation 2, three seeds: 4.3027 · 2 / √3 = 4.9683."""
    found = spread([2.0, 4.0, 6.0], [None] * 3)
    assert found.mean == 4.0
    assert found.seeds == pytest.approx(4.9683, abs=1e-4)
    assert found.videos is None
    assert found.both is None
    assert spread([2.0], [None]).seeds is None


def test_a_paired_difference_cancels_what_seeds_share():
    """Differences 1, 1, 2 have a narrow interval, though the figures themselves vary by tens."""
    first = {seed: (value, None) for seed, value in enumerate((11.0, 31.0, 22.0))}
    second = {seed: (value, None) for seed, value in enumerate((10.0, 30.0, 20.0))} | {9: (0.0, None)}
    found = paired(first, second)
    assert found.count == 3
    assert found.mean == pytest.approx(4 / 3)
    assert found.seeds == pytest.approx(4.3027 * np.std([1, 1, 2], ddof=1) / np.sqrt(3), abs=1e-4)
    assert paired(first, {7: (1.0, None)}) is None


def test_videos_and_seeds_add_in_quadrature():
    draws = np.linspace(-1, 1, 1001)
    found = paired({0: (3.0, 3 + draws), 1: (5.0, 5 + draws)}, {0: (1.0, np.ones(1001)), 1: (1.0, np.ones(1001))})
    assert found.videos == pytest.approx(0.95, abs=1e-3)
    assert found.both == pytest.approx(np.hypot(found.seeds, found.videos))


@pytest.mark.parametrize("name", BASES)
def test_every_row_is_a_recipe_of_every_base(name, tmp_path):
    base = open_base(name, tmp_path)
    hashes = {row.id: settings_hash(base.recipe(row, 0), row, "fp32") for row in ROWS.values()}
    own = [key for row, key in hashes.items() if row != "long_class"]  # `demo` has its class loss in every row
    assert len(set(own)) == len(own)
    for row in ROWS.values():
        recipe = base.recipe(row, 3)
        assert recipe.seed == 3
        assert recipe.baseline is False
        assert recipe.head.batch == base.recipe(ROWS["acp"], 0).head.batch  # the same stage 3 for every row
        assert recipe.head.lrs == base.recipe(ROWS["acp"], 0).head.lrs
        assert settings_hash(recipe, row, "fp32") == hashes[row.id]  # the seed is no setting
        assert (recipe.finetune is not None) is row.id.startswith("acp_plus")


def test_rows_change_what_their_names_say(tmp_path):
    base = open_base("bench", tmp_path)
    assert ROWS["acp"].changed(base.content) == ["finetune=null", "lofi=null"]
    assert ROWS["s"].changed(base.content) == ["finetune=null", "lofi.schedule=s"]
    assert ROWS["acp_arrow"].changed(base.content) == ["finetune=null", "second.task=arrow", "lofi=null"]
    second = base.recipe(ROWS["acp_arrow"], 0)
    assert second.second == second.pretrain.model_copy(update={"task": "arrow"})
    real = open_base("anet13_tsm_r18_gtad_long", tmp_path)
    assert real.recipe(ROWS["r2plus1d_t"], 0).encoder.pretrained == "kinetics400"
    assert base.recipe(ROWS["r2plus1d_t"], 0).encoder.options == {"width": 16}
    assert base.recipe(ROWS["r50_acp"], 0).encoder.options == {"width": 16, "stem": "compact"}


def test_tables_are_consistent():
    for table in TABLES.values():
        rows = [entry.row for entry in table.entries]
        assert len(set(rows)) == len(rows)
        for entry in table.entries:
            assert entry.against is None or entry.against in rows
        for question in table.questions:
            assert {question.row, *question.rivals} <= set(rows)
            for data in ("activitynet", "hacs"):
                figures = {entry.row: getattr(entry, data) for entry in table.entries}
                if getattr(question, data) is not None:
                    rivals = max(figures[rival] for rival in question.rivals)
                    assert getattr(question, data) == pytest.approx(figures[question.row] - rivals)


def test_unknown_names_are_refused_with_the_nearest(tmp_path):
    with pytest.raises(LofiError, match="budget"):
        find_tables(["budgt"])
    with pytest.raises(LofiError, match="not in table 2"):
        find_rows(find_tables(["2"]), ["acp_plus"])
    assert [row.id for row in find_rows(find_tables(["2"]), ["long", "acp"])] == ["acp", "long"]
    with pytest.raises(LofiError, match="neither a recipe file nor a shipped recipe"):
        open_base("bensh", tmp_path)
    for text in ("0", "4-2", "a", "1,2"):
        with pytest.raises(LofiError, match="--seeds"):
            _seeds(text)
    assert _seeds("3") == [0, 1, 2]
    assert _seeds("3-4") == [3, 4]


def video(segments, name="v", labels=None):
    spans = torch.tensor(segments, dtype=torch.float32).reshape(-1, 2)
    labels = torch.zeros(len(spans), dtype=torch.long) if labels is None else torch.tensor(labels)
    return TruthVideo(name, VideoFile(Path(name), "", 10.0, 100), 10.0, spans, labels)


def test_what_a_grid_allows_by_hand():
    """Four snippets: [0, 0.5] is an anchor; of [0.1, 0.2] the best anchor is [0, 0.25] with tIoU 0.4."""
    facts = grid_facts(4, [video([[0, 0.5]]), video([[0.1, 0.2]])], [video([[0, 0.5], [0.1, 0.2]]), video([])])
    assert (facts.recall, facts.average_recall) == (0.5, 0.5)
    assert (facts.positives, facts.without) == (0.5, 0.5)
    assert grid_facts(40, [video([[0.1, 0.2]])], [video([[0.1, 0.2]])]).recall == 1


def test_average_precision_and_f1_by_hand():
    truth = np.array([1.0, 0.0, 1.0, 0.0])
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    assert average_precision(scores, truth) == pytest.approx((1 + 2 / 3) / 2)
    assert best_cut(scores, truth) == 0.7
    assert f1(scores >= 0.7, truth) == pytest.approx(0.8)


def test_a_probe_finds_what_is_there_and_nothing_else():
    generator = np.random.default_rng(0)

    def features(count, informative):
        videos, rows = [], []
        for index in range(count):
            start = generator.uniform(0.1, 0.5)
            videos.append(video([[start, start + 0.3]], str(index)))
            noise = generator.normal(size=(6, 32))
            if informative:
                centres = (np.arange(32) + 0.5) / 32
                noise[0] += 5 * ((centres >= start) & (centres < start + 0.3))
            rows.append(torch.tensor(noise, dtype=torch.float32))
        return FeatureSet(videos, torch.stack(rows))

    good, blind = (probe(features(80, informative), features(40, informative)) for informative in (True, False))
    assert good["inside_auc"] > 0.98
    assert good["boundary_ap"] > 0.6
    assert 0.4 < blind["inside_auc"] < 0.6
    assert blind["boundary_ap"] < 2 * blind["boundary_share"]
    assert good["boundary_f1"] > 0.6


def result(row, seed, value, **more):
    replicates = " ".join(f"{value + 0.01 * step:.5f}" for step in (-1, 0, 1))
    score = {"average_mAP": value, "mAP": [value], "tiou_thresholds": [0.5], "videos": 7, "instances": 9}
    return {
        "row": row,
        "seed": seed,
        "data_hash": "d",
        "settings": f"s {row}",
        "scores": {"fused": score, "agnostic": score, "oracle": score},
        "replicates": {"fused": replicates, "agnostic": replicates, "oracle": replicates},
        "proposals": {"AR@1": 0.1, "AR@5": 0.2, "AR@10": 0.3, "AR@100": 0.4, "AUC": 0.3},
        "probe": {"inside_auc": 0.8, "boundary_ap": 0.4, "boundary_f1": 0.5, "boundary_share": 0.1},
        "grids": [{"snippets": 64, "recall": 1.0, "average_recall": 0.9, "positives": 3.0, "without": 0.0}],
        "clips": {},
        "chosen": {"candidates": [{"lr": 0.001, "selection_mAP": 0.5}]},
        "stages": {"lofi": {"seconds": 60.0, "peak_memory_bytes": 2**30}},
        "environment": {"processor": "P", "cores": 2, "versions": {"torch": "2"}},
        "device": "cpu",
        **more,
    }


def store(folder, *results):
    for one in results:
        write_result(folder / one["row"] / f"seed-{one['seed']}.json", one)


def test_tables_are_made_from_what_is_there(tmp_path):
    store(tmp_path, result("acp", 0, 0.3), result("acp", 1, 0.32), result("long", 0, 0.4), result("long", 1, 0.41))
    store(tmp_path, {"row": "s", "seed": 0, "failed": "RunError: the disk is full"})
    (summary,) = write_tables(tmp_path, find_tables(["2"]), "lofi reproduce")
    lines = {line["row"]: line for line in summary["lines"]}
    assert lines["long"]["difference"]["oracle"]["mean"] == pytest.approx(0.095)
    assert lines["long"]["difference"]["oracle"]["seeds"] == pytest.approx(12.7062 * 0.005, rel=1e-4)
    assert lines["long"]["difference"]["oracle"]["videos"] == pytest.approx(0, abs=1e-9)
    assert lines["s"]["count"] == 0
    text = (tmp_path / "table-2.md").read_text()
    assert "| Long Cyclic LoFi | 2 | 40.50 ± " in text
    assert "34.49 (+0.90)" in text
    assert "| S-LoFi | 0 | – | – | – |" in text
    assert json.loads((tmp_path / "table-2.json").read_text()) == summary
    assert (tmp_path / "table-2.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "table-2.svg").read_bytes()
    write_tables(tmp_path, find_tables(["2"]), "lofi reproduce")
    assert (tmp_path / "table-2.svg").read_bytes() == before


@pytest.mark.parametrize("table", list(TABLES))
def test_every_table_can_be_written_from_one_seed_and_from_nothing(table, tmp_path):
    write_tables(tmp_path / "none", find_tables([table]), "lofi reproduce")
    assert not (tmp_path / "none" / f"table-{table}.png").exists()
    store(tmp_path, *(result(entry.row, 0, 0.3) for entry in TABLES[table].entries))
    (summary,) = write_tables(tmp_path, find_tables([table]), "lofi reproduce")
    assert all(line["count"] == 1 for line in summary["lines"])
    assert (tmp_path / f"table-{table}.svg").exists()


def test_results_that_do_not_belong_together_are_refused(tmp_path):
    store(tmp_path, result("acp", 0, 0.3), result("long", 0, 0.3, data_hash="other"))
    with pytest.raises(DataError, match="different data"):
        read_results(tmp_path, ["acp", "long"])
    store(tmp_path, result("acp", 1, 0.3, settings="other"))
    with pytest.raises(DataError, match="different settings"):
        read_results(tmp_path, ["acp"])
    (tmp_path / "acp/seed-0.json").write_text("{}")
    with pytest.raises(DataError, match="format"):
        read_results(tmp_path, ["acp"])


def test_blocks_of_a_document_are_filled_and_the_rest_stays(tmp_path):
    path = tmp_path / "results.md"
    path.write_text("# Mine\n\n<!-- lofi reproduce 2 --data x -->\nold\n<!-- end -->\n\nEnd, mine.\n")
    store(tmp_path / "results/x", result("acp", 0, 0.3))
    assert update_document(path, tmp_path / "results") == ["x 2"]
    text = path.read_text()
    assert text.startswith("# Mine\n\n<!-- lofi reproduce 2 --data x -->\n\n### Low-fidelity")
    assert text.endswith("<!-- end -->\n\nEnd, mine.\n")
    assert "old" not in text
    update_document(path, tmp_path / "results")
    assert path.read_text() == text
    path.write_text("nothing to fill\n")
    with pytest.raises(DataError, match="no block"):
        update_document(path, tmp_path / "results")
