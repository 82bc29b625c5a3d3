"""What is known of one trial of a sweep."""

from dataclasses import dataclass, field
from typing import Any, Literal

from distmgcd.config import Config

State = Literal["waiting", "running", "stopped", "finished", "pruned", "diverged", "failed"]

ENDED: tuple[State, ...] = ("finished", "pruned", "diverged")  # a sweep that goes on leaves these as they are


@dataclass(frozen=True, kw_only=True)
class TrialState:
    """trial.json: what the run of a trial does not say of itself."""

    name: str
    state: State
    reason: str = ""
    failures: list[str] = field(default_factory=list)  # after which it went on, a sentence each
    parameters: dict[str, Any] = field(default_factory=dict)
    draws: dict[str, Any] = field(default_factory=dict)  # from which the search made the parameters, if it needs them
    run: str = ""  # the folder of its run in trials/: its name, or trial_0007.2 once it went on from another trial
    start: dict[str, Any] = field(default_factory=dict)  # {"run": the other trial's, "update": of its checkpoint}
    is_lost: bool = False  # trial.json is lost or damaged, and this is what can be seen from the run; never on disk


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial as its run folder and its trial.json have it: a run, with these settings in place of the base's."""

    name: str  # of its run, e.g. "trial_0007"
    state: State
    reason: str = ""  # why it was stopped or pruned, diverged or failed, in a sentence
    failures: tuple[str, ...] = ()  # processes that it lost and went on after, a sentence each
    parameters: dict[str, Any] = field(default_factory=dict)  # {dotted path: value or list of one value per grid}
    objective: float | None = None  # smaller is better; None until it has been evaluated
    swd: dict[str, float] = field(default_factory=dict)  # sliced Wasserstein distance per grid, the newest
    swd_spread: dict[str, float] = field(default_factory=dict)  # standard deviation over draws
    fd: dict[str, float] = field(default_factory=dict)  # {"FD-EfficientNetLite0": Frechet distance}, if it is measured
    fd_spread: dict[str, float] = field(default_factory=dict)
    gradient_evaluations: int = 0  # Langevin steps of a sample, all grids together
    images_per_s: float | None = None  # of training
    updates: int = 0  # done
    seconds: float = 0.0  # of training
    history: tuple[tuple[int, float], ...] = ()  # (updates done, objective) at every evaluation
    run: str = ""  # the path of its run folder
    config: Config | None = field(default=None, compare=False, repr=False)  # of its run, once there is one
    is_lost: bool = False  # it had a run, which is deleted or damaged now
