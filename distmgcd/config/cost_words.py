"""What a run costs, in a sentence that needs neither its images nor torch."""

from distmgcd.config.cost import evaluation_cost, num_evaluations, run_cost, update_cost
from distmgcd.config.schema import Config


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
