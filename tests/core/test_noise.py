"""The noise of a chain: the published generator, the right distribution, and nothing shared that should not be."""

import math

import pytest
import torch

from distmgcd.core import noise
from distmgcd.core.noise import Purpose, normal, normals, philox, random_words, uniform

WHEN = {"seed": 11, "purpose": Purpose.CHAIN, "update": 5, "grid": 1}

# Random123 1.14, tests/kat_vectors, "philox4x32 10": counter, key, result
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter, key, answer):
    words = [torch.tensor([int(word, 16)]) for word in counter.split()]
    result = philox(*words, key=tuple(int(word, 16) for word in key.split()))
    assert [f"{int(word):08x}" for word in result] == answer.split()


def test_the_counter_is_block_then_purpose_grid_and_step_then_update_then_image():
    image, step, update, grid, seed = 77, 9, 1234, 2, (5 << 32) + 6
    when = Purpose.OBSERVED << 28 | grid << 20 | step
    words = random_words(
        torch.tensor([image]), torch.tensor([step]), 8, seed=seed, purpose=Purpose.OBSERVED, update=update, grid=grid
    )
    for block in (0, 1):
        expected = philox(*(torch.tensor([word]) for word in (block, when, update, image)), key=(6, 5))
        assert words[0, 0, block::2].tolist() == torch.cat(expected).tolist()


def test_the_first_four_moments_are_those_of_a_normal():
    z = torch.cat([z.flatten() for z in normals(torch.arange(100), (2, 10, 10), 20, **WHEN)]).double()
    n = len(z)
    standard_errors = {1: 1, 2: math.sqrt(2), 3: math.sqrt(15), 4: math.sqrt(96)}  # of the mean of z^k, times sqrt n
    for power, moment in {1: 0, 2: 1, 3: 0, 4: 3}.items():
        assert abs(z.pow(power).mean().item() - moment) < 4 * standard_errors[power] / math.sqrt(n), power


def test_the_distribution_function_is_that_of_a_normal():
    z = torch.cat([z.flatten() for z in normals(torch.arange(100), (2, 10, 10), 20, **WHEN)]).double().sort().values
    expected = torch.special.ndtr(z)
    steps = torch.arange(len(z) + 1) / len(z)
    distance = max((steps[1:] - expected).max().item(), (expected - steps[:-1]).max().item())
    assert distance < 1.95 / math.sqrt(len(z))  # Kolmogorov and Smirnov at 0.1 %


def test_uniform_numbers_are_uniform_and_never_0_or_1():
    assert uniform(torch.tensor([0, 0xFFFFFFFF])).tolist() == [2.0**-24, 1 - 2.0**-24]
    u = uniform(random_words(torch.arange(100), torch.arange(10), 400, **WHEN)).flatten().double().sort().values
    assert (u - torch.arange(len(u)) / len(u)).abs().max() < 1.95 / math.sqrt(len(u))


def test_the_largest_and_smallest_words_give_finite_normals():
    z = normal(torch.tensor([0, 0xFFF, 0xFFFFF000, 0xFFFFFFFF]))
    assert torch.isfinite(z).all()
    assert z.abs().max().item() == pytest.approx(math.sqrt(2 * math.log(2**21)), rel=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 12},
        {"seed": 11 + (1 << 32)},
        {"seed": 11 + (1 << 62)},
        {"purpose": Purpose.OBSERVED},
        {"purpose": Purpose.SAMPLE_CHAIN},
        {"update": 6},
        {"grid": 0},
        {"images": torch.tensor([2**31 + 4])},
        {"images": torch.tensor([5])},
    ],
)
def test_another_seed_purpose_update_grid_or_image_gives_unrelated_noise(change):
    base = {"images": torch.tensor([4]), **WHEN}
    one, other = (torch.cat(list(normals(shape=(3, 40, 40), num_steps=4, **when))) for when in (base, base | change))
    assert not (one == other).flatten().all()
    correlation = torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]
    assert abs(correlation) < 4 / math.sqrt(one.numel())


def test_images_and_steps_draw_unrelated_noise():
    z = torch.stack(list(normals(torch.arange(8), (1, 40, 40), 6, **WHEN))).flatten(2).flatten(0, 1)  # [48, 1600]
    correlations = torch.corrcoef(z) - torch.eye(len(z))
    assert correlations.abs().max() < 5 / math.sqrt(z.shape[1])


def test_no_two_pixels_of_an_image_share_a_number():
    (z,) = normals(torch.arange(300), (3, 4, 4), 1, **WHEN)
    correlations = torch.corrcoef(z.flatten(1).T) - torch.eye(48)
    assert correlations.abs().max() < 5 / math.sqrt(300)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (1, 4, 4), (1, 5, 7), (3, 16, 16), (3, 64, 64)])
@pytest.mark.parametrize("neighbours", [[], [8], [1, 2, 3, 4, 5, 6], list(range(100, 131))])
def test_noise_of_an_image_does_not_depend_on_its_place_in_the_batch(shape, neighbours):
    alone = [z[0] for z in normals(torch.tensor([7]), shape, 3, **WHEN)]
    for place in {0, len(neighbours) // 2, len(neighbours)}:
        images = torch.tensor([*neighbours[:place], 7, *neighbours[place:]])
        for z, expected in zip(normals(images, shape, 3, **WHEN), alone, strict=True):
            assert torch.equal(z[place], expected)


@pytest.mark.parametrize("at_once", [1, 50, 1 << 15])
def test_noise_does_not_depend_on_how_many_steps_are_made_at_once(at_once, monkeypatch):
    images = torch.tensor([7, 3, 900])
    expected = list(normals(images, (3, 5, 5), 9, **WHEN))
    monkeypatch.setattr(noise, "_BLOCKS_AT_ONCE", at_once)
    for num_steps in (1, 4, 9):
        shorter = list(normals(images, (3, 5, 5), num_steps, **WHEN))
        assert len(shorter) == num_steps
        assert all(torch.equal(a, b) for a, b in zip(shorter, expected, strict=False))


def test_noise_does_not_depend_on_the_number_of_threads():
    images = torch.arange(37)
    one = torch.stack(list(normals(images, (3, 31, 31), 3, **WHEN)))
    torch.set_num_threads(2)
    assert torch.equal(torch.stack(list(normals(images, (3, 31, 31), 3, **WHEN))), one)


def test_streams_have_room_for_the_documented_numbers_of_grids_and_steps():
    assert noise.MAX_STEPS == 1 << 20 and noise.MAX_GRIDS << 20 <= 1 << 28
    assert max(Purpose) < 1 << 4
