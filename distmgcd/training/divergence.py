"""When a run has diverged: which grid, when and how; it is never masked.

Two kinds of bounds. The absolute ones of the config (check_health) hold at every update. The relative ones
(check_growth) compare a grid with its own healthy past, and so notice a grid that runs away before it leaves the
former.

A grid that learns has a gap that swings about zero: observed and synthesised images pull the energy in turn (Nijkamp
et al. 2020, "On the anatomy of MCMC-based maximum likelihood learning of energy-based models"). It runs away when its
chains are left behind: the gap stays below zero beyond its usual swing, so every update steepens the energy, and the
drift of the chains grows with it. Either alone is seen in healthy runs: the drift grows while a grid learns, and the
gap settles a little below zero as the rate falls. Both together, and twice, were not.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from distmgcd.config import Watch
from distmgcd.core.learning import METRICS

WINDOW = 10  # updates that are judged together; two such windows must agree
PAST = 200  # updates before them that say what is usual
_LEAST_PAST = 50

# Bounds of a window, as factors of the median over the windows of the past. In brackets: the largest of both windows
# seen in 18 healthy runs of 500 to 2600 updates after their warm-up (digits, Fashion-MNIST, CIFAR-10 at 16x16).
GAP = 3.0  # -gap, of the largest |gap| of a window (0.5)
DRIFT = 2.0  # beside the gap only (3.2)
GRADIENT_NORM = 30.0  # (2.6)
FREE_PIXELS = 0.1  # the share of samples' pixels that are not at a bound (0.8)
_LEAST_SWING = 1 / 200  # of watch.max_gap: the smaller gaps of a grid that knows little are no run-away


class Diverged(Exception):
    """A grid left its bounds. Its text says which, when and by how much."""

    update = 0  # where that was seen, as the log counts
    grid = 0  # which, coarse to fine


class Past:
    """The metrics of the last updates, of which check_growth knows what is usual."""

    def __init__(self, *, warmup: int):
        """warmup: updates that are left out, for the rate rises and nothing is usual yet."""
        self._warmup = warmup
        self._rows: deque[tuple[int, Tensor]] = deque(maxlen=PAST + 2 * WINDOW)

    def add(self, metrics: Tensor, *, first_update: int) -> None:
        """metrics: [N, G, len(METRICS)] of consecutive updates, counted from 1."""
        numbered = enumerate(metrics, start=first_update)
        self._rows.extend((update, row) for update, row in numbered if update > self._warmup)

    def forget_after(self, update: int) -> None:
        """The run is rolled back to so many updates."""
        kept = [entry for entry in self._rows if entry[0] <= update]
        self._rows.clear()
        self._rows.extend(kept)

    def rows(self) -> Tensor | None:
        """[N, G, len(METRICS)], oldest first; None if there is too little to judge by."""
        enough = len(self._rows) >= _LEAST_PAST + 2 * WINDOW
        return torch.stack([row for _, row in self._rows]) if enough else None


def check_health(
    metrics: Tensor, *, first_update: int, sizes: Sequence[int], watch: Watch, frozen: Sequence[int] = ()
) -> None:
    """Raise Diverged if any update of a log interval skipped a grid, or a grid's gap or drift left the bounds.

    metrics: [N, G, len(METRICS)], means over all workers, so that all of them decide alike. first_update: the number
    of the first of them, from 1, as the log counts updates. frozen: grids that learn no more. Their gap has no bound,
    for no update can steepen their energies or mend them; finite chains are all that the finer grids need of them.
    """
    columns = _columns(metrics)
    gap, drift = columns["gap"], columns["drift"]
    bad = (columns["skipped"] > 0) | ~torch.isfinite(gap) | ~torch.isfinite(drift) | (drift > watch.max_drift)
    far = gap.mean(0).abs() > watch.max_gap
    far[list(frozen)] = False
    bad |= far.expand_as(bad)
    if not bad.any():
        return
    row, grid = (int(i) for i in bad.nonzero()[0])
    mean = gap[:, grid].mean()
    what, value = ("mean energy gap", mean) if mean.abs() > watch.max_gap else ("energy gap", gap[row, grid])
    raise _diverged(
        f"{what} {value:.3g} (bound {watch.max_gap:g}), drift {drift[row, grid]:.3g} rms a step (bound "
        f"{watch.max_drift:g}; pixels span [-1, 1]).",
        size=sizes[grid],
        update=first_update + row,
        grid=grid,
    )


def check_growth(past: Past, *, update: int, sizes: Sequence[int], watch: Watch, frozen: Sequence[int] = ()) -> None:
    """Raise Diverged if a grid runs away by its own past. update: the last one of it.

    Not where a run may not roll back: then noticing it early gains nothing. Nor a frozen grid, which cannot.
    """
    if not (watch.by_history and watch.max_retries) or (rows := past.rows()) is None:
        return
    for sign in signs_of_trouble(rows, least_swing=_LEAST_SWING * watch.max_gap):
        if sign.grid not in frozen:
            raise _diverged(sign.text, size=sizes[sign.grid], update=update, grid=sign.grid)


class Sign(NamedTuple):
    grid: int
    text: str


def signs_of_trouble(rows: Tensor, *, least_swing: float = 0.0) -> Iterator[Sign]:
    """What is unusual of the last two windows, in both of them, grid by grid; nothing in a healthy run.

    rows: [N, G, len(METRICS)], one per update, oldest first. least_swing: the gap's usual swing counts as at least
    that.
    """
    last, past = _of_windows(rows[-2 * WINDOW :]), _of_windows(rows[: -2 * WINDOW])
    usual = {name: values.median(0).values for name, values in past.items()}  # [G]
    swing = usual["swing"].clamp_min(least_swing)
    behind = (-last["gap"] > GAP * swing) & (last["drift"] > DRIFT * usual["drift"])  # [2, G]
    steep = last["gradient_norm"] > GRADIENT_NORM * usual["gradient_norm"]
    stuck = last["free"] < FREE_PIXELS * usual["free"]
    for grid in range(rows.shape[1]):
        now = {name: float(values[-1, grid]) for name, values in last.items()}
        then = {name: float(values[grid]) for name, values in usual.items()}
        if behind[:, grid].all():
            yield Sign(
                grid,
                f"mean energy gap {now['gap']:.3g} of the last {WINDOW} updates (its usual swing is "
                f"{float(swing[grid]):.2g}), drift {now['drift']:.3g} rms a step (usually {then['drift']:.2g}).",
            )
        if steep[:, grid].all():
            norms = f"{now['gradient_norm']:.3g} over the last {WINDOW} updates (usually {then['gradient_norm']:.2g})"
            yield Sign(grid, f"gradient norm {norms}.")
        if stuck[:, grid].all():
            shares = f"{1 - now['free']:.1%} of its samples' pixels at -1 or 1 (usually {1 - then['free']:.0%})"
            yield Sign(grid, f"{shares}.")


def _of_windows(rows: Tensor) -> dict[str, Tensor]:
    """Means over windows [n, G]; swing: the largest |gap| of each. Of the newest updates, where they do not fit."""
    whole = rows[len(rows) % WINDOW :].unflatten(0, (-1, WINDOW))
    columns = _columns(whole)
    means = {name: columns[name].mean(1) for name in ("gap", "drift", "gradient_norm")}
    return means | {"swing": columns["gap"].abs().amax(1), "free": 1.0 - columns["saturation"].mean(1)}


def _columns(metrics: Tensor) -> dict[str, Tensor]:
    """By name, gap and drift among them."""
    columns = dict(zip(METRICS, metrics.unbind(-1), strict=True))
    gap = columns["energy_observed"] - columns["energy_synthesised"]
    return columns | {"gap": gap, "drift": columns["drift_squared"].sqrt()}


def _diverged(text: str, *, size: int, update: int, grid: int) -> Diverged:
    event = Diverged(f"Grid {size}x{size} diverged at update {update}: {text}")
    event.update, event.grid = update, grid
    return event
