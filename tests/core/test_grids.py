"""Pooling and expanding."""

import pytest
import torch

from distmgcd.core.grids import expand, pool, pyramid

SCHEDULES = [(1, 4, 16, 64), (1, 8, 32), (1, 2, 4, 8, 16, 32)]


def random_images(size: int, *, channels: int = 3) -> torch.Tensor:
    return torch.rand(5, channels, size, size, generator=torch.Generator().manual_seed(size)) * 2 - 1


@pytest.mark.parametrize(("small", "large"), [(1, 4), (4, 16), (2, 4), (8, 32), (1, 64), (5, 15), (8, 8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_pooling_undoes_expanding_exactly(small, large, channels):
    levels = (random_images(small, channels=channels) * 128).round() / 128  # whole levels, whose sums are not rounded
    assert torch.equal(pool(expand(levels, large), small), levels)


def test_pooling_undoes_expanding_any_value_up_to_the_rounding_of_its_sum():
    images = random_images(4)
    torch.testing.assert_close(pool(expand(images, 64), 4), images, rtol=0, atol=256 * 2.0**-25)


def test_expanding_makes_constant_boxes():
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert expand(image, 4)[0, 0].tolist() == expected


def test_pooling_takes_the_mean_of_each_box_and_channel():
    image = torch.arange(32.0).view(1, 2, 4, 4)
    assert pool(image, 2)[0].tolist() == [[[2.5, 4.5], [10.5, 12.5]], [[18.5, 20.5], [26.5, 28.5]]]


@pytest.mark.parametrize("sizes", SCHEDULES)
def test_every_level_of_the_pyramid_equals_pooling_the_full_image(sizes):
    images = random_images(sizes[-1])
    levels = pyramid(images, sizes)
    assert [tuple(level.shape) for level in levels] == [(5, 3, size, size) for size in sizes]
    assert levels[-1] is images
    for level, size in zip(levels, sizes, strict=True):
        torch.testing.assert_close(level, pool(images, size), rtol=0, atol=1e-6)


def test_the_coarsest_level_is_the_mean_colour():
    images = random_images(16)
    torch.testing.assert_close(pyramid(images, (1, 4, 16))[0][:, :, 0, 0], images.mean((2, 3)), rtol=0, atol=1e-6)
