"""Label subsets and the two classifiers on made data: what is known to be separable, turned, or chance."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from distmgcd.data import ImageSet
from distmgcd.errors import UserError
from distmgcd.evaluation.classification.classifiers import fit_head, fit_svm, predict
from distmgcd.evaluation.classification.label_subsets import check_labels, check_sizes, label_subset

GENERATOR = np.random.default_rng(0)


def image_set(labels: list | np.ndarray | None, *, classes: tuple[str, ...] | None = None) -> ImageSet:
    num = 10 if labels is None else len(labels)
    return ImageSet(
        images=np.zeros((num, 1, 2, 2), np.uint8),
        labels=None if labels is None else np.array(labels, np.int64),
        rows=np.arange(num),
        hashes=np.arange(num, dtype=np.uint64),
        skipped=(),
        classes=classes,
        path="made",
        split="train",
        split_origin="made",
        fingerprint="",
        content="",
    )


UNEVEN = image_set(GENERATOR.permutation([0] * 300 + [1] * 50 + [2] * 100 + [-1] * 40))


# Subsets


def test_a_subset_has_as_many_of_every_class_and_no_image_without_a_label():
    for size in (60, 61, 150):
        rows = label_subset(UNEVEN, size, seed=0, number=0)
        assert len(set(rows.tolist())) == size and rows.tolist() == sorted(rows)
        counts = np.bincount(UNEVEN.labels[rows], minlength=3)
        assert counts.sum() == size and counts.max() - counts.min() == (size % 3 > 0)


def test_subsets_are_the_same_at_every_call_and_differ_by_number_and_seed():
    one = label_subset(UNEVEN, 60, seed=1, number=2).tolist()
    assert one == label_subset(UNEVEN, 60, seed=1, number=2).tolist()
    assert one != label_subset(UNEVEN, 60, seed=1, number=3).tolist()
    assert one != label_subset(UNEVEN, 60, seed=2, number=2).tolist()
    assert set(one) < set(label_subset(UNEVEN, 100, seed=1, number=2).tolist())


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (image_set(None), "the images of made [train] have no labels; Parquet files need"),
        (image_set([-1] * 9), "the images of made [train] have no labels"),
        (image_set([3] * 9), "all images of made [train] have the label 3"),
    ],
)
def test_images_without_labels_or_with_one_only_are_named(images: ImageSet, sentence: str):
    with pytest.raises(UserError) as told:
        check_labels(images)
    assert sentence in str(told.value)


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        (400, "134 images of each of 3 classes, but made [train] has 50 of class cat; give at most --labels 150."),
        (8, "--labels 8 is less than 3 images of each of 3 classes"),
    ],
)  # fmt: skip
def test_sizes_that_cannot_be_had_name_the_ones_that_can(size: int, sentence: str):
    with pytest.raises(UserError) as told:
        check_sizes(replace(UNEVEN, classes=("dog", "cat", "cow")), [90, size])
    assert sentence in str(told.value)
    check_sizes(UNEVEN, [9, 150])


# The SVM


def separable(num: int, *, dims: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Clusters far from each other, of features of very different scale and offset, one of them constant."""
    labels = np.arange(num) % classes + 5
    features = GENERATOR.normal(size=(num, dims)) + 8.0 * GENERATOR.normal(size=(classes, dims))[labels - 5]
    features = features * 10.0 ** GENERATOR.uniform(-3, 3, dims) + 100.0
    features[:, -1] = 7.0
    return features.astype(np.float32), labels


@pytest.mark.parametrize(("dims", "classes"), [(6, 4), (300, 4), (300, 2)])
def test_separable_classes_are_learned_without_error(dims: int, classes: int):
    separate = separable(240, dims=dims, classes=classes)
    features, labels = separate[0], separate[1]
    svm = fit_svm(features[:120], labels[:120], seed=0)
    assert (svm.predict(features[120:]) == labels[120:]).all() and svm.about["fits_cut_short"] == 0


def test_turning_the_rows_changes_nothing():
    """More features than rows: the same as scikit-learn's SVM on the standardised features themselves."""
    features = GENERATOR.normal(size=(90, 150)) * GENERATOR.uniform(0.1, 5.0, 150)
    labels = (features @ GENERATOR.normal(size=(150, 3)) + 10 * GENERATOR.normal(size=(90, 3))).argmax(1)
    ours = fit_svm(features, labels, seed=0)
    standardised = (features - features.mean(0)) / features.std(0) / 150**0.5
    theirs = LinearSVC(C=ours.about["C"], tol=1e-8, max_iter=100_000).fit(standardised, labels)
    other = GENERATOR.normal(size=(500, 150))
    scores = theirs.decision_function((other - features.mean(0)) / features.std(0) / 150**0.5)
    np.testing.assert_allclose(other @ ours.weights + ours.bias, scores, atol=0.02 * scores.std())


def test_labels_that_mean_nothing_are_learned_to_chance():
    features, labels = GENERATOR.normal(size=(3000, 20)), GENERATOR.integers(4, size=3000)
    error = (fit_svm(features[:200], labels[:200], seed=0).predict(features[200:]) != labels[200:]).mean()
    assert abs(error - 0.75) < 5 * (0.75 * 0.25 / 2800) ** 0.5


# The ConvNet


def test_the_convnet_learns_where_something_is(monkeypatch):
    monkeypatch.setattr("distmgcd.evaluation.classification.classifiers.NUM_UPDATES", 40)
    places = torch.arange(200) % 4
    maps = 0.3 * torch.randn(200, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    maps[:, 0].flatten(1)[torch.arange(200), places] += 2.0
    maps = maps * torch.tensor([1.0, 1000.0]).view(2, 1, 1) + 50.0  # the channel that tells nothing is the louder one
    heads = [fit_head(maps[:100], places[:100], 4, seed=seed, device=torch.device("cpu")) for seed in (0, 0, 1)]
    assert (predict(heads[0], maps[100:]) == places[100:].numpy()).all()
    first, again, other = ([*head.parameters()][0] for head in heads)
    assert torch.equal(first, again) and not torch.equal(first, other)
