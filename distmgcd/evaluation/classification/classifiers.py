"""The two classifiers that learn from a label subset.

The L2-SVM: linear, one class against the rest, squared hinge loss (scikit-learn's LinearSVC).

    min over w, b of  |w|^2 / 2 + b^2 / 2 + C sum_i max(0, 1 - y_i (w . x_i + b))^2

x is standardised by the subset's mean and deviation and divided by sqrt(D), so that |x|^2 is about 1 and the same C
fits any number of features. C is chosen by stratified cross-validation on the subset: from the smallest of CANDIDATES
upward (larger ones are slower to fit), until one has a larger error than the best before it. Test images are seen once,
by the classifier that was chosen.

The small ConvNet, on top of the feature maps of all grids, which are not trained further:

    standardised maps -> conv 3x3 to 64, batch norm, ReLU -> dropout 0.5 -> dense to classes -> cross-entropy

Nothing in it is chosen by errors: widths, rate and number of updates are the same for every method, data
set and number of labels.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from distmgcd.evaluation.classification.label_subsets import NUM_FOLDS

CANDIDATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_MOST_ITERATIONS = 2000
_ROWS_AT_ONCE = 1000  # in fp64


class Linear(NamedTuple):
    """Scores x @ weights + bias [N, K], or of two classes one score [N, 1]."""

    weights: np.ndarray  # [D, K]
    bias: np.ndarray  # [K]
    classes: np.ndarray  # int64 [number of classes]
    about: dict[str, Any]  # what was chosen

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Features [N, D], as they come, to labels int64 [N]."""
        parts = np.array_split(features, -(-len(features) // _ROWS_AT_ONCE))
        scores = np.concatenate([part.astype(np.float64) @ self.weights + self.bias for part in parts])
        return self.classes[(scores[:, 0] > 0).astype(int) if len(self.classes) == 2 else scores.argmax(1)]


def fit_svm(features: np.ndarray, labels: np.ndarray, *, seed: int) -> Linear:
    """features: [N, D]."""
    mean, deviation = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    scale = np.where(deviation > 0, deviation, 1.0) * features.shape[1] ** 0.5
    rows, basis = _turned((features - mean) / scale)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", ConvergenceWarning)
        c = _choose_c(rows, labels, seed=seed)
        best = _svm(c, seed).fit(rows, labels)
    weights = best.coef_.T if basis is None else basis @ best.coef_.T
    weights = weights / scale[:, None]
    about = {"C": c, "fits_cut_short": sum(issubclass(w.category, ConvergenceWarning) for w in found)}
    return Linear(weights, best.intercept_ - mean @ weights, best.classes_, about)


def _choose_c(rows: np.ndarray, labels: np.ndarray, *, seed: int) -> float:
    folds, best, least = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=seed), CANDIDATES[0], 1.0
    for c in CANDIDATES:
        error = 1.0 - cross_val_score(_svm(c, seed), rows, labels, cv=folds, error_score="raise").mean()  # pyright: ignore[reportArgumentType]
        if error > least:
            break
        if error < least:
            best, least = c, error
    return best


def _svm(c: float, seed: int) -> LinearSVC:
    return LinearSVC(C=c, max_iter=_MOST_ITERATIONS, random_state=seed)


def _turned(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Fewer rows N than columns D: the same rows in N coordinates, and their axes [D, N]; else as they are.

    The weights of a linear SVM lie in the span of its rows, so that this changes its cost and not its solution.
    """
    if len(rows) >= rows.shape[1]:
        return rows, None
    basis, triangle = np.linalg.qr(rows.T)
    return np.ascontiguousarray(triangle.T), basis


NUM_UPDATES = 500
BATCH_SIZE = 100
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2
WIDTH = 64
_TEST_BATCH = 1000
HEAD_PROTOCOL = (
    f"conv 3x3 to {WIDTH} channels, batch norm, ReLU, dropout 0.5, dense; AdamW, {NUM_UPDATES} updates of "
    f"{BATCH_SIZE}, rate {LEARNING_RATE} with cosine decay, weight decay {WEIGHT_DECAY}; maps standardised by channel "
    "over the label subset"
)


class Head(nn.Module):
    """Maps [B, D, c, c] to class scores [B, K]."""

    mean: Tensor
    scale: Tensor

    def __init__(self, maps: Tensor, num_classes: int):
        """maps: [N, D, c, c], those it will be trained on, for their statistics."""
        super().__init__()
        deviation, mean = torch.std_mean(maps, dim=(0, 2, 3), keepdim=True)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.where(deviation > 0, deviation, 1.0))
        channels, size = maps.shape[1:3]
        self.network = nn.Sequential(
            nn.Conv2d(channels, WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(WIDTH * size * size, num_classes),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return self.network((maps - self.mean) / self.scale)


def fit_head(maps: Tensor, labels: Tensor, num_classes: int, *, seed: int, device: torch.device) -> Head:
    """maps: [N, D, c, c]; labels: int64 [N] from 0 to num_classes - 1. A function of these and the seed."""
    maps, labels = maps.to(device), labels.to(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        head = Head(maps, num_classes).to(device).train()
        optimizer = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, NUM_UPDATES)
        for rows in _batches(len(maps)):
            rows = rows.to(device)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(head(maps[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return head.eval()


@torch.no_grad()
def predict(head: Head, maps: Tensor) -> np.ndarray:
    """int64 [N], the class of each."""
    device = head.mean.device
    return torch.cat([head(part.to(device)).argmax(1).cpu() for part in maps.split(_TEST_BATCH)]).numpy()


def _batches(num_rows: int) -> list[Tensor]:
    """NUM_UPDATES of them, going over all rows in a fresh order each time; fewer rows than a batch are one batch."""
    size = min(BATCH_SIZE, num_rows)
    per_epoch = num_rows // size
    orders = [torch.randperm(num_rows)[: per_epoch * size].split(size) for _ in range(-(-NUM_UPDATES // per_epoch))]
    return [batch for epoch in orders for batch in epoch][:NUM_UPDATES]
