"""How many trials of a sweep a cluster has room for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from distmgcd.errors import UserError
from distmgcd.on_ray.cluster.resources import Resources, num_once_grown, wait_for_room
from distmgcd.sweep.parallel_trials import TrialResources


@dataclass(frozen=True)
class ClusterTrialResources:
    """Known once it is known how large the cluster is."""

    of: Callable[[int, int], TrialResources]  # its CPUs and GPUs; raises UserError if that is too little
    num_workers: int  # that must fit at least
    each: Resources

    def wait(self, *, even_if_never: bool, show: Callable[[dict[str, Any]], None] | None) -> TrialResources:
        """The room there is, as soon as it is enough. Raises UserError where it never will be."""
        try:
            return self._now()
        except UserError:
            if not even_if_never and num_once_grown(self.each) < self.num_workers:
                raise

        def tell(event: dict[str, Any]) -> None:
            if show is not None:
                show({"event": "warning", "text": event["event"]})

        wait_for_room(self.num_workers, self.each, even_if_never=True, show=tell)
        return self._now()

    def _now(self) -> TrialResources:
        found = ray.cluster_resources()
        return self.of(int(found.get("CPU", 0)), int(found.get("GPU", 0)))
