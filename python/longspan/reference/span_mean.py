"""span_mean and its gradient in plain NumPy, in the dtype of `hidden`."""

from __future__ import annotations

import numpy as np

SMALLEST_NORM = 1e-12  # a shorter mean is divided by this: zeros stay zeros


def span_mean(
    hidden: np.ndarray, spans: np.ndarray, *, truncate_dim: int | None = None, normalize: bool = False
) -> np.ndarray:
    """(num_spans, truncate_dim or dim): the mean of rows [start, end) of `hidden` (total_tokens, dim) for each span."""
    means = _means(hidden[:, :truncate_dim], spans)
    return means / _lengths(means) if normalize else means


def span_mean_backward(
    grad: np.ndarray, hidden: np.ndarray, spans: np.ndarray, *, normalize: bool = False
) -> np.ndarray:
    """The gradient for `hidden`, (total_tokens, dim), of a loss whose gradient for span_mean's result is `grad`.

    With m the mean of a span of n rows, y = m / |m| and g its row of `grad`, each of its rows receives
    (g - y <y, g>) / (|m| n) where the result is normalised, g / n where it is not; spans that share a row add up.
    Columns past those of `grad` (truncate_dim) receive 0. Where |m| is below SMALLEST_NORM, y is m / SMALLEST_NORM and
    nothing is projected out: there the result is linear in m.
    """
    dim = grad.shape[1]
    if normalize:
        means = _means(hidden[:, :dim], spans)
        lengths = _lengths(means)
        units = means / lengths
        along = np.where(lengths > SMALLEST_NORM, (units * grad).sum(axis=1, keepdims=True), 0)
        grad = (grad - units * along) / lengths
    out = np.zeros_like(hidden)
    for (start, end), row in zip(spans.tolist(), grad, strict=True):
        out[start:end, :dim] += row / (end - start)
    return out


def _means(hidden: np.ndarray, spans: np.ndarray) -> np.ndarray:
    out = np.empty((len(spans), hidden.shape[1]), hidden.dtype)
    for row, (start, end) in enumerate(spans.tolist()):
        out[row] = hidden[start:end].mean(axis=0)
    return out


def _lengths(means: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.square(means).sum(axis=1, keepdims=True))
    return np.maximum(lengths, means.dtype.type(SMALLEST_NORM))
