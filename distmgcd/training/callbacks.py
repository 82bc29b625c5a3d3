"""What the training loop calls as a run goes on: the log, the terminal, metrics elsewhere, and what a user adds.

class Tracker(distmgcd.Callback):
    def on_evaluation(self, record):
        tracker.log(record["swd"], step=record["update"])

distmgcd.train(config, name="run", callbacks=[Tracker()])
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from distmgcd.config import Config
    from distmgcd.runs.log import Log
    from distmgcd.runs.read_log import CheckpointRecord, EvaluationRecord, Event, UpdateRecord

_NOTE = "Raised by the callback "


@dataclass(frozen=True)
class RunStart:
    """A run as its loop begins, or begins again."""

    config: "Config"
    folder: str  # of the run: a path or a URI
    update: int  # updates done: 0, or those of the checkpoint that the run resumes from
    rank: int  # of this worker
    world_size: int
    share: float  # of every batch, that this worker runs the chains of


@dataclass(frozen=True)
class RunEnd:
    """How a run ended."""

    update: int  # updates done
    result: dict[str, Any] | None  # what result.json holds; None unless the run has come to its end
    error: BaseException | None  # Stopped, Diverged, or whatever was raised; None if nothing was


class Callback:
    """Base class of callbacks. Its methods do nothing: a subclass overrides those that it needs.

    Where: `distmgcd.debug` calls a user's callbacks in its own process. `distmgcd.train` pickles them and calls the
    copy in the process of the worker of rank 0; workers that start again get a new copy, as it was at first.
    When: on the thread that trains, which waits until the method returns. On Ray a worker counts as stuck if that takes
    longer than watch.max_seconds_stuck.
    Records are shared with the log and other callbacks: do not change them.
    If a method raises: the run ends with this exception, and this callback is not called again. The checkpoint that
    is being written is completed, and the same command resumes from it. On Ray it is RunFailed, with the traceback.
    """

    wait_for_checkpoints = False  # True: the loop waits for a checkpoint, and for on_checkpoint, before the next update

    def on_start(self, start: RunStart) -> None:
        """The loop begins: a new run, or one that resumes. Not for a run that is finished already."""

    def on_log(self, record: "UpdateRecord") -> None:
        """What the log says of the last updates, every log.every updates: metrics are means over all workers."""

    def on_evaluation(self, record: "EvaluationRecord") -> None:
        """Distances of fresh samples to held-out images, every evaluate.every updates and after the last update."""

    def on_samples(self, picture: "np.ndarray", update: int) -> None:
        """After on_evaluation: a sheet of these samples, a uint8 [H, W, 3] array."""

    def on_checkpoint(self, record: "CheckpointRecord") -> None:
        """A checkpoint is whole on the disk. It is written while training goes on, so this comes some updates later."""

    def on_event(self, record: "Event") -> None:
        """A sentence about the run: how it began, that it rolls back, what could not be written, what takes a while."""

    def on_end(self, end: RunEnd) -> None:
        """The run leaves, however it ends. Not called where its process is killed."""

    def should_stop(self) -> bool:
        """Asked before every update, and within evaluations. True: the run saves where it is and raises Stopped."""
        return False


class Callbacks:
    """Several callbacks, called in their order. One that has raised is left out from then on."""

    def __init__(self, callbacks: Sequence[Callback]):
        self._callbacks = list(callbacks)

    def on_start(self, start: RunStart) -> None:
        self._call("on_start", start)

    def on_record(self, record: Any) -> None:
        """Give a record of the log to the method that it is meant for."""
        if "grids" in record:
            self._call("on_log", record)
        elif "swd" in record:
            self._call("on_evaluation", record)
        elif "checkpoint" in record:
            self._call("on_checkpoint", record)
        else:
            self._call("on_event", record)

    def on_samples(self, picture: "np.ndarray", update: int) -> None:
        self._call("on_samples", picture, update)

    def on_end(self, end: RunEnd) -> None:
        self._call("on_end", end)

    def should_stop(self) -> bool:
        return any(self._call("should_stop"))

    @property
    def wait_for_checkpoints(self) -> bool:
        return any(callback.wait_for_checkpoints for callback in self._callbacks)

    def _call(self, method: str, *arguments: Any) -> list[Any]:
        found = []
        for callback in list(self._callbacks):
            try:
                found.append(getattr(callback, method)(*arguments))
            except BaseException as error:  # also SystemExit, by which Tune ends a trial
                self._callbacks.remove(callback)
                error.add_note(f"{_NOTE}{type(callback).__name__}, in {method}.")
                raise
        return found


def is_from_callback(error: BaseException) -> bool:
    """Whether a callback of the loop raised it."""
    return any(note.startswith(_NOTE) for note in getattr(error, "__notes__", ()))


class ShowRecords(Callback):
    """Hands every record to a function: `show` of train and debug."""

    def __init__(self, show: Callable[[dict[str, Any]], None]):
        self._show = show

    def on_event(self, record: Any) -> None:
        self._show(record)

    on_log = on_evaluation = on_checkpoint = on_event


class LogWriter(Callback):
    """metrics.jsonl and TensorBoard, in the process of rank 0."""

    def __init__(self, log: "Log", on_refused: Callable[[OSError], None]):
        """on_refused: called with what keeps a record from the disk, the first time; it waits in memory then."""
        self._log, self._on_refused = log, on_refused
        self._was_refused = False

    def on_log(self, record: Any) -> None:
        refused = self._log.write(record)
        if refused and not self._was_refused:
            self._was_refused = True
            self._on_refused(refused)

    on_evaluation = on_checkpoint = on_log

    def on_event(self, record: "Event") -> None:
        if "rate_scale" in record:  # rolled back, or resumed: TensorBoard forgets the updates after it
            self._log.roll_back(record["update"])
        self.on_log(record)

    def on_samples(self, picture: "np.ndarray", update: int) -> None:
        self._log.write_picture(picture, update)
