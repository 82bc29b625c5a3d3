"""How well the features of a run classify, learned from few labels: the experiment of Gao et al. 2017 with SVHN.

    features    of the networks of all grids (representations.py); beside them raw pixels, random networks of the same
                shape, and the networks of other runs on the same images
    classifiers an L2-SVM and a small ConvNet (classifiers.py), learned on a label subset
    error       share of all labelled held-out images that get a wrong class; its mean and deviation over subsets

Every method sees the same subsets and the same images. The file of the record grows as it is measured: what stands in
it is not measured again, so that the same command goes on where it was stopped, and another run joins.
"""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn
import torch
from torch import Tensor

from distmgcd import __version__
from distmgcd.config.kinds import suggest
from distmgcd.data import ImageSet
from distmgcd.errors import UserError
from distmgcd.evaluation.classification.classifiers import CANDIDATES, HEAD_PROTOCOL, fit_head, fit_svm, predict
from distmgcd.evaluation.classification.label_subsets import (
    NUM_FOLDS,
    check_apart,
    check_labels,
    check_sizes,
    known_labels,
    label_subset,
    labelled_rows,
    labels_of,
)
from distmgcd.evaluation.classification.representations import (
    Layers,
    Representation,
    as_one_map,
    as_vectors,
    load_others,
    of_pixels,
    of_random_networks,
    of_trained,
)
from distmgcd.evaluation.record import check_writable, read_record, results_of, write_record
from distmgcd.models.run_images import images_of
from distmgcd.models.trained_model import TrainedModel, Weights, load
from distmgcd.runs.run_folder import Run
from distmgcd.workers.collectives import choose_device

CLASSIFIERS = ("svm", "convnet")
Show = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    labels: tuple[int, ...] = (1000, 2000, 4000)  # sizes of subsets
    num_subsets: int = 10  # of each size
    seed: int = 0  # of subsets, folds and classifiers
    cells: int = 4
    layers: Layers = "last"
    num_random: int = 3  # random networks
    classifiers: tuple[str, ...] = CLASSIFIERS
    checkpoint: str = "end"  # of the run; of others the newest
    weights: Weights = "ema"
    data: str | None = None  # where the images of all runs are; None: at their data.path
    out: str | None = None  # the folder for results; None: the run's (record.results_of)


def parse_labels(text: str) -> tuple[int, ...]:
    """ "1000,2000" is (1000, 2000), in rising order. Raises UserError."""
    parts = [part.strip() for part in text.split(",")]
    if wrong := [part for part in parts if not part.isdecimal()]:
        raise UserError(
            f"--labels must be whole numbers with commas between them, but has {wrong[0]!r}; write --labels 1000,2000."
        )
    return tuple(sorted(set(map(int, parts))))


def parse_classifiers(text: str) -> tuple[str, ...]:
    """ "svm,convnet" is ("svm", "convnet"), in this order. Raises UserError."""
    asked = [part.strip() for part in text.split(",")]
    if wrong := [name for name in asked if name not in CLASSIFIERS]:
        raise UserError(
            f"--classifiers must be svm, convnet or both, but has {wrong[0]!r}{suggest(wrong[0], CLASSIFIERS)}; leave "
            "it out for both."
        )
    return tuple(name for name in CLASSIFIERS if name in asked)


def classify_run(
    run: str,
    protocol: Protocol | None = None,
    *,
    against: Sequence[str] = (),
    use_gpu: bool | None = None,
    show: Show = lambda text: None,
) -> dict[str, Any]:
    """Classify by the features of the run at this path; returns what its file in RUN/evaluation holds.

    Features of the training images of all subsets and of all held-out images are kept in memory, of one method at a
    time: 26,000 images at 16,000 values are 1.7 GB. Raises UserError.
    """
    protocol = protocol or Protocol()
    opened, how = Run.open(run), {"weights": protocol.weights, "data": protocol.data}
    results = results_of(opened, protocol.out)
    check_writable(results)
    trained = load(run, which=protocol.checkpoint, device=choose_device(use_gpu), **how)
    images, held_out = (images_of(opened, trained.config, which) for which in ("images", "held_out"))
    for each in (images, held_out):
        check_labels(each)
    check_apart(images, held_out)
    check_sizes(images, protocol.labels)
    others = load_others(list(against), (images, held_out), run, device=trained.device, **how)
    identity = _identity(trained, images, held_out, protocol)
    file_name = _file_name(trained, protocol)
    record = read_record(results, file_name, identity=identity) or {"identity": identity, "methods": {}}
    experiment = _Experiment(images, held_out, protocol, trained.device, show)
    file = write_record(results, file_name, record)
    for method in _methods(trained, opened.name, others, protocol):
        entry = _entry(record, method)
        for _ in experiment.fill(method, entry):
            file = write_record(results, file_name, record)
    return {**record, "file": file}


def _methods(
    trained: TrainedModel, name: str, others: Sequence[tuple[str, TrainedModel]], protocol: Protocol
) -> Iterator[Representation]:
    how = {"cells": protocol.cells, "layers": protocol.layers}
    yield of_trained(trained, name, **how)
    for other_name, other in others:
        yield of_trained(other, other_name, **how)
    yield of_pixels(cells=protocol.cells, device=trained.device)
    yield from of_random_networks(trained, protocol.num_random, **how)


