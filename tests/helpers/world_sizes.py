"""Updates of the digits preset by some number of workers; what each of them does in a process of its own."""

from pathlib import Path

import torch
from torch import Tensor

from distmgcd.config import Config, load_config
from distmgcd.core.learning import Learned
from distmgcd.runs.run_folder import Run
from distmgcd.training import loop, state
from distmgcd.workers.collectives import LocalWorker, ProcessGroupWorker, Worker
from distmgcd.workers.end_rank import be_one_of_many

PRESET = "learning.global_batch_size=64"  # as digits has it; smaller batches magnify rounding more
LONG = {
    "plain": (PRESET,),
    "blocks": (PRESET, "learning.block_size=16", "evaluate.features=random"),
    "blocks_in_bf16": ("learning.block_size=8", "evaluate.features=random", "speed.precision=bf16"),
}
SHORT = {f"{norm}_norm": ("learning.block_size=8", f"network.norm={norm}") for norm in ("batch", "spectral", "layer")}
SHORT["persistent"] = ("learning.block_size=8", "data.validation=0.95", "start.kind=persistent")  # 3 visits to an image
STARTS = {
    "data": ("learning.block_size=8", "start.kind=data"),
    "noise": ("learning.block_size=8", "start.kind=noise"),
    "single": ("learning.block_size=8", "start.kind=single", "grids.sizes=[8]", "network.channels=[64,64,64]",
               "network.kernels=3", "network.strides=[2,1,1]"),
    "persistent": SHORT["persistent"],
}  # fmt: skip
ALL = LONG | SHORT | STARTS
NUM_UPDATES = {**dict.fromkeys(LONG, 20), **dict.fromkeys(SHORT | STARTS, 3), "persistent": 6, "blocks_in_bf16": 4}


def config_of(name: str) -> Config:
    """Chains of 5 steps and batches of 4 blocks, so that a test can wait for it; alike on every machine."""
    return load_config(
        "digits",
        [
            f"learning.num_updates={NUM_UPDATES[name]}",
            "learning.warmup=2",
            "learning.global_batch_size=32",
            "langevin.num_steps=5",
            "evaluate.num_samples=20",
            "evaluate.num_draws=1",
            "evaluate.untrained=false",
            "watch.max_gap=100",
            "watch.max_drift=10",
            "speed.execution=traced",
            "speed.precision=fp32",
            *ALL[name],
        ],
    )


def run_rank(rank: int, num_ranks: int, folder: str, names: tuple[str, ...]) -> None:
    """A file is the meeting place, so that no port can collide."""
    torch.set_num_threads(1)

    def work() -> None:
        for name in names:
            train(Path(folder), name, ProcessGroupWorker(torch.device("cpu")))

    be_one_of_many(work, "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=num_ranks)


def train(folder: Path, name: str, worker: Worker | None = None, *, one_ulp: int | None = None) -> None:
    """A whole run; the pictures that its last update synthesised are left in NAME.pictures.RANK.

    one_ulp: a seed; every weight then starts from the next number above or below, at random.
    """
    worker = worker or LocalWorker(torch.device("cpu"))
    run = Run.at(str(folder), name)
    if worker.rank == 0:
        run.claim(config_of(name))
    pictures: dict[str, Tensor] = {}
    learn, learn_in_blocks, make_model = loop.learn, loop.learn_in_blocks, state.make_learner
    loop.learn, loop.learn_in_blocks = keeping(learn, pictures), keeping(learn_in_blocks, pictures)
    if one_ulp is not None:
        state.make_learner = nudged(make_model, one_ulp)
    try:
        loop.train(config_of(name), worker, run)
    finally:
        loop.learn, loop.learn_in_blocks, state.make_learner = learn, learn_in_blocks, make_model
    torch.save(pictures, folder / f"{name}.pictures.{worker.rank}")


def keeping(learn, pictures: dict[str, Tensor]):
    """learn, which also keeps what it synthesised last."""

    def wrapped(learner, pixels, indices, *args, **kwargs) -> Learned:
        learned = learn(learner, pixels, indices, *args, **kwargs)
        pictures.clear()
        pictures.update({"indices": indices, **{str(x.shape[-1]): x for x in learned.synthesised}})
        return learned

    return wrapped


def nudged(make_learner, seed: int):
    """make_learner, but every weight that is not 0 is the next number above or below."""

    def wrapped(*args):
        learner, generator = make_learner(*args), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight, averaged in zip(learner.model.parameters(), learner.ema.parameters(), strict=True):
                up = torch.rand(weight.shape, generator=generator) < 0.5
                weight.copy_(torch.where(weight == 0, weight, torch.nextafter(weight, torch.where(up, 9.0, -9.0))))
                averaged.copy_(weight)
        return learner

    return wrapped
