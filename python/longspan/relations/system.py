"""The equations that a retrofit solves, as sparse rows.

A step is z = anchor * base + P w + sums' part, divided by D where there is one. The sums are those of w over groups of
nodes, the sources and targets of relations (equal groups are summed once), with the columns' centroids behind them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from longspan.ops import group_sums, retrofit_step
from longspan.relations.graph import Edges, Graph, Side, neighbors
from longspan.relations.sparse import SparseRows, Triples, sparse_rows

Missing = Literal["anchor", "free"]


@dataclass(frozen=True, slots=True)
class Strengths:
    """alpha pulls to the base vector, beta to the column's centroid, gamma to related values, delta from others."""

    alpha: float
    beta: float
    gamma: float
    delta: float


class Groups:
    """Sets of nodes, each kept once however many relations have it."""

    def __init__(self) -> None:
        self._known: dict[bytes, int] = {}
        self.members: list[np.ndarray] = []

    def number(self, nodes: np.ndarray) -> int:
        """The number of this set."""
        key = hashlib.blake2b(nodes.tobytes(), digest_size=16).digest()
        if key not in self._known:
            self._known[key] = len(self.members)
            self.members.append(nodes)
        return self._known[key]

    def indptr(self) -> np.ndarray:
        """(groups + 1,) int64, where each group's members begin."""
        return np.cumsum([0, *map(len, self.members)], dtype=np.int64)

    def indices(self) -> np.ndarray:
        """(members,) int32 of all groups."""
        return np.concatenate([np.empty(0, np.int32), *self.members])


@dataclass(frozen=True, slots=True)
class System:
    """What one step needs.

    Args:
        product: P, (n, n).
        corrections: (n, groups + columns): what each row takes of the groups' sums and the centroids.
        group_indptr: where each group's members begin.
        group_indices: the groups' members.
        anchor: (n,) f32, the base row's weight; 0 where there is no base row.
        divisor: (n,) f32, D; None where rows are brought to unit length instead.
        centroids: (columns, d) f32, mean of each column's base vectors.
        repulsion: (n,) f64, what delta = 1 takes off D, for messages about delta.
    """

    product: SparseRows
    corrections: SparseRows
    group_indptr: np.ndarray
    group_indices: np.ndarray
    anchor: np.ndarray
    divisor: np.ndarray | None
    centroids: np.ndarray
    repulsion: np.ndarray

    def sums(self, vectors: np.ndarray, scale: np.ndarray | None, columns: slice | None) -> np.ndarray:
        """(groups + columns, width): the groups' sums of these columns of the vectors, then the centroids, which are
        zeros where `columns` is None."""
        groups = len(self.group_indptr) - 1
        found = np.zeros((groups + len(self.centroids), vectors.shape[1]), np.float32)
        group_sums(vectors, self.group_indptr, self.group_indices, scale=scale, out=found[:groups])
        if columns is not None and len(self.centroids):
            found[groups:] = self.centroids[:, columns]
        return found

    def step(
        self,
        vectors: np.ndarray,
        base: np.ndarray,
        columns: slice,
        out: np.ndarray,
        *,
        scale: np.ndarray | None = None,
        squares: np.ndarray | None = None,
    ) -> None:
        """One step for some columns: `vectors`, `base` and `out` are (n, width) views of them."""
        retrofit_step(
            vectors,
            self.product.indptr,
            self.product.indices,
            self.product.weights,
            base=base,
            anchor=self.anchor,
            sums=self.sums(vectors, scale, columns),
            sum_indptr=self.corrections.indptr,
            sum_indices=self.corrections.indices,
            sum_weights=self.corrections.weights,
            scale=scale,
            divisor=self.divisor,
            squares=squares,
            out=out,
        )

    def pulled(
        self, vectors: np.ndarray, rows: np.ndarray | None = None, *, with_centroids: bool = False
    ) -> np.ndarray:
        """P w + corrections, without anchor and divisor: what neighbours and groups give all rows, or these."""
        product = self.product if rows is None else self.product.only(rows)
        corrections = self.corrections if rows is None else self.corrections.only(rows)
        found = retrofit_step(
            vectors,
            product.indptr,
            product.indices,
            product.weights,
            sums=self.sums(vectors, None, slice(None) if with_centroids else None),
            sum_indptr=corrections.indptr,
            sum_indices=corrections.indices,
            sum_weights=corrections.weights,
        )
        return np.asarray(found)

    def restricted(self, nodes: np.ndarray, size: int) -> System:
        """The same for some nodes alone, ascending, as if the others' vectors were 0."""
        number = np.full(size, -1, np.int32)
        number[nodes] = np.arange(len(nodes), dtype=np.int32)
        groups = SparseRows(self.group_indptr, self.group_indices, np.ones(len(self.group_indices), np.float32))
        groups = groups.renumbered(number)
        return System(
            product=self.product.only(nodes).renumbered(number),
            corrections=self.corrections.only(nodes),
            group_indptr=groups.indptr,
            group_indices=groups.indices,
            anchor=self.anchor[nodes],
            divisor=None if self.divisor is None else self.divisor[nodes],
            centroids=self.centroids,
            repulsion=self.repulsion[nodes],
        )


