"""What is compared, by which rules: every run of a plan may cost the same, and every method is tuned as hard.

1. The base config for `updates` updates is the budget, in multiply-adds (config/cost.py). Every run, whatever its
   method, grids and steps, makes as many updates as fit into it.
2. Every method is tried with `num_trials` settings, the first its own, the others drawn from its space: trained with
   the tuning seed on part of the training images, and judged by the rest of them. Samples of each are drawn in every
   way of `sampling`. The settings and the way with the least distance are chosen.
3. With these it is trained on all training images once a seed, and measured against the held-out images, which
   nothing before has seen.

A plan with `tuning: none` has no trials: every method, a recipe, is trained as it is (3). With `validation`, too, it
learns from the rest of the training images and is measured by this part, so that recipes can be chosen while the
held-out images stay unseen. With `equal_cost: false` every run makes `updates` updates, whatever they cost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distmgcd.config import Config, make_config
from distmgcd.config.cost import gradient_evaluation_cost, in_words, update_cost
from distmgcd.config.document import Strict
from distmgcd.config.kinds import PositiveInt
from distmgcd.errors import UserError
from distmgcd.sweep.plan import nested
from distmgcd.sweep.space import Parameters, Space, random_point

# What runs get from the plan itself, and from where in its file.
SET_BY_PLAN = {
    "seed": "seeds",
    "data.validation": "validation",
    "learning.num_updates": "updates",
    "evaluate.every": "itself: nothing is chosen on the way",
    "evaluate.sizes": "sizes",
    "evaluate.num_samples": "tuning.samples and test.samples",
    "evaluate.num_draws": "tuning.draws and test.draws",
    "evaluate.features": "features",
    "checkpoint.metric": "itself: the last checkpoint is measured",
    "checkpoint.keep": "itself: the last checkpoint is measured",
    "checkpoint.keep_best": "itself: the last checkpoint is measured",
    "watch.max_retries": "itself: a run that goes back costs more, so one that diverges ends",
}
FARTHEST = 0.05  # that the cost of a run may differ from the budget before a warning


class Sampling(Strict):
    """A way to draw samples of a trained model."""

    times: PositiveInt = 1  # as many steps as in training, so many times
    start: Literal["climb", "noise"] | None = None  # None: as the config has it

    def applied(self, config: Config) -> Config:
        """The config that draws samples so."""
        num_steps = tuple(self.times * k for k in config.per_grid("langevin.num_steps"))
        langevin = config.langevin.model_copy(update={"num_steps": num_steps})
        start = config.start.model_copy(update={"samples": self.start or config.start.of_samples})
        return config.model_copy(update={"langevin": langevin, "start": start})

    def __str__(self) -> str:
        return f"{self.times}x steps" + (f" from {self.start}" if self.start else "")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A method: what it changes of the base, and what is tried of it."""

    name: str
    settings: Mapping[str, Any]  # {dotted path: value}
    space: Space
    judged: Literal["samples", "bank"] = "samples"  # bank: by its persistent chains, which are no fresh samples


class Measure(Strict):
    """How many samples stand for a model."""

    samples: PositiveInt
    draws: PositiveInt = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    name: str
    base: Mapping[str, Any]  # {dotted path: value}
    updates: int  # of the base: the budget
    equal_cost: bool = True  # False: every run makes so many updates
    num_trials: int  # 0 where tuning is None
    seeds: Sequence[int]
    tuning_seed: int
    validation: float  # 0, in a plan without tuning: final runs are measured by the held-out images
    sizes: Sequence[int]
    tuning: Measure | None  # None: every variant is trained as it is
    test: Measure
    sampling: Sequence[Sampling]
    variants: Mapping[str, Variant]
    features: str | None = None  # the network in which final runs are measured again; decides nothing of any run

    @property
    def budget(self) -> int:
        """Of every run, in multiply-adds."""
        return self.updates * update_cost(make_config(nested(self.base)))

    @property
    def unit(self) -> int:
        """Multiply-adds of a gradient evaluation at the finest grid of the base."""
        return gradient_evaluation_cost(make_config(nested(self.base)))

    @property
    def cost_line(self) -> str:
        """What all runs cost that are trained from their start; methods may have some of them in common."""
        costs = [self._cost(variant) for variant in self.variants.values()]
        num_trials, num_finals = self.num_trials * len(costs), len(self.seeds) * len(costs)
        runs = f"{num_trials} trials and {num_finals} final runs" if num_trials else f"{num_finals} runs"
        total = num_trials * self.budget + len(self.seeds) * sum(costs)
        return (
            f"Plan {self.name}: {runs} of up to {in_words(max(costs))} multiply-adds each, {in_words(total)} in all, "
            "and their samples."
        )

    @property
    def warnings(self) -> list[str]:
        """A line for every variant whose runs cost clearly less than the budget, for updates are whole."""
        shares = {name: self._cost(variant) / self.budget for name, variant in self.variants.items()}
        return [
            f"Warning: a run of {name} costs {share:.2f} of what a run of the plan {self.name} may cost, for one more "
            f"update would cost too much; raise `updates`, so that costs are equal within {100 * FARTHEST:.0f} %."
            for name, share in shares.items()
            if self.equal_cost and share < 1 - FARTHEST
        ]

    def _cost(self, variant: Variant) -> int:
        """Multiply-adds of a final run of a variant with its own settings."""
        config = self.final(variant, {}, seed=self.seeds[0])
        return config.learning.num_updates * update_cost(config)

    def parameters(self, variant: Variant, number: int) -> Parameters:
        """What trial `number`, from 1, changes of the variant: the first nothing, the others what the seed draws."""
        return random_point(variant.space, seed=self.tuning_seed, number=number) if number > 1 else {}

    def trial(self, variant: Variant, parameters: Parameters) -> Config:
        """Of a plan with tuning. Raises UserError if the parameters do not make a config."""
        assert self.tuning is not None
        return self._config(variant, parameters, self.tuning, seed=self.tuning_seed, validation=self.validation)

    def final(self, variant: Variant, parameters: Parameters, *, seed: int) -> Config:
        validation = 0.0 if self.tuning else self.validation
        return self._config(variant, parameters, self.test, seed=seed, validation=validation)

    def _config(
        self, variant: Variant, parameters: Parameters, measure: Measure, *, seed: int, validation: float
    ) -> Config:
        settings = {
            **self.base,
            **variant.settings,
            **parameters,
            "seed": seed,
            "data.validation": validation,
            "evaluate.every": 0,
            "evaluate.sizes": list(self.sizes),
            "evaluate.num_samples": measure.samples,
            "evaluate.num_draws": measure.draws,
            "evaluate.features": None,
            "checkpoint.metric": "swd",
            "checkpoint.keep": 1,
            "checkpoint.keep_best": 0,
            "checkpoint.end_with": "newest",
            "watch.max_retries": 0,  # what goes back and halves its rate has another one, and costs more
        }
        if not self.equal_cost:
            return make_config(nested({**settings, "learning.num_updates": self.updates}))
        num_updates = self.budget // update_cost(make_config(nested(settings)))
        if num_updates < 1:
            raise UserError(
                f"The plan {self.name} gives every run what {self.updates} updates of its base cost, which is less "
                f"than one update of {variant.name} with {parameters}; raise `updates`."
            )
        return make_config(nested({**settings, "learning.num_updates": num_updates}))
