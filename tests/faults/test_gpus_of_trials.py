"""Which GPUs trials get: Ray is told that there are two, which is all that its scheduler looks at."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_runs import TINY

from distmgcd.runs.store import Store
from distmgcd.sweep.file import read_sweep
from distmgcd.sweep.parallel_trials import TrialResources
from distmgcd.sweep.sweep_state import SweepState

pytestmark = pytest.mark.slow

TEXT = f"""\
base: {TINY}
budget: {{updates: 6, evaluations: 1, samples: 8}}
search: grid
space: {{langevin.step_size: {{grid: [0.5, 0.6, 0.7]}}}}
"""


@pytest.fixture(scope="module")
def two_gpus() -> Iterator[None]:
    import ray

    from distmgcd.on_ray.cluster.connect import connected

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else a warning, which is an error here
        init = ray.init
        patch.setattr(ray, "init", lambda **settings: init(**settings, num_gpus=2))
        with connected(num_cpus=4, log_to_driver=False):
            yield


def test_a_trial_that_trains_by_itself_has_a_gpu_of_its_own(tmp_path: Path, two_gpus: None, monkeypatch):
    from distmgcd.on_ray.tune import driver as tune_module

    def run_trial(settings, *, sweep, location, resources, mailbox):
        import ray
        from ray import tune

        tune.report(
            {
                "evaluation": 1,
                "updates": 6,
                "objective": 0.5,
                "state": "finished",
                "reason": "",
                "failures": [],
                "gpus": ray.get_gpu_ids(),
                "cpus": ray.get_runtime_context().get_assigned_resources()["CPU"],
                "done": True,
            }
        )

    monkeypatch.setattr(tune_module, "run_trial", run_trial)
    (tmp_path / "try.yaml").write_text(TEXT)
    sweep = read_sweep(str(tmp_path / "try.yaml"))
    store = Store(str(tmp_path / "sweep"))
    resources = TrialResources(concurrent=2, workers=0, threads=2, use_gpu=True)
    found, _ = tune_module.tune_on_ray(sweep, store, resources, lambda resources: SweepState(store, sweep))
    seen = [result.metrics for result in found]
    assert [(len(metrics["gpus"]), metrics["cpus"]) for metrics in seen] == [(1, 2)] * 3
    assert {gpu for metrics in seen for gpu in metrics["gpus"]} <= {0, 1}


def test_every_worker_of_a_trial_has_a_gpu_of_its_own_and_the_trial_itself_none(tmp_path: Path, two_gpus: None):
    import ray
    from ray.train import RunConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    from distmgcd.on_ray.train.driver import scaling_of
    from distmgcd.on_ray.tune.driver import resources_of

    def seen_by_workers() -> list[int]:
        def train() -> list[int]:
            import ray

            return ray.get_gpu_ids()

        trainer = DataParallelTrainer(
            train,
            scaling_config=scaling_of(2, {"CPU": 1, "GPU": 1}),
            run_config=RunConfig(name="gpus", storage_path=str(tmp_path)),
        )
        return trainer.fit().return_value

    resources = TrialResources(concurrent=1, workers=2, threads=1, use_gpu=True)
    assert resources_of(resources) == {"node:__internal_head__": 0.001}
    trial = ray.remote(num_cpus=0, resources=resources_of(resources))(seen_by_workers)
    gpus = ray.get(trial.remote(), timeout=240)
    assert len(gpus) == 1 and gpus[0] in (0, 1)
