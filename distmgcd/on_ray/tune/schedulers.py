"""Who of the trials goes on: Ray's schedulers, by our own count of evaluations and with our own checkpoints."""

from random import Random
from typing import Any

from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler

from distmgcd.sweep.plan import Sweep
from distmgcd.sweep.space import moved
from distmgcd.sweep.sweep_state import SweepState


class _Asha(AsyncHyperBandScheduler):
    """Hears again what trials of an earlier start have shown, and does not stop them for it."""

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        action = super().on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if result.get("kept") else action


class _Population(PopulationBasedTraining):
    """Its trials keep their numbers; one that goes on from another becomes another run, from that one's checkpoint."""

    def __init__(self, sweep: Sweep, sweep_state: SweepState):
        super().__init__(
            time_attr="evaluation",
            perturbation_interval=sweep.scheduler.every,
            quantile_fraction=sweep.scheduler.quantile,
            custom_explore_fn=lambda config: config,  # it asks for one; what is explored is decided below
            log_config=False,
        )
        self._sweep, self._sweep_state = sweep, sweep_state
        self._rng = Random(f"{sweep.seed}/population")

    def _get_new_config(self, trial: RayTrial, trial_to_clone: RayTrial) -> tuple[dict[str, Any], dict[str, Any]]:
        old, donor = trial.config["trial"], trial_to_clone.config["trial"]
        parameters = moved(self._sweep.space, donor["parameters"], self._rng, resample=self._sweep.scheduler.resample)
        name, _, segment = old["run"].partition(".")
        seen = self._trial_state[trial_to_clone].last_result or {}  # of the donor, which has reported
        move = {
            "parameters": parameters,
            "run": f"{name}.{int(segment or 1) + 1}",
            "start": {"run": donor["run"], "update": seen["updates"]},
        }
        self._sweep_state.moved(old["number"], **move)
        return {"trial": {**old, **move}}, {}

    def __getstate__(self) -> dict[str, Any]:
        return {}


def scheduler_of(sweep: Sweep, sweep_state: SweepState) -> TrialScheduler:
    """By our own count of evaluations, for Tune's begins at 1 again when a trial does."""
    if sweep.scheduler.kind == "asha":
        return _Asha(
            time_attr="evaluation",
            max_t=sweep.budget.evaluations,
            grace_period=sweep.scheduler.grace,
            reduction_factor=sweep.scheduler.reduction,
        )
    return _Population(sweep, sweep_state) if sweep.scheduler.kind == "pbt" else FIFOScheduler()
