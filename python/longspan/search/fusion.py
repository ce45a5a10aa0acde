"""Hybrid ranking: results of several searches for the same queries, made one list.

    dense, sparse = binary_index.search(vectors, 100), sparse_index.search(sparse_vectors, 100)
    best = fuse_ranks([dense.ids, sparse.ids], 10)
    best = fuse_scores([(dense.ids, dense.scores), (sparse.ids, sparse.scores)], 10, weights=[0.7, 0.3])

Every list is (num_queries, its own k) ids, best first, where -1 stands for no more results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Final

import numpy as np

from longspan.arguments import names_arguments
from longspan.vectors.tables import ScoredIds

CONSTANT: Final = 60.0  # of reciprocal ranks, as published
LARGEST_SUM: Final = 1e30  # of weights


class FusedResult(ScoredIds):
    """The best of all lists, best first, (num_queries, k): id -1 and score 0 where there are no more.

    Attributes:
        ids: int64.
        scores: f32, higher is better.

    As a table: query and rank, both from 0, id and score.
    """

    __slots__ = ()


@names_arguments
def fuse_ranks(
    rankings: Sequence[np.ndarray], k: int, *, constant: float = CONSTANT, weights: Sequence[float] | None = None
) -> FusedResult:
    """Reciprocal rank fusion: score = sum over the lists that have the id of weight / (constant + rank), rank from 1.

    Args:
        rankings: (num_queries, k of the list) integer ids each; no id twice in a row.
        k: results of a query at most; the result has fewer columns where the lists have fewer together.
        constant: above 0; the larger, the less the first ranks stand out.
        weights: one a list, 0 or above, not all 0; None for 1 each.
    Returns: order: score falling, then id rising.
    Raises: ValueError, an argument breaks a line above.
    Source: Cormack, Clarke, Buettcher, SIGIR 2009.
    """
    if not (isinstance(constant, Real) and math.isfinite(constant) and constant > 0) or isinstance(constant, bool):
        raise ValueError(f"fuse_ranks: constant must be a finite number above 0, got {constant!r}")
    if isinstance(rankings, str | bytes) or not isinstance(rankings, Iterable):
        raise TypeError(f"fuse_ranks: rankings must be a list of arrays of ids, got {type(rankings).__name__}")
    lists = [_checked_ids("fuse_ranks", place, ids) for place, ids in enumerate(rankings)]

    def points(place: int, query: int) -> np.ndarray:
        return 1 / (constant + 1 + np.arange(lists[place].shape[1]))

    return _fused("fuse_ranks", lists, k, weights, points)


@names_arguments
def fuse_scores(
    results: Sequence[tuple[np.ndarray, np.ndarray]], k: int, *, weights: Sequence[float] | None = None
) -> FusedResult:
    """Weighted sum of scores: those of a list are brought to 0 to 1 for each query, its lowest and its highest, so that
    kinds of scores compare; an id that a list does not have gets 0 there, as its last one.

    score = sum over the lists that have the id of weight * (s - lowest) / (highest - lowest); 1 where all are equal

    Args:
        results: of each search its ids and scores, (num_queries, k of the list) both; scores finite.
        k, weights: as `fuse_ranks`.
    Returns: order: score falling, then id rising.
    Raises: ValueError, an argument breaks a line above.
    """
    if isinstance(results, str | bytes) or not isinstance(results, Iterable):
        raise TypeError(f"fuse_scores: results must be a list of ids and scores, got {type(results).__name__}")
    results = list(results)  # a generator can be read once
    for place, result in enumerate(results):
        if not isinstance(result, Sequence) or len(result) != 2:
            kind = type(result).__name__
            raise ValueError(f"fuse_scores: results[{place}] must be a search's ids and its scores, got one {kind}")
    lists = [_checked_ids("fuse_scores", place, ids) for place, (ids, _) in enumerate(results)]
    scores = [_checked_scores(place, values) for place, (_, values) in enumerate(results)]
    for place, (ids, values) in enumerate(zip(lists, scores, strict=True)):
        if ids.shape != values.shape or not np.isfinite(values[ids >= 0]).all():
            raise ValueError(f"fuse_scores: results[{place}] must have a finite score for each id")

    def points(place: int, query: int) -> np.ndarray:
        values, there = scores[place][query], lists[place][query] >= 0
        if not there.any():
            return np.zeros(len(values))
        lowest, highest = values[there].min(), values[there].max()
        return np.ones(len(values)) if highest == lowest else (values - lowest) / (highest - lowest)

    return _fused("fuse_scores", lists, k, weights, points)


def _fused(
    caller: str,
    lists: Sequence[np.ndarray],
    k: int,
    weights: Sequence[float] | None,
    points: Callable[[int, int], np.ndarray],
) -> FusedResult:
    """Each query's ids by what the lists give them: `points` of a list and a query, one for each place."""
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
        raise ValueError(f"{caller}: k must be an integer of at least 1, got {k!r}")
    if not lists or len({len(ids) for ids in lists}) != 1:
        raise ValueError(f"{caller}: there must be at least one list, all of as many queries, got {[*map(len, lists)]}")
    factors = _checked_weights(caller, len(lists), weights)
    num_queries, k = len(lists[0]), min(k, sum(ids.shape[1] for ids in lists))
    fused = FusedResult(np.full((num_queries, k), -1, np.int64), np.zeros((num_queries, k), np.float32))
    for query in range(num_queries):
        rows = [ids[query] for ids in lists]
        given = [factor * points(place, query) for place, factor in enumerate(factors)]
        ids, places = np.unique(np.concatenate(rows), return_inverse=True)
        totals = np.bincount(places.reshape(-1), np.concatenate(given), len(ids))
        ids, totals = ids[ids >= 0], totals[ids >= 0]
        order = np.lexsort((ids, -totals))[:k]
        fused.ids[query, : len(order)] = ids[order]
        fused.scores[query, : len(order)] = totals[order]
    return fused


def _checked_scores(place: int, scores: np.ndarray) -> np.ndarray:
    given = np.asarray(scores)
    if given.dtype.kind not in "fiu":
        raise ValueError(f"fuse_scores: results[{place}] must have numbers for scores, got {given.dtype}")
    return given.astype(np.float64)


def _checked_weights(caller: str, num_lists: int, weights: Sequence[float] | None) -> list[float]:
    """One a list; their sum is a score that float32 holds."""
    given = [1.0] * num_lists if weights is None else list(weights) if isinstance(weights, Iterable) else [weights]
    are_numbers = all(isinstance(one, Real) and math.isfinite(one) and one >= 0 for one in given)
    if len(given) != num_lists or not are_numbers or not 0 < sum(map(float, given)) <= LARGEST_SUM:
        raise ValueError(f"{caller}: weights must be {num_lists} numbers of 0 or above, not all 0, got {given}")
    return [float(one) for one in given]


def _checked_ids(caller: str, place: int, ids: np.ndarray) -> np.ndarray:
    try:
        given = np.asarray(ids)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{caller}: list {place} must be (num_queries, k) integer ids: {error}") from None
    if given.ndim != 2 or (given.size and given.dtype.kind not in "iu"):
        raise ValueError(
            f"{caller}: list {place} must be (num_queries, k) integer ids, got {given.shape} {given.dtype}"
        )
    checked = given.astype(np.int64)
    ordered = np.sort(checked, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        raise ValueError(f"{caller}: list {place} has the id {ordered[:, 1:][twice][0]} twice for one query")
    return checked
