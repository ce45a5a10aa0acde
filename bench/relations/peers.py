"""The same steps by others: scipy.sparse's products, and the structure of the published code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from longspan.relations.graph import Graph
from longspan.relations.system import Strengths, System

if TYPE_CHECKING:
    from collections.abc import Callable


def scipy_step(system: System, base: np.ndarray, vectors: np.ndarray) -> Callable[[], np.ndarray]:
    """One step by the best that scipy has: three products of float32 CSR and dense rows, then the epilogue in NumPy."""
    import scipy.sparse  # type: ignore[import-untyped]

    size, groups = len(base), len(system.group_indptr) - 1

    def matrix(rows: Any, columns: int) -> Any:
        shape = (len(rows.indptr) - 1, columns)
        return scipy.sparse.csr_matrix((rows.weights, rows.indices, rows.indptr), shape=shape)

    product = matrix(system.product, size)
    corrections = matrix(system.corrections, groups + len(system.centroids))
    ones = np.ones(len(system.group_indices), np.float32)
    members = scipy.sparse.csr_matrix((ones, system.group_indices, system.group_indptr), shape=(groups, size))

    def step() -> np.ndarray:
        sums = np.concatenate([members @ vectors, system.centroids])
        found: np.ndarray = product @ vectors
        found += corrections @ sums
        found += system.anchor[:, None] * base
        if system.divisor is not None:
            found /= system.divisor[:, None]
        return found

    return step


def published_step(graph: Graph, how: Strengths, base: np.ndarray, vectors: np.ndarray) -> Callable[[], np.ndarray]:
    """One step of RO as the published code takes it: for each direction of each relation its own normalised matrix in
    float64, sets and one-hot vectors of sources and targets made anew by loops over all nodes. beta is 0, as there."""
    import scipy.sparse

    size = graph.size
    shares = 1.0 / (graph.relation_count + 1.0)
    directions = []
    for each in graph.edges:
        ones = np.ones(len(each.sources))
        there = scipy.sparse.csr_matrix((ones, (each.sources, each.targets)), shape=(size, size))
        pair = [_normalised(there), _normalised(there.T.tocsr())]
        directions += [(pair[0], pair[1]), (pair[1], pair[0])]

    def step() -> np.ndarray:
        total, divisor = how.alpha * base.astype(np.float64), np.full(size, how.alpha)
        for own, back in directions:
            sources, targets = set(own.nonzero()[0].tolist()), set(back.nonzero()[0].tolist())
            is_target = np.array([1 if node in targets else 0 for node in range(size)])
            is_source = np.array([1 if node in sources else 0 for node in range(size)])
            least = 1.0
            for node in range(size):
                if (is_source[node] or is_target[node]) and shares[node] < least:
                    least = shares[node]
            push = how.delta * 2 * least / max(len(sources), len(targets))
            degrees = np.array([1 / value if value > 0 else 0 for value in own.max(axis=1).toarray()[:, 0]])
            total += how.gamma * (own.multiply(shares[:, None]).tocsr() @ vectors)
            total += how.gamma * (back.multiply(shares[:, None]).tocsr().T @ vectors)
            away = is_source[:, None] * (push * (is_target @ vectors))
            total -= away - push * degrees[:, None] * (own @ vectors)
            given = np.asarray(back.multiply(shares[:, None]).sum(axis=0))[0]
            divisor += how.gamma * given + how.gamma * is_source * shares
            divisor -= push * (len(targets) - degrees) * is_source
        return total / divisor[:, None]

    return step


def _normalised(rows: Any) -> Any:
    """Each row's weights add up to 1."""
    import scipy.sparse

    counts = np.asarray(rows.sum(axis=1))[:, 0]
    return (scipy.sparse.diags(np.divide(1.0, counts, out=np.zeros_like(counts), where=counts > 0)) @ rows).tocsr()
