"""A run measured in this process, or by several of this machine that share the work."""

import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.multiprocessing as mp
from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException, spawn

from distmgcd.environment import threads_asked_for, usable_cpus
from distmgcd.errors import UserError
from distmgcd.evaluation.measure_run import Show, measure, silent
from distmgcd.evaluation.record import check_writable, results_of
from distmgcd.evaluation.subject import Request, open_subject
from distmgcd.runs import strict_json
from distmgcd.runs.run_folder import Run
from distmgcd.workers.collectives import LocalWorker, ProcessGroupWorker, choose_device
from distmgcd.workers.end_rank import be_one_of_many

_LOOK_EVERY_S = 0.2


def evaluate_run(
    run: str,
    request: Request | None = None,
    *,
    num_workers: int = 1,
    use_gpu: bool | None = None,
    show: Show = silent,
) -> dict[str, Any]:
    """Measure the run at this path; returns what its file in RUN/evaluation holds. Raises UserError.

    num_workers: processes; 1 is this one. The numbers are the same on any number of them. show is called in this
    process.
    """
    if num_workers < 1:
        raise UserError(f"--workers must be at least 1, but is {num_workers}; 1 measures in this process.")
    device = choose_device(use_gpu)
    request = request or Request()
    check_writable(results_of(Run.open(run), request.out))
    subject = open_subject(run, request, device)  # so that a mistake is found before processes start
    if num_workers == 1:
        record = measure(subject, LocalWorker(device), show)
        assert record is not None  # as in every first worker
        return record
    show(f"Starting {num_workers} processes ...")
    asked = subject.request
    del subject
    with tempfile.TemporaryDirectory(prefix="distmgcd-evaluate-") as folder:
        logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # not whom else it ends, and how
        lines = mp.get_context("spawn").SimpleQueue()
        with _script_left_alone():
            args = (num_workers, folder, run, asked, device.type, lines)
            processes = spawn(_one_of_many, args=args, nprocs=num_workers, join=False)
        assert processes is not None  # as join=False has it
        try:
            _follow(processes, lines, show)
        except ProcessExitedException as error:
            raise _why(Path(folder), error) from None
        finally:
            lines.close()
        return strict_json.loads((Path(folder) / "record.json").read_text())


def _follow(processes: ProcessContext, lines: SimpleQueue, show: Show) -> None:
    """Show the lines that they send until they end. Raises ProcessExitedException; in the end no process is left."""
    try:
        ended = False
        while not ended:
            ended = processes.join(timeout=_LOOK_EVERY_S)
            while not lines.empty():
                show(lines.get())
    finally:
        for process in processes.processes:
            process.terminate()


@contextmanager
def _script_left_alone() -> Iterator[None]:
    """Let processes start without the user's script: each would run it again, or not find what came by a pipe."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _one_of_many(
    rank: int, num_workers: int, folder: str, run: str, request: Request, kind: str, lines: SimpleQueue
) -> None:
    torch.set_num_threads(max(1, (threads_asked_for() or usable_cpus()) // num_workers))
    device = torch.device(kind, rank % torch.cuda.device_count()) if kind == "cuda" else torch.device(kind)
    # What is merged is on the CPU, so gloo serves GPUs, too; a file is the meeting place, so no port can collide.

    def work() -> None:
        worker = ProcessGroupWorker(device)
        record = measure(open_subject(run, request, device), worker, lines.put if rank == 0 else silent)
        if rank == 0:
            (Path(folder) / "record.json").write_text(strict_json.dumps(record))

    try:
        be_one_of_many(work, "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=num_workers)
    except UserError as error:
        (Path(folder) / "mistake").write_text(str(error))
        raise SystemExit(1) from None


def _why(folder: Path, error: Exception) -> UserError:
    """What a process has lines, or else how it ended."""
    if (folder / "mistake").exists():
        return UserError((folder / "mistake").read_text())
    return UserError(
        f"A process of the evaluation ended before its work was done ({error}); if memory ran out, lower --workers."
    )
