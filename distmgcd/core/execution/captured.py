"""All steps of a chain as one CUDA graph: launched at once, without Python or a launch per operation between them.

A graph reads and writes fixed memory. So every chain is copied in (start, noise, fixed pixels, weights as they are now,
the two numbers of the step) and its end is copied out: neither an optimiser step nor another step size needs a new
capture.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from distmgcd.core.langevin import FixedPixels, Langevin, StepInfo, chain_end

Step = Callable[..., tuple[Tensor, Tensor]]  # (x, *prepared weights) to U(x) and its gradient
Capture = Callable[[Callable[[], None]], Callable[[], None]]  # from some work, what does it again


def cuda_graph(work: Callable[[], None]) -> Callable[[], None]:
    """What replays the work's operations on the memory that they use now.

    Captured in a stream of its own: matrix products get their working memory by stream, and two graphs may run at once.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):  # others may pin memory meanwhile
        work()
    return graph.replay


class CapturedChain:
    """The chains of one grid in batches of one shape, K steps each."""

    def __init__(
        self,
        step: Step,
        x: Tensor,
        prepared: list[Tensor],
        langevin: Langevin,
        fixed: FixedPixels | None = None,
        *,
        capture: Capture = cuda_graph,
    ):
        self._step, self._langevin = step, langevin
        self._fixed = None if fixed is None else FixedPixels(*map(torch.clone, fixed))
        self._start, self._noise = torch.zeros_like(x), x.new_zeros(langevin.num_steps, *x.shape)
        self._prepared = [weight.clone() for weight in prepared]
        self._drift_scale, self._noise_std = x.new_zeros(()), x.new_zeros(())
        self._end, self._drift, self._energy = torch.zeros_like(x), torch.zeros_like(x), x.new_zeros(len(x))
        with torch.no_grad():
            self._replay = capture(self._run_steps)

    def __call__(
        self,
        x: Tensor,
        noise: Iterable[Tensor],
        prepared: list[Tensor],
        langevin: Langevin,
        fixed: FixedPixels | None = None,
    ) -> tuple[Tensor, StepInfo]:
        """The end of the chain from x, as langevin.run_chain.

        The number of steps, the clamp and whether pixels are fixed must be those captured.
        """
        self._start.copy_(x)
        for place, values in zip(self._fixed or (), fixed or (), strict=True):
            place.copy_(values)
        torch._foreach_copy_(list(self._noise), list(noise))
        torch._foreach_copy_(self._prepared, prepared)
        self._drift_scale.fill_(langevin.drift_scale)
        self._noise_std.fill_(langevin.noise_std)
        self._replay()
        return self._end.clone(), StepInfo(self._energy.clone(), self._drift.clone())

    def _run_steps(self) -> None:
        x = self._start
        for z in self._noise:
            u, gradient = self._step(x, *self._prepared)
            drift = gradient * self._drift_scale
            x = x - drift + z * self._noise_std
            if self._langevin.clamp == "step":
                x = x.clamp(-1.0, 1.0)
            if self._fixed is not None:
                x = self._fixed.put_back(x)
        self._end.copy_(chain_end(x, self._langevin, self._fixed))
        self._drift.copy_(drift)
        self._energy.copy_(u)
