"""Masks: how much they hide, of what form, and that they are a function of who and when."""

import pytest
import torch
from torch import Tensor

from distmgcd.core.masks import MASK_KINDS, MaskKind, draw_masks
from distmgcd.core.noise import Purpose

SHARES = {"square": 0.25, "doodle": 0.25, "pepper": 0.6}


def masks(kind: MaskKind, images: Tensor | int = 50, size: int = 16, **when: int) -> Tensor:
    images = torch.arange(images) if isinstance(images, int) else images
    return draw_masks(kind, images, size, **{"seed": 1, "purpose": Purpose.MASK, **when})


@pytest.mark.parametrize("size", [8, 16, 64])
@pytest.mark.parametrize("kind", MASK_KINDS)
def test_every_mask_of_a_kind_hides_as_much(kind: MaskKind, size: int):
    hidden = masks(kind, size=size)
    assert hidden.shape == (50, 1, size, size) and hidden.dtype == torch.bool
    assert hidden.flatten(1).sum(1).unique().tolist() == [round(SHARES[kind] * size * size)]


def test_a_square_has_half_the_side_and_may_be_anywhere():
    hidden = masks("square", 400, 8)[:, 0]
    rows, columns = hidden.any(2), hidden.any(1)
    assert torch.equal(hidden, rows[:, :, None] & columns[:, None, :])
    for places in (rows, columns):
        assert set(places.sum(1).tolist()) == {4}
        first = places.int().argmax(1)
        assert first.unique().tolist() == [0, 1, 2, 3, 4] and (places.int().diff(dim=1) == 1).sum(1).max() <= 1


def test_a_doodle_is_of_one_piece_and_pepper_is_not():
    def neighbours(kind: MaskKind) -> Tensor:
        """How many hidden pixels have a hidden one to the right, as a share."""
        hidden = masks(kind, size=64)[:, 0]
        return (hidden[:, :, :-1] & hidden[:, :, 1:]).flatten(1).sum(1) / hidden.flatten(1).sum(1)

    assert neighbours("doodle").min() > 0.85
    assert neighbours("pepper").max() < 0.65  # 0.6 of them, by chance
    assert (masks("doodle", size=64).float().mean(0) > 0.02).float().mean() > 0.9  # and it goes nearly everywhere


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_a_mask_depends_on_seed_image_update_and_purpose_and_on_nothing_else(kind: MaskKind):
    images = torch.tensor([7, 40, 3])
    assert torch.equal(masks(kind, images)[2], masks(kind, images[2:])[0])
    others = (masks(kind, images, seed=2), masks(kind, images, update=1), masks(kind, images + 1))
    others += (masks(kind, images, purpose=Purpose.INPAINT_MASK),)
    assert not any(torch.equal(other, masks(kind, images)) for other in others)
