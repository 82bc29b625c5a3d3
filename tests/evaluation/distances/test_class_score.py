"""The class score of predictions for which it is known."""

import math

import pytest
import torch

from distmgcd.evaluation.distances.feature_statistics import NUM_PARTS, ClassSums, class_score


def parts_of(num: int) -> torch.Tensor:
    return torch.arange(num) * NUM_PARTS // num


def test_sure_predictions_of_all_classes_score_their_number_and_unsure_ones_1():
    sure = torch.nn.functional.one_hot(torch.arange(400) % 4).float() * 50
    assert class_score(ClassSums.of(sure, parts_of(400))) == pytest.approx((4, 0), abs=1e-9)
    assert class_score(ClassSums.of(torch.zeros(400, 4), parts_of(400))) == pytest.approx((1, 0), abs=1e-9)


def test_sure_predictions_of_one_class_score_1():
    one = torch.tensor([50.0, 0, 0]).expand(40, 3)
    assert class_score(ClassSums.of(one, parts_of(40))).mean == pytest.approx(1)


def test_it_is_its_definition_part_by_part_and_sums_merge():
    logits = torch.randn(100, 5, generator=torch.Generator().manual_seed(0)) * 2
    scores = []
    for part in logits.double().softmax(1).split(10):
        kl = (part * (part.log() - part.mean(0).log())).sum(1).mean()
        scores.append(math.exp(kl))
    expected = torch.tensor(scores, dtype=torch.float64)
    parts = parts_of(100)
    rows = [ClassSums.of(logits[some], parts[some]).packed() for some in (slice(0, 37), slice(37, None))]
    assert class_score(ClassSums.unpacked(torch.cat(rows))) == pytest.approx(
        (float(expected.mean()), float(expected.std(correction=0)))
    )


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="at least 10 images, but there are 4"):
        class_score(ClassSums.of(torch.zeros(4, 3), parts_of(4)))
