"""Makes a worker of a run go wrong at an update: Python imports this where its folder is on PYTHONPATH.

DISTMGCD_SABOTAGE=HOW:RANK:UPDATE:FILE, once, for which it makes FILE. HOW is
    loop      an endless loop, in Python
    chain     the same in the chains of the second grid
    mistake   a UserError that this worker alone sees
    error     an exception, every time
    wait      nothing, until somebody else makes FILE or the run is asked to stop: a fast machine gets no further
"""

import os
import sys
import time
from dataclasses import replace
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path

SABOTAGED = "distmgcd.training.loop"


def sabotage(loop) -> None:
    how, rank, update, file = os.environ["DISTMGCD_SABOTAGE"].split(":")
    advance = loop.advance

    def advance_or_not(training) -> None:
        if training.worker.rank == int(rank) and training.progress.update == int(update) and not Path(file).exists():
            if how == "error":
                raise ValueError("it is broken")
            if how == "wait":
                while not (Path(file).exists() or asked(training.worker)):
                    time.sleep(0.01)
                return advance(training)
            Path(file).touch()
            if how == "chain":
                return advance(replace(training, method=replace(training.method, executor=Endless())))
            if how == "mistake":
                raise loop_errors().UserError("The disk of this machine is empty; fill it.")
            while True:
                pass
        advance(training)

    loop.advance = advance_or_not


class Endless:
    """Walks the chains of a grid for ever, but those of the first grid not at all."""

    num_grids = 0

    def run_chain(self, energy, x, noise, langevin, *held):
        from distmgcd.core.langevin import StepInfo

        self.num_grids += 1
        while self.num_grids == 2:
            pass
        return x, StepInfo(x.flatten(1).sum(1), x)


def asked(worker) -> bool:
    """Whether a worker is asked to save or stop."""
    return bool(worker.control._requested())


def loop_errors():
    from distmgcd import errors

    return errors


class _Finder(MetaPathFinder):
    """Lets the module be loaded as it is, then changes it."""

    def find_spec(self, name, path, target=None):
        if name != SABOTAGED:
            return None
        spec = PathFinder.find_spec(name, path)
        spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        sabotage(module)


if "DISTMGCD_SABOTAGE" in os.environ:
    sys.meta_path.insert(0, _Finder())
