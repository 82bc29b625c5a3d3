"""Every rank is told of its own throughput, and of what the log says."""

from pathlib import Path
from typing import Any

import torch
from tiny_runs import records_of, tiny_config

from distmgcd.runs.run_folder import Run
from distmgcd.training import loop
from distmgcd.workers.collectives import LocalWorker


class Metered(LocalWorker):
    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.told: list[tuple[dict[str, Any], float]] = []

    def meter(self, record: dict[str, Any], *, images_per_s: float) -> None:
        self.told.append((record, images_per_s))


def test_a_worker_is_told_every_record_and_its_share_of_the_throughput(tmp_path: Path):
    run, worker = Run.at(str(tmp_path), "run"), Metered()
    run.claim(tiny_config())
    loop.train(run.config(), worker, run)
    assert [record for record, _ in worker.told] == [r for r in records_of(tmp_path) if "grids" in r]
    assert all(images_per_s == record["images_per_s"] for record, images_per_s in worker.told)  # alone: it does all
