"""The section of a config that says how chains are executed."""

from typing import Literal

from pydantic import model_validator

from distmgcd.config.kinds import Section, Switch


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
