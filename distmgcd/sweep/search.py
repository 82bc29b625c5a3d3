"""Where a sweep's trials come from: a list that is known beforehand, or a model of what trials have shown."""

from collections.abc import Iterable
from typing import Any, Protocol

from distmgcd.errors import UserError
from distmgcd.sweep.plan import Sweep, number_of
from distmgcd.sweep.space import Parameters, draw
from distmgcd.sweep.trial import TrialState

_APART = 1_000_003  # seeds of sweeps that users number from 0 stay apart from those of their later starts
_TRIES = 100  # to draw a point that makes a config


class Proposer(Protocol):
    def propose(self, number: int) -> tuple[Parameters, dict[str, Any]]:
        """The parameters of trial `number`, from 1, and the draws they come from, by name."""
        ...

    def report(self, number: int, evaluation: int, objective: float) -> None:
        """A trial has been evaluated on its way; evaluations count from 1."""

    def tell(self, number: int, objective: float | None) -> None:
        """A trial has come to its end with this; None: it was pruned, diverged or failed."""


class Listed:
    """Random and grid search: a trial is a function of the sweep's seed and its number."""

    def __init__(self, sweep: Sweep):
        self._sweep = sweep

    def propose(self, number: int) -> tuple[Parameters, dict[str, Any]]:
        return self._sweep.point(number), {}

    def report(self, number: int, evaluation: int, objective: float) -> None:
        pass

    def tell(self, number: int, objective: float | None) -> None:
        pass


class Tpe:
    """Optuna's tree-structured Parzen estimator; trials that were cut short count by how far they came."""

    def __init__(self, sweep: Sweep, num_before: int = 0):
        """num_before: trials of earlier starts, whose random numbers are not to come again."""
        optuna = _optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=sweep.seed + _APART * num_before, constant_liar=True)
        self._sweep = sweep
        self._states = optuna.trial.TrialState
        self._study = optuna.create_study(sampler=sampler, direction="minimize")
        self._asked: dict[int, Any] = {}

    def recall(self, trial_states: Iterable[TrialState]) -> None:
        """Trials of an earlier start of this sweep."""
        for trial_state in trial_states:
            self._study.enqueue_trial(dict(trial_state.draws))
            self._ask(number_of(trial_state.name))

    def propose(self, number: int) -> tuple[Parameters, dict[str, Any]]:
        for _ in range(_TRIES):
            parameters, draws = self._ask(number)
            try:
                self._sweep.config_of(parameters)
            except UserError:
                self._study.tell(self._asked.pop(number), state=self._states.FAIL)
                continue
            return parameters, draws
        raise UserError(
            f"{_TRIES} points of the space in a row make no config; narrow the space so that its values fit together."
        )

    def report(self, number: int, evaluation: int, objective: float) -> None:
        if number in self._asked:
            self._asked[number].report(objective, evaluation)

    def tell(self, number: int, objective: float | None) -> None:
        if number not in self._asked:
            return
        trial = self._asked.pop(number)
        if objective is None:
            self._study.tell(trial, state=self._states.PRUNED)
        else:
            self._study.tell(trial, objective)

    def _ask(self, number: int) -> tuple[Parameters, dict[str, Any]]:
        trial = self._asked[number] = self._study.ask()
        draws: dict[str, Any] = {}

        def choose(name: str, domain: Any) -> Any:
            value, draws[name] = _suggested(trial, name, domain)
            return value

        return draw(self._sweep.space, choose), draws


def proposer_of(sweep: Sweep, trial_states: Iterable[TrialState] = ()) -> Proposer:
    """trial_states: of trials that exist already. Raises UserError if the search needs a library that is missing."""
    if sweep.search != "tpe":
        return Listed(sweep)
    recalled = [trial_state for trial_state in trial_states if trial_state.draws]
    model = Tpe(sweep, len(recalled))
    model.recall(recalled)
    return model


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UserError(
            "search: tpe needs Optuna, which is not installed; pip install 'distmgcd[search]', or take search: random."
        ) from None
    return optuna


def _suggested(trial: Any, name: str, domain: Any) -> tuple[Any, Any]:
    """The value, and what Optuna keeps of it: of a choice the position, for its options may be lists."""
    from distmgcd.sweep.domains import Interval, IntRange

    if isinstance(domain, Interval):
        value = domain.rounded(trial.suggest_float(name, domain.low, domain.high, log=domain.log))
        return value, value
    if isinstance(domain, IntRange):
        value = trial.suggest_int(name, domain.low, domain.values()[-1], step=domain.step)
        return value, value
    position = trial.suggest_categorical(name, list(range(len(domain.options))))
    return domain.options[position], position
