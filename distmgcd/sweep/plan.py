"""What a sweep is: which configs it tries, how long, and by what it judges them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from distmgcd.config import Config, flatten, make_config
from distmgcd.config.document import Strict, unknown_key
from distmgcd.config.kinds import Fraction, NonNegativeInt, Number, PositiveInt, Rule
from distmgcd.sweep.space import Parameters, Space, grid_points, random_point

SchedulerKind = Literal["asha", "pbt", "none"]
Search = Literal["random", "grid", "tpe"]

# What trials get from the sweep itself, and from where in its file.
SET_BY_SWEEP = {
    "data.validation": "validation",
    "learning.num_updates": "budget.updates",
    "evaluate.every": "budget.evaluations",
    "evaluate.num_samples": "budget.samples",
    "evaluate.num_draws": "budget.draws",
    "evaluate.sizes": "objective.sizes",
    "evaluate.features": "objective.features",
    "evaluate.untrained": "itself: trials are compared with each other",
    "checkpoint.every": "budget.evaluations",
    "checkpoint.metric": "objective.metric",
    "checkpoint.end_with": "itself: trials are compared at their ends",
    "watch.max_retries": "itself: a trial that diverges ends",
}


_KEYS_OF = {"asha": ("grace", "reduction"), "pbt": ("every", "quantile", "resample"), "none": ()}


def keys_of(kind: str) -> Sequence[str]:
    """The keys of a scheduler beside its kind."""
    return _KEYS_OF[kind]


class Budget(Strict):
    """What every trial may spend, and how it is looked at on its way."""

    updates: PositiveInt
    warmup: NonNegativeInt | None = None  # updates over which the learning rate rises; None: as many as the base's
    evaluations: PositiveInt = 1  # on the way and at the end, equally far apart; a checkpoint with each
    samples: Annotated[int, Number, Field(ge=2), Rule("a whole number from 2 up")]  # fresh ones, of an evaluation
    draws: PositiveInt = 1  # sets of so many

    @model_validator(mode="after")
    def _evaluations_divide_the_updates(self) -> "Budget":
        if self.updates % self.evaluations:
            divisor = max(n for n in range(1, self.evaluations) if self.updates % n == 0)
            raise ValueError(
                f"budget.evaluations must divide updates, but {self.evaluations} does not divide {self.updates}; try "
                f"{divisor}."
            )
        return self

    @property
    def every(self) -> int:
        """Updates from one evaluation to the next."""
        return self.updates // self.evaluations


class Scheduler(Strict):
    kind: SchedulerKind = "none"
    grace: PositiveInt = 1  # asha: evaluations that every trial may have
    reduction: Annotated[int, Number, Field(ge=2), Rule("a whole number from 2 up")] = 3  # asha: one in so many goes on
    every: PositiveInt = 1  # pbt: evaluations between two looks at the population
    # pbt: this part of the population, the worst, goes on from this part, the best
    quantile: Annotated[float, Number, Field(ge=0, le=0.5), Rule("a number from 0 to 0.5")] = 0.25
    resample: Fraction = 0.25  # pbt: how often a value is drawn anew in place of moved

    @model_validator(mode="after")
    def _has_the_keys_of_its_kind(self) -> "Scheduler":
        known = ["kind", *keys_of(self.kind)]
        if others := sorted(self.model_fields_set - set(known)):
            raise ValueError(unknown_key(f"scheduler.{others[0]}", known))
        return self


@dataclass(frozen=True, kw_only=True)
class Sweep:
    name: str
    base_name: str = field(compare=False)  # the preset or file that base was read from
    base: Mapping[str, Any]  # {dotted path: value} of the config that trials change
    objective: str = "swd"  # the mean over sizes of the sliced Wasserstein distance, swd/16 for one of them, or fd
    features: str | None = None  # the network of fd, which is measured whenever there is one
    sizes: tuple[int, ...]  # at which samples and images are compared, the same for all trials
    budget: Budget
    scheduler: Scheduler = Scheduler()
    search: Search = "random"
    num_trials: int
    seed: int = 0
    workers_per_trial: int = 0
    validation: float = 0.2  # part of the training images that trials are judged by; base's own, if it sets one
    space: Space = field(repr=False)

    def config_of(self, parameters: Parameters) -> Config:
        """The config of a trial. Raises UserError if the parameters do not make one."""
        return make_config(nested({**self.base, **self._of_trials(), **parameters}))

    def preset_of(self, parameters: Parameters) -> Config:
        """The base preset with these parameters, as judged and at least as long as the preset is. Raises UserError."""
        num_updates = max(self.base["learning.num_updates"], self.budget.updates)
        features = {"evaluate.features": self.features, "checkpoint.metric": "fd"} if self.objective == "fd" else {}
        return make_config(nested({**self.base, "learning.num_updates": num_updates, **features, **parameters}))

    def point(self, number: int) -> Parameters:
        """The parameters of trial `number`, from 1, of a random or grid search: a function of these and the seed."""
        if self.search == "grid":
            return next(parameters for n, parameters in enumerate(grid_points(self.space), start=1) if n == number)
        return random_point(self.space, seed=self.seed, number=number)

    def _of_trials(self) -> dict[str, Any]:
        budget = self.budget
        others_go_on = {"checkpoint.keep": budget.evaluations} if self.scheduler.kind == "pbt" else {}
        warmup = {} if budget.warmup is None else {"learning.warmup": budget.warmup}
        return {
            **others_go_on,
            **warmup,
            "data.validation": self.base.get("data.validation") or self.validation,
            "learning.num_updates": budget.updates,
            "evaluate.every": budget.every,
            "evaluate.num_samples": budget.samples,
            "evaluate.num_draws": budget.draws,
            "evaluate.sizes": list(self.sizes),
            "evaluate.features": self.features,
            "evaluate.untrained": False,
            "checkpoint.every": budget.every,
            "checkpoint.metric": self.objective,
            "checkpoint.end_with": "newest",
            "watch.max_retries": 0,  # a trial that goes back trains with a rate that is not the one it stands for
        }


def name_of(number: int) -> str:
    """Of the run of a trial; numbers count from 1."""
    return f"trial_{number:04d}"


def number_of(name: str) -> int:
    return int(name.split("_")[1])


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"langevin.num_steps": 3} as {"langevin": {"num_steps": 3}}."""
    settings: dict[str, Any] = {}
    for path, value in flat.items():
        *sections, key = path.split(".")
        section = settings
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = value
    return settings


