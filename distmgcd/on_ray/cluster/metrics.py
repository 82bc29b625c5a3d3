"""How a run is doing, as metrics of Ray, which every node offers to Prometheus with the prefix ray_.

Each rank sets its own throughput and update; what is a mean over all ranks, rank 0 alone does.
"""

from ray.util.metrics import Gauge

from distmgcd.runs.read_log import UpdateRecord
from distmgcd.training.callbacks import Callback, RunStart

_OF_WORKER = {
    "distmgcd_images_per_second": "Images that this worker trains on a second, at its last record of the log.",
    "distmgcd_update": "The update of that record.",
}
_OF_GRID = {  # name in the log, meaning
    "distmgcd_energy_gap": ("gap", "Mean energy of observed minus synthesised images."),
    "distmgcd_drift_rms": ("drift", "Size of the last Langevin step's drift; pixels span [-1, 1]."),
    "distmgcd_saturation": ("saturation", "Fraction of synthesised pixels at the bounds."),
}


class RayMetrics(Callback):
    """In every worker of a run."""

    def __init__(self, run: str):
        """run: its name, by which a chart tells it from others."""
        self._run = run

    def on_start(self, start: RunStart) -> None:
        tags = {"run": self._run, "rank": str(start.rank)}
        self._share, self._is_first = start.share, start.rank == 0
        self._of_worker = {name: _gauge(name, text, tags) for name, text in _OF_WORKER.items()}
        self._of_grid = {key: _gauge(name, text, tags, "grid") for name, (key, text) in _OF_GRID.items()}

    def on_log(self, record: UpdateRecord) -> None:
        self._of_worker["distmgcd_images_per_second"].set(record["images_per_s"] * self._share)
        self._of_worker["distmgcd_update"].set(record["update"])
        for size, values in record["grids"].items() if self._is_first else ():
            for key, gauge in self._of_grid.items():
                gauge.set(values[key], tags={"grid": size})


def _gauge(name: str, text: str, tags: dict[str, str], *more: str) -> Gauge:
    gauge = Gauge(name, description=text, tag_keys=(*tags, *more))
    gauge.set_default_tags(tags)
    return gauge
