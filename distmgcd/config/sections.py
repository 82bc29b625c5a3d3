"""The sections of a config: every setting with its default, its kind, which holds its rule, and its meaning.

The text below a setting is its meaning, as `distmgcd config --explain SETTING` prints it.
"""

import math
from typing import Literal

from pydantic import Field, model_validator

from distmgcd.config.kinds import (
    Channels,
    Clamp,
    Colour,
    Decay,
    Factor,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PositiveOrInf,
    Schedule,
    Section,
    Switch,
    Text,
    show,
)


class Data(Section):
    """The images: where they are, which of them are trained on, and how they are prepared."""

    path: Text = Field(examples=["data.path=sklearn:digits, say"])
    """Where the images are: a Parquet file, folder or glob, a folder of images, sklearn:digits, or
    torchvision:NAME?root=DIR."""
    image_size: PositiveInt | None = None
    """Pixels per side after resizing; null: the finest grid."""
    pad: NonNegativeInt = 0
    """Pixels of the background added on each side before resizing: 2 makes 28x28 32x32."""
    background: Colour = "black"
    """The colour behind transparent images, and of padding."""
    channels: Channels = Field(examples=["data.channels=1 for grey images, 3 for colour"])
    """1 for grey images, 3 for colour."""
    split: Text = "train"
    """The part of the data set that is trained on."""
    held_out: Text = "test"
    """The part that is never trained on; samples are measured against it."""
    validation: Decay = 0.0
    """This fraction of `split` is not trained on and takes the place of `held_out`: choose settings by it, so that the
    distances to `held_out` remain those of a choice that never saw it."""
    leave_out_copies: bool = False
    """Do not train on images that are, pixel by pixel, among the held-out ones, too."""
    flip: bool = False
    """Mirror half of the training images, a fresh draw at every update."""
    noise: NonNegativeFloat = 0.02
    """Standard deviation of the Gaussian noise on training images; pixels span [-1, 1]."""
    final_noise: NonNegativeFloat | None = None
    """What that deviation falls to over the first 30 % of the updates; null: it stays. Much noise makes the images easy
    to reach at first, little lets the energy know their detail at the end."""
    max_corrupt: Fraction = 0.001
    """The largest fraction of images that may fail to decode; they are skipped and counted."""


class Grids(Section):
    """The schedule of grids."""

    sizes: tuple[PositiveInt, ...] = Field(examples=["'grids.sizes=[4,16,64]', say"])
    """Pixels per side of every grid, coarse to fine; each divides the next. The 1x1 start is implied."""

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


class LangevinSettings(Section):
    """The chains: x <- x - (s^2 / 2) grad U + s sqrt(T) z. One value for all grids, or one per grid, coarse to fine."""

    num_steps: PositiveInt | tuple[PositiveInt, ...] = 20
    """K, the Langevin steps of a chain."""
    step_size: PositiveFloat | tuple[PositiveFloat, ...] = math.sqrt(2.0)
    """s: the drift of a step is s^2 / 2 times the gradient of the energy U, and its noise has deviation s sqrt(T)."""
    temperature: NonNegativeFloat | tuple[NonNegativeFloat, ...] = 5e-5
    """T: the noise of a step has deviation s sqrt(T), where pixels span [-1, 1]. 0: no noise."""
    noise: Schedule | tuple[Schedule, ...] = "constant"
    """constant: noise of the same deviation at every step. falling: it falls linearly, from s sqrt(T) at the first step
    of the coarsest grid to 0 at the last step of the finest one, so that samples carry no grain of it."""
    sample_noise: NonNegativeFloat = 1.0
    """A factor on the noise of the finest grid's chains when samples are drawn; training keeps its own. 0 removes the
    grain that this noise leaves in pictures. Coarser grids keep theirs: samples have their variety from it."""
    clamp: Clamp | tuple[Clamp, ...] = "end"
    """Keep pixels in [-1, 1]: never (none), after the chain (end), or at every step (step)."""
    reference_sigma: PositiveOrInf | tuple[PositiveOrInf, ...] = math.inf
    """Standard deviation of the Gaussian reference distribution; .inf is the uniform one."""


