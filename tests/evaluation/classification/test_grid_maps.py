"""Feature maps: their shapes, that each grid sees its own size of the image, and what pooling keeps."""

import torch
from torch import nn

from distmgcd.core.energy import ConvEnergy, MultiGridEnergy
from distmgcd.core.grids import expand, pool
from distmgcd.core.networks import ConvLayer, convnet
from distmgcd.evaluation.classification.representations import as_one_map, as_vectors, grid_maps, pixel_maps

SIZES = (2, 8)


def model() -> MultiGridEnergy:
    torch.manual_seed(0)
    layers = [ConvLayer(3, 1, 5), ConvLayer(3, 2, 7)]
    return MultiGridEnergy(
        [ConvEnergy(convnet(s, 3, layers, activation="relu", norm="spectral"), reference_sigma=1.0) for s in SIZES]
    )


def test_maps_have_at_most_so_many_cells_and_come_from_every_grid():
    images = torch.randn(4, 3, 8, 8)
    of = {layers: grid_maps(model(), images, sizes=SIZES, cells=3, layers=layers) for layers in ("last", "all")}
    assert [tuple(m.shape[1:]) for m in of["last"]] == [(7, 1, 1), (7, 3, 3)]
    assert [tuple(m.shape[1:]) for m in of["all"]] == [(5, 2, 2), (7, 1, 1), (5, 3, 3), (7, 3, 3)]
    assert as_vectors(of["last"]).shape == (4, 7 + 63) and as_one_map(of["all"]).shape == (4, 24, 3, 3)
    assert not any(m.requires_grad for m in of["all"])


def test_a_grid_sees_the_box_averages_of_the_image_only():
    images, detail, net = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8), model()
    with_detail = images + detail - expand(pool(detail, 2), 8)
    coarse, fine = ([grid_maps(net, x, sizes=SIZES, cells=4)[grid] for x in (images, with_detail)] for grid in range(2))
    torch.testing.assert_close(*coarse, rtol=1e-4, atol=1e-5)
    assert (fine[0] - fine[1]).abs().max() > 0.1


def test_pooling_keeps_the_largest_of_each_cell_and_the_model_stays_as_it_was():
    net, images = model().train(), torch.randn(4, 3, 8, 8)
    pooled = grid_maps(net, images, sizes=SIZES, cells=2)[1]
    whole = grid_maps(net, images, sizes=SIZES, cells=4)[1]
    torch.testing.assert_close(pooled, nn.functional.max_pool2d(whole, 2))
    assert net.training and all(p.requires_grad for p in net.parameters())


def test_pixel_maps_hold_every_pixel_of_their_cell():
    images = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    (maps,) = pixel_maps(images, cells=4)
    assert maps.shape == (2, 12, 4, 4)
    assert sorted(maps[0, :, 1, 2].tolist()) == sorted(images[0, :, 2:4, 4:6].flatten().tolist())
    assert pixel_maps(images, cells=5)[0].shape[-1] == 4 and pixel_maps(images, cells=100)[0].shape[-1] == 8


def test_smaller_maps_are_enlarged_in_place():
    small, large = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.zeros(1, 1, 4, 4)
    joined = as_one_map([small, large])
    assert joined.shape == (1, 2, 4, 4) and joined[0, 0, 0].tolist() == [1, 1, 2, 2]
    assert as_one_map([small, torch.zeros(1, 1, 3, 3)]).shape == (1, 2, 3, 3)
