"""The chains of any update of a run are walked again as the run walked them, and every step of them can be seen."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from captured import Ends, captured_ends
from PIL import Image
from places import ROOT
from replayed_ranks import run_rank
from tiny_runs import debug, records_of, tiny_config
from torch import Tensor

import distmgcd
from distmgcd.config import load_config
from distmgcd.data import batch_indices, import_images
from distmgcd.errors import UserError
from distmgcd.evaluation.pictures import strip
from distmgcd.models.assemble import open_training_images
from distmgcd.runs.run_folder import Run
from distmgcd.training import loop
from distmgcd.training.divergence import Diverged
from distmgcd.training.replay.replay_update import Replay, replay

CHANGES = (
    "network.activation=silu",  # smooth: rounding is not magnified by kinks
    "checkpoint.every=3",
    "checkpoint.keep=10",
    "data.flip=true",
    "network.norm=spectral",
    "langevin.num_steps=[2,4]",
    "langevin.clamp=[step,end]",
    "langevin.temperature=0.05",
    "learning.learning_rate=0.01",
)
ALONE = {"rtol": 1e-5, "atol": 1e-5}  # of a chain walked in a batch of another size


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ends]:
    """The folder of a run of six updates, and what its chains came to."""
    folder = tmp_path_factory.mktemp("replayed")
    with captured_ends() as ends:
        debug(folder, *CHANGES)
    return folder / "run", ends


def again(run: Path, update: int, **how: object) -> Replay:
    return replay(str(run), update=update, device="cpu", **how)


def ends_of(found: Replay) -> list[Tensor]:
    return [grid.pictures[-1] for grid in found.grids]


def assert_ends_are(found: Replay, walked: tuple[Tensor, list[Tensor]]) -> None:
    assert found.images == walked[0].tolist()
    assert all(map(torch.equal, ends_of(found), walked[1]))


# The same chains


@pytest.mark.parametrize(("update", "checkpoint"), [(1, 0), (3, 0), (4, 3), (6, 3)])
def test_chains_end_bit_for_bit_where_the_loop_had_them_end(trained: tuple, update: int, checkpoint: int):
    run, ends = trained
    found = again(run, update, images="all")
    (walked,) = ends[update]
    assert_ends_are(found, walked)
    assert (found.checkpoint, found.num_rerun) == (checkpoint, update - 1 - checkpoint)


def test_named_chains_are_those_of_the_batch_in_the_order_of_their_names(trained: tuple):
    run, ends = trained
    ((images, walked),) = ends[5]
    found = again(run, 5, images=[int(images[6]), int(images[1]), int(images[6])])
    assert found.images == [int(images[6]), int(images[1])]
    assert all(torch.equal(end, x[[6, 1]]) for end, x in zip(ends_of(found), walked, strict=True))


def test_chains_that_are_walked_alone_are_the_same_up_to_rounding(trained: tuple):
    run, ends = trained
    ((images, walked),) = ends[5]
    found = again(run, 5, images=images[[6, 1]].tolist(), alone=True)
    for end, x in zip(ends_of(found), walked, strict=True):
        torch.testing.assert_close(end, x[[6, 1]], **ALONE)


def test_without_names_the_chains_that_drift_most_are_shown_the_worst_first(trained: tuple):
    found, everything = again(trained[0], 5), again(trained[0], 5, images="all")
    drift = torch.stack([grid.drift[-1] for grid in everything.grids]).amax(0)
    assert found.images == [everything.images[i] for i in drift.argsort(descending=True)[:4]]
    assert torch.equal(torch.stack([grid.drift[-1] for grid in found.grids]).amax(0), drift.sort().values.flip(0)[:4])
    assert "drifted most" in found.notes[-1]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs that two workers trained, and of what their chains came to."""
    folder = tmp_path_factory.mktemp("two")
    changes = ("learning.num_updates=4", "data.flip=true", "network.activation=silu")
    for name, more in RUNS_OF_TWO.items():
        Run.at(str(folder), name).claim(tiny_config(*changes, *more))
    mp.spawn(run_rank, args=(2, str(folder), tuple(RUNS_OF_TWO)), nprocs=2)
    return folder


RUNS_OF_TWO = {
    "plain": (),
    "blocks": ("learning.block_size=2", "network.activation=leaky_relu", "network.norm=spectral"),
    # Of two images and one pixel, a batch norm's slope is steep now and then: no roll-back, which would walk twice.
    "coupled": ("learning.block_size=2", "network.norm=batch", "watch.max_drift=1e3"),
}
RUNS_OF_TWO |= {f"{name}_in_bf16": (*RUNS_OF_TWO[name], "speed.precision=bf16") for name in ("blocks", "coupled")}