class Start(Section):
    """Where chains start, and with it which method learns."""

    kind: Literal["multigrid", "data", "persistent", "single", "noise"] = "multigrid"
    """Where the chains of training start, at every grid.
    multigrid: at the end of the next coarser grid's chain; at the coarsest grid, at the image's 1x1 version.
    single: at the image's 1x1 version, straight on the finest grid, which is the only one (say 'grids.sizes=[16]').
    data: at the training image itself, contrastive divergence (CD-K).
    persistent: where the chain of this image ended when it last ran (PCD); a run keeps one for every image.
    noise: at uniform noise in [-1, 1], anew at every update (short-run)."""
    fresh_updates: NonNegativeInt = 0
    """Persistent chains begin anew at each of the first so many updates: those that an untrained model began may stay
    far from the data for good. learning.warmup is a good choice."""
    renewed: Fraction = 0.0
    """The fraction of persistent chains that begin anew, drawn at every update; Du and Mordatch 2019 take 0.05."""
    samples: Literal["climb", "noise"] | None = None
    """Where samples drawn after training start, for which there is no image. climb: at 1x1 versions drawn from their
    distribution. noise: at uniform noise, at every grid. null: noise for a model that was trained from noise, else
    climb."""

    @property
    def of_samples(self) -> Literal["climb", "noise"]:
        return self.samples or ("noise" if self.kind == "noise" else "climb")


class Learning(Section):
    """The updates of the weights, by Adam."""

    num_updates: PositiveInt = 1000
    """Updates of the whole training; each sees one batch."""
    global_batch_size: PositiveInt = 64
    """Images per update, over all workers."""
    block_size: PositiveInt | None = None
    """Run the chains and add the gradients in blocks of so many images: a run is then the same bit for bit on any
    number of workers, as many as there are blocks. null: the whole share of a worker at once, which is faster."""
    mask: Literal["square", "doodle", "pepper"] | None = None
    """Learn to inpaint: at every update hide a part of every image, in a fresh place; chains change only that, and the
    rest is given. Such a model fills such masks (`distmgcd inpaint`) and is none of whole images: its fresh samples and
    their distances say little. null: whole images."""
    learning_rate: PositiveFloat | tuple[PositiveFloat, ...] = 3e-4
    """Adam's learning rate after warm-up; one value for all grids, or one per grid."""
    betas: tuple[Decay, Decay] = (0.5, 0.999)
    """Adam's decay rates of the first and second moments of the gradient."""
    warmup: NonNegativeInt = 50
    """Updates over which the learning rate rises from 0; a tenth of its course where that has no more."""
    decay_updates: PositiveInt | None = None
    """Updates over which the rate falls to final_rate, where it stays. null: all of num_updates. A run that is trained
    past its end keeps the course that it had."""
    final_rate: Fraction = 0.02
    """The learning rate at the end of its course, as a fraction of learning_rate; 1 keeps it constant."""
    clip_norm: PositiveOrInf | tuple[PositiveOrInf, ...] = math.inf
    """The largest norm of a grid's gradient; one that is larger is scaled down to it. .inf: no bound."""
    ema: Fraction = 0.995
    """Decay of the averaged weights that samples are drawn with."""

    @property
    def rate_updates(self) -> int:
        """Updates over which the rate takes its course, the warm-up included."""
        return self.decay_updates or self.num_updates

    @property
    def warmup_updates(self) -> int:
        """The warm-up, shortened where it would fill the whole course of the rate."""
        return self.warmup if self.warmup < self.rate_updates else self.rate_updates // 10


class Checkpointing(Section):
    """Which checkpoints are written and kept."""

    every: PositiveInt = 200
    """Updates between two checkpoints; with every evaluation there is one, too (evaluate.every)."""
    keep: PositiveInt = 3
    """The newest so many are kept; the last one of a run always is."""
    keep_best: NonNegativeInt = 1
    """The best so many are kept, too, of those that were evaluated (evaluate.every)."""
    metric: Text = "swd"
    """What the best is judged by, the smallest is best. swd: the mean over grids of the sliced Wasserstein distance.
    swd/16: that of one grid. fd: the Frechet distance in evaluate.features."""
    end_with: Literal["best", "newest"] = "best"
    """The model of a finished run: what result.json and samples.png show, and what load, sample and evaluate take.
    best: that of the best checkpoint, if the last one is worse by more than the spreads over draws of both; the run
    says so. newest: that of the last update."""


