"""Ridge regression with its own choice of the penalty: what tells how much of a label some vectors hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

PENALTIES: Final = np.logspace(-3, 3, 13)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows of unit length in float64; zeros stay zeros."""
    rows = vectors.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


def fit_ridge(x: np.ndarray, targets: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A linear map from x (n, d) to targets (n, t), with an intercept.

    The penalty is the one of `PENALTIES` whose squared error over all targets is least when each row is left out once,
    which the eigenvalues of the Gram matrix give without fitting anew.

    Returns: from (m, d) to predictions (m, t).
    """
    middle, level = x.mean(axis=0), targets.mean(axis=0)
    centred, wanted = x - middle, targets - level
    values, turned = np.linalg.eigh(centred @ centred.T + 1.0)  # the 1 parts the direction of ones from all others
    values = np.maximum(values, 0.0)
    along = turned.T @ wanted
    best, weights = np.inf, along
    for penalty in PENALTIES:
        # Left out, row i errs by g_i / G_ii, G the inverse of the Gram matrix with the penalty; the direction of ones
        # is the intercept, which has none.
        inverse = 1.0 / (values + penalty)
        ones = turned.T @ np.ones(len(x))
        inverse[np.argmax(np.abs(ones))] = 0.0 if len(x) > 1 else 1.0
        dual = turned @ (inverse[:, None] * along)
        own = np.square(turned) @ inverse
        error = float(np.square(dual / own[:, None]).sum())
        if error < best:
            best, weights = error, turned @ ((1.0 / (values + penalty))[:, None] * along)
    slopes = centred.T @ weights
    return lambda rows: (rows - middle) @ slopes + level


def signs_of(labels: np.ndarray, classes: int) -> np.ndarray:
    """(n, classes) of 1 for a row's own class and -1 for the others."""
    signs = np.full((len(labels), classes), -1.0)
    signs[np.arange(len(labels)), labels] = 1.0
    return signs
