"""The section of a config that says what the networks look like."""

from collections.abc import Sequence
from typing import Any, Literal

from distmgcd.config.kinds import Activation, Layer, Norm, PositiveInt, Section, show

# The authors' networks (their TensorFlow code; the table in Gao et al. 2017 differs in the counts it names).
PAPER_LAYERS: dict[int, tuple[Layer, ...]] = {
    4: ((5, 2, 96), (3, 1, 128), (3, 1, 256)),
    16: ((5, 2, 96), (3, 1, 128), (3, 1, 256), (3, 1, 512)),
    64: ((5, 2, 64), (5, 2, 128), (5, 2, 256), (5, 2, 512)),
}


class Network(Section):
    """The ConvNets, one per grid. One value serves every layer, a list has one per layer, a list of lists one list per
    grid."""

    kind: Literal["convnet", "residual", "paper"] = "convnet"
    """convnet: as the other settings here say. residual: so, too, but a layer is a residual block of two convolutions.
    paper: the authors' networks for grids 4, 16 and 64."""
    channels: tuple[PositiveInt, ...] | tuple[tuple[PositiveInt, ...], ...] = (64, 128, 256)
    """Output channels of every convolution or residual block: one list for all grids, or one list per grid."""
    kernels: PositiveInt | tuple[PositiveInt, ...] | tuple[tuple[PositiveInt, ...], ...] = 3
    """Sizes of the convolutions' kernels, which must be odd."""
    strides: PositiveInt | tuple[PositiveInt, ...] | tuple[tuple[PositiveInt, ...], ...] = 2
    """Strides of the convolutions; in a residual network, of the average pooling after each block but the last."""
    activation: Activation = "leaky_relu"
    """The function after every convolution."""
    norm: Norm = "none"
    """Normalisation in the networks. batch couples the chains of a batch: an image then depends on its neighbours and
    on the number of workers."""
    head: Literal["dense", "sum"] = "dense"
    """What makes one number of the last maps. dense: a weight for each of their values. sum: a weight for the sum of
    each map, which does not know where in the image something is."""

    def layers(self, sizes: Sequence[int]) -> list[tuple[Layer, ...]]:
        """The convolutions of every grid, as (kernel, stride, channels)."""
        if self.kind == "paper":
            missing = [size for size in sizes if size not in PAPER_LAYERS]
            if missing:
                raise ValueError(
                    f"network.kind=paper has networks for grids 4, 16 and 64, but grids.sizes {show(sizes)} has "
                    f"{missing[0]}; choose grids.sizes from those, or set network.kind=convnet."
                )
            return [PAPER_LAYERS[size] for size in sizes]
        return [self._layers_of_grid(grid, len(sizes)) for grid in range(len(sizes))]

    def _layers_of_grid(self, grid: int, num_grids: int) -> tuple[Layer, ...]:
        channels = _of_grid("network.channels", self.channels, grid, num_grids)
        if not channels:
            raise ValueError(
                f"network.channels must have an entry for every layer, but has none for grid {grid}; try [64]."
            )
        kernels, strides = (
            _of_layers(name, _of_grid(name, value, grid, num_grids), len(channels))
            for name, value in (("network.kernels", self.kernels), ("network.strides", self.strides))
        )
        if even := [k for k in kernels if k % 2 == 0]:
            raise ValueError(
                f"network.kernels must be odd, so that a picture keeps its size, but one is {even[0]}; "
                f"try {even[0] + 1}."
            )
        return tuple(zip(kernels, strides, channels, strict=True))


def _of_grid(name: str, value: Any, grid: int, num_grids: int) -> Any:
    """This grid's part of a list of lists; anything else serves every grid."""
    if not (isinstance(value, tuple) and value and isinstance(value[0], tuple)):
        return value
    if len(value) != num_grids:
        raise ValueError(
            f"{name} has {len(value)} lists for {num_grids} grids; give one list per grid, or one list for all."
        )
    return value[grid]


def _of_layers(name: str, value: Any, num_layers: int) -> tuple[int, ...]:
    if not isinstance(value, tuple):
        return (value,) * num_layers
    if len(value) != num_layers:
        raise ValueError(
            f"{name} has {len(value)} values for {num_layers} layers; give one per entry of network.channels, or one "
            "value for all."
        )
    return value