def optimum_system(graph: Graph, base: np.ndarray, absent: np.ndarray, how: Strengths, missing: Missing) -> System:
    """RO: D w = A w' + B c + Gamma w - Delta w, the terms of pairs folded into P = Gamma + sum of w_g (A_g + A_g^T).

    Args:
        graph: the relations.
        base: (n, d) f32.
        absent: (n,) bool, rows of `base` that are not there.
        how: the four strengths.
        missing: "anchor", absent rows are drawn to 0; "free", to their neighbours alone.
    """
    shares = 1.0 / (graph.relation_count + 1.0)
    groups, product, corrections = Groups(), list[Triples](), list[Triples]()
    pulls, pushes = np.zeros(graph.size), np.zeros(graph.size)
    for each in graph.edges:
        pull = how.gamma * each.weight * (_per_pair(each.forward, shares) + _per_pair(each.backward, shares))
        push = 2.0 * each.weight / _largest(each, graph.relation_count)
        product += _both_ways(each, pull + how.delta * push, pull + how.delta * push)
        pulls += np.bincount(each.sources, pull, graph.size) + np.bincount(each.targets, pull, graph.size)
        for side, other in _sides(each):
            pushes[side.nodes] += push * (len(other.nodes) - side.degrees)
            corrections.append(_correction(side, groups.number(other.nodes), -how.delta * push))
    alpha = np.where(absent, 0.0, how.alpha) if missing == "free" else np.full(graph.size, how.alpha)
    beta = how.beta * shares
    divisor = alpha + beta + pulls - how.delta * pushes
    divisor[(alpha + beta + pulls) == 0] = 1.0  # nothing pulls it anywhere: it stays 0
    return _system(graph, groups, product, corrections, (base, absent), how, beta, divisor, pushes)


def series_system(graph: Graph, base: np.ndarray, absent: np.ndarray, how: Strengths) -> System:
    """RN: attraction to related values as in RO but one way, repulsion from the mean of all targets, no divisor."""
    shares = 1.0 / (graph.relation_count + 1.0)
    groups, product, corrections = Groups(), list[Triples](), list[Triples]()
    for each in graph.edges:
        gamma, delta = how.gamma * each.weight, how.delta * each.weight
        there, back = gamma * _per_pair(each.forward, shares), gamma * _per_pair(each.backward, shares)
        product += _both_ways(each, there, back)
        for side, other in _sides(each):
            weights = -delta * shares[side.nodes] / len(other.nodes)
            corrections.append(_correction(side, groups.number(other.nodes), weights))
    beta = how.beta * shares
    return _system(graph, groups, product, corrections, (base, absent), how, beta, None, np.zeros(graph.size))


