"""The commands as a user types them. A mistake is one sentence and exit status 2, before Ray: see `command`."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import typer
import yaml
from PIL import Image
from sentences import assert_one_sentence
from tiny_runs import TINY, debug, tiny_config

from distmgcd.cli.common import app
from distmgcd.config import load_config, make_config
from distmgcd.errors import RunFailed
from distmgcd.launch import start_run
from distmgcd.runs.run_folder import Run
from distmgcd.training.divergence import Diverged


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A Parquet file of 40 colour images of 8x8, all whole."""
    return write_images(tmp_path / "images.parquet", [png(number) for number in range(40)])


def png(number: int, channels: int = 3) -> bytes:
    import io

    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels if channels == 3 else pixels[:, :, 0]).save(file, "PNG")
    return file.getvalue()


def write_images(path: Path, encoded: list[bytes]) -> Path:
    splits = ["test" if number % 4 == 3 else "train" for number in range(len(encoded))]
    pq.write_table(pa.table({"image": pa.array(encoded, pa.binary()), "split": splits}), path)
    return path


def train(command, tmp_path: Path, *arguments: object) -> tuple[int, str, str]:
    return command("train", TINY, "--storage-path", tmp_path / "runs", "--name", "run", "--cpu", *arguments)


# Mistakes in settings and data


