"""Trials and sweeps that nobody ran, for results and reports of them."""

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from distmgcd.config import Config, load_config
from distmgcd.sweep.domains import Interval
from distmgcd.sweep.plan import Budget, Sweep
from distmgcd.sweep.space import Parameters, Space
from distmgcd.sweep.trial import Trial


@dataclass(frozen=True, kw_only=True)
class MadeSweep(Sweep):
    """A sweep of digits, some settings of which no config knows."""

    name: str = "made"
    base_name: str = "digits"
    base: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[int, ...] = (2, 4, 8)
    budget: Budget = Budget(updates=500, samples=1000)
    num_trials: int = 10
    space: Space = field(default_factory=lambda: Space({"langevin.step_size": Interval(0.1, 8, True)}), repr=False)
    of_trials: tuple[str, ...] = ()  # changes to the configs of its trials

    def config_of(self, parameters: Parameters) -> Config:
        return self._config(parameters, "data.validation=0.25", "watch.max_retries=0", *self.of_trials)

    def preset_of(self, parameters: Parameters) -> Config:
        return self._config(parameters)

    def _config(self, parameters: Parameters, *of_trials: str) -> Config:
        known = ("langevin.", "learning.", "grids.", "evaluate.", "data.validation")
        changes = [f"{path}={value}" for path, value in parameters.items() if path.startswith(known)]
        network = ["network.channels=[8]", "network.kernels=3", "network.strides=2"]
        return load_config("digits", [*of_trials, *network, *changes])

    def with_configs(self, trials: Iterable[Trial]) -> list[Trial]:
        """The trials as if they had runs; one that is named impossible has none."""
        return [t if t.name == "impossible" else replace(t, config=self.config_of(t.parameters)) for t in trials]


def finished(name: str, objective: float, **more: Any) -> Trial:
    """A trial that came to its end; steps and images_per_s are its costs."""
    more = {"parameters": {"langevin.num_steps": 10}, "gradient_evaluations": 30, "images_per_s": 100.0} | more
    return Trial(
        name=name,
        state="finished",
        objective=objective,
        swd={"2": objective / 2, "8": objective * 1.5},
        swd_spread={"2": 0.001, "8": 0.002},
        updates=500,
        seconds=12.5,
        history=((250, 2 * objective), (500, objective)),
        **more,
    )


def by_fd(name: str, distance: float, *, swd: float = 0.1, **more: Any) -> Trial:
    """A trial of a sweep by fd that came to its end."""
    fd = {"fd": {"FD-Random": distance}, "fd_spread": {"FD-Random": 0.25}}
    trial = replace(finished(name, swd, **more), objective=distance, history=((250, 2 * distance), (500, distance)))
    return replace(trial, **fd)


def diverged(name: str, **more: Any) -> Trial:
    more = {"reason": "Grid 8x8 diverged at update 7.", "parameters": {"langevin.num_steps": 90}} | more
    return Trial(name=name, state="diverged", updates=7, gradient_evaluations=270, **more)


def many(num: int, *, num_parameters: int, seed: int = 0) -> list[Trial]:
    """Of every state and kind of value, with lists of different lengths and parameters that some trials lack."""
    rng = random.Random(seed)
    return [_any_trial(rng, number, num_parameters) for number in range(num)]


def _any_trial(rng: random.Random, number: int, num_parameters: int) -> Trial:
    sizes = rng.choice([[2, 8], [2, 4, 8], [8]])
    parameters: dict[str, Any] = {
        "grids.sizes": sizes,
        "langevin.step_size": [math.exp(rng.uniform(-2, 2)) for _ in sizes],
        "data.image_size": rng.choice([None, 8]),
        "network.norm": rng.choice(["none", "<b>layer</b>", 'a "very" long & <i>odd</i> word ' * 3]),
        "data.flip": rng.choice([True, False]),
        "odd.sigma": rng.choice([math.inf, 0.5, 3]),
    }
    parameters |= {
        f"odd.parameter_{n}": rng.choice(["a", 1, 0.25, None, [1, 2]]) for n in range(num_parameters - len(parameters))
    }
    if number % 5 == 1:
        del parameters["odd.sigma"]
    state = rng.choice(["finished", "finished", "pruned", "running", "waiting", "diverged", "failed"])
    name, objective, updates = f"trial_{number:04d}", rng.lognormvariate(-3, 1), rng.choice([0, 100, 500])
    if state == "waiting" or updates == 0:
        return Trial(
            name=name, state=state, parameters=parameters, reason="" if state == "waiting" else f"Why {number}?"
        )
    return Trial(
        name=name,
        state=state,
        parameters=parameters,
        reason="" if state == "finished" else f"Grid <4x4> & {number} said 'no'.",
        objective=objective,
        swd={str(size): objective for size in sizes},
        swd_spread={str(size): 0.002 for size in sizes},
        fd={"FD-Random": 10 * objective} if number % 2 else {},
        fd_spread={"FD-Random": 0.1} if number % 2 else {},
        gradient_evaluations=10 * len(sizes),
        images_per_s=rng.uniform(50, 400),
        updates=updates,
        history=((50, math.inf), (updates, objective)),
    )