def _entry(record: dict[str, Any], method: Representation) -> dict[str, Any]:
    """What the record holds of a method already, or a new entry if it holds nothing of these very weights."""
    found = record["methods"].get(method.name)
    if found is None or found["about"] != method.about:
        found = record["methods"][method.name] = {"about": method.about, "errors": {}}
    return found


class _Experiment:
    """The images and the subsets of their labels."""

    def __init__(self, images: ImageSet, held_out: ImageSet, protocol: Protocol, device: torch.device, show: Show):
        self._images, self._held_out, self._protocol = images, held_out, protocol
        self._device, self._show = device, show
        self._test_rows = labelled_rows(held_out)
        self._subsets = {
            size: [label_subset(images, size, seed=protocol.seed, number=n) for n in range(protocol.num_subsets)]
            for size in protocol.labels
        }
        self._rows = np.unique(np.concatenate([rows for subsets in self._subsets.values() for rows in subsets]))

    def fill(self, method: Representation, entry: dict[str, Any]) -> Iterator[None]:
        """Measure what is missing in the entry; yields after each piece that is now there."""
        missing = [
            (classifier, size)
            for classifier in self._protocol.classifiers
            for size in self._protocol.labels
            if str(size) not in entry["errors"].get(classifier, {})
        ]
        if not missing:
            return
        num_images = len(self._rows) + len(self._test_rows)
        self._show(f"{method.name}: taking features of {num_images} images, then learning classifiers ...")
        train = method.maps_of_rows(self._images, self._rows)
        test = method.maps_of_rows(self._held_out, self._test_rows)
        if not all(maps.isfinite().all() for maps in (*train, *test)):
            raise UserError(f"The features of {method.name} are not all finite; take another --checkpoint of it.")
        entry["maps"] = [list(maps.shape[1:]) for maps in train]
        for classifier, size in missing:
            start = time.perf_counter()
            find = self._svm if classifier == "svm" else self._convnet
            found = find(train, test, self._subsets[size])
            found["seconds"] = round(time.perf_counter() - start, 1)
            entry["errors"].setdefault(classifier, {})[str(size)] = found
            self._show(f"{method.name}, {classifier}, {size} labels: {summary(found)} % wrong")
            yield

    def _svm(self, train: list[Tensor], test: list[Tensor], subsets: Sequence[np.ndarray]) -> dict[str, Any]:
        train_features, test_features = as_vectors(train).numpy(), as_vectors(test).numpy()
        errors, chosen = [], []
        for rows in subsets:
            features = train_features[np.searchsorted(self._rows, rows)]
            svm = fit_svm(features, labels_of(self._images, rows), seed=self._protocol.seed)
            errors.append(self._error(svm.predict(test_features)))
            chosen.append(svm.about)
        return _found(errors) | {"chosen": chosen}

    def _convnet(self, train: list[Tensor], test: list[Tensor], subsets: Sequence[np.ndarray]) -> dict[str, Any]:
        train_maps, test_maps = as_one_map(train), as_one_map(test)
        errors = []
        for rows in subsets:
            classes, labels = np.unique(labels_of(self._images, rows), return_inverse=True)
            head = fit_head(
                train_maps[torch.from_numpy(np.searchsorted(self._rows, rows))],
                torch.from_numpy(labels),
                len(classes),
                seed=self._protocol.seed,
                device=self._device,
            )
            errors.append(self._error(classes[predict(head, test_maps)]))
        return _found(errors)

    def _error(self, predicted: np.ndarray) -> float:
        return float((predicted != labels_of(self._held_out, self._test_rows)).mean())


def _found(errors: list[float]) -> dict[str, Any]:
    return {
        "mean": float(np.mean(errors)),
        "deviation": float(np.std(errors, ddof=1)) if len(errors) > 1 else 0.0,
        "errors": errors,
    }


def summary(found: dict[str, Any]) -> str:
    """An error in per cent."""
    return f"{100 * found['mean']:.2f} ± {100 * found['deviation']:.2f}"


def _identity(trained: TrainedModel, images: ImageSet, held_out: ImageSet, protocol: Protocol) -> dict[str, Any]:
    """All that every number depends on, the features apart."""
    return {
        "data": images.name,
        "held_out": held_out.name,
        "data_fingerprints": [images.content, held_out.content],
        "num_scored": len(labelled_rows(held_out)),
        "scored": "all labelled held-out images, by every classifier once",
        "classes": len(np.unique(known_labels(images))),
        "subsets": f"{protocol.num_subsets} of every size, as many images of every class; seed {protocol.seed}",
        "deviation": "over label subsets (of one trained model), which share images and are scored with the same ones",
        "features": f"{protocol.layers} convolution of every grid's network, after its activation, max-pooled to at "
        f"most {protocol.cells}x{protocol.cells}; pixels in [-1, 1]",
        "svm": "LinearSVC, one class against the rest, features standardised over the subset and divided by sqrt(D), "
        f"C of {list(CANDIDATES)} by {NUM_FOLDS}-fold cross-validation on the subset, upward until worse",
        "convnet": HEAD_PROTOCOL,
        "versions": {
            "distmgcd": __version__,
            "torch": str(torch.__version__),
            "scikit-learn": sklearn.__version__,
            "python": platform.python_version(),
        },
    }


def _file_name(trained: TrainedModel, protocol: Protocol) -> str:
    how = f"{protocol.layers}-cells{protocol.cells}-subsets{protocol.num_subsets}-seed{protocol.seed}"
    return f"{trained.checkpoint}-{trained.weights}-classification-{how}.json"
