"""How many trials fit beside each other, such that none of them waits for ever for its own workers."""

from dataclasses import dataclass

from distmgcd.errors import UserError


@dataclass(frozen=True)
class TrialResources:
    concurrent: int  # trials at a time
    workers: int  # Ray Train workers of each; 0: the trial is one process and trains by itself
    threads: int  # of a worker, each on a CPU of its own
    use_gpu: bool  # a GPU for each worker

    @property
    def cpus(self) -> int:
        """Of all trials at a time."""
        return self.concurrent * max(1, self.workers) * self.threads


def resources_that_fit(
    *,
    where: str,
    cpus: int,
    gpus: int,
    workers: int,
    threads: int,
    use_gpu: bool,
    concurrent: int | None,
    num_trials: int,
) -> TrialResources:
    """What fits on `where` ("this machine") with so many CPUs and GPUs. Raises UserError if that is too little.

    concurrent: None takes as many as fit, but no more than there are trials.
    """
    if workers < 0 or (concurrent is not None and concurrent < 1):
        raise UserError(
            f"--workers-per-trial must be at least 0 and --concurrent at least 1, but are {workers}, {concurrent}."
        )
    processes = max(1, workers)
    fits = min(cpus // (processes * threads), gpus // processes if use_gpu else cpus)
    if fits < (concurrent or 1):
        of_trial = f"{processes * threads} CPUs" + (f" and {processes} GPUs" if use_gpu else "")
        there = f"{cpus} CPUs" + (f" and {gpus} GPUs" if use_gpu else "")
        way_out = f"lower --concurrent to {fits}" if fits else "lower --workers-per-trial or OMP_NUM_THREADS"
        raise UserError(
            f"{concurrent or 1} trials at once, each with {of_trial} for {processes} workers of {threads} threads, do "
            f"not fit on {where}, which has {there}; {way_out}."
        )
    return TrialResources(concurrent or min(fits, num_trials), workers, threads, use_gpu)