class Logging(Section):
    """The log of a run."""

    every: PositiveInt = 10
    """Updates between two records; metrics stay on the device meanwhile."""


class Evaluation(Section):
    """How fresh samples are measured against held-out images while a run trains and at its end."""

    every: NonNegativeInt = 0
    """Updates between two evaluations; 0: only at the end."""
    sizes: tuple[PositiveInt, ...] | None = None
    """Sizes to which samples and images are averaged before they are compared; null: the grids."""
    num_samples: PositiveInt = 2000
    """Fresh samples of an evaluation, and as many held-out images where there are so many."""
    num_draws: PositiveInt = 3
    """Sets of so many samples, from different seeds; their mean and spread are reported."""
    untrained: bool = True
    """At the end, measure the untrained model, too."""
    features: Text | None = None
    """Measure the Frechet distance of the finest grid's samples, too, in the features of a network: efficientnet-lite0,
    inception, random, pixels, or a weight file of one of the first two. null: do without."""


class Watch(Section):
    """When a run counts as diverged. It is then rolled back to its last good checkpoint, and the grid that diverged has
    a smaller rate from there on; if that grid diverges again, the run is rolled back to an earlier one."""

    max_gap: PositiveFloat = 20.0
    """The largest |energy gap| of any grid, mean over a log interval."""
    max_drift: PositiveFloat = 1.0
    """The largest rms of one step's drift; pixels span [-1, 1]."""
    by_history: bool = True
    """Compare a grid with its own last 200 updates, too: it has diverged if, in two stretches of ten updates, its gap
    is below zero by three times its usual swing while its drift has doubled, its gradients are 30 times as large, or a
    tenth is left of its samples' pixels that are not -1 or 1. Not where max_retries is 0."""
    max_retries: NonNegativeInt = 3
    """How often in a row a run is rolled back for one grid; after four checkpoints without trouble it counts anew.
    The next time that grid is frozen and the others are trained on, or the run ends if there is no other."""
    rate_after_retry: Factor = 0.5
    """Factor on the learning rate of the grid that diverged, at each retry."""
    max_seconds_stuck: PositiveFloat = 300.0
    """Seconds for which a Ray worker may make no progress; then it is ended, and all workers start again."""


class Speed(Section):
    """How chains are executed: every way runs the same chain, up to rounding. auto is decided by the kind of device
    alone, so that all workers and every restart of a run decide alike.

    A run says which it uses as it begins, and in its checkpoints and result.json."""

    execution: Literal["auto", "plain", "traced", "compiled", "captured"] = "auto"
    """plain: with autograd, the reference. traced: the same operations without it, some convolutions as matrix
    products. compiled: those through torch.compile. captured: those of a whole chain as one CUDA graph. auto: captured
    on a GPU, else traced; `distmgcd debug` takes plain instead, so that breakpoints in langevin_step and in the
    energy's forward are hit."""
    precision: Literal["auto", "fp32", "bf16", "tf32"] = "auto"
    """Of the network in a chain; state, drift and noise, and learning, are fp32. auto: bf16 where the device multiplies
    it itself, else fp32. tf32: on a GPU, fp32 whose products round their factors to 10 bits. In each, a run that is cut
    and goes on is the same bit for bit on machines of one kind, and so is a run on any number of workers with
    learning.block_size. Without that, bf16 makes a larger difference between numbers of workers than fp32 does. With
    auto a run that moves to another kind of machine may change its precision (it says so): fp32 or bf16 keeps it."""
    channels_last: Switch = "auto"
    """How the network's maps lie in memory, but in plain execution. auto: so in bf16, and on the CPU if large."""
    overlap: bool = True
    """Of several workers without learning.block_size: average the gradient of a coarse grid while the finer grid
    samples. false: average those of all grids after the last chain, by DDP. What is added up is the same."""

    @model_validator(mode="after")
    def _plain_keeps_torchs_layout(self) -> "Speed":
        if self.execution == "plain" and self.channels_last is True:
            raise ValueError(
                "speed.execution=plain keeps the layout that torch gives, but speed.channels_last is true; leave "
                "speed.channels_last out, or set speed.execution=traced."
            )
        return self
