"""When a run has diverged: told by name, never masked."""

from collections.abc import Sequence

import torch
from torch import Tensor

from distmgcd.config import Watch
from distmgcd.core.learning import METRICS


class Diverged(Exception):
    """A grid left its bounds. Its text says which, when and by how much."""


def check_health(metrics: Tensor, *, first_update: int, sizes: Sequence[int], watch: Watch) -> None:
    """Raise Diverged if any update of a log interval skipped a grid, or a grid's gap or drift left the bounds.

    metrics: [N, G, len(METRICS)], means over all workers, so that all of them decide alike. first_update: the number
    of the first of them, from 1, as the log counts updates.
    """
    columns = dict(zip(METRICS, metrics.unbind(-1), strict=True))
    gap = columns["energy_observed"] - columns["energy_synthesised"]
    drift = columns["drift_squared"].sqrt()
    bad = (columns["skipped"] > 0) | ~torch.isfinite(gap) | ~torch.isfinite(drift) | (drift > watch.max_drift)
    bad |= (gap.mean(0).abs() > watch.max_gap).expand_as(bad)
    if not bad.any():
        return
    row, grid = (int(i) for i in bad.nonzero()[0])
    size = sizes[grid]
    mean = gap[:, grid].mean()
    what, value = ("mean energy gap", mean) if mean.abs() > watch.max_gap else ("energy gap", gap[row, grid])
    raise Diverged(
        f"Grid {size}x{size} diverged at update {first_update + row}: {what} {value:.3g} (bound {watch.max_gap:g}), "
        f"drift {drift[row, grid]:.3g} rms a step (bound {watch.max_drift:g}; pixels span [-1, 1])."
    )
