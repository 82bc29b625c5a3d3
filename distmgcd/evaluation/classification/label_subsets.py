"""Which images lend their labels: random subsets with as many of every class, the same for every method.

"Uniformly class distributed", as Radford et al. 2016 draw 1,000 labels of SVHN. A subset is a function of (seed, its
number), and a larger one of the same number holds the smaller ones. All are of the training split, never of the images
that classifiers are scored with.
"""

from collections.abc import Sequence

import numpy as np

from distmgcd.data import ImageSet
from distmgcd.data.sources.source import NO_LABEL
from distmgcd.errors import UserError

NUM_FOLDS = 3  # of the cross-validation in a subset: every class needs an image in each


def check_labels(images: ImageSet) -> None:
    """Raise UserError if there are no labels to learn from or to score with."""
    labels = known_labels(images)
    if len(labels) == 0:
        raise UserError(
            f"Features are judged by classifying, but the images of {images.name} have no labels; Parquet files need "
            "whole numbers or strings in a column named label, folders of images one folder a class."
        )
    if len(np.unique(labels)) == 1:
        raise UserError(
            f"Features are judged by classifying, but all images of {images.name} have the label {labels[0]}; give a "
            "run on images of two classes or more."
        )


def check_apart(images: ImageSet, held_out: ImageSet) -> None:
    """Raise UserError if an image would be both learned from and scored; both are of one source."""
    if shared := len(np.intersect1d(images.rows, held_out.rows)):
        raise UserError(
            f"{shared} images are both in {images.name} and in {held_out.name}, so that classifiers would be scored "
            "with what they have learned; take a run whose data.split and data.held_out share none."
        )


def labels_of(images: ImageSet, rows: np.ndarray) -> np.ndarray:
    """int64, of these rows of images that have labels."""
    return images.labels[rows] if images.labels is not None else np.zeros(0, np.int64)


def known_labels(images: ImageSet) -> np.ndarray:
    """Those of the images that have one, in their order."""
    return labels_of(images, labelled_rows(images))


def labelled_rows(images: ImageSet) -> np.ndarray:
    """int64, ascending: where the images with a label stand."""
    return np.flatnonzero(images.labels != NO_LABEL) if images.labels is not None else np.zeros(0, np.int64)


def check_sizes(images: ImageSet, sizes: Sequence[int]) -> None:
    """Raise UserError for sizes of subsets that these images cannot give."""
    values, counts = np.unique(known_labels(images), return_counts=True)
    num_classes = len(values)
    most, fewest = int(counts.min()) * num_classes, NUM_FOLDS * num_classes
    rare = values[counts.argmin()]
    name = images.classes[rare] if images.classes and rare < len(images.classes) else rare
    for size in sizes:
        if size > most:
            raise UserError(
                f"--labels {size} asks for {-(-size // num_classes)} images of each of {num_classes} classes, but "
                f"{images.name} has {counts.min()} of class {name}; give at most --labels {most}."
            )
        if size < fewest:
            raise UserError(
                f"--labels {size} is less than {NUM_FOLDS} images of each of {num_classes} classes, which "
                f"cross-validation needs; give at least --labels {fewest}."
            )


def label_subset(images: ImageSet, size: int, *, seed: int, number: int) -> np.ndarray:
    """Rows int64 [size], ascending; classes have equal shares but for one image."""
    rows = labelled_rows(images)
    order = np.argsort(np.random.Philox(key=np.array([seed, number], np.uint64)).random_raw(len(rows)), kind="stable")
    rows = rows[order]
    labels = labels_of(images, rows)
    values, first = np.unique(labels, return_index=True)
    values = values[np.argsort(first)]  # whose turn it is to have one more is random, too
    shares = [size // len(values) + (place < size % len(values)) for place in range(len(values))]
    return np.sort(np.concatenate([rows[labels == v][:share] for v, share in zip(values, shares, strict=True)]))
