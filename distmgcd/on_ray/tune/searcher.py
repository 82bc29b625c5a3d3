"""The trials of a sweep as Tune asks for them, one after the other."""

from typing import Any

from ray.tune.search import Searcher

from distmgcd.sweep.plan import Sweep, name_of, number_of
from distmgcd.sweep.search import Proposer
from distmgcd.sweep.sweep_state import Books
from distmgcd.sweep.trial_files import Note


class Trials(Searcher):
    """Hands trials to Tune: those that were there before, then new ones."""

    def __init__(self, sweep: Sweep, books: Books, proposer: Proposer, *, limit: int | None):
        """limit: trials at a time; None leaves it to the CPUs."""
        super().__init__(metric="objective", mode="min")
        self._proposer, self._limit = proposer, limit
        self._waiting = [*books.kept(), *books.begun()]
        self._kept = {number_of(note.name) for note in books.kept()}
        begun = {number_of(note.name) for note in self._waiting}
        self._new_numbers = [number for number in range(1, sweep.num_trials + 1) if number not in begun]
        self._stopping = False
        self._numbers: dict[str, int] = {}  # by Tune's name of a trial that runs
        self.draws = {number_of(note.name): note.draws for note in self._waiting}
        self.num_trials = len(self._waiting) + len(self._new_numbers)

    def stop(self) -> None:
        """No more trials from now on."""
        self._stopping = True

    def all_at_once(self) -> list[dict[str, Any]]:
        """What Tune is to know of every trial, where it must know them all beforehand."""
        notes = self._waiting + [self._new() for _ in range(self.num_trials - len(self._waiting))]
        return [self._settings(note) for note in notes]

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._stopping:
            return Searcher.FINISHED
        if self._limit is not None and len(self._numbers) >= self._limit:
            return None
        if self._kept & set(self._numbers.values()) and not self._next_is_kept():
            return None  # what they say again comes first, as it did
        if not self._waiting and not self._new_numbers:
            return Searcher.FINISHED
        note = self._waiting.pop(0) if self._waiting else self._new()
        self._numbers[trial_id] = number_of(note.name)
        return {"trial": self._settings(note)}

    def _settings(self, note: Note) -> dict[str, Any]:
        """What run_trial is told."""
        number = number_of(note.name)
        return {
            "number": number,
            "knobs": note.knobs,
            "kept": note.state if number in self._kept else None,
            "reason": note.reason,
            "run": note.run or note.name,
            "start": note.start,
        }

    def _new(self) -> Note:
        number = self._new_numbers.pop(0)
        knobs, self.draws[number] = self._proposer.propose(number)
        return Note(name=name_of(number), state="waiting", knobs=knobs)

    def _next_is_kept(self) -> bool:
        return bool(self._waiting) and number_of(self._waiting[0].name) in self._kept

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._proposer.report(self._numbers[trial_id], result["evaluation"], result["objective"])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._numbers.pop(trial_id)
        finished = result is not None and not error and result["state"] == "finished"
        self._proposer.tell(number, result["objective"] if finished else None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing is restored from Tune's books, but Tune wants a file."""
        with open(checkpoint_path, "wb"):
            pass

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {}
