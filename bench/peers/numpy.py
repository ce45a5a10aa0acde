"""NumPy: what a programme does that has nothing else. Its products are OpenBLAS's, on threads of OpenBLAS's own."""

from __future__ import annotations

import numpy as np

from ..case import Contestant, Setting
from . import AbsentError


def linear(setting: Setting, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> list[Contestant]:
    """x (rows, in) weight (out, in) bias (out,): x weight^T + bias."""
    return [Contestant("numpy", lambda: x @ weight.T + bias)]


def multi_lora(
    setting: Setting, x: np.ndarray, lora_a: np.ndarray, lora_b: np.ndarray, lora_ids: np.ndarray, scaling: float
) -> list[Contestant]:
    """A loop over the adapters, each on its own rows."""
    rows = [np.flatnonzero(lora_ids == number) for number in range(len(lora_a))]

    def run() -> np.ndarray:
        delta = np.zeros((len(x), lora_b.shape[1]), np.float32)
        for number, mine in enumerate(rows):
            delta[mine] = scaling * (x[mine] @ lora_a[number].T @ lora_b[number].T)
        return delta

    return [Contestant("numpy", run)]


def span_mean(setting: Setting, hidden: np.ndarray, spans: np.ndarray) -> list[Contestant]:
    """A loop over the spans; and differences of cumulative sums."""
    starts, ends = spans.T.astype(np.int64)
    counts = (ends - starts)[:, None].astype(np.float32)
    means = np.empty((len(spans), hidden.shape[1]), np.float32)
    sums = np.zeros((len(hidden) + 1, hidden.shape[1]), np.float32)

    def loop() -> np.ndarray:
        for row, (start, end) in enumerate(spans.tolist()):
            hidden[start:end].mean(axis=0, out=means[row])
        return means

    def cumulative() -> np.ndarray:
        np.cumsum(hidden, axis=0, out=sums[1:])
        return (sums[ends] - sums[starts]) / counts

    return [Contestant("numpy loop", loop), Contestant("numpy cumsum", cumulative)]


def hamming_topk(setting: Setting, queries: np.ndarray, codes: np.ndarray, k: int) -> list[Contestant]:
    """queries, codes (n, bytes) uint8: distances of the k nearest, ascending. One query at a time."""
    if not hasattr(np, "bitwise_count"):
        raise AbsentError("NumPy before 2.0 counts no bits")
    words, asked = codes.view(np.uint64), queries.view(np.uint64)

    def run() -> np.ndarray:
        nearest = []
        for query in asked:
            distances = np.bitwise_count(words ^ query).sum(axis=1, dtype=np.int32)
            nearest.append(np.sort(np.partition(distances, k - 1)[:k]))
        return np.stack(nearest)

    return [Contestant("numpy", run, "bits")] if len(queries) == 1 else []
