"""A network with each convolution in the form, and its maps in the layout, that are quickest for a chain.

By the shapes and the kind of device alone, so that every machine decides alike. All forms are equal up to the order of
their sums.
"""

from functools import partial

import torch
from torch import Tensor, nn

from distmgcd.core.execution.image_conv import ImageConv
from distmgcd.core.execution.small_map_conv import DenseConv, Size
from distmgcd.core.execution.tap_conv import TapConv

# Measured in fp32: from here on a map with channels last is quicker to go back through; below, it costs a little.
_LEAST_SIZE = 16  # of the image
_LEAST_CHANNELS = 128  # of the widest convolution

_FORMS = (DenseConv, ImageConv, TapConv)  # the first that pays is taken


def quick_form(conv: nn.Conv2d, in_size: Size, out_size: Size, device: torch.device) -> nn.Module | None:
    """Another form of a convolution of maps of one size; None where the convolution itself is best."""
    if conv.groups != 1 or conv.dilation != (1, 1) or isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        return None
    return next((form(conv, in_size, out_size) for form in _FORMS if form.pays(conv, in_size, out_size, device)), None)


def map_sizes(energy: nn.Module, x: Tensor) -> dict[str, tuple[Size, Size]]:
    """{name of a convolution: sizes of the maps that go in and come out} for images x [B, C, s, s]."""
    sizes: dict[str, tuple[Size, Size]] = {}

    def note(name: str, _: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        sizes[name] = tuple(inputs[0].shape[-2:]), tuple(output.shape[-2:])

    convs = [(name, module) for name, module in energy.named_modules() if isinstance(module, nn.Conv2d)]
    hooks = [conv.register_forward_hook(partial(note, name)) for name, conv in convs]
    with torch.no_grad():
        energy(x)
    for hook in hooks:
        hook.remove()
    return sizes


def put_quick_forms(network: nn.Module, sizes: dict[str, tuple[Size, Size]], device: torch.device) -> None:
    """Replace the convolutions of a network by what is quicker than they are."""
    for name, (in_size, out_size) in sizes.items():
        path, _, attribute = name.rpartition(".")
        holder = network.get_submodule(path)
        if form := quick_form(getattr(holder, attribute), in_size, out_size, device):
            setattr(holder, attribute, form)


def channels_last_pays(energy: nn.Module, x: Tensor) -> bool:
    """Whether the maps of an fp32 network are better kept as [B, s, s, C] in memory."""
    widest = max((module.out_channels for module in energy.modules() if isinstance(module, nn.Conv2d)), default=0)
    return x.device.type == "cpu" and x.shape[-1] >= _LEAST_SIZE and widest >= _LEAST_CHANNELS
