"""Start a run: on Ray, or in this process. Everything a user can get wrong is checked before Ray starts."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from distmgcd.config import Config
from distmgcd.data import batch_indices, check_shares
from distmgcd.environment import absolute, ray_address
from distmgcd.errors import UserError
from distmgcd.runs import learner_state
from distmgcd.runs.run_folder import Run, StartFrom
from distmgcd.training.callbacks import Callback, ShowRecords
from distmgcd.workers.num_workers import NumWorkers, bounds, check_workers

if TYPE_CHECKING:
    from distmgcd.data import ImageSet

Show = Callable[[dict[str, Any]], None]
Stop = Callable[[], bool]


def train(
    config: Config,
    *,
    storage_path: str = "runs",
    name: str,
    num_workers: NumWorkers = 2,
    use_gpu: bool | None = None,
    cpus_per_worker: int | None = None,
    wait_for_resources: bool = False,
    start_from: StartFrom | str | None = None,
    callbacks: Sequence[Callback] = (),
    show: Show | None = None,
    stop: Stop = lambda: False,
) -> dict[str, Any]:
    """Train on Ray Train, or go on where the run of this name stopped; returns what result.json holds.

    num_workers: a number, or (least, most): the run continues with fewer workers when nodes leave and with more when
    they join. use_gpu: None takes GPUs where this machine has one. cpus_per_worker: None shares this machine's, or the
    cluster's smallest node's. wait_for_resources: on a cluster without room for the workers, wait until nodes join,
    even if nothing but a person can add them. start_from: another run, whose averaged weights a new run begins with.
    callbacks: called in the process of the worker of rank 0, which gets a copy of them, see distmgcd.Callback.
    show is called here, with {"start": ...} before anything is trained, with every record of the log, and with
    {"event": ...} when workers fail. stop is asked all the time; once it is true the run saves and leaves.
    A finished run gives its result at once; with more learning.num_updates it resumes from its last checkpoint.
    Raises UserError, RunFailed, distmgcd.training.divergence.Diverged and distmgcd.workers.stop.Stopped.
    """
    check_workers(num_workers)
    use_gpu = check_gpus(use_gpu, bounds(num_workers)[1])
    if callbacks:
        from distmgcd.on_ray.train.worker_process import pack_callbacks

        pack_callbacks(callbacks)  # whether they can be sent, before anything is written
    how = {"storage_path": storage_path, "name": name, "start_from": StartFrom.of(start_from), "show": show}
    with claimed(config, num_workers=num_workers, **how) as run:
        if finished := run.result():
            return finished
        check_checkpoint(run)
        if show is not None:
            show({"start": "Starting Ray ..."})
        from distmgcd.on_ray.train.driver import train_on_ray

        return train_on_ray(
            run.config(),
            run,
            num_workers=num_workers,
            use_gpu=use_gpu,
            cpus_per_worker=cpus_per_worker,
            wait_for_resources=wait_for_resources,
            callbacks=callbacks,
            show=show,
            stop=stop,
        )


def debug(
    config: Config,
    *,
    storage_path: str = "runs",
    name: str,
    use_gpu: bool | None = None,
    plain: bool = True,
    start_from: StartFrom | str | None = None,
    callbacks: Sequence[Callback] = (),
    show: Show | None = None,
    stop: Stop = lambda: False,
) -> dict[str, Any]:
    """The same loop in this process, on one GPU or the CPU. No Ray process is started and ray is not imported.

    plain: take plain execution for speed.execution=auto, in the precision that auto has, so that breakpoints in
    core.langevin.langevin_step and in the energy's forward are hit; False leaves auto as it is, which is faster. The
    run keeps the config as given: train and debug resume each other's runs. callbacks and show: called here.
    """
    from distmgcd.training import loop
    from distmgcd.workers.collectives import LocalWorker, choose_device
    from distmgcd.workers.control import Control
    from distmgcd.workers.stop import Request

    device = choose_device(use_gpu)
    how = {"storage_path": storage_path, "name": name, "start_from": StartFrom.of(start_from), "show": show}
    with claimed(config, num_workers=1, **how) as run:
        config = _stepwise(run.config()) if plain else run.config()
        if finished := run.result():
            return finished
        worker = LocalWorker(device, Control(lambda: Request.STOP if stop() else Request.CONTINUE))
        return loop.train(config, worker, run, [*([ShowRecords(show)] if show else []), *callbacks])


def _stepwise(config: Config) -> Config:
    """With plain execution, if none is chosen: it goes through functions that a debugger can stop in."""
    if config.speed.execution != "auto":
        return config
    return config.model_copy(update={"speed": config.speed.model_copy(update={"execution": "plain"})})


@contextmanager
def claimed(
    config: Config,
    *,
    storage_path: str,
    name: str,
    num_workers: NumWorkers,
    start_from: StartFrom | None = None,
    show: Show | None = None,
) -> Iterator[Run]:
    """Check data, batch and run name together, then write what a new run is. Raises UserError.

    show is called with {"start": ...}, a line each: what a user should know before it begins. Inside, no other command
    on this machine trains the run.
    """
    from distmgcd.launch.start_lines import start_lines
    from distmgcd.models.run_images import record_of_old_run
    from distmgcd.runs import checkpoint, lock
    from distmgcd.runs.identity import data_record
    from distmgcd.training import origin

    config = with_absolute_path(config)
    run = Run.at(storage_path, name)
    if checkpoint.is_exported(run.store):
        raise UserError(
            f"{run.store.location} is an exported model: it has no optimiser to go on with; "
            f"--from {run.store.location} --name NEW trains a new run that begins with its weights."
        )
    run.check_settings(config)  # before its images: with other settings these may not be had at all
    images, held_out = _open_images(config, num_workers, run)
    with lock.locked(run.store):
        record_of_old_run(run, config)
        origin.prepare(run, config, start_from)
        notes = run.claim(config, data_record(images, held_out))
        checkpoint.complete_left_overs(run.store)
        finished = run.result()
        if not finished:
            origin.write_start(run, run.config(), images)
        if show is not None:
            for line in () if finished else start_lines(run.config(), images, held_out):
                show({"start": line})
            for note in notes:
                show({"event": note})
        yield run


def _open_images(config: Config, num_workers: NumWorkers, run: Run) -> "tuple[ImageSet, ImageSet]":
    """Those to learn from and those held out, enough of them for the batch and its shares. Raises UserError."""
    from distmgcd.launch.start_lines import check_different_splits
    from distmgcd.models.assemble import open_held_out_images, open_training_images

    try:
        images, held_out = open_training_images(config), open_held_out_images(config)
    except UserError as error:
        if run.store.exists("config.yaml") and run.config().data.path == config.data.path:
            why = f"{str(error).rstrip('.')}; where the same images are now, data.path=PATH goes on with the run"
            raise UserError(f"{why} {run.store.location}.") from None
        raise
    if not run.store.exists("config.yaml"):  # a run that was begun so may go on
        check_different_splits(config, images, held_out)
    if config.evaluate.features:
        import torch

        from distmgcd.evaluation.distances.measure import sample_distances
        from distmgcd.workers.collectives import LocalWorker

        sample_distances(config, held_out, LocalWorker(torch.device("cpu")))  # whether its network can be had
    learning = config.learning
    batch_indices(0, num_images=len(images), global_batch_size=learning.global_batch_size, seed=config.seed)
    check_shares(learning.global_batch_size, *bounds(num_workers), block=learning.block_size or 1)
    return images, held_out


def with_absolute_path(config: Config) -> Config:
    """Workers run in folders of their own, so relative paths of data and of feature weights are made absolute."""
    data = config.data.model_copy(update={"path": _absolute(config.data.path)})
    evaluate = config.evaluate.model_copy(update={"features": absolute_features(config.evaluate.features)})
    return config.model_copy(update={"data": data, "evaluate": evaluate})


def absolute_features(features: str | None) -> str | None:
    """A weight file's absolute path; a network's name as it is."""
    if features is None:
        return None
    from distmgcd.evaluation.features.networks import NAMES

    return features if features in NAMES else str(absolute(features))


def _absolute(path: str) -> str:
    if path.startswith("torchvision:"):
        return re.sub(r"(?<=[?&]root=)[^&]+", lambda root: str(absolute(root[0])), path)
    if "://" in path or path.startswith("sklearn:"):
        return path
    return str(absolute(path))


def check_checkpoint(run: Run) -> None:
    """See that the checkpoint to go on from, if there is one, fits the config. Raises UserError."""
    from distmgcd.models.assemble import make_model
    from distmgcd.runs import checkpoint

    if found := checkpoint.to_resume_from(run.store, warn=lambda _: None):  # the loop is the one to warn
        learner_state.load_weights(make_model(run.config()), found, "model.safetensors")


def check_gpus(use_gpu: bool | None, num_workers: int, *, option: str = "--workers") -> bool:
    """Whether to use GPUs. On a cluster Ray finds them; here every worker needs one of its own. Raises UserError.

    option: what a user says the number of workers by.
    """
    if ray_address() is not None:
        return bool(use_gpu)
    import torch

    num_gpus = torch.cuda.device_count()
    if use_gpu and num_gpus < num_workers:
        raise UserError(
            f"--gpu with {option} {num_workers} needs {num_workers} GPUs, but this machine has {num_gpus}; lower "
            f"{option}, or give --cpu."
        )
    return num_gpus >= num_workers if use_gpu is None else use_gpu
