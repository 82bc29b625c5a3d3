"""Where the time of one update goes: by phase, with plain timers, and by kind of work, with torch's profiler.

Phases are parts of one update, timed one after the other (on CUDA by events in the stream); that this costs next to
nothing is measured beside the same update untimed. Kinds of work are of the same update under torch.profiler, whose
own cost is measured, too; it falls most on small operators, so theirs are upper bounds.
"""

import os
import re
import statistics
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch.profiler import ProfilerActivity, record_function

from distmgcd.bench import timing
from distmgcd.bench.machine import describe, protocol
from distmgcd.bench.phases import Around, Clock, learn_by_phase
from distmgcd.bench.updates import Batch, training_pixels
from distmgcd.config import Config
from distmgcd.core.learning import learn
from distmgcd.models.assemble import make_learner, make_method
from distmgcd.workers.collectives import LocalWorker, choose_device

NUM_ROUNDS = 5
NUM_PROFILED = 3
_NUM_LARGEST = 3  # operators that are named, of every kind of work


def bench_profile(config: Config, *, use_gpu: bool | None = None) -> dict[str, Any]:
    """Phases, classes, the largest operators, and what measuring them costs."""
    device = choose_device(use_gpu)
    machine, (images, note) = describe(device), training_pixels(config)
    batch, method = Batch(config, images, device), make_method(config)
    learner = make_learner(config, LocalWorker(device))
    for update in range(2):
        learn(learner, batch.read(), batch.indices, update, method)
    times: dict[str, list[float]] = {"whole": [], "parts": [], "timed": []}
    phases: dict[str, list[float]] = defaultdict(list)
    for number in range(NUM_ROUNDS):
        update = 2 + number
        times["whole"].append(
            timing.seconds(lambda now=update: learn(learner, batch.read(), batch.indices, now, method), device)
        )
        times["parts"].append(
            timing.seconds(lambda now=update: learn_by_phase(learner, batch, now, method, no_phase), device)
        )
        clock = Clock(device)
        times["timed"].append(
            timing.seconds(lambda now=update, on=clock: learn_by_phase(learner, batch, now, method, on), device)
        )
        for phase, spent in clock.seconds().items():
            phases[phase].append(spent)
    medians = {phase: statistics.median(spent) for phase, spent in phases.items()}
    return {
        "machine": machine,
        "protocol": protocol() | {"rounds": NUM_ROUNDS},
        "batch": len(batch),
        "update_s": statistics.median(times["whole"]),
        "in_parts_over_whole": statistics.median(a / b for a, b in zip(times["parts"], times["whole"], strict=True)),
        "timers_over_none": statistics.median(a / b for a, b in zip(times["timed"], times["parts"], strict=True)),
        "phases_s": medians,
        "phase_shares": {phase: spent / sum(medians.values()) for phase, spent in medians.items()},
        **by_class(lambda around: learn_by_phase(learner, batch, 99, method, around), device, set(medians)),
        "notes": [note] if note else [],
    }