MISTAKES = [
    (["langevin.num_stps=3"], "did you mean 'langevin.num_steps'?"),
    (["grids.sizes=[3,8]"], "3 does not divide 8"),
    (["langevin.num_steps"], "has no '='"),
    (["--workers", 3], "3 does not divide 8; numbers that do are 1, 2, 4, 8"),
    (["--workers", 0], "--workers must be at least 1"),
    (["learning.global_batch_size=2000"], "2000 is more than 1438"),
    (["data.path=/nowhere/at/all"], "'/nowhere/at/all' does not exist"),
    (["data.path=sklearn:iris"], "only 'sklearn:digits'"),
    (["data.path=nosuch://x/y"], "nosuch://x/y"),
    (["data.channels=3"], "data.channels=3 asks for colour"),
    (["data.split=trainings"], "trainings"),
    (["data.held_out=val"], "val"),
    (["--name", "a/b"], "--name must be a plain folder name"),
    (["--storage-path", "nosuch://bucket"], "no path or URI that pyarrow can open"),
    (["--storage-path", "/proc/nowhere"], "cannot be written"),
    (["--storage-path", ""], "--storage-path must be a folder or a URI, but is ''"),
    (["--name", ""], "--name must be a plain folder name, but is ''"),
    (["--name", "x" * 300], "--name must have folder names of at most 255 bytes, as file systems want, but xxx"),
    (["--storage-path", f"new/{'x' * 300}/runs"], "--storage-path must have folder names of at most 255 bytes"),
    (["--storage-path", "/x" * 3000], "cannot be looked at (File name too long); choose another --name or --stor"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_sentence_and_nothing_is_started(command, tmp_path: Path, arguments: list, words: str):
    status, out, err = train(command, tmp_path, *arguments)
    assert status == 2 and words in err
    assert out == "" or (out.startswith("Run ") and out.endswith(" Loading torch and the images ...\n")), "no more"
    assert_one_sentence(err)
    assert not (tmp_path / "runs" / "run" / "config.yaml").exists()


def test_a_preset_that_is_not_there_is_met_with_a_suggestion(command):
    status, _, err = command("train", "digist")
    assert status == 2 and "did you mean 'digits'?" in err
    assert_one_sentence(err)


def test_debug_answers_mistakes_alike(command, tmp_path: Path):
    status, _, err = command("debug", TINY, "data.path=/nowhere", "--storage-path", tmp_path)
    assert status == 2 and "'/nowhere' does not exist" in err
    assert_one_sentence(err)


def test_data_without_images_are_told(command, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for data, words in (
        (tmp_path / "empty", "holds no files"),
        (write_images(tmp_path / "none.parquet", []), "none.parquet"),
    ):
        status, _, err = train(command, tmp_path, f"data.path={data}")
        assert status == 2 and words in err
        assert_one_sentence(err)


def test_images_of_another_kind_name_the_row_and_the_way_out(command, tmp_path: Path, images: Path):
    status, _, err = train(command, tmp_path, f"data.path={images}")
    assert status == 2 and "row 0" in err and "set data.channels=3" in err
    assert_one_sentence(err)


def test_a_part_of_a_few_images_that_holds_none_is_told(command, tmp_path: Path, images: Path):
    few = write_images(tmp_path / "few.parquet", [png(number) for number in range(5)])
    settings = [f"data.path={few}", "data.channels=3", "data.validation=0.1", "learning.global_batch_size=2"]
    status, out, err = command("debug", TINY, "--storage-path", tmp_path / "runs", "--name", "run", "--cpu", *settings)
    assert (
        status == 2 and out.count("\n") == 1 and "'train' of" in err and "has 4 images, of which 10 % are none" in err
    )
    assert_one_sentence(err)


def test_images_that_do_not_decode_are_named_by_row_up_to_the_limit(command, tmp_path: Path):
    encoded = [png(number) for number in range(40)]
    encoded[5] = b"no image"
    broken = write_images(tmp_path / "broken.parquet", encoded)
    changes = (f"data.path={broken}", "data.channels=3")
    status, _, err = train(command, tmp_path, *changes)
    assert status == 2 and "row 5" in err and "data.max_corrupt" in err and "1 of 30" in err
    assert_one_sentence(err)
    status, out, _ = command("debug", TINY, *changes, "data.max_corrupt=0.05", "--storage-path", tmp_path, "--cpu")
    assert status == 0 and "Finished 6 updates" in out


# Mistakes with runs and machines


def test_a_run_name_that_holds_another_config_is_told(command, tmp_path: Path):
    debug(tmp_path / "runs")
    status, _, err = train(command, tmp_path, "seed=1")
    assert status == 2 and "seed (0 there, 1 now)" in err
    assert_one_sentence(err)


def test_a_checkpoint_of_another_architecture_is_told_before_ray_starts(command, tmp_path: Path):
    run = tmp_path / "runs" / "run"
    debug(tmp_path / "runs")
    (run / "result.json").unlink()
    changed = tiny_config("network.channels=[5]")
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("[4]", "[5]"))
    assert Run.open(str(run)).config() == changed
    status, _, err = train(command, tmp_path, "network.channels=[5]")
    assert status == 2 and "another architecture" in err
    assert_one_sentence(err)
    status, _, err = command(
        "debug", TINY, "network.channels=[5]", "--storage-path", tmp_path / "runs", "--name", "run", "--cpu"
    )
    assert status == 2 and "another architecture" in err


def test_a_gpu_that_is_not_there_is_told(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, err = train(command, tmp_path, "--gpu")
    assert status == 2 and "--workers 2 needs 2 GPUs, but this machine has 1" in err
    assert_one_sentence(err)
    status, _, err = command("debug", TINY, "--gpu", "--storage-path", tmp_path)
    assert status == 2 and "asks for a GPU, but torch sees none" in err
    assert_one_sentence(err)
    assert not (tmp_path / "runs").exists()


def test_without_a_wish_gpus_are_used_where_there_is_one_for_every_worker(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for num_gpus, expected in ((0, False), (1, False), (2, True)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda num_gpus=num_gpus: num_gpus)
        assert start_run.check_gpus(None, 2) is expected
    assert start_run.check_gpus(False, 2) is False


def test_a_run_that_diverges_for_good_is_one_sentence_and_status_1(command, tmp_path: Path, monkeypatch):
    def diverge(*_: object, **__: object) -> None:
        raise Diverged("Grid 8x8 diverged.")

    monkeypatch.setattr(start_run, "debug", diverge)
    status, out, err = command("debug", TINY, "--storage-path", tmp_path)
    assert (status, err) == (1, "distmgcd: Grid 8x8 diverged.\n") and out.count("\n") == 1


def test_a_run_whose_workers_failed_for_good_is_told_with_status_1(command, tmp_path: Path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RunFailed("Rank 1 died.")

    monkeypatch.setattr(start_run, "train", fail)
    status, out, err = command("train", TINY, "--storage-path", tmp_path, "--cpu")
    assert (status, err) == (1, "distmgcd: Rank 1 died.\n") and out.count("\n") == 1


def test_a_run_that_is_interrupted_says_how_to_go_on(command, tmp_path: Path, monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(start_run, "debug", interrupt)
    status, _, err = command("debug", TINY, "--storage-path", tmp_path)
    assert status == 130 and "goes on" in err


@pytest.mark.parametrize("arguments", [["trian"], ["train", "--wrokers", "2"], ["sample"], ["debug", "--gpu=yes"]])
def test_a_command_or_an_option_that_is_not_there_has_status_2(command, arguments: list[str]):
    status, _, err = command(*arguments)
    assert status == 2 and "Traceback" not in err


# What the commands do


def test_train_would_import_ray(command, tmp_path: Path):
    """That no mistake above imports Ray means something only if a sound command does."""
    with pytest.raises(ImportError, match="ray"):
        train(command, tmp_path)


def test_debug_shows_progress_and_ends_with_paths_and_distances(command, tmp_path: Path):
    status, out, err = command("debug", TINY, "--storage-path", tmp_path, "--cpu", "evaluate.every=3")
    assert (status, err) == (0, "")
    assert re.search(
        r"\d+:\d\d left  update 1/6  \d+ images/s  gap 2x2 [+-][\d.]+  8x8 [+-][\d.]+  drift/noise [\d.]+ [\d.]+\n", out
    )
    assert re.search(
        r"update 3: 1000 x sliced Wasserstein distance to held-out images 2x2 [\d.]+ ± [\d.]+  8x8 [\d.]+ ± [\d.]+\n",
        out,
    )
    assert all(row in out for row in ("fresh samples", "untrained model", "data against itself"))
    run = tmp_path / "tiny"
    for path in (run / "checkpoints", run / "samples.png", run / "pyramid.png", run / "log", run / "result.json"):
        assert path.exists()
    for line in (
        f"{run}/checkpoints",
        f"{run}/samples.png",
        f"--logdir {tmp_path} (all runs there",
        f"distmgcd sample {run}",
    ):
        assert line in out


def test_config_prints_what_reads_back_equal(command, tmp_path: Path):
    status, out, _ = command("config", TINY, "langevin.num_steps=[5,6]", "langevin.reference_sigma=.inf")
    assert status == 0
    assert make_config(yaml.safe_load(out)) == tiny_config("langevin.num_steps=[5,6]", "langevin.reference_sigma=.inf")


def test_config_shows_what_a_preset_says_of_itself_and_what_it_costs(command, tmp_path: Path):
    own = "# CIFAR-10 at 32x32 in colour."
    cost = (
        "Cost: 20,000 updates of 64 images see 1,280,000 images and take 3.5e15 multiply-adds (1.7e11 per update; 5 %"
    )
    _, whole, _ = command("config", "cifar10")
    assert (
        whole.startswith(own)
        and f"\n# {cost}" in whole
        and load_config("cifar10") == make_config(yaml.safe_load(whole))
    )
    _, alone, _ = command("config", "--explain", "cifar10")
    assert alone.startswith(own.removeprefix("# ")) and f"\n{cost}" in alone and "num_steps" not in alone
    _, changed, _ = command("config", "cifar10", "learning.num_updates=10", "evaluate.num_samples=1")
    assert changed.startswith(f"# cifar10, without the changes given here:\n{own}")
    assert (
        "# Cost: 10 updates of 64 images see 640 images and take 1.7e12 multiply-adds (1.7e11 per update; 1 %"
        in changed
    )
    file = tmp_path / "my.yaml"
    file.write_text("# Mine: 12 hours.\n#\n# Of two cores.\nbase: digits # not this\n# nor that\n")
    _, out, _ = command("config", file)
    assert out.startswith("# Mine: 12 hours.\n#\n# Of two cores.\n# Cost: 500 updates")
    file.write_text("base: digits\n")
    assert command("config", file)[1].startswith("# Cost: 500 updates")
    status, _, err = command("config", "cifar10", "--explain", "cifar10")
    assert status and "--explain cifar10 takes no settings" in err


def test_without_a_preset_digits_is_meant(command):
    expected = load_config("digits", ["seed=4"])
    for arguments in (["seed=4"], ["digits", "seed=4"]):
        status, out, _ = command("config", *arguments)
        assert status == 0 and make_config(yaml.safe_load(out)) == expected


def test_images_are_imported_shown_and_trained_on(command, tmp_path: Path):
    digits = tmp_path / "data" / "digits.parquet"
    status, out, _ = command("data", "import", "sklearn:digits", digits)
    assert status == 0 and "1797 images (1438 train, 359 test)" in out and str(digits) in out
    status, out, _ = command("data", "show", digits, "--out", tmp_path / "sheets" / "examples.png")
    assert status == 0
    for words in ("1797 (1438 train, 359 test", "8x8: 64 of 64 looked at", "1: 64", "0: 178", "corrupt:   0 of 64"):
        assert words in out
    with Image.open(tmp_path / "sheets" / "examples.png") as sheet:
        assert sheet.width > 100 and sheet.mode == "L"
    status, out, _ = command("debug", TINY, f"data.path={digits}", "--storage-path", tmp_path, "--cpu")
    assert status == 0 and "Finished 6 updates" in out


def test_import_tells_the_rows_it_skipped(command, tmp_path: Path):
    broken = write_images(tmp_path / "broken.parquet", [png(0), b"no image", png(2), png(3)])
    status, out, _ = command("data", "import", broken, tmp_path / "new.parquet", "--max-corrupt", "0.3")
    assert status == 0 and "3 images" in out and f"skipped row 1 of {broken} (8 bytes" in out
    status, out, _ = command("data", "show", broken)
    assert status == 0 and f"1 of 4 looked at; row 1 of {broken} (8 bytes" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["import", "/nowhere", "x.parquet"], "'/nowhere' does not exist"),
        (["import", "sklearn:digits", "s3://bucket/x.parquet"], "must be a local file"),
        (["import", "sklearn:digits", "/proc/nowhere/x.parquet"], "cannot be written"),
        (["import", "sklearn:digits", "x.parquet", "--channels", "2"], "channels must be 1 (grey) or 3 (colour)"),
        (["show", "/nowhere"], "'/nowhere' does not exist"),
        (["show", "sklearn:digits", "--out", "/proc/nowhere/x.png"], "cannot be written"),
    ],
)
def test_a_mistake_about_data_is_one_sentence(command, arguments: list[str], words: str):
    status, _, err = command("data", *arguments)
    assert status == 2 and words in err
    assert_one_sentence(err)


def test_the_first_line_is_there_before_torch_is_imported():
    code = "import sys; sys.modules['torch'] = None; from distmgcd.cli import main; main()"
    arguments = ["train", "digits", "--workers", "2:4", "--name", "quick"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.stdout == (
        "Run runs/quick: 500 updates of 64 images, on Ray with 2 to 4 workers. Loading torch and the images ...\n"
    )
    assert done.returncode and "torch" in done.stderr


def test_the_commands_here_run_where_ray_cannot_be_imported(command):
    """Whatever other tests of this session have imported: it is the fixture that sees to it."""
    with pytest.raises(ImportError):
        import ray  # noqa: F401


def test_a_mistake_in_a_sweep_file_is_one_sentence_with_its_line_and_status_2(command, tmp_path: Path):
    file = tmp_path / "try.yaml"
    file.write_text(
        f"base: {TINY}\nbudget: {{updates: 6, samples: 8}}\nspace: {{langevin.stepsize: {{uniform: [1, 2]}}}}\n"
    )
    status, out, err = command("tune", file, "--storage-path", tmp_path)
    assert status == 2 and out == "" and err.count("\n") == 1
    assert f"{file}, line 3: There is no setting 'langevin.stepsize'" in err and "langevin.step_size" in err
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--workers-per-trial", "99"), "99 CPUs"),
        (("--concurrent", "99"), "lower --concurrent to"),
        (("--name", "a/b"), "--name must be a plain folder name"),
        (("--storage-path", ""), "--storage-path must be a folder or a URI, but is ''"),
        (("langevin.step_size=-1",), "langevin.step_size must be a number above 0"),
        (("data.path=none.parquet",), "none.parquet"),
        (("--workers-per-trial", "3", "learning.global_batch_size=1"), "global_batch_size"),
    ],
)
def test_a_sweep_that_cannot_start_says_so_before_anything_does(command, tmp_path: Path, monkeypatch, arguments, said):
    monkeypatch.setattr("distmgcd.launch.start_sweep.usable_cpus", lambda: 4)
    file = tmp_path / "try.yaml"
    file.write_text(
        f"base: {TINY}\nbudget: {{updates: 6, samples: 8}}\nspace: {{data.noise: {{uniform: [0.1, 0.2]}}}}\n"
    )
    status, _, err = command("tune", file, "--storage-path", tmp_path / "sweeps", "--cpu", *arguments)
    assert status == 2 and said in err and err.count("\n") == 1
    assert not (tmp_path / "sweeps").exists()


def test_a_sweep_needs_a_file_first(command):
    status, _, err = command("tune", "seed=1")
    assert status == 2 and "must be a sweep or its file, but is 'seed=1'" in err


def test_no_help_text_holds_brackets_which_rich_takes_for_markup():
    def of(command: object) -> list[str]:
        texts = [getattr(param, "help", None) or "" for param in command.params]
        return texts + [text for inner in getattr(command, "commands", {}).values() for text in of(inner)]

    texts = of(typer.main.get_command(app))
    assert len(texts) > 50 and not [text for text in texts if "[" in text]
