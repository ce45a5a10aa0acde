"""A plan's relations as numbers: sources and their degrees, and in how many relations each node takes part."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np

from longspan.relations.plan import Plan, Relation


@dataclass(frozen=True, slots=True)
class Side:
    """One direction of a relation, from its sources.

    Args:
        nodes: the sources, ascending.
        degrees: how many targets each of them has.
        place: of each pair, where its source lies in `nodes`.
    """

    nodes: np.ndarray
    degrees: np.ndarray
    place: np.ndarray


@dataclass(frozen=True, slots=True)
class Edges:
    """A relation with both its directions.

    Args:
        sources: (m,) int32 first nodes of the pairs.
        targets: (m,) int32 second ones.
        forward: from the sources.
        backward: from the targets.
        weight: the relation's own factor.
    """

    sources: np.ndarray
    targets: np.ndarray
    forward: Side
    backward: Side
    weight: float


@dataclass(frozen=True, slots=True)
class Graph:
    """All relations in use.

    Args:
        size: number of nodes.
        starts: first node of each column, and `size` at the end.
        edges: the relations whose weight is not 0 and that have pairs.
        relation_count: (size,) directed relations that have the node as a source: |R_i|.
    """

    size: int
    starts: np.ndarray
    edges: list[Edges]
    relation_count: np.ndarray

    @property
    def column_numbers(self) -> np.ndarray:
        """(size,) int32, the column of each node."""
        return np.repeat(np.arange(len(self.starts) - 1, dtype=np.int32), np.diff(self.starts))


def make_graph(plan: Plan) -> Graph:
    """The graph of a plan. ValueError where a relation's weight or pairs make no sense."""
    size = len(plan.nodes)
    edges = [_edges(relation, size) for relation in plan.relations if relation.weight and len(relation.pairs)]
    counts = np.zeros(size, np.int64)
    for each in edges:
        counts[each.forward.nodes] += 1
        counts[each.backward.nodes] += 1
    starts = np.array([*(column.start for column in plan.columns), size], np.int64)
    return Graph(size, starts, edges, counts)


def neighbors(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) of every pair in both directions, each once, own loops left out: all relations as one graph."""
    if not graph.edges:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    keys = []
    for each in graph.edges:
        a, b = each.sources.astype(np.int64), each.targets.astype(np.int64)
        keys += [a * graph.size + b, b * graph.size + a]
    rows, columns = np.divmod(np.unique(np.concatenate(keys)), graph.size)
    apart = rows != columns
    return rows[apart], columns[apart]


def _edges(relation: Relation, size: int) -> Edges:
    pairs = relation.pairs
    weight = relation.weight
    if not (isinstance(weight, Real) and math.isfinite(weight) and weight > 0):
        raise ValueError(f"the weight of {relation.name} must be a finite number from 0 up, got {weight!r}")
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise ValueError(f"the pairs of {relation.name} must be (m, 2) node numbers, got {pairs.shape} {pairs.dtype}")
    if pairs.min() < 0 or pairs.max() >= size:
        raise ValueError(f"the pairs of {relation.name} must be node numbers from 0 to below {size}")
    sources, targets = pairs[:, 0].astype(np.int32, copy=False), pairs[:, 1].astype(np.int32, copy=False)
    return Edges(sources, targets, _side(sources), _side(targets), float(relation.weight))


def _side(nodes: np.ndarray) -> Side:
    """A relation's nodes lie close together, in one column, so counting beats sorting."""
    first = int(nodes.min())
    counts = np.bincount(nodes - first)
    there = np.flatnonzero(counts)
    place = np.empty(len(counts), np.int32)
    place[there] = np.arange(len(there), dtype=np.int32)
    return Side((there + first).astype(np.int32), counts[there], place[nodes - first])
