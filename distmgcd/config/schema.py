"""The sections of a config, their defaults, and what must hold between them."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from distmgcd.config.rules import check_together
from distmgcd.config.words import show

# The description is the rule that the message about a wrong value states.
Whole = Annotated[int, Field(ge=0, description="a whole number from 0 up")]
Count = Annotated[int, Field(ge=1, description="a whole number from 1 up")]
Seed = Annotated[int, Field(ge=0, lt=2**63, description="a whole number from 0 to 2^63 - 1")]
Size = Annotated[float, Field(gt=0, allow_inf_nan=False, description="a number above 0")]
SizeOrInf = Annotated[float, Field(gt=0, description="a number above 0 or .inf")]
Level = Annotated[float, Field(ge=0, allow_inf_nan=False, description="a number from 0 up")]
Fraction = Annotated[float, Field(ge=0, le=1, description="a fraction from 0 to 1")]
Decay = Annotated[float, Field(ge=0, lt=1, description="a number from 0 up and below 1")]
Factor = Annotated[float, Field(gt=0, lt=1, description="a number above 0 and below 1")]
Switch = Annotated[Literal["auto"] | bool, Field(description="auto, true or false")]
Activation = Literal["leaky_relu", "relu", "silu", "gelu", "elu", "softplus"]
Norm = Literal["none", "layer", "spectral", "batch"]
Clamp = Literal["none", "end", "step"]
Schedule = Literal["constant", "falling"]
Layer = tuple[int, int, int]  # kernel, stride, output channels of one convolution

# The authors' networks (their TensorFlow code; the table in Gao et al. 2017 differs in the counts it names).
PAPER_LAYERS: dict[int, tuple[Layer, ...]] = {
    4: ((5, 2, 96), (3, 1, 128), (3, 1, 256)),
    16: ((5, 2, 96), (3, 1, 128), (3, 1, 256), (3, 1, 512)),
    64: ((5, 2, 64), (5, 2, 128), (5, 2, 256), (5, 2, 512)),
}


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Data(Section):
    path: str  # a Parquet file or folder, a folder of images, sklearn:digits, torchvision:NAME?root=DIR
    image_size: Count | None = None  # None: the finest grid
    pad: Whole = 0  # black pixels added on each side before resizing: 2 makes 28x28 32x32
    channels: Literal[1, 3]
    split: str = "train"
    held_out: str = "test"
    # Part of `split` that is not trained on and takes the place of `held_out`: choose settings by it, so that the
    # distances to `held_out` remain those of a choice that never saw it.
    validation: Decay = 0.0
    flip: bool = False  # mirror half of the observed images, a fresh draw at every update
    noise: Level = 0.02  # deviation of the Gaussian noise on observed images; pixels span [-1, 1]
    # Where that deviation falls to over the first 30 % of the updates; null: it stays. Much noise makes the data easy
    # to reach at first, little lets the energy know their detail at the end.
    final_noise: Level | None = None
    max_corrupt: Fraction = 0.001


class Grids(Section):
    sizes: tuple[Count, ...]  # coarse to fine; the 1x1 start is implied

    @model_validator(mode="after")
    def _each_divides_the_next(self) -> "Grids":
        sizes = self.sizes
        if not sizes or sizes[0] == 1:
            raise ValueError(
                f"grids.sizes must name the grids above the 1x1 start, which is implied, but is {show(sizes)}. "
                "Example: [4, 16, 64]."
            )
        for small, large in zip(sizes, sizes[1:], strict=False):
            if large % small or large == small:
                raise ValueError(
                    f"grids.sizes must each divide the next, but {small} does not divide {large} into smaller pixels "
                    f"in {show(sizes)}. Example: [4, 16, 64]."
                )
        return self


class Network(Section):
    """The ConvNets. One value serves every layer, a list is one per layer, a list of lists is one list per grid.

    A layer is a convolution; in a residual network it is a block of two, and its stride that of the average pooling
    after it, which the last block does without.
    """

    # paper: the authors' networks for grids 4, 16 and 64
    kind: Literal["convnet", "residual", "paper"] = "convnet"
    channels: tuple[Count, ...] | tuple[tuple[Count, ...], ...] = (64, 128, 256)
    kernels: Count | tuple[Count, ...] | tuple[tuple[Count, ...], ...] = 3
    strides: Count | tuple[Count, ...] | tuple[tuple[Count, ...], ...] = 2
    activation: Activation = "leaky_relu"
    # batch couples the chains of a batch: a picture then depends on its neighbours and on the number of workers
    norm: Norm = "none"
    # dense: a weight for every value of the last maps. sum: for the sum of each map, blind to where something is.
    head: Literal["dense", "sum"] = "dense"

    def layers(self, sizes: Sequence[int]) -> list[tuple[Layer, ...]]:
        """The convolutions of every grid, as (kernel, stride, channels)."""
        if self.kind == "paper":
            missing = [size for size in sizes if size not in PAPER_LAYERS]
            if missing:
                raise ValueError(
                    f"network.kind=paper has networks for grids 4, 16 and 64, but grids.sizes={show(sizes)} has "
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


class LangevinSettings(Section):
    """x <- x - (s^2 / 2) grad U + s sqrt(T) z. One value, or one per grid, coarse to fine."""

    num_steps: Count | tuple[Count, ...] = 20
    step_size: Size | tuple[Size, ...] = math.sqrt(2.0)  # s; drift is s^2 / 2 times the gradient
    temperature: Level | tuple[Level, ...] = 5e-5  # T; one step's noise has deviation s sqrt(T)
    # falling: the noise of a step falls linearly, from s sqrt(T) at the first step of the coarsest grid to 0 at the
    # last one of the finest, so that samples carry no grain of it. constant: the same at every step.
    noise: Schedule | tuple[Schedule, ...] = "constant"
    clamp: Clamp | tuple[Clamp, ...] = (
        "end"  # keep pixels in [-1, 1]: never (none), after the chain (end), at every step
    )
    reference_sigma: SizeOrInf | tuple[SizeOrInf, ...] = (
        math.inf
    )  # deviation of the Gaussian reference; .inf is uniform


class Start(Section):
    # Where the chains of training start, at every grid:
    #   multigrid   at the end of the next coarser grid's chain; at the coarsest, at the image's 1x1 version
    #   single      at the image's 1x1 version, straight on the finest grid, the only one (grids.sizes=[16], say)
    #   data        at the training image itself: contrastive divergence (CD-K)
    #   persistent  where the chain of this image ended when it was last walked (PCD); a run keeps one for every image
    #   noise       at uniform noise in [-1, 1], anew at every update: short-run
    kind: Literal["multigrid", "data", "persistent", "single", "noise"] = "multigrid"
    # Where samples drawn after training start, for which there is no image: climb from 1x1 versions drawn from their
    # distribution, or noise at every grid. null: noise for a model that was trained from noise, else climb.
    samples: Literal["climb", "noise"] | None = None

    @property
    def of_samples(self) -> Literal["climb", "noise"]:
        return self.samples or ("noise" if self.kind == "noise" else "climb")


class Learning(Section):
    num_updates: Count = 1000
    global_batch_size: Count = 64  # of all workers together
    # Walk the chains and add the gradients in blocks of so many images: a run is then the same bit for bit on any
    # number of workers, as many as there are blocks. null: the whole share of a worker at once, which is faster.
    block_size: Count | None = None
    # Learn to inpaint: at every update hide a part of every image, in a fresh place; chains move only that, and the
    # rest is given. Such a model fills such masks (`distmgcd inpaint`) and is none of whole images: its fresh samples
    # and their distances say little. null: whole images.
    mask: Literal["square", "doodle", "pepper"] | None = None
    learning_rate: Size | tuple[Size, ...] = 3e-4
    betas: tuple[Decay, Decay] = (0.5, 0.999)
    warmup: Whole = 50  # updates over which the rate rises from 0
    final_rate: Fraction = 0.02  # rate at the last update, as a fraction; 1 keeps it constant
    clip_norm: SizeOrInf | tuple[SizeOrInf, ...] = math.inf  # largest norm of a grid's gradient; larger: scaled down
    ema: Fraction = 0.995  # decay of the averaged weights that samples are drawn with


class Checkpointing(Section):
    every: Count = 200  # updates
    keep: Count = 3  # the newest so many; the last one of a run is always kept
    keep_best: Whole = 1  # and the best so many of those at whose update there was an evaluation (evaluate.every)
    # The smallest is best: swd, the mean over grids of the sliced Wasserstein distance; swd/16, that of one; fd, the
    # Frechet distance in evaluate.features.
    metric: str = "swd"


class Logging(Section):
    every: Count = 10  # updates between two records; metrics stay on the device meanwhile


class Evaluation(Section):
    every: Whole = 0  # updates between evaluations; 0: only at the end
    sizes: tuple[Count, ...] | None = None  # box averages at which distances are taken; null: the grids
    num_samples: Count = 2000  # fresh samples, and as many held-out images where there are so many
    num_draws: Count = 3  # sets of so many samples, from different seeds; their mean is reported, and their spread
    untrained: bool = True  # at the end, measure the untrained model, too
    # Measure the Frechet distance of the finest grid's samples, too, in the features of a network: efficientnet-lite0,
    # inception, random, pixels, or a weight file of one of the first two (see evaluate/features.py). null: do without.
    features: Annotated[str | None, Field(min_length=1, description="a feature network's name, a file or null")] = None


class Watch(Section):
    """When to call a run diverged. It then goes back to its last good checkpoint with a smaller rate."""

    max_gap: Size = 20.0  # |energy gap| of any grid, mean over a log interval
    max_drift: Size = 1.0  # rms of one step's drift; pixels span [-1, 1]
    max_retries: Whole = 3
    rate_after_retry: Factor = 0.5  # factor on the learning rate at each retry
    max_seconds_stuck: Size = 300.0  # of Ray workers: one that gets nothing done for so long is ended, all start again


class Speed(Section):
    """How chains are executed: every way walks the same chain, up to rounding.

    auto is decided by the kind of device alone, so that all workers and every restart of a run decide alike.
    """

    # plain: with autograd, the reference. traced: the same operations without it, some convolutions as matrix products.
    # compiled: those through torch.compile. captured: those of a whole chain as one CUDA graph. auto: captured on a
    # GPU, else traced.
    execution: Literal["auto", "plain", "traced", "compiled", "captured"] = "auto"
    # Of the network in a chain; state, drift and noise, and learning, are fp32. auto: bf16 where the device multiplies
    # it itself, else fp32. tf32: on a GPU, fp32 whose products round their factors to 10 bits.
    precision: Literal["auto", "fp32", "bf16", "tf32"] = "auto"
    channels_last: Switch = "auto"  # how the network's maps lie in memory; auto: so in bf16, and on the CPU if large
    # Of several workers without learning.block_size: average the gradient of a coarse grid while the finer grid
    # samples. false: those of all grids after the last chain, by DDP. What is added up is the same.
    overlap: bool = True
    # On a GPU: walk the next batch's chains of all grids but the finest while the finest grid of this one samples and
    # learns. The same update. Never timed on a GPU yet, so it has to be asked for.
    ahead: bool = False

    @model_validator(mode="after")
    def _plain_is_the_reference(self) -> "Speed":
        for name, value, references in (
            ("precision", self.precision, ("auto", "fp32")),
            ("channels_last", self.channels_last, ("auto", False)),
        ):
            if self.execution == "plain" and value not in references:
                raise ValueError(
                    f"speed.execution=plain is the reference, in fp32 and channels first, but speed.{name} is {value}; "
                    f"leave speed.{name} out, or set speed.execution=traced."
                )
        return self


class Config(Section):
    seed: Seed = 0
    data: Data
    grids: Grids
    network: Network = Network()
    langevin: LangevinSettings = LangevinSettings()
    start: Start = Start()
    learning: Learning = Learning()
    checkpoint: Checkpointing = Checkpointing()
    log: Logging = Logging()
    evaluate: Evaluation = Evaluation()
    watch: Watch = Watch()
    speed: Speed = Speed()

    @model_validator(mode="after")
    def _settings_fit_together(self) -> "Config":
        self.network.layers(self.grids.sizes)
        for section, keys in (
            ("langevin", LangevinSettings.model_fields),
            ("learning", ("learning_rate", "clip_norm")),
        ):
            for key in keys:
                self.per_grid(f"{section}.{key}")
        check_together(self)
        return self

    @cached_property
    def num_grids(self) -> int:
        return len(self.grids.sizes)

    @property
    def image_size(self) -> int:
        return self.grids.sizes[-1]

    @property
    def evaluation_sizes(self) -> tuple[int, ...]:
        """The sizes to which samples and held-out images are box-averaged before they are compared."""
        return self.evaluate.sizes or self.grids.sizes

    def per_grid(self, path: str) -> list[Any]:
        """The values of a setting such as "langevin.step_size", one per grid."""
        section, key = path.split(".")
        value = getattr(getattr(self, section), key)
        if not isinstance(value, tuple):
            return [value] * self.num_grids
        if len(value) != self.num_grids:
            raise ValueError(
                f"{path} must be one value or one per grid, but has {len(value)} values for {self.num_grids} grids "
                f"{show(self.grids.sizes)}; give {self.num_grids}, coarse to fine."
            )
        return list(value)


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