def walked_by_two(folder: Path, name: str, update: int) -> tuple[Tensor, list[Tensor]]:
    """The ends of both ranks' chains of an update, in the order of the batch. The run has walked them once."""
    assert not [record for record in records_of(folder, name) if "rate_scale" in record]
    images, ends = zip(
        *(part for rank in range(2) for part in torch.load(folder / f"{name}.{rank}.pt")[update]), strict=True
    )
    return torch.cat(images), [torch.cat(level) for level in zip(*ends, strict=True)]


def test_two_workers_chains_are_replayed_by_one_process_up_to_rounding(two: Path):
    for update in (3, 4):
        found, (images, walked) = again(two / "plain", update, images="all"), walked_by_two(two, "plain", update)
        assert found.images == images.tolist() and found.checkpoint == 2
        for end, x in zip(ends_of(found), walked, strict=True):
            torch.testing.assert_close(end, x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in RUNS_OF_TWO if name != "plain"])
@pytest.mark.parametrize("update", [1, 2, 4])
def test_in_blocks_the_chains_of_two_workers_are_replayed_bit_for_bit(two: Path, name: str, update: int):
    images, walked = walked_by_two(two, name, update)
    assert_ends_are(again(two / name, update, images="all"), (images, walked))
    some = [7, 0, 2, 6]  # of three of the four blocks, in another order
    assert_ends_are(again(two / name, update, images=images[some].tolist()), (images[some], [x[some] for x in walked]))


# The weights that they used


def without_checkpoints(run: Path, folder: Path, *updates: int) -> Path:
    shutil.copytree(run, folder / "run")
    for update in updates:
        shutil.rmtree(folder / "run" / "checkpoints" / f"update_{update:06d}")
    return folder / "run"


def test_where_the_checkpoint_is_gone_the_run_is_gone_over_from_its_start(trained: tuple, tmp_path: Path):
    run = without_checkpoints(trained[0], tmp_path, 3)
    found = again(run, 6, images="all")
    assert_ends_are(found, trained[1][6][0])
    (note,) = found.notes
    assert note == (
        "No checkpoint before update 6 is left (checkpoint.keep=10), so updates 1 to 5 are computed again. The result "
        "is exact if one worker on a machine like this one trained the run; otherwise it is close, and less so with "
        "every update."
    )


def test_a_damaged_checkpoint_is_passed_over_with_a_note(trained: tuple, tmp_path: Path):
    run = without_checkpoints(trained[0], tmp_path)
    (run / "checkpoints" / "update_000003" / "model.safetensors").write_bytes(b"")
    shown = []
    found = again(run, 4, images="all", show=shown.append)
    assert_ends_are(found, trained[1][4][0])
    assert "update_000003 is damaged" in found.notes[0] and "updates 1 to 3 are computed again" in found.notes[1]
    assert shown == found.notes


def test_a_run_that_went_back_shows_its_first_try_and_by_the_rate_any_other(tmp_path: Path):
    wild = ("learning.learning_rate=100", "watch.rate_after_retry=1e-4", "watch.max_gap=3", "log.every=3")
    with captured_ends() as ends:
        debug(tmp_path, *wild, "checkpoint.every=3")
    first, second, third = ends[3]  # the grids diverge one after the other, and each has its own rate
    found = again(tmp_path / "run", 3, images="all")
    assert_ends_are(found, first)
    assert (
        found.rate_scale == 1
        and "again with the learning rates scaled by 0.0001,1 and 0.0001,0.0001;" in found.notes[-1]
    )
    for scale, ends_then in (((1e-4, 1.0), second), ((1e-4, 1e-4), third), (1e-4, third)):
        found = again(tmp_path / "run", 3, images="all", rate_scale=scale)
        assert_ends_are(found, ends_then)
        assert found.rate_scale == scale and len(found.notes) == 1
    with pytest.raises(UserError, match="must be one number or one per grid, of which there are 2, but is 1,1,0.5"):
        again(tmp_path / "run", 3, images="all", rate_scale=(1.0, 1.0, 0.5))
    assert_ends_are(again(tmp_path / "run", 5, images="all"), ends[5][0])  # with the rate that the checkpoint holds


