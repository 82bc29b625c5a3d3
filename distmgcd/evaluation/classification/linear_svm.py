"""The L2-SVM of a label subset: linear, one class against the rest, squared hinge loss (scikit-learn's LinearSVC).

    min over w, b of  |w|^2 / 2 + b^2 / 2 + C sum_i max(0, 1 - y_i (w . x_i + b))^2

x is standardised by the subset's mean and deviation and divided by sqrt(D), so that |x|^2 is about 1 and the same C
fit features of any number. C is chosen by stratified cross-validation on the subset: from the smallest of CANDIDATES
upward, which are ever slower to fit, until one has a larger error than the best before it. Test images are seen once,
by the classifier that was chosen.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.svm import LinearSVC

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
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ConvergenceWarning)
        c = _choose_c(rows, labels, seed=seed)
        best = _svm(c, seed).fit(rows, labels)
    weights = best.coef_.T if basis is None else basis @ best.coef_.T
    weights = weights / scale[:, None]
    about = {"C": c, "fits_cut_short": sum(issubclass(w.category, ConvergenceWarning) for w in told)}
    return Linear(weights, best.intercept_ - mean @ weights, best.classes_, about)


def _choose_c(rows: np.ndarray, labels: np.ndarray, *, seed: int) -> float:
    folds, best, least = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=seed), CANDIDATES[0], 1.0
    for c in CANDIDATES:
        error = 1.0 - cross_val_score(_svm(c, seed), rows, labels, cv=folds, error_score="raise").mean()
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
