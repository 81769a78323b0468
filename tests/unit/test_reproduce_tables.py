"""Tables as data, what grids allow, probes, results, documents."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from lofi_tal.cli.reproduce import parse_seeds
from lofi_tal.data import TruthVideo, VideoFile
from lofi_tal.errors import DataError, LofiError
from lofi_tal.features import FeatureSet
from lofi_tal.reproduce import ROWS, TABLES, Runner, find_rows, find_tables, open_base, update_document, write_tables
from lofi_tal.reproduce.grid import grid_facts
from lofi_tal.reproduce.probe import average_precision, best_cut, f1, probe
from lofi_tal.reproduce.results import read_result, read_results, results_folder, settings_hash, write_result

PUBLISHED = Path(__file__).parents[2] / "results"
BASES = ("bench", "bench_broad", "demo", "anet13_tsm_r18_gtad_long", "hacs_tsm_r18_gtad_long")


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


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*/*/seed-*.json")), ids=lambda path: "-".join(path.parts[-3:]))
def test_published_results_are_of_the_recipes_as_they_are(path, tmp_path):
    """A changed setting makes them results of something else, to be run again."""
    result = read_result(path)
    row, folder = ROWS[path.parent.name], path.parent.parent.name
    name, _, precision = folder.partition("-")
    recipe = open_base(name, tmp_path).recipe(row, result["seed"])
    assert "failed" not in result
    assert result["settings"] == settings_hash(recipe, row, precision or "fp32")
    assert results_folder(PUBLISHED, name, precision or "fp32").name == folder
    assert not re.search(r"/(home|tmp|work|root|usr)/", path.read_text())


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


def test_rows_of_another_precision_have_folders_of_their_own(tmp_path):
    base = open_base("bench", tmp_path)
    runners = [Runner(base, tmp_path, tmp_path / "results", precision=precision) for precision in ("fp32", "bf16")]
    assert [str(runner.folder(ROWS["acp"], 0).relative_to(tmp_path)) for runner in runners] == [
        "bench/acp/seed-0",
        "bench-bf16/acp/seed-0",
    ]


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
            parse_seeds(text)
    assert parse_seeds("3") == [0, 1, 2]
    assert parse_seeds("3-4") == [3, 4]


def video(segments, name="v", labels=None):
    spans = torch.tensor(segments, dtype=torch.float32).reshape(-1, 2)
    labels = torch.zeros(len(spans), dtype=torch.long) if labels is None else torch.tensor(labels)
    return TruthVideo(name, VideoFile(Path(name), "", 10.0, 100), spans, labels)


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
        "command": f"lofi reproduce --rows {row} --seeds {seed}-{seed}",
        "settings": f"s {row}",
        "scores": {"fused": score, "agnostic": score, "oracle": score},
        "replicates": {"fused": replicates, "agnostic": replicates, "oracle": replicates},
        "proposals": {"AR@1": 0.1, "AR@5": 0.2, "AR@10": 0.3, "AR@100": 0.4, "AUC": 0.3},
        "probe": {"inside_auc": 0.8, "boundary_ap": 0.4, "boundary_f1": 0.5, "boundary_share": 0.1},
        "grids": [{"snippets": 64, "recall": 1.0, "average_recall": 0.9, "positives": 3.0, "without": 0.0}],
        "clips": {},
        "chosen": {"candidates": [{"lr": 0.001, "selection_mAP": 0.5}]},
        "stages": {"lofi": {"seconds": 60.0, "peak_memory_bytes": 2**30}},
        "environment": {"processor": "P", "cores": 2, "threads": 1, "versions": {"torch": "2"}},
        "device": "cpu, 1 threads, fp32",
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
    assert text.count("| S-LoFi |") == 1  # among the figures, and nowhere else
    assert "| S-LoFi | 0 | – | – | – |" in text
    assert text.count("| ACP |") == 3
    assert "| Long Cyclic LoFi | `long` | 1.0 | 1.0 | 1.00 | 1.00 |" in text  # a minute, a GiB: stage 2 is all
    assert "`OMP_NUM_THREADS=1 lofi reproduce --rows long --seeds 0-0`" in text
    assert "Results of 2 of 6 rows, 4 runs, evaluated on 7 videos; P with 2 cores, 1 thread, fp32, torch 2." in text
    assert "![" in text
    assert "(table-2.svg)" in text
    assert json.loads((tmp_path / "table-2.json").read_text()) == summary
    assert (tmp_path / "table-2.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "table-2.svg").read_bytes()
    write_tables(tmp_path, find_tables(["2"]), "lofi reproduce")
    assert (tmp_path / "table-2.svg").read_bytes() == before


def test_the_best_rival_is_chosen_on_selection_videos_and_beside_it_on_the_evaluated_ones(tmp_path):
    """Of three rivals one is best here and another there; a seed that not all of them have takes no part."""

    def rival(row, seed, value, selection):
        return result(row, seed, value, chosen={"candidates": [{"lr": 1e-3, "selection_mAP": selection}]})

    store(tmp_path, *(result("long", seed, 0.40) for seed in (0, 1)))
    store(tmp_path, *(rival("s", seed, 0.30, 0.60) for seed in (0, 1)), rival("s", 2, 0.99, 0.10))
    store(tmp_path, *(rival("t", seed, 0.35, 0.50) for seed in (0, 1)))
    (summary,) = write_tables(tmp_path, find_tables(["2"]), "lofi reproduce")
    assert [question["rival"] for question in summary["questions"]] == [None] * 4  # ST-LoFi is missing
    store(tmp_path, *(rival("st", seed, 0.20, 0.40) for seed in (0, 1)))
    (summary,) = write_tables(tmp_path, find_tables(["2"]), "lofi reproduce")
    selection, evaluated = summary["questions"][:2]
    assert selection["title"] == "Long Cyclic LoFi minus S-LoFi, the best of 3 on the selection videos"
    assert selection["difference"]["oracle"]["mean"] == pytest.approx(0.10)
    assert evaluated["title"] == "Long Cyclic LoFi minus T-LoFi, the best of 3 on the evaluated videos"
    assert evaluated["difference"]["oracle"]["mean"] == pytest.approx(0.05)


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
    (picture,) = re.findall(r"!\[.*\]\((.*)\)", text)
    assert picture == "results/x-2.svg"
    assert (tmp_path / picture).read_text().startswith("<?xml")
    update_document(path, tmp_path / "results")
    assert path.read_text() == text
    path.write_text("<!-- lofi reproduce 2 --data y -->\n<!-- end -->\n")
    update_document(path, tmp_path / "results")
    assert "no row has been run yet" in path.read_text()
    assert "![" not in path.read_text()
    path.write_text("<!-- lofi reproduce 2 --data x --precision bf16 -->\n<!-- end -->\n")
    store(tmp_path / "results/x-bf16", result("long", 0, 0.4))
    assert update_document(path, tmp_path / "results") == ["x-bf16 2"]
    assert "| Long Cyclic LoFi | 1 | 40.00" in path.read_text()
    assert "| ACP | 0 |" in path.read_text()  # that one is in fp32
    assert "Made by `lofi reproduce --data x --precision bf16 2`" in path.read_text()
    path.write_text("<!-- lofi reproduce 2 --data x --precision bf17 -->\n<!-- end -->\n")
    with pytest.raises(LofiError, match="'bf17' is unknown; allowed: fp32, bf16, fp16"):
        update_document(path, tmp_path / "results")
    path.write_text("nothing to fill\n")
    with pytest.raises(DataError, match="no block"):
        update_document(path, tmp_path / "results")