def test_a_rate_that_was_lowered_at_a_checkpoint_that_is_gone_is_lowered_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    learn, struck = loop.learn, []

    def learn_struck(learner, pixels, indices, at, method, **how):
        if at == 3 and not struck:
            struck.append(at)
            with torch.no_grad():
                next(learner.model.parameters()).fill_(float("nan"))
        return learn(learner, pixels, indices, at, method, **how)

    with monkeypatch.context() as patched, captured_ends() as ends:
        patched.setattr(loop, "learn", learn_struck)
        debug(tmp_path, "checkpoint.keep=1", "learning.learning_rate=0.01")
    found = again(tmp_path / "run", 6, images="all")
    assert_ends_are(found, ends[6][0])
    assert found.rate_scale == (0.5, 1.0) and found.checkpoint == 0


def test_the_update_that_a_message_names_is_the_one_that_is_replayed(tmp_path: Path):
    with pytest.raises(Diverged) as event:
        debug(tmp_path, "langevin.step_size=[1.4,300]", "langevin.clamp=none", "watch.max_retries=0")
    size, update, drift = re.search(
        r"Grid (\d+)x\d+ diverged at update (\d+): .* drift ([\d.e+]+) rms", str(event.value)
    ).groups()
    grid = again(tmp_path / "run", int(update), images="all").grids[-1]
    assert grid.size == int(size)
    assert float(grid.drift[-1].square().mean().sqrt()) == pytest.approx(float(drift), rel=5e-3)  # three digits


# What is seen of them


def test_the_numbers_of_a_replay_are_those_of_the_log(trained: tuple):
    run, _ = trained
    (record,) = (r for r in records_of(run.parent) if r["update"] == 5 and "grids" in r)
    for grid in again(run, 5, images="all").grids:
        logged = record["grids"][str(grid.size)]
        # A spectral norm moves on a little between the chains and the energies of learning.
        assert float(grid.energy[-1].mean()) == pytest.approx(logged["energy_synthesised"], rel=0.05, abs=1e-3)
        assert float(grid.observed_energy.mean()) == pytest.approx(logged["energy_observed"], rel=0.05, abs=1e-3)
        assert float(grid.drift[-1].square().mean().sqrt()) == pytest.approx(logged["drift"], rel=1e-5)
        assert float(grid.saturation[-1].mean()) == pytest.approx(logged["saturation"], rel=1e-5)


def test_every_step_is_kept_from_the_start_that_the_coarser_grid_gives(trained: tuple):
    coarse, fine = again(trained[0], 5, images="all").grids
    assert coarse.pictures.shape == (3, 8, 1, 2, 2) and fine.pictures.shape == (5, 8, 1, 8, 8)
    assert coarse.drift.shape == (2, 8) and fine.energy.shape == (5, 8)
    assert torch.equal(fine.pictures[0], coarse.pictures[-1].repeat_interleave(4, -1).repeat_interleave(4, -2))
    assert [fine.is_clamped(step) for step in range(5)] == [False] * 4 + [True]
    assert [coarse.is_clamped(step) for step in range(3)] == [False, True, True]
    assert fine.pictures[-2].abs().max() > 1 >= fine.pictures[-1].abs().max()
    assert torch.equal(fine.displacement[0], torch.zeros(8)) and (fine.displacement[1:] > 0.05).all()
    assert fine.saturation[-1].mean() > 0 and fine.finite.all()


