"""What chains and updates cost, in multiply-adds of the networks: how runs of different methods cost the same.

    M_s                       multiply-adds of one forward pass of one image at grid s
    a gradient evaluation     one Langevin step of one image: forward and back to the image             2 M_s
    a fresh sample            K_s steps at every grid                                        sum 2 K_s M_s
    an update of one image    K_s steps, then observed and synthesised image forward and back to the
                              weights, each 3 M_s; over all grids                        sum (2 K_s + 6) M_s

Not counted, for they are small beside: activations, norms, noise, the optimiser, and the distances of samples.
"""

from collections.abc import Sequence

from distmgcd.config.kinds import Layer
from distmgcd.config.schema import Config


def multiply_adds(config: Config, grid: int) -> int:
    """M_s: multiply-adds of one forward pass of one image at this grid."""
    layers, size, channels = (
        config.network.layers(config.grids.sizes)[grid],
        config.grids.sizes[grid],
        config.data.channels,
    )
    convolutions = _of_blocks if config.network.kind == "residual" else _of_layers
    total, size, channels = convolutions(layers, size, channels)
    return total + channels * (1 if config.network.head == "sum" else size * size)


def _of_layers(layers: Sequence[Layer], size: int, channels: int) -> tuple[int, int, int]:
    """(multiply-adds of the convolutions, pixels per side of the last maps, their number)."""
    total = 0
    for kernel, stride, out in layers:
        size = -(-size // stride)
        total += size * size * kernel * kernel * channels * out
        channels = out
    return total, size, channels


def _of_blocks(layers: Sequence[Layer], size: int, channels: int) -> tuple[int, int, int]:
    """As _of_layers, of residual blocks: core.networks.residual."""
    kernel, _, width = layers[0]
    total = size * size * kernel * kernel * channels * width
    for number, (kernel, stride, out) in enumerate(layers):
        total += size * size * (kernel * kernel * (width + out) * out + (width * out if width != out else 0))
        width = out
        if number + 1 < len(layers):
            size = -(-size // stride)
    return total, size, width


def gradient_evaluation_cost(config: Config) -> int:
    """Multiply-adds of one Langevin step of one image at the finest grid: the unit of costs."""
    return 2 * multiply_adds(config, config.num_grids - 1)


def update_cost(config: Config) -> int:
    """Multiply-adds of one update of the whole batch."""
    num_steps = config.per_grid("langevin.num_steps")
    of_image = sum((2 * k + 6) * multiply_adds(config, grid) for grid, k in enumerate(num_steps))
    return config.learning.global_batch_size * of_image


def sample_cost(config: Config) -> int:
    """Multiply-adds of one fresh sample, all its grids."""
    return sum(2 * k * multiply_adds(config, grid) for grid, k in enumerate(config.per_grid("langevin.num_steps")))


def evaluation_cost(config: Config) -> int:
    """Multiply-adds of the samples of one evaluation, all its draws."""
    return config.evaluate.num_draws * config.evaluate.num_samples * sample_cost(config)


def num_evaluations(config: Config, *, after: int = 0) -> int:
    """Evaluations that are still to come once so many updates are done, that of this update and the untrained model's
    among them."""
    every, last = config.evaluate.every, config.learning.num_updates
    on_the_way = (last - 1) // every - max(after - 1, 0) // every if every else 0
    return on_the_way + 1 + config.evaluate.untrained


def run_cost(config: Config, *, after: int = 0) -> int:
    """Multiply-adds of a run, or of what is left of it once so many updates are done: updates and evaluations."""
    updates = (config.learning.num_updates - after) * update_cost(config)
    return updates + num_evaluations(config, after=after) * evaluation_cost(config)


def cost_line(config: Config, *, num_images: int | None = None) -> str:
    """Images seen and multiply-adds of a whole run. num_images: those to learn from, where they are known."""
    learning = config.learning
    seen = learning.num_updates * learning.global_batch_size
    epochs = f" ({seen / num_images:.3g} epochs of {num_images:,} images)" if num_images else ""
    total, evaluations = run_cost(config), num_evaluations(config) * evaluation_cost(config)
    share = f"; {100 * evaluations / total:.0f} % of all for evaluations" if evaluations > 0.005 * total else ""
    return (
        f"Cost: {learning.num_updates:,} updates of {learning.global_batch_size:,} images see {seen:,} images{epochs} "
        f"and take {in_words(total)} multiply-adds ({in_words(update_cost(config))} per update{share})."
    )


def in_words(multiply_adds: float) -> str:
    """Two digits: 3.5e15."""
    digits, _, power = f"{multiply_adds:.1e}".partition("e")
    return f"{digits}e{int(power)}"
