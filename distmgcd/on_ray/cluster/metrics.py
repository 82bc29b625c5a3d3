"""How a run is doing, as metrics of Ray, which every node offers to Prometheus with the prefix ray_.

Each rank sets its own throughput and update; what is a mean over all ranks, rank 0 alone does.
"""

from typing import Any

from ray.util.metrics import Gauge

_OF_WORKER = {
    "distmgcd_images_per_second": "Images that this worker trains on a second, at its last record of the log.",
    "distmgcd_update": "The update of that record.",
}
_OF_GRID = {  # name in the log, meaning
    "distmgcd_energy_gap": ("gap", "Mean energy of observed minus synthesised images."),
    "distmgcd_drift_rms": ("drift", "Size of the last Langevin step's drift; pixels span [-1, 1]."),
    "distmgcd_saturation": ("saturation", "Fraction of synthesised pixels at the bounds."),
}


class Meter:
    """Called with every record of updates."""

    def __init__(self, run: str, rank: int):
        """run: its name, by which a chart tells it from others."""
        self.progress: str | None = None  # of the last record, for a person
        tags = {"run": run, "rank": str(rank)}
        self._of_worker = {name: _gauge(name, text, tags) for name, text in _OF_WORKER.items()}
        self._of_grid = {key: _gauge(name, text, tags, "grid") for name, (key, text) in _OF_GRID.items() if rank == 0}

    def __call__(self, record: dict[str, Any], images_per_s: float) -> None:
        """images_per_s: this worker's own."""
        self.progress = f"{record['update']}/{record['num_updates']}"
        self._of_worker["distmgcd_images_per_second"].set(images_per_s)
        self._of_worker["distmgcd_update"].set(record["update"])
        for size, values in record["grids"].items():
            for key, gauge in self._of_grid.items():
                gauge.set(values[key], tags={"grid": size})


def _gauge(name: str, text: str, tags: dict[str, str], *more: str) -> Gauge:
    gauge = Gauge(name, description=text, tag_keys=(*tags, *more))
    gauge.set_default_tags(tags)
    return gauge
