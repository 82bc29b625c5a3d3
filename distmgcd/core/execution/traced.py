"""The gradient of an energy as a flat list of tensor operations, without autograd.

    (u, g) = energy_and_grad(x)                                 u = U(x) [B], g = grad U(x) [B, C, s, s]

An energy is traced once for every shape of x. Its weights come in as arguments and are never part of the trace. What
depends on them alone (casts, folded convolutions, the gradient that enters the last layer) is taken out of the step
and computed once a chain.
"""

from collections.abc import Callable
from copy import deepcopy
from operator import getitem

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from distmgcd.core.execution.conv_forms import map_sizes, put_quick_forms


class TracedGradient:
    """The slope of an energy for images of one shape [B, C, s, s].

    Raises whatever torch does where the energy cannot be traced.
    """

    def __init__(
        self, energy: nn.Module, x: Tensor, *, dtype: torch.dtype = torch.float32, channels_last: bool = False
    ):
        """dtype: of the network; x, u and g stay fp32. channels_last: how the network's maps lie in memory."""
        self._names = weights_of(_bare(energy))
        network = quick_network(energy, x)
        names = weights_of(network)

        def u_and_gradient(x: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
            weights = [_laid_out(weight, channels_last).to(dtype) for weight in weights]
            of = dict(zip(names, weights, strict=True))
            x = x.detach().requires_grad_()
            u = functional_call(network, of, (_laid_out(x, channels_last),))
            (gradient,) = torch.autograd.grad(u.sum(), x)
            return u.detach(), gradient.contiguous()

        once, self.step = split(record(u_and_gradient, x, *live_weights(energy, self._names)))
        self._once = once.forward

    def prepare(self, energy: nn.Module) -> list[Tensor]:
        """What the step needs beside x, from the weights as they are now; of this energy or another like it."""
        with torch.no_grad():
            return list(self._once(*live_weights(energy, self._names)))


def weights_of(bare: nn.Module) -> list[str]:
    """Their names."""
    return [name for name, _ in bare.named_parameters()]


def live_weights(energy: nn.Module, names: list[str]) -> list[Tensor]:
    """As they are now, without gradients; names: as weights_of has them, without parametrizations."""
    found = []
    for name in names:
        path, _, weight = name.rpartition(".")
        found.append(getattr(energy.get_submodule(path), weight).detach())  # a spectral norm is applied by this
    return found


def in_bf16(energy: nn.Module) -> nn.Module:
    """A copy of an energy with its weights as they are now, rounded to bf16, and no parametrizations.

    Its forward is the energy's own: it takes and gives fp32, [B, C, s, s] to [B]. The weights take no gradient.
    """
    lowered = _bare(energy)
    names = weights_of(lowered)
    for name, value in zip(names, live_weights(energy, names), strict=True):
        path, _, weight = name.rpartition(".")
        rounded = nn.Parameter(value.to(torch.bfloat16), requires_grad=False)
        lowered.get_submodule(path).register_parameter(weight, rounded)
    return lowered


def quick_network(energy: nn.Module, x: Tensor) -> nn.Module:
    """The structure of an energy, without its weights, its convolutions in the forms that are quickest for chains."""
    sizes, bare = map_sizes(energy, x), _bare(energy)
    put_quick_forms(bare, sizes, x.device)
    return bare


def _bare(energy: nn.Module) -> nn.Module:
    """A copy without weights and without parametrizations such as a spectral norm."""
    bare = deepcopy(energy).to("meta")
    for module in filter(parametrize.is_parametrized, list(bare.modules())):
        # Not by parametrize.remove_parametrizations: it also changes the class, which copies share with their original.
        kind, names = parametrize.type_before_parametrizations(module), list(module.parametrizations)
        del module.parametrizations
        module.__class__ = kind
        for name in names:
            module.register_parameter(name, nn.Parameter(torch.empty(0, device="meta")))
    return bare


def _laid_out(x: Tensor, channels_last: bool) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if channels_last and x.ndim == 4 else x


class _Recorder(TorchDispatchMode):
    """Writes down the operations that are run, those of a backward pass, too."""

    def __init__(self, *inputs: Tensor):
        super().__init__()
        self.graph = fx.Graph()
        self._nodes: dict[tuple, fx.Node] = {}
        self._seen: list[Tensor] = []  # kept alive, so that no other tensor takes the memory of one of them
        for number, value in enumerate(inputs):
            self._note(value, self.graph.placeholder(f"input_{number}"))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Torch asks; its compiler, which is not at work here, else takes two seconds to import."""
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.is_mutable:
            raise NotImplementedError(f"{func} changes its argument in place")
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.ones_like.default:  # the gradient of a sum: it depends on no value
            how = {"dtype": result.dtype, "device": result.device}
            node = self.graph.call_function(torch.ops.aten.ones.default, (list(result.shape),), how)
        else:
            node = self.graph.call_function(func, *tree_map_only(Tensor, self.node_of, (args, kwargs or {})))
        if isinstance(result, Tensor):
            self._note(result, node)
        else:
            for number, part in enumerate(result):
                if part is not None:
                    self._note(part, self.graph.call_function(getitem, (node, number)))
        return result

    def node_of(self, value: Tensor) -> fx.Node:
        if (key := _place(value)) not in self._nodes:
            raise NotImplementedError("it uses a tensor that is no weight")
        return self._nodes[key]

    def _note(self, value: Tensor, node: fx.Node) -> None:
        self._nodes[_place(value)] = node
        self._seen.append(value)


def _place(value: Tensor) -> tuple:
    """What tells tensors apart: autograd hands back what it saved as another object over the same memory."""
    return value.untyped_storage().data_ptr(), value.storage_offset(), value.shape, value.stride(), value.dtype


def record(function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> fx.Graph:
    """The operations by which a function makes its results from these inputs.

    Raises NotImplementedError where one of them changes a tensor in place or takes one that is no input.
    """
    with _Recorder(*inputs) as recorder:
        results = function(*inputs)
    recorder.graph.output(tuple(map(recorder.node_of, results)))
    recorder.graph.eliminate_dead_code()
    return recorder.graph


def split(graph: fx.Graph) -> tuple[fx.GraphModule, fx.GraphModule]:
    """Two graphs of one whose first argument is x: what does not depend on it, and the rest, given x and that."""
    x, output = next(iter(graph.nodes)), graph.output_node()
    varying = {x, output}
    for node in graph.nodes:
        if any(other in varying for other in node.all_input_nodes):
            varying.add(node)
    fixed = [node for node in graph.nodes if node not in varying]
    needed = [node for node in fixed if any(user in varying for user in node.users)]

    once, then = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in fixed:
        copies[node] = once.node_copy(node, copies.__getitem__)
    once.output(tuple(copies[node] for node in needed))
    copies = {node: then.placeholder(node.name) for node in (x, *needed)}
    for node in graph.nodes:
        if node in varying and node not in copies:
            copies[node] = then.node_copy(node, copies.__getitem__)
    return fx.GraphModule({}, once), fx.GraphModule({}, then)
