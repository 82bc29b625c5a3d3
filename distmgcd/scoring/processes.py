"""A run measured in this process, or by several of this machine that share the work."""

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from distmgcd.errors import UserError
from distmgcd.runs import strict_json
from distmgcd.scoring.evaluation import Tell, measure, silent
from distmgcd.scoring.request import Request
from distmgcd.scoring.subject import open_subject
from distmgcd.training.worker import LocalWorker, ProcessGroupWorker, choose_device


def evaluate_run(
    run: str,
    request: Request | None = None,
    *,
    num_workers: int = 1,
    use_gpu: bool | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Measure the run at this path; returns what its file in RUN/evaluation holds. Raises UserError.

    num_workers: processes; 1 is this one, and tell must be picklable for more. A sample is the same picture, bit for
    bit, whatever their number, and so is everything taken of single images; sums over images differ by rounding.
    """
    if num_workers < 1:
        raise UserError(f"--workers must be at least 1, but is {num_workers}; 1 measures in this process.")
    device = choose_device(use_gpu)
    subject = open_subject(run, request or Request(), device)  # whatever is wrong is told before processes start
    if num_workers == 1:
        return measure(subject, LocalWorker(device), tell)
    asked = subject.request
    del subject
    with tempfile.TemporaryDirectory(prefix="distmgcd-evaluate-") as folder:
        logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # not whom else it ends, and how
        try:
            mp.spawn(_one_of_many, args=(num_workers, folder, run, asked, device.type, tell), nprocs=num_workers)
        except mp.ProcessExitedException as error:
            raise _why(Path(folder), error) from None
        return strict_json.loads((Path(folder) / "record.json").read_text())


def _one_of_many(rank: int, num_workers: int, folder: str, run: str, request: Request, kind: str, tell: Tell) -> None:
    torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)) // num_workers))
    device = torch.device(kind, rank % torch.cuda.device_count()) if kind == "cuda" else torch.device(kind)
    # What is merged is on the CPU, so gloo serves GPUs, too; a file is the meeting place, so no port can collide.
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=num_workers)
    try:
        worker = ProcessGroupWorker(device)
        record = measure(open_subject(run, request, device), worker, tell if rank == 0 else silent)
        if rank == 0:
            (Path(folder) / "record.json").write_text(strict_json.dumps(record))
    except UserError as error:
        (Path(folder) / "mistake").write_text(str(error))
        raise SystemExit(1) from None
    finally:
        dist.destroy_process_group()


def _why(folder: Path, error: Exception) -> UserError:
    """What a process has told, or else how it ended."""
    if (folder / "mistake").exists():
        return UserError((folder / "mistake").read_text())
    return UserError(
        f"A process of the evaluation ended before its work was done ({error}); if memory ran out, lower --workers."
    )
