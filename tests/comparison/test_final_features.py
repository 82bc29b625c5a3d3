"""A plan with features: its finished final runs are measured again, and nothing else happens to them."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import Tensor

from distmgcd.comparison import final_features as features_module
from distmgcd.comparison.comparison_plan import Plan
from distmgcd.comparison.markdown_table import markdown
from distmgcd.comparison.read_plan import read_plan
from distmgcd.comparison.run_comparison import compare
from distmgcd.comparison.score_run import Runs, drawn
from distmgcd.config import Config
from distmgcd.errors import UserError
from distmgcd.evaluation.distances.draws import draws_of_bank, draws_of_data
from distmgcd.evaluation.distances.feature_statistics import Moments, frechet_distance
from distmgcd.evaluation.distances.pairwise import precision_recall
from distmgcd.evaluation.features.networks import INCEPTION_FILE, FeatureNetwork, open_features
from distmgcd.evaluation.pictures.sheet import as_levels
from distmgcd.launch import start_run
from distmgcd.models.assemble import open_held_out_images, open_training_images
from distmgcd.models.sampling import as_floats
from distmgcd.runs.store import Store
from distmgcd.workers.stop import Stopped

NUM = 24
ENOUGH = {"test": {"samples": NUM, "draws": 2}, "num_trials": 1, "sampling": [{"times": 2, "start": "noise"}]}
METHODS = {
    "single": {"settings": {"start.kind": "single", "grids.sizes": [8]}},
    "persistent": {"settings": {"start.kind": "persistent", "grids.sizes": [8]}},
    "bank": {"settings": {"start.kind": "persistent", "grids.sizes": [8]}, "judged": "bank"},
}
NAMES = ["FD-Random", "precision-Random", "recall-Random"]


def run(plan: Plan, folder: Path, **how) -> dict:
    only, show = how.pop("only", None), how.pop("show", lambda _: None)
    return compare(plan, Runs(f"{folder}/runs", use_gpu=False, **how), Store(str(folder)), only=only, show=show)


def final_of(plan: Plan, results: dict, name: str, *, seed: int) -> Config:
    outcome = results["methods"][name]
    return plan.final(plan.variants[name], outcome["trials"][outcome["chosen"]["trial"]]["knobs"], seed=seed)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def no_more_training(monkeypatch: pytest.MonkeyPatch):
    """From the moment this is called, a run that is trained, or asked for its result, fails the test."""
    return lambda: monkeypatch.setattr(
        start_run, "debug", lambda config, *, name, **_: pytest.fail(f"{name} is trained")
    )


def test_adding_features_to_a_finished_comparison_only_measures_its_final_runs(written, tmp_path, no_more_training):
    folder = tmp_path / "found"
    plain = read_plan(written(**ENOUGH, variants=METHODS))
    before = run(plain, folder)
    files = contents(folder)
    no_more_training()

    plan = read_plan(written(**ENOUGH, variants=METHODS, features="random"))
    results = run(plan, folder)
    ours = {"results.json", "table.md"}
    after = contents(folder)
    assert all(after[name] == files[name] for name in files.keys() - ours)
    finals = {final["run"] for outcome in results["methods"].values() for final in outcome["finals"]}
    assert len(finals) == 4  # the bank is that of the persistent runs
    checksum = open_features("random").checksum
    assert after.keys() - files.keys() == {
        f"runs/{name}/evaluation/comparison-Random-{checksum[:8]}.json" for name in finals
    }
    assert without_features(results) == before and "features" not in str(before)
    assert results["plan"]["features"]["weights_sha256"] == checksum

    # and a plan that has lost its features again finds what it had, byte for byte
    assert run(plain, folder) == before
    assert {name: content for name, content in contents(folder).items() if name in files} == files


def without_features(results: dict) -> dict:
    copy = json.loads(json.dumps(results))
    del copy["plan"]["features"]
    for outcome in copy["methods"].values():
        for final in outcome["finals"]:
            del final["features"]
        assert not any("features" in trial for trial in outcome["trials"])
    return copy


def test_what_is_measured_is_of_the_samples_and_images_of_the_sliced_distance(written, tmp_path: Path):
    plan = read_plan(written(**ENOUGH, variants=METHODS, features="random", seeds=[1]))
    results = run(plan, tmp_path)
    runs = Runs(f"{tmp_path}/runs", use_gpu=False)
    config = final_of(plan, results, "single", seed=1)
    trained, held_out = runs.load(config), open_held_out_images(config).images
    sets = {
        "samples": [drawn(trained, plan.sampling[0], NUM, seed=seed) for seed in (1, 2)],
        "data": draws_of_data(open_training_images(config), config),
    }
    found = results["methods"]["single"]["finals"][0]["features"]
    for who, draws in sets.items():
        assert_measured(found[who], draws, as_floats(held_out[:NUM]))
    assert 0 < found["data"]["values"]["precision-Random"] < found["data"]["values"]["recall-Random"]

    of_persistent, bank = (results["methods"][name]["finals"][0]["features"] for name in ("persistent", "bank"))
    assert of_persistent["data"] == bank["data"] == found["data"]
    chains = runs.load(final_of(plan, results, "bank", seed=1)).bank
    assert len(chains) > NUM == bank["num"]  # a draw takes some of them
    assert_measured(bank["samples"], draws_of_bank(chains, config), as_floats(held_out[:NUM]))
    assert bank["samples"] != of_persistent["samples"] and "persistent chains" in bank["protocol"]["samples"]


def assert_measured(found: dict, draws: Sequence[Tensor], held_out: Tensor) -> None:
    network, reference = open_features("random"), as_levels(held_out)
    values = []
    for pictures in map(as_levels, draws):
        shares = precision_recall(network(pictures)[0], network(reference)[0])
        distance = frechet_distance(Moments.of(network(pictures)[0]), Moments.of(network(reference)[0]))
        values.append([distance, shares.precision, shares.recall])
    for name, of_draws in zip(NAMES, zip(*values, strict=True), strict=True):
        assert found["values"][name] == pytest.approx(statistics.mean(of_draws), rel=1e-4)
        assert found["spread"][name] == pytest.approx(statistics.stdev(of_draws), rel=1e-3, abs=1e-9)


def test_every_number_has_its_protocol_and_a_column_that_names_the_network(written, tmp_path: Path):
    plan = read_plan(written(**ENOUGH, variants=METHODS, features="random"))
    results = run(plan, tmp_path)
    for name, outcome in results["methods"].items():
        for final in outcome["finals"]:
            found = final["features"]
            assert list(found["samples"]["values"]) == list(found["data"]["spread"]) == NAMES and found["num"] == NUM
            protocol, model = found["protocol"], found["protocol"]["model"]
            assert (protocol["features"], protocol["num_features"], protocol["k"]) == ("Random", 448, 3)
            assert protocol["weights_sha256"] == open_features("random").checksum and "[test]" in protocol["reference"]
            assert model["run"] == final["run"] and "ema" in model["weights"] and len(model["weights_sha256"]) == 64
            assert model["steps"] == {"8": 2 if name == "bank" else 4}  # a sample takes twice as many as in training
    table = (tmp_path / "table.md").read_text()
    assert "| mean | FD-Random | precision-Random | recall-Random |" in table and "FID" not in table
    assert (
        f"Of {NUM} samples a draw" in table
        and "in the 448 features of Random" in table
        and "the more the fewer" in table
    )
    values = [final["features"]["samples"]["values"]["FD-Random"] for final in results["methods"]["bank"]["finals"]]
    assert f" | {statistics.mean(values):.4g} ± {statistics.stdev(values):.2g} | " in row(table, "bank")
    data = results["methods"]["single"]["finals"][0]["features"]["data"]["values"]
    distance, precision, recall = (data[name] for name in NAMES)
    assert row(table, "data against itself").endswith(f" | {distance:.4g} | {precision:.3f} | {recall:.3f} |")


def row(table: str, name: str) -> str:
    return next(line for line in table.splitlines() if line.startswith(f"| {name} |"))


def test_what_is_measured_is_not_measured_again_and_a_stop_loses_one_run_at_most(
    written, tmp_path: Path, no_more_training
):
    plan = read_plan(written(**ENOUGH, variants={"single": METHODS["single"]}))
    run(plan, tmp_path)
    no_more_training()
    plan = read_plan(written(**ENOUGH, variants={"single": METHODS["single"]}, features="random"))
    lines: list[str] = []
    with pytest.raises(Stopped):
        run(plan, tmp_path, show=lines.append, stop=lambda: any("seed 2, in the features" in line for line in lines))
    [record] = (tmp_path / "runs").glob("*/evaluation/*.json")
    content, time = record.read_bytes(), record.stat().st_mtime_ns
    lines.clear()
    run(plan, tmp_path, show=lines.append)
    assert len(lines) == 2 and "seed 2" in lines[0] and "FD-Random" in lines[1]
    assert (record.read_bytes(), record.stat().st_mtime_ns) == (content, time)
    lines.clear()
    run(plan, tmp_path, show=lines.append)
    assert not lines


def test_methods_that_were_not_measured_in_features_keep_their_row(written, tmp_path: Path):
    variants = {name: METHODS[name] for name in ("single", "persistent")}
    run(read_plan(written(**ENOUGH, variants=variants, seeds=[1])), tmp_path)
    plan = read_plan(written(**ENOUGH, variants=variants, seeds=[1], features="random"))
    results = run(plan, tmp_path, only=["persistent"])
    table = markdown(results)
    assert not results["unfinished"] and row(table, "single").endswith("| - | - | - |")
    assert "Not yet measured in these features: single (seed 1)." in table


def test_a_final_run_that_diverged_is_left_out(written, tmp_path: Path, no_more_training):
    variants = {"single": METHODS["single"]}
    _, second = run(read_plan(written(**ENOUGH, variants=variants)), tmp_path)["methods"]["single"]["finals"]
    (tmp_path / "runs" / second["run"] / "scores.json").write_text('{"diverged": "Grid 8x8 diverged at update 3"}')
    no_more_training()
    results = run(read_plan(written(**ENOUGH, variants=variants, features="random")), tmp_path)
    assert ["features" in final for final in results["methods"]["single"]["finals"]] == [True, False]
    value = results["methods"]["single"]["finals"][0]["features"]["samples"]["values"]["FD-Random"]
    assert f"| {value:.4g} |" in row(markdown(results), "single (1 of 2 diverged)")
    assert "Not yet measured" not in markdown(results)


def test_a_bank_of_few_chains_is_told_and_one_of_too_few_has_no_number(written, tmp_path, monkeypatch):
    """Distances of fewer images are larger, whoever drew them."""
    plan = read_plan(written(**ENOUGH, variants=METHODS, seeds=[1], features="random"))
    load = Runs.load

    def with_chains(num: int):
        def loaded(self, config):
            found = load(self, config)
            return found if found.bank is None else features_module.replace(found, bank=found.bank[:num])

        return loaded

    monkeypatch.setattr(Runs, "load", with_chains(22))
    results = run(plan, tmp_path / "few")
    assert results["methods"]["bank"]["finals"][0]["features"]["num"] == 22
    assert "bank has 22 chains only" in markdown(results) and "single has" not in markdown(results)
    monkeypatch.setattr(Runs, "load", with_chains(3))
    results = run(plan, tmp_path / "too-few")
    found = results["methods"]["bank"]["finals"][0]["features"]["samples"]["values"]
    assert found == dict.fromkeys(NAMES) and row(markdown(results), "bank").endswith("| nan | nan | nan |")


def test_a_picture_that_is_not_finite_makes_no_number_that_looks_like_one(written, tmp_path, monkeypatch):
    plan = read_plan(written(**ENOUGH, variants={"single": METHODS["single"]}, seeds=[1], features="random"))

    def broken(*arguments, **how):
        pictures = drawn(*arguments, **how)
        pictures[3, 0, 1, 1] = math.nan
        return pictures

    monkeypatch.setattr(features_module, "drawn", broken)
    results = run(plan, tmp_path)
    found = results["methods"]["single"]["finals"][0]["features"]
    assert found["samples"]["values"] == dict.fromkeys(NAMES) and all(found["data"]["values"].values())
    assert row((tmp_path / "table.md").read_text(), "single").endswith("| nan | nan | nan |")


def test_another_network_is_measured_beside_the_first(written, tmp_path: Path):
    variants = {"single": METHODS["single"]}
    plans = {name: read_plan(written(**ENOUGH, variants=variants, features=name)) for name in ("random", "pixels")}
    found = {name: run(plan, tmp_path) for name, plan in plans.items()}
    assert "| FD-Pixels |" in markdown(found["pixels"]) and "FD-Random" not in markdown(found["pixels"])
    records = contents(tmp_path / "runs")
    assert run(plans["random"], tmp_path) == found["random"] and contents(tmp_path / "runs") == records


def test_only_what_is_measured_in_inception_is_called_fid(written, tmp_path: Path, monkeypatch):
    """Its weights are not here: another network under its label and the checksum of its file."""
    random = open_features("random")
    checksum = INCEPTION_FILE.removesuffix(".pth").rpartition("-")[2] + "0" * 56
    inception = FeatureNetwork("inception", "Inception", "299x299", checksum, random.forward)
    plan = read_plan(written(**ENOUGH, variants={"single": METHODS["single"]}, features="random"))
    monkeypatch.setattr(features_module, "open_features", lambda name, **_: inception)
    run(plan, tmp_path)
    assert "| FID | precision-Inception | recall-Inception |" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features": "missing.pth"}, r"plan.yaml, line \d+: features must be efficientnet-lite0.*missing.pth' is no"),
        ({"features": ""}, r"plan.yaml, line \d+: features "),
        ({"features": "random", "test": {"samples": 19}}, "at least 20 samples .* test.samples=19"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(written, tmp_path, no_more_training, changes: dict, words: str):
    no_more_training()
    with pytest.raises(UserError, match=words) as caught:
        run(read_plan(written(**{**ENOUGH, "variants": METHODS, **changes})), tmp_path / "found")
    assert str(caught.value).count("\n") == 0 and not (tmp_path / "found").exists()


def test_features_change_the_name_of_no_run(written):
    plain, plan = (read_plan(written(**ENOUGH, **changes)) for changes in ({}, {"features": "random"}))
    for name in plain.variants:
        one, other = (found.final(found.variants[name], {}, seed=1) for found in (plain, plan))
        assert one == other and one.evaluate.features is None
