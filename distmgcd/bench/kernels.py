"""What kind of work an operator of a profile is: its class by its name and by the phase that it runs in.

On the CPU an operator's own time counts, without that of operators it calls, so the classes of a profile add up to the
whole; on CUDA the time of the kernels on the device, by their names.
"""

import re
from collections import defaultdict
from typing import Any

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