def to_yaml(sweep: Sweep) -> str:
    """The whole sweep as a file that read_sweep reads back to an equal one, but for the name of its base."""
    space: dict[str, Any] = {path: domain.form() for path, domain in sweep.space.common.items()}
    if sweep.space.one_of:
        space["one_of"] = [
            {path: value.form() if hasattr(value, "form") else value for path, value in bundle.items()}
            for bundle in sweep.space.one_of
        ]
    settings = {
        "base": nested(sweep.base),
        "objective": {
            "metric": sweep.objective,
            "sizes": list(sweep.sizes),
            **({"features": sweep.features} if sweep.features else {}),
        },
        "budget": vars(sweep.budget),
        "scheduler": _of_kind(sweep.scheduler),
        "search": sweep.search,
        "num_trials": sweep.num_trials,
        "seed": sweep.seed,
        "workers_per_trial": sweep.workers_per_trial,
        "validation": sweep.validation,
        "space": space,
    }
    return f"# base: {sweep.base_name}\n" + yaml.safe_dump(
        settings, sort_keys=False, default_flow_style=None, width=100
    )


def _of_kind(scheduler: Scheduler) -> dict[str, Any]:
    return {"kind": scheduler.kind, **{key: getattr(scheduler, key) for key in keys_of(scheduler.kind)}}


def flat_of(config: Config) -> dict[str, Any]:
    """{dotted path: value} of a config, lists for tuples."""
    from distmgcd.config import to_yaml as config_to_yaml

    return flatten(yaml.safe_load(config_to_yaml(config)))
