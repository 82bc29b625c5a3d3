"""The trials of a sweep as Tune asks for them, one after the other."""

from typing import Any

from ray.tune.search import Searcher

from distmgcd.sweep.plan import Sweep, name_of, number_of
from distmgcd.sweep.search import Proposer
from distmgcd.sweep.sweep_state import SweepState
from distmgcd.sweep.trial import TrialState


class TrialSource(Searcher):
    """Hands trials to Tune: those that were there before, then new ones."""

    def __init__(self, sweep: Sweep, sweep_state: SweepState, proposer: Proposer, *, limit: int | None):
        """limit: trials at a time; None leaves it to the CPUs."""
        super().__init__(metric="objective", mode="min")
        self._proposer, self._limit = proposer, limit
        self._waiting = [*sweep_state.kept(), *sweep_state.begun()]
        self._kept = {number_of(trial_state.name) for trial_state in sweep_state.kept()}
        begun = {number_of(trial_state.name) for trial_state in self._waiting}
        self._new_numbers = [number for number in range(1, sweep.num_trials + 1) if number not in begun]
        self._stopping = False
        self._numbers: dict[str, int] = {}  # by Tune's name of a trial that runs
        self.draws = {number_of(trial_state.name): trial_state.draws for trial_state in self._waiting}
        self.num_trials = len(self._waiting) + len(self._new_numbers)

    def stop(self) -> None:
        """No more trials from now on."""
        self._stopping = True

    def all_at_once(self) -> list[dict[str, Any]]:
        """What Tune is to know of every trial, where it must know them all beforehand."""
        trial_states = self._waiting + [self._new() for _ in range(self.num_trials - len(self._waiting))]
        return [self._settings(trial_state) for trial_state in trial_states]

    def suggest(self, trial_id: str) -> Any:
        """The settings of the next trial; None: not yet; FINISHED: there are no more."""
        if self._stopping:
            return Searcher.FINISHED
        if self._limit is not None and len(self._numbers) >= self._limit:
            return None
        if self._kept & set(self._numbers.values()) and not self._next_is_kept():
            return None  # what they say again comes first, as it did
        if not self._waiting and not self._new_numbers:
            return Searcher.FINISHED
        trial_state = self._waiting.pop(0) if self._waiting else self._new()
        self._numbers[trial_id] = number_of(trial_state.name)
        return {"trial": self._settings(trial_state)}

    def _settings(self, trial_state: TrialState) -> dict[str, Any]:
        """The arguments of run_trial."""
        number = number_of(trial_state.name)
        return {
            "number": number,
            "parameters": trial_state.parameters,
            "kept": trial_state.state if number in self._kept else None,
            "reason": trial_state.reason,
            "run": trial_state.run or trial_state.name,
            "start": trial_state.start,
        }

    def _new(self) -> TrialState:
        number = self._new_numbers.pop(0)
        parameters, self.draws[number] = self._proposer.propose(number)
        return TrialState(name=name_of(number), state="waiting", parameters=parameters)

    def _next_is_kept(self) -> bool:
        return bool(self._waiting) and number_of(self._waiting[0].name) in self._kept

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._proposer.report(self._numbers[trial_id], result["evaluation"], result["objective"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._numbers.pop(trial_id)
        finished = result if result and not error and result["state"] == "finished" else None
        self._proposer.tell(number, finished["objective"] if finished else None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing is restored from Tune's files, but Tune wants a file."""
        with open(checkpoint_path, "wb"):
            pass

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {}
