"""A run that starts from another run's checkpoint."""

from pathlib import Path

import pytest
import torch
from tiny_runs import debug, records_of, state_of

from distmgcd.runs.checkpoint import DamagedCheckpoint, names
from distmgcd.runs.run_folder import Run
from distmgcd.training.origin import fork_from
from distmgcd.training.verify import verify


def test_a_run_with_the_same_config_goes_on_where_the_other_would(tmp_path: Path):
    debug(tmp_path, "checkpoint.keep=9", name="donor")
    donor, run = (Run.at(str(tmp_path), name) for name in ("donor", "run"))
    run.claim(donor.config())
    fork_from(run, donor, 4)
    assert names(run.store) == ["update_000004"] and not [found for found in verify(run.store.location) if found.damage]
    assert [record["update"] for record in records_of(tmp_path) if "grids" in record] == [1, 2, 3, 4]
    debug(tmp_path, "checkpoint.keep=9", name="run")
    ours, theirs = state_of(tmp_path), state_of(tmp_path, "donor")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_run_with_other_settings_goes_on_from_the_others_weights(tmp_path: Path):
    debug(tmp_path, "checkpoint.keep=9", name="donor")
    debug(tmp_path, "langevin.step_size=0.5", name="alone")
    donor, run = (Run.at(str(tmp_path), name) for name in ("donor", "run"))
    run.claim(Run.open(str(tmp_path / "alone")).config())
    fork_from(run, donor, 2)
    start, theirs = state_of(tmp_path), state_of(tmp_path, "donor", checkpoint_name="update_000002")
    assert all(torch.equal(start[name], theirs[name]) for name in theirs)
    assert debug(tmp_path, "langevin.step_size=0.5")["update"] == 6
    assert [r["event"] for r in records_of(tmp_path) if "event" in r] == ["Going on from the checkpoint of update 2."]
    end = state_of(tmp_path)
    for other in ("donor", "alone"):
        assert not any(
            torch.equal(end[name], value) for name, value in state_of(tmp_path, other).items() if "model" in name
        )


def test_a_damaged_checkpoint_is_not_adopted(tmp_path: Path):
    debug(tmp_path, name="donor")
    donor, run = (Run.at(str(tmp_path), name) for name in ("donor", "run"))
    donor.store.write("checkpoints/update_000004/model.safetensors", b"")
    with pytest.raises(DamagedCheckpoint):
        fork_from(run, donor, 4)
    assert names(run.store) == []
