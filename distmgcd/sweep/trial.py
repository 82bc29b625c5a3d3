"""What is known of one trial of a sweep: the one thing that the search writes and that results and reports read."""

from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["waiting", "running", "stopped", "finished", "pruned", "diverged", "failed"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial is a run of its own, with these settings in place of the base preset's."""

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