def by_class(update: Callable[[Around], None], device: torch.device, phases: set[str]) -> dict[str, Any]:
    """Shares of the kinds of work in updates under the profiler, and the operators of each that take longest."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else it tells every start and stop, and of GPUs that are not there
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    times: dict[tuple[str, str], float] = defaultdict(float)
    costs, wall = [], 0.0
    for _ in range(NUM_PROFILED):
        without = timing.seconds(lambda: update(no_phase), device)
        with torch.profiler.profile(activities=activities) as profile:
            profiled = timing.seconds(lambda: _named(update), device)
        costs.append(profiled / without)
        wall += profiled
        for key, spent in times_of(profile.events(), phases, on_cuda=on_cuda).items():
            times[key] += spent
    if on_cuda:  # what is left of the wall clock, the device waits for the host
        times["other", "the device waits"] += max(0.0, wall - sum(times.values()))
    total = sum(times.values())
    shares = {kind: sum(spent for (of, _), spent in times.items() if of == kind) / total for kind in CLASSES}
    largest = {
        kind: sorted(((name, spent / total) for (of, name), spent in times.items() if of == kind), key=lambda x: -x[1])
        for kind in CLASSES
    }
    return {
        "class_shares": shares,
        "largest": {kind: dict(named[:_NUM_LARGEST]) for kind, named in largest.items()},
        "profiler_over_none": statistics.median(costs),
        "accounted_for": total / wall,
    }


def _named(update: Callable[[Around], None]) -> None:
    with record_function("update"):  # its own time is what Python takes between the operators
        update(record_function)


def no_phase(name: str) -> nullcontext[None]:
    return nullcontext()


# What kind of work an operator of a profile is: its class by its name and by the phase that it runs in. On the CPU an
# operator's own time counts, without that of operators it calls, so the classes of a profile add up to the whole; on
# CUDA the time of the kernels on the device, by their names.

CLASSES = (
    "convolution",
    "matrix product",
    "pointwise",
    "random/integer",
    "copies/reorders",
    "reduction",
    "optimiser",
    "other",
)

# The first that is found in a name decides; what stands in none is "other".
_OF_OPERATOR = (
    ("optimiser", r"_fused_adam|Optimizer|_foreach_lerp"),
    ("convolution", r"conv|col2im"),
    ("random/integer", r"bitwise|shift|__(and|or|xor)__|randn|rand|random|normal_|uniform_|bernoulli|arange"),
    ("matrix product", r"^aten::(mm|addmm|bmm|baddbmm|addmv|mv|dot|matmul|linear|mkldnn_linear)$"),
    ("reduction", r"^aten::(sum|mean|amax|amin|max|min|norm|linalg_vector_norm|_foreach_norm|all|any|avg_pool2d)$"),
    (
        "copies/reorders",
        r"^aten::(copy_|_to_copy|to|clone|contiguous|cat|stack|index|index_select|repeat_interleave|repeat|flip|fill_|"
        r"zero_|zeros|ones|full|ones_like|zeros_like|masked_fill_?|to_mkldnn|to_dense|mkldnn_reorder_\w+)$|Memcpy|Memset",
    ),
    (
        "pointwise",
        r"^aten::(add|sub|mul|div|rsub|neg|abs|sqrt|rsqrt|log|exp|cos|sin|pow|square|clamp|where|lerp|addcmul|addcdiv|"
        r"leaky_relu|relu|threshold|silu|gelu|elu|softplus|hardtanh|sigmoid|tanh|isfinite|logical_not|logical_and|"
        r"eq|ne|lt|le|gt|ge|_foreach_\w+|native_\w*norm)(_backward)?_?$|\bvec_|_poi_",
    ),
)
_OF_KERNEL = (
    ("optimiser", r"multi_tensor_apply|FusedAdam|fused_adam"),
    ("convolution", r"conv|cudnn|fprop|dgrad|wgrad|winograd|implicit_gemm"),
    ("matrix product", r"gemm|gemv|cublas|cutlass"),
    ("random/integer", r"bitwise|[lr]shift|philox|distribution|<long|arange|_draw_(words|normals)"),
    ("reduction", r"reduce|triton_red|triton_per|avg_pool"),
    ("copies/reorders", r"Memcpy|Memset|copy|[Cc]at|[Ff]ill|transpose|n(c|h)[hw]\w*To|index|flip|repeat"),
    ("pointwise", r"elementwise|triton_poi|leaky_relu"),
)


def class_of_operator(name: str, phase: str) -> str:
    """Of an operator on the CPU. All the arithmetic that makes noise is one class, all that moves weights another."""
    if phase.startswith("noise") and (name.startswith("aten::") and not _is_view(name)):
        return "random/integer"
    if phase == "optimiser":
        return "optimiser"
    return _first(_OF_OPERATOR, name)


def class_of_kernel(name: str) -> str:
    """Of a kernel on a CUDA device."""
    return _first(_OF_KERNEL, name)


def _first(rules: tuple[tuple[str, str], ...], name: str) -> str:
    return next((kind for kind, pattern in rules if re.search(pattern, name)), "other")


def _is_view(name: str) -> bool:
    return bool(
        re.match(r"aten::(view|expand|as_strided|unsqueeze|squeeze|select|slice|split|unflatten|reshape)$", name)
    )


def times_of(events: Any, phases: set[str], *, on_cuda: bool) -> dict[tuple[str, str], float]:
    """{(class, name of the operator or kernel): seconds} of the events of a profile.

    events: torch.autograd.profiler_util.FunctionEvents. phases: the names of the ranges that are phases.
    """
    times: dict[tuple[str, str], float] = defaultdict(float)
    for event in events:
        if on_cuda:
            if event.device_type.name == "CUDA" and not event.is_user_annotation:
                times[class_of_kernel(event.name), event.name] += event.time_range.elapsed_us() / 1e6
        elif event.self_cpu_time_total:
            kind = "other" if event.is_user_annotation else class_of_operator(event.name, _phase_of(event, phases))
            name = "between operators: Python, freeing memory" if event.is_user_annotation else event.name
            times[kind, name] += event.self_cpu_time_total / 1e6
    return dict(times)


def _phase_of(event: Any, phases: set[str]) -> str:
    while event is not None and event.name not in phases:
        event = event.cpu_parent
    return "" if event is None else event.name
