"""Which sets of pictures distances are taken of, and the protocol of a run's distances in words."""

import numpy as np
from torch import Tensor

from distmgcd.config import Config
from distmgcd.data import ImageSet
from distmgcd.models.sampling import as_floats

# Philox streams number an epoch by the second half of their key (data/order.py). No epoch has this number: by that of
# epoch 0 a draw from the bank would be of the chains that learning ran first.
_OF_BANK = 1 << 63


def evaluation_seeds(config: Config) -> range:
    """The seeds of fresh samples, one per draw: the same for every run and trial."""
    return range(1, 1 + config.evaluate.num_draws)


def draws_of_data(images: ImageSet, config: Config) -> list[Tensor]:
    """As many sets of training images as there are draws of samples, of evaluate.num_samples images, or of all."""
    return [as_floats(images.images[rows]) for rows in _random_rows(len(images), config)]


def draws_of_bank(bank: Tensor, config: Config) -> list[Tensor]:
    """The same of persistent chains [M, C, S, S]."""
    return [bank[rows] for rows in _random_rows(len(bank), config, stream=_OF_BANK)]


def _random_rows(num_rows: int, config: Config, *, stream: int = 0) -> list[np.ndarray]:
    num = min(config.evaluate.num_samples, num_rows)
    keys = [np.array([seed, stream], np.uint64) for seed in evaluation_seeds(config)]
    orders = (np.random.Generator(np.random.Philox(key=key)).random(num_rows) for key in keys)
    return [np.sort(np.argsort(order)[:num]) for order in orders]


def _of_noise(config: Config) -> str:
    factor = config.langevin.sample_noise
    return "" if factor == 1.0 else f", the noise of the finest grid times {factor:g}"


def protocol(config: Config, images: ImageSet, held_out: ImageSet) -> dict[str, str]:
    """What distances were measured on, in words."""
    num_samples, num_draws = config.evaluate.num_samples, config.evaluate.num_draws
    start = {"climb": "from 1x1 starts drawn from their distribution", "noise": "from uniform noise"}
    bank = f"up to {num_samples} random persistent chains a draw, where they ended; no fresh samples"
    return {
        "metric": "sliced 1-Wasserstein distance of whole images, box-averaged to sizes "
        f"{list(config.evaluation_sizes)}, 512 directions, pixels in [-1, 1]",
        "draws": f"mean and standard deviation over {num_draws} draws, all against the same reference",
        "samples": f"{num_samples} fresh chains a draw {start[config.start.of_samples]}, averaged weights, "
        f"{config.per_grid('langevin.num_steps')} steps a grid{_of_noise(config)}",
        **({"bank": bank} if config.start.kind == "persistent" else {}),
        "reference": f"{min(num_samples, len(held_out))} images of {held_out.name}",
        "data": f"{min(num_samples, len(images))} random images a draw of {images.name}",
    }
