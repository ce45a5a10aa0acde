"""Which experts a token takes."""

from __future__ import annotations

import numpy as np


def choose_experts(logits: np.ndarray, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    """The `top_k` likeliest experts of each row, best first (of equal ones the lower number), (rows, top_k) int64, and
    their probabilities, (rows, top_k) f32: softmax over all of `logits`, (rows, experts) f32, and not scaled anew.

    Every sum is over columns in their order, so that a row's values are the same in any batch.
    """
    wide = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf))
    total = np.zeros(len(logits))
    for column in wide.T:
        total += column
    rows = np.arange(len(logits))
    chosen = np.empty((len(logits), top_k), np.int64)
    left = logits.copy()
    for rank in range(top_k):
        chosen[:, rank] = left.argmax(axis=1)
        left[rows, chosen[:, rank]] = -np.inf
    return chosen, (wide[rows[:, None], chosen] / total[:, None]).astype(np.float32)
