"""How many trials fit beside each other."""

from pathlib import Path

import pytest
import torch
from tiny_runs import TINY

from distmgcd.errors import UserError
from distmgcd.sweep.parallel_trials import resources_that_fit

MACHINE = {"where": "this machine", "cpus": 4, "gpus": 0, "threads": 1, "use_gpu": False, "num_trials": 20}


@pytest.mark.parametrize(
    ("asked", "concurrent", "cpus"),
    [
        ({"workers": 0, "concurrent": None}, 4, 4),
        ({"workers": 1, "concurrent": None}, 4, 4),
        ({"workers": 2, "concurrent": None}, 2, 4),
        ({"workers": 3, "concurrent": None}, 1, 3),
        ({"workers": 2, "concurrent": 1}, 1, 2),
        ({"workers": 0, "concurrent": None, "threads": 2}, 2, 4),
        ({"workers": 0, "concurrent": None, "num_trials": 3}, 3, 3),
        ({"workers": 2, "concurrent": None, "use_gpu": True, "gpus": 3}, 1, 2),
    ],
)
def test_as_many_trials_as_fit_with_all_their_workers(asked: dict, concurrent: int, cpus: int):
    resources = resources_that_fit(**MACHINE | asked)
    assert (resources.concurrent, resources.cpus) == (concurrent, cpus)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"workers": 5, "concurrent": None}, "which has 4 CPUs; lower --workers-per-trial"),
        ({"workers": 2, "concurrent": 3}, "lower --concurrent to 2"),
        ({"workers": 0, "concurrent": 3, "threads": 2}, "lower --concurrent to 2"),
        ({"workers": 2, "concurrent": 2, "use_gpu": True, "gpus": 3}, "which has 4 CPUs and 3 GPUs"),
        ({"workers": -1, "concurrent": 1}, "must be at least 0"),
        ({"workers": 0, "concurrent": 0}, "at least 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(asked: dict, said: str):
    with pytest.raises(UserError) as error:
        resources_that_fit(**MACHINE | asked)
    assert said in str(error.value) and str(error.value).endswith(".")


TINY_SWEEP = f"base: {TINY}\nbudget: {{updates: 6, samples: 8}}\nspace: {{langevin.step_size: {{uniform: [1, 2]}}}}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gpu"], "--gpu with --workers-per-trial 1 needs 1 GPUs, but this machine has 0; lower --workers-per-trial"),
        (["--gpu", "--workers-per-trial", "2"], "--gpu with --workers-per-trial 2 needs 2 GPUs"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpus_that_are_not_there_are_missed_in_one_sentence_before_anything_starts(
    tmp_path: Path, command, arguments: list[str], said: str
):
    (tmp_path / "try.yaml").write_text(TINY_SWEEP)
    status, out, err = command("tune", tmp_path / "try.yaml", "--storage-path", tmp_path / "sweeps", *arguments)
    assert status == 2 and said in err and len(err.splitlines()) == 1 and len(out.splitlines()) <= 2
    assert not (tmp_path / "sweeps").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "a population trains all at once, but of its 40 trials only"),
        (["--concurrent", "3"], "--concurrent is 3 of its 40 trials; leave it out, give --trials 3"),
    ],
)
def test_a_population_with_workers_that_does_not_fit_says_what_does(
    tmp_path: Path, command, arguments: list[str], said: str
):
    text = TINY_SWEEP.replace("samples: 8", "evaluations: 3, samples: 8") + "scheduler: pbt\n"
    (tmp_path / "try.yaml").write_text(text)
    arguments = ["--trials", "40", "--workers-per-trial", "9", "--cpu", *arguments]
    status, _, err = command("tune", tmp_path / "try.yaml", "--storage-path", tmp_path / "sweeps", *arguments)
    assert status == 2 and said in err and len(err.splitlines()) == 1