@pytest.fixture(scope="module")
def burst(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose chains overflow at once."""
    folder = tmp_path_factory.mktemp("burst")
    with pytest.raises(Diverged):
        debug(
            folder,
            "langevin.step_size=[1.4,1e20]",
            "langevin.num_steps=4",
            "langevin.clamp=none",
            "watch.max_retries=0",
        )
    return folder / "run"


def test_the_step_at_which_a_chain_overflows_is_marked(burst: Path, command, tmp_path: Path):
    found = again(burst, 1)
    coarse, fine = found.grids
    assert coarse.finite.all() and fine.finite[0].all() and not fine.finite[-1].any()
    assert not fine.drift[-1].isfinite().any() and not fine.pictures[-1].isfinite().all()
    status, out, err = command("debug", "--replay", burst, "--update", 1, "--cpu", "--out", tmp_path / "burst.png")
    assert (status, err) == (0, "") and "overflow" in out
    steps = json.loads((tmp_path / "burst.json").read_text())["steps"]
    assert {row["finite"] for row in steps if row["grid"] == 2} == {True}
    assert all(row["energy"] is None and not row["finite"] for row in steps if row["grid"] == 8 and row["step"] == 4)
    with Image.open(tmp_path / "burst.png") as page:
        assert (np.asarray(page)[..., 0] == 255).any() and page.mode == "RGB"


# The command, and what is wrong with it


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in [folder, *folder.rglob("*")]}


def test_the_command_shows_tables_and_pictures_and_leaves_the_run_as_it_was(trained: tuple, command, tmp_path: Path):
    run, ends = trained
    ((images, walked),) = ends[5]
    before = listing(run)
    page, named = tmp_path / "new" / "page.png", images[[2, 5]].tolist()
    status, out, err = command(
        "debug", "--replay", run, "--update", 5, "--images", ",".join(map(str, named)), "--out", page, "--cpu"
    )
    assert (status, err) == (0, "") and listing(run) == before
    assert "The newest checkpoint before update 5 is that of update 3, so update 4 is computed again." in out
    for words in (
        f"Image {named[0]} at update 5",
        f"Image {named[1]} at update 5",
        "start",
        "4 clamped",
        "observed",
        str(page),
    ):
        assert words in out
    numbers = json.loads(page.with_suffix(".json").read_text())
    assert len(numbers["steps"]) == 2 * (3 + 5) and len(numbers["observed"]) == 2 * 2
    assert (numbers["update"], numbers["checkpoint"]) == (5, 3)
    with Image.open(page) as opened:
        pixels = np.asarray(opened)
    tile = strip.tile_size(8)
    top = strip.MARGIN + strip.TITLE_HEIGHT + strip.LINE_HEIGHT + (tile + 3 * strip.LINE_HEIGHT + strip.ROW_GAP)
    left = strip.left_of(4, tile)
    expected = ((walked[1][2, 0] + 1) * 128).floor().clamp(0, 255).numpy().astype(np.uint8)
    shown = pixels[top : top + tile : 8, left : left + tile : 8]
    assert all(np.array_equal(shown[..., channel], expected) for channel in range(3))


def test_the_images_of_a_run_may_lie_elsewhere_on_this_machine(command, tmp_path: Path):
    import_images("sklearn:digits", str(tmp_path / "there.parquet"))
    with captured_ends() as ends:
        debug(tmp_path, f"data.path={tmp_path}/there.parquet")
    (tmp_path / "there.parquet").rename(tmp_path / "here.parquet")
    with pytest.raises(UserError, match="there.parquet' does not exist.*--data PATH says where"):
        again(tmp_path / "run", 2)
    assert_ends_are(again(tmp_path / "run", 2, images="all", data=f"{tmp_path}/here.parquet"), ends[2][0])


def test_other_images_are_refused_and_told_where_the_run_does_not_say_which_it_is_of(trained: tuple, tmp_path: Path):
    from distmgcd.data.importer import write_parquet

    digits = open_training_images(tiny_config()).images
    write_parquet(digits[:1000], tmp_path / "fewer.parquet")
    write_parquet(np.minimum(digits, 200), tmp_path / "darker.parquet")
    fewer, darker = f"{tmp_path}/fewer.parquet", f"{tmp_path}/darker.parquet"
    with pytest.raises(UserError, match="fewer.parquet' are not those .*: 1438 training images then, 1000 "):
        again(trained[0], 5, data=fewer)
    with pytest.raises(UserError, match="darker.parquet' are not those that the run .* but with other pixels"):
        again(trained[0], 5, data=darker)
    older = without_checkpoints(trained[0], tmp_path)
    (older / "data.json").unlink()
    with pytest.raises(UserError, match="learns from 1438, but .*fewer.parquet.* has 1000 now"):
        again(older, 5, data=fewer)
    assert "have changed since" in again(older, 5, data=darker).notes[0]


MISTAKES = [
    (["--update", 3, "digits"], "takes its whole config from that run; leave digits out"),
    (["--update", 3, "seed=1"], "leave seed=1 out"),
    (["--update", 3, "--name", "x"], "leave --name out"),
    (["--update", 3, "--storage-path", "x"], "leave --storage-path out"),
    ([], "give --update"),
    (["--update", 0], "--update must be from 1 to 6, the last"),
    (["--update", 7], "--update must be from 1 to 6, the last that the run"),
    (["--update", 3, "--images", "5000"], "images of the batch of update 3, but it does not have 5000; it has "),
    (["--update", 3, "--images", "-1"], "but it does not have -1; it has "),
    (["--update", 3, "--images", "a"], "--images must be numbers with commas"),
    (["--update", 3, "--images", ""], "--images must be numbers with commas"),
    (["--update", 3, "--alone"], "names none"),
    (["--update", 3, "--out", "x.jpg"], "--out must end in .png"),
    (["--update", 3, "--out", "/proc/nowhere/x.png"], "cannot be written"),
    (["--update", 3, "--data", "/nowhere"], "'/nowhere' does not exist"),
    (["--update", 3, "--rate-scale", -1], "--rate-scale must be"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_sentence(trained: tuple, command, arguments: list, words: str):
    status, out, err = command("debug", "--replay", trained[0], "--cpu", *arguments)
    assert status == 2 and words in err and (out.count("\n") <= 1 or "--out" in arguments)
    assert err.startswith("distmgcd: ") and err.count("\n") == 1 and err.endswith(".\n")


def test_images_that_are_not_in_an_update_are_told_with_those_that_are_before_any_update_is_done_again(
    trained: tuple, monkeypatch: pytest.MonkeyPatch
):
    run, ends = trained
    monkeypatch.setattr(loop, "advance", lambda _: pytest.fail("an update was gone over again"))
    ((images, _),) = ends[3]
    told: list[str] = []
    with pytest.raises(UserError) as caught:
        again(run, 3, images=[5000, int(images[0]), -1], show=told.append)
    listed = ", ".join(map(str, sorted(images.tolist())))
    assert f"does not have -1, 5000; it has {listed}, and --images all" in str(caught.value) and told == []
    with pytest.raises(UserError, match="--alone"):
        again(run, 3, alone=True, show=told.append)
    assert told == []


def test_without_images_the_table_is_one_row_per_grid(trained: tuple, command, tmp_path: Path):
    page = tmp_path / "page.png"
    status, out, err = command("debug", "--replay", trained[0], "--update", 4, "--out", page, "--cpu")
    assert (status, err) == (0, "")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    found = again(trained[0], 4)
    assert [row[0] for row in rows] == ["2x2", "8x8"] and len(found.images) == 4
    for row, grid in zip(rows, found.grids, strict=True):
        number = int(grid.drift[-1].argmax())
        assert row[1] == str(found.images[number])
        assert row[5] == f"{float(grid.drift[-1, number]) / grid.langevin.noise_std:.3g}"
        assert row[2:4] == [f"{float(grid.energy[step, number]):.3g}" for step in (0, -1)]
    numbers = json.loads(page.with_suffix(".json").read_text())
    assert len(numbers["steps"]) == 4 * (3 + 5)


def test_the_example_of_the_readme_is_of_images_that_its_update_has():
    readme = (ROOT / "README.md").read_text()
    preset, update, named = re.search(r"--replay runs/(\w+) --update (\d+) --images ([\d,]+)", readme).groups()
    config = load_config(preset)
    num_images = len(open_training_images(config))
    batch = batch_indices(
        int(update) - 1,
        num_images=num_images,
        global_batch_size=config.learning.global_batch_size,
        seed=config.seed,
    )
    assert set(map(int, named.split(","))) <= set(batch.tolist())


@pytest.mark.parametrize("arguments", [["--update", 3], ["--images", "3"], ["--alone"], ["--out", "x.png"]], ids=str)
def test_what_says_what_to_replay_needs_a_run(command, arguments: list):
    status, _, err = command("debug", *arguments)
    assert status == 2 and f"{arguments[0]} says what to replay, but --replay names no run" in err


def test_what_is_no_run_is_told(command, tmp_path: Path):
    status, _, err = command("debug", "--replay", tmp_path, "--update", 3)
    assert status == 2 and f"There is no run at {tmp_path}" in err


def test_a_run_that_was_cut_can_be_replayed_up_to_its_next_checkpoint(trained: tuple, tmp_path: Path):
    run = without_checkpoints(trained[0], tmp_path, 6)
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("num_updates: 6", "num_updates: 60"))
    with pytest.raises(
        UserError, match=r"1 to 6, .*newest checkpoint is of update 3 and checkpoint.every=3\), but is 7"
    ):
        again(run, 7)
    assert again(run, 6).num_rerun == 2


def test_batch_norm_couples_chains_so_that_none_is_walked_alone(tmp_path: Path):
    with captured_ends() as ends:
        debug(tmp_path, "network.norm=batch")
    found = again(tmp_path / "run", 3, images="all")
    assert_ends_are(found, ends[3][0])
    assert "couples the chains" in found.notes[0]
    with pytest.raises(UserError, match="leave --alone out"):
        again(tmp_path / "run", 3, images=found.images[:1], alone=True)


def test_replay_is_a_name_of_the_package():
    assert distmgcd.replay is replay
