"""What each of several processes does in a test; a file is their meeting place, so that no port can collide."""

import json
import traceback
from pathlib import Path

import torch
import torch.distributed as dist
from tiny_runs import tiny_config

from distmgcd.evaluation.distances.measure import SampleDistances
from distmgcd.evaluation.features.networks import open_features
from distmgcd.models import sampling
from distmgcd.models.assemble import make_model, open_held_out_images
from distmgcd.runs.run_folder import Run
from distmgcd.runs.store import Store
from distmgcd.training import loop
from distmgcd.workers.collectives import ProcessGroupWorker, Worker
from distmgcd.workers.control import GroupControl
from distmgcd.workers.end_rank import be_one_of_many
from distmgcd.workers.stop import Request


def run_rank(rank: int, num_ranks: int, folder: str) -> None:
    torch.set_num_threads(1)

    def work() -> None:
        try:
            everything(Path(folder), rank)
        except BaseException:
            traceback.print_exc()
            raise

    be_one_of_many(work, "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=num_ranks)


def everything(folder: Path, rank: int) -> None:
    """All that is tried with two workers, in one go, for a process takes seconds to start."""
    worker = ProcessGroupWorker(torch.device("cpu"))
    if rank != 0:
        Store.write = Store.delete_folder = Store.rename_folder = not_mine
    torch.save(collectives(worker), folder / f"collectives{rank}.pt")
    results = {
        name: loop.train(Run.open(str(folder / name)).config(), worker, Run.open(str(folder / name)))
        for name in ("run", "wild", "after", "best")
    }
    torch.save(samples(worker, folder / "run"), folder / f"samples{rank}.pt")
    torch.save(distances(worker), folder / f"distances{rank}.pt")
    dist.barrier()
    if rank == 0:
        cut(folder)
    dist.barrier()
    results["cut"] = loop.train(Run.open(str(folder / "cut")).config(), worker, Run.open(str(folder / "cut")))
    (folder / f"results{rank}.json").write_text(json.dumps(results))


def not_mine(self: Store, name: str, *_: object) -> None:
    raise AssertionError(f"a worker that is not the first writes {name}")


def collectives(worker: ProcessGroupWorker) -> dict[str, torch.Tensor]:
    rank = worker.rank
    mine = torch.arange(2 + rank).float()[:, None] + 10 * rank  # as many rows as no other rank has
    return {
        "mean": worker.mean(torch.tensor([1.0, 3.0]) * (rank + 1)),
        "gathered": worker.gather(mine),
        "gathered_of_one": worker.gather(mine[: 1 - rank]),
        "agreed": torch.tensor(agreed(rank)),
        "left": torch.tensor(left(rank)),
        "shared": shared(worker),
    }


def shared(worker: ProcessGroupWorker) -> torch.Tensor:
    """A weight and a buffer of a model that the second worker begins otherwise."""
    model = torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 3))
    with torch.no_grad():
        for value in model.state_dict().values():
            value.fill_(worker.rank + 1)
    worker.share(model)
    return torch.cat([value.flatten() for value in model.state_dict().values()])


def agreed(rank: int) -> list[int]:
    """What is agreed on at five updates, where the second worker alone wishes something at the second and third."""
    wishes = iter([Request.CONTINUE, Request.SAVE, Request.STOP, Request.CONTINUE, Request.CONTINUE])
    control = GroupControl(lambda: Request.CONTINUE if rank == 0 else next(wishes))
    return [int(control.before_update(update)) for update in range(5)]


def left(rank: int) -> list[int]:
    """As agreed, where the second worker's wish is asked after between two updates: there only leaving counts."""
    wishes = iter([Request.SAVE, Request.CONTINUE, Request.CONTINUE, Request.STOP, Request.STOP])
    control = GroupControl(lambda: Request.CONTINUE if rank == 0 else next(wishes))
    asked = (control.leaving, control.leaving, lambda: control.before_update(0), control.leaving, control.leaving)
    return [int(ask()) for ask in asked]


def samples(worker: ProcessGroupWorker, run: Path) -> dict[int, list[torch.Tensor]]:
    """1 and 5 of them: shares that are empty, and shares that differ."""
    from distmgcd.runs import checkpoint, learner_state

    opened = Run.open(str(run))
    found, model = checkpoint.newest(opened.store), make_model(opened.config())
    learner_state.load_weights(model, found, "ema.safetensors")
    return {num: sampling.fresh_samples(model, found.starts(), num, opened.config(), worker, seed=1) for num in (1, 5)}


def distances(worker: Worker) -> list[dict[str, dict[str, float]] | None]:
    """Of 150 pictures, of which one worker sees two batches and the other one, and of 3, of which one sees none."""
    held_out = open_held_out_images(tiny_config())
    images, found = torch.rand(150, 1, 8, 8, generator=torch.Generator().manual_seed(0)), []
    for num in (150, 3):
        network, how = open_features("random"), {"sizes": (2, 8), "num_samples": num}
        of_set = SampleDistances({"swd", "fd"}, held_out, worker, network=network, **how)([images[:num]])
        found.append(of_set and {family: of.mean for family, of in of_set.items()})
    return found


def cut(folder: Path) -> None:
    """The finished run as it was at an earlier checkpoint."""
    import shutil

    shutil.copytree(folder / "run", folder / "cut")
    (folder / "cut" / "result.json").unlink()
    shutil.rmtree(folder / "cut" / "checkpoints" / "update_000006")
    shutil.rmtree(folder / "cut" / "checkpoints" / "update_000004")
