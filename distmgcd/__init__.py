"""Multi-grid energy-based ConvNets, trained by MCMC on one process or a cluster.

    distmgcd.load(run).sample(64, seed=0)        fresh samples of a trained run, or of "pretrained:digits"
    distmgcd.export_run(run, out)                a trained model as a small folder, to give away
    distmgcd.load_config("digits", [...])        a preset with changes
    distmgcd.train(config, storage_path, name)   train on Ray; distmgcd.debug does the same in this process
    distmgcd.train(..., start_from=run)          a new run that starts with another run's weights (or StartFrom(...))
    distmgcd.train(..., callbacks=[Mine()])      Mine is a subclass of distmgcd.Callback: called as the run goes on
    distmgcd.tune("step_size")                   search settings with Ray Tune; returns Ray's ResultGrid
    distmgcd.evaluate_run(run)                   measure a trained run; every number with its protocol
    distmgcd.inpaint_run(run)                    hide parts of held-out images, and measure how it fills them
    distmgcd.replay(run, update=50)              the chains of one update of a run again, with every step

Imports nothing heavy until a name is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; at run time a name is imported when it is first used
    from distmgcd.config import Config, load_config
    from distmgcd.errors import UserError
    from distmgcd.evaluation.evaluate_run import evaluate_run
    from distmgcd.evaluation.inpainting.inpaint_run import inpaint_run
    from distmgcd.export.export_run import export_run
    from distmgcd.launch.start_run import debug, train
    from distmgcd.launch.start_sweep import tune
    from distmgcd.models.trained_model import TrainedModel, load
    from distmgcd.runs.run_folder import StartFrom
    from distmgcd.sweep.file import read_sweep
    from distmgcd.training.callbacks import Callback
    from distmgcd.training.replay.replay_update import replay

__version__ = "0.1.0"
__all__ = [
    "Callback",
    "Config",
    "StartFrom",
    "TrainedModel",
    "UserError",
    "debug",
    "evaluate_run",
    "export_run",
    "inpaint_run",
    "load",
    "load_config",
    "read_sweep",
    "replay",
    "train",
    "tune",
]

_HOMES = {
    "Callback": "distmgcd.training.callbacks",
    "Config": "distmgcd.config",
    "StartFrom": "distmgcd.runs.run_folder",
    "TrainedModel": "distmgcd.models.trained_model",
    "UserError": "distmgcd.errors",
    "debug": "distmgcd.launch.start_run",
    "evaluate_run": "distmgcd.evaluation.evaluate_run",
    "export_run": "distmgcd.export.export_run",
    "inpaint_run": "distmgcd.evaluation.inpainting.inpaint_run",
    "load": "distmgcd.models.trained_model",
    "load_config": "distmgcd.config",
    "read_sweep": "distmgcd.sweep.file",
    "replay": "distmgcd.training.replay.replay_update",
    "train": "distmgcd.launch.start_run",
    "tune": "distmgcd.launch.start_sweep",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'distmgcd' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Only the public names, for completion in a notebook, though none is imported yet."""
    return [*__all__, "__doc__", "__name__", "__version__"]