def smoothing_system(graph: Graph) -> System:
    """SGC: w <- D^-1/2 (A + I) D^-1/2 w over all relations as one graph."""
    rows, columns = neighbors(graph)
    own = np.arange(graph.size, dtype=np.int64)
    roots = 1.0 / np.sqrt(np.bincount(rows, minlength=graph.size) + 1.0)
    product = [(rows, columns, roots[rows] * roots[columns]), (own, own, roots * roots)]
    return _plain(graph, product, np.zeros(graph.size))


def faruqui_system(graph: Graph, absent: np.ndarray, missing: Missing) -> System:
    """MF: w <- (w' + mean of the neighbours) / 2 over all relations as one graph (Faruqui et al., 2015)."""
    rows, columns = neighbors(graph)
    degrees = np.bincount(rows, minlength=graph.size)
    own = np.where(degrees > 0, 0.5, 1.0)
    if missing == "free":
        own[absent] = 0.0
    weights = (1.0 - own[rows]) / degrees[rows]
    return _plain(graph, [(rows, columns, weights)], np.where(absent, 0.0, own))


def _plain(graph: Graph, product: list[Triples], anchor: np.ndarray) -> System:
    nothing = np.zeros(1, np.int64), np.empty(0, np.int32)
    return System(
        product=sparse_rows(product, graph.size, graph.size),
        corrections=sparse_rows([], graph.size, 0),
        group_indptr=nothing[0],
        group_indices=nothing[1],
        anchor=anchor.astype(np.float32),
        divisor=None,
        centroids=np.empty((0, 0), np.float32),
        repulsion=np.zeros(graph.size),
    )


def _system(
    graph: Graph,
    groups: Groups,
    product: list[Triples],
    corrections: list[Triples],
    given: tuple[np.ndarray, np.ndarray],
    how: Strengths,
    beta: np.ndarray,
    divisor: np.ndarray | None,
    repulsion: np.ndarray,
) -> System:
    base, absent = given
    if how.delta == 0:
        groups, corrections = Groups(), []
    count, columns = len(groups.members), graph.column_numbers
    if how.beta:
        corrections = [*corrections, (np.arange(graph.size), count + columns, beta)]
    return System(
        product=sparse_rows(product, graph.size, graph.size),
        corrections=sparse_rows(corrections, graph.size, count + len(graph.starts) - 1),
        group_indptr=groups.indptr(),
        group_indices=groups.indices(),
        anchor=np.where(absent, 0.0, how.alpha).astype(np.float32),
        divisor=None if divisor is None else divisor.astype(np.float32),
        centroids=centroids(graph, base, absent),
        repulsion=repulsion,
    )


def centroids(graph: Graph, base: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """(columns, d) f32: the mean of each column's base rows that are there; 0 where none is."""
    starts = graph.starts
    members = np.flatnonzero(~absent).astype(np.int32)
    indptr = np.searchsorted(members, starts).astype(np.int64)
    sums = np.asarray(group_sums(base, indptr, members))
    return sums / np.maximum(np.diff(indptr), 1)[:, None].astype(np.float32)


def _sides(each: Edges) -> Iterator[tuple[Side, Side]]:
    yield each.forward, each.backward
    yield each.backward, each.forward


def _per_pair(side: Side, shares: np.ndarray) -> np.ndarray:
    """For each pair 1 / (od(i) (|R_i| + 1)) of its source."""
    return (shares[side.nodes] / side.degrees)[side.place]


def _largest(each: Edges, relation_count: np.ndarray) -> float:
    """mc(r) mr(r): the larger number of sources and targets, times the largest |R_i| + 1 among them."""
    forward, backward = each.forward.nodes, each.backward.nodes
    most = max(int(relation_count[forward].max()), int(relation_count[backward].max())) + 1
    return float(max(len(forward), len(backward)) * most)


def _both_ways(each: Edges, there: np.ndarray, back: np.ndarray) -> list[Triples]:
    return [(each.sources, each.targets, there), (each.targets, each.sources, back)]


def _correction(side: Side, group: int, weights: np.ndarray | float) -> Triples:
    return side.nodes, np.full(len(side.nodes), group), np.broadcast_to(weights, len(side.nodes))
