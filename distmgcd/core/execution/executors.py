"""Several executions of the same chain, chosen by config and kind of device.

    plain      core.langevin with autograd: the reference
    traced     the gradient traced once to a flat list of operations (traced.py), some convolutions as matrix products
    compiled   the same list through torch.compile
    captured   on CUDA, the same list K times as one graph that is launched at once (captured.py)

Each may run the network in bf16. State, drift and noise stay fp32: near 1.0 the neighbour of a bf16 number is 0.008
away, as far as a step's noise goes.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Literal, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from distmgcd.core.energy import ConvEnergy
from distmgcd.core.execution.captured import CapturedChain
from distmgcd.core.execution.conv_forms import channels_last_pays
from distmgcd.core.execution.devices import fp32_products, multiplies_bf16
from distmgcd.core.execution.traced import TracedGradient, in_bf16
from distmgcd.core.execution.warn_once import first_line, warn_once
from distmgcd.core.langevin import (
    FixedPixels,
    Langevin,
    StepInfo,
    chain_end,
    energy_and_grad,
    langevin_step,
    langevin_update,
)


class ChainExecutor(Protocol):
    """Walks chains; as the functions of core.langevin do."""

    def iter_steps(
        self,
        energy: ConvEnergy,
        x: Tensor,
        noise: Iterable[Tensor],
        langevin: Langevin,
        fixed: FixedPixels | None = None,
    ) -> Iterator[tuple[Tensor, StepInfo]]: ...

    def run_chain(
        self,
        energy: ConvEnergy,
        x: Tensor,
        noise: Iterable[Tensor],
        langevin: Langevin,
        fixed: FixedPixels | None = None,
    ) -> tuple[Tensor, StepInfo | None]: ...


class Speed(NamedTuple):
    """How chains are to be walked; auto is decided by the kind of device."""

    execution: Literal["auto", "plain", "traced", "compiled", "captured"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "tf32"] = "auto"
    channels_last: Literal["auto"] | bool = "auto"

    def on(self, device: torch.device) -> "Speed":
        """The same without what the device cannot do, of which the user is told, and without auto.

        But for the layout of fp32, which is a matter of the network, too.
        """
        cuda = device.type == "cuda"
        execution, precision, channels_last = self
        if execution == "auto":
            execution = "captured" if cuda else "traced"
        elif execution == "captured" and not cuda:
            warn_once(f"speed.execution=captured needs a CUDA GPU, but this is the {device.type}: chains are traced.")
            execution = "traced"
        if precision == "auto":
            precision = "bf16" if multiplies_bf16(device) else "fp32"
        elif precision == "tf32" and not cuda:
            warn_once(f"speed.precision=tf32 needs a CUDA GPU, but this is the {device.type}: it is fp32.")
            precision = "fp32"
        if channels_last == "auto" and precision == "bf16":
            channels_last = True
        return Speed(execution, precision, channels_last)


def executor_of(speed: Speed) -> ChainExecutor:
    return PlainExecutor(speed) if speed.execution == "plain" else TracedExecutor(speed)


class PlainExecutor:
    """Chains by langevin_step and the energy's own forward, with autograd: the reference, and for a debugger.

    Maps lie in memory as torch has them, whatever speed.channels_last is.
    """

    def __init__(self, speed: Speed):
        self._speed = speed

    def iter_steps(
        self,
        energy: ConvEnergy,
        x: Tensor,
        noise: Iterable[Tensor],
        langevin: Langevin,
        fixed: FixedPixels | None = None,
    ) -> Iterator[tuple[Tensor, StepInfo]]:
        """The chain from x, step by step, as langevin.iter_steps."""
        precision = self._speed.on(x.device).precision
        energy = in_bf16(energy) if precision == "bf16" else energy
        for z in noise:
            with _products(x, precision):
                x, info = langevin_step(energy, x, z, langevin, fixed)
            yield x, info

    def run_chain(
        self,
        energy: ConvEnergy,
        x: Tensor,
        noise: Iterable[Tensor],
        langevin: Langevin,
        fixed: FixedPixels | None = None,
    ) -> tuple[Tensor, StepInfo | None]:
        """The end of the chain from x, as langevin.run_chain."""
        info = None
        for step in self.iter_steps(energy, x, noise, langevin, fixed):
            x, info = step
        return chain_end(x, langevin, fixed), info


PLAIN = PlainExecutor(Speed("plain", "fp32"))


class TracedExecutor:
    """Chains by a traced gradient. What was traced for an energy serves it as long as it lives, whatever its weights.

    The energies must be frozen meanwhile (energy.frozen): their weights are read when a chain starts.
    """

    def __init__(self, speed: Speed):
        self._speed = speed
        self._traced: WeakKeyDictionary[ConvEnergy, dict[tuple, _Traced | None]] = WeakKeyDictionary()
        self._captured: WeakKeyDictionary[ConvEnergy, dict[tuple, CapturedChain | None]] = WeakKeyDictionary()

    def iter_steps(
        self,
        energy: ConvEnergy,
        x: Tensor,
        noise: Iterable[Tensor],
        langevin: Langevin,
        fixed: FixedPixels | None = None,
    ) -> Iterator[tuple[Tensor, StepInfo]]:
        """The chain from x, step by step, as langevin.iter_steps."""
        grad_at = self._gradient(energy, x)
        for z in noise:
            x, info = langevin_update(x, *grad_at(x), z, langevin, fixed)
            yield x, info

    def run_chain(
        self,
        energy: ConvEnergy,
        x: Tensor,
        noise: Iterable[Tensor],
        langevin: Langevin,
        fixed: FixedPixels | None = None,
    ) -> tuple[Tensor, StepInfo | None]:
        """The end of the chain from x, as langevin.run_chain; where it is captured, noise is as long as the chain."""
        traced = self._traced_for(energy, x)
        if traced and traced.speed.execution == "captured":
            captured = self._captured_for(energy, x, langevin, traced, fixed)
            if captured:
                return captured(x, noise, traced.prepare(energy), langevin, fixed)
        grad_at, info = self._gradient(energy, x), None
        for z in noise:
            x, info = langevin_update(x, *grad_at(x), z, langevin, fixed)
        return chain_end(x, langevin, fixed), info

    def _gradient(self, energy: ConvEnergy, x: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """The slope of an energy as its weights are now."""
        traced = self._traced_for(energy, x)
        return traced.energy_and_grad(energy) if traced else partial(energy_and_grad, energy)

    def _traced_for(self, energy: ConvEnergy, x: Tensor) -> "_Traced | None":
        """None where it cannot be traced."""
        of_shape = self._traced.setdefault(energy, {})
        if (key := (x.shape, x.device)) not in of_shape:
            of_shape[key] = _trace(energy, x, self._speed.on(x.device)) if len(x) else None
        return of_shape[key]

    def _captured_for(
        self, energy: ConvEnergy, x: Tensor, langevin: Langevin, traced: "_Traced", fixed: FixedPixels | None
    ) -> CapturedChain | None:
        """None where it cannot be captured."""
        captured = self._captured.setdefault(energy, {})
        if (key := (x.shape, x.device, langevin.num_steps, langevin.clamp, fixed is not None)) not in captured:
            captured[key] = _capture(traced, energy, x, langevin, fixed)
        return captured[key]


class _Traced:
    """The slope of an energy for images of one shape."""

    def __init__(self, energy: ConvEnergy, x: Tensor, speed: Speed):
        dtype = torch.bfloat16 if speed.precision == "bf16" else torch.float32
        layout = channels_last_pays(energy, x) if speed.channels_last == "auto" else speed.channels_last
        found = TracedGradient(energy, x, dtype=dtype, channels_last=layout)
        self.speed, self.prepare, self._step = speed, found.prepare, found.step.forward
        if speed.execution == "compiled":
            self._step = _compiled(found.step, x, found.prepare(energy))

    def step(self, x: Tensor, *prepared: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), _products(x, self.speed.precision):
            return self._step(x, *prepared)

    def energy_and_grad(self, energy: ConvEnergy) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        prepared = self.prepare(energy)
        return lambda x: self.step(x, *prepared)


def _products(x: Tensor, precision: str) -> AbstractContextManager[None]:
    """Inside, fp32 products are of this precision where a device has several."""
    return fp32_products(tf32=precision == "tf32") if x.is_cuda else nullcontext()


def _trace(energy: ConvEnergy, x: Tensor, speed: Speed) -> _Traced | None:
    try:
        return _Traced(energy, x, speed)
    except Exception as error:  # whatever torch raises of a network that it cannot trace
        warn_once(f"A network cannot be traced ({first_line(error)}): its chains run plain, in fp32.")
        return None


def _capture(
    traced: _Traced, energy: ConvEnergy, x: Tensor, langevin: Langevin, fixed: FixedPixels | None
) -> CapturedChain | None:
    try:
        return CapturedChain(traced.step, x, traced.prepare(energy), langevin, fixed)
    except Exception as error:  # whatever CUDA raises
        warn_once(f"A chain cannot be captured as a CUDA graph ({first_line(error)}): it is traced.")
        return None


def _compiled(step: torch.nn.Module, x: Tensor, prepared: list[Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    compiled = torch.compile(step, dynamic=False, fullgraph=True)
    try:
        with torch.no_grad():
            compiled(x, *prepared)
    except Exception as error:  # no C++ compiler, or whatever else the compiler raises
        warn_once(f"torch.compile failed ({first_line(error)}): chains are traced instead.")
        return step.forward
    return compiled
