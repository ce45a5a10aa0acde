"""Hybrid ranking: by hand, and against a plain dictionary."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from longspan.search.fusion import fuse_ranks, fuse_scores


def test_reciprocal_ranks_by_hand() -> None:
    fused = fuse_ranks([np.array([[7, 3, 9]]), np.array([[3, 8, -1, -1]])], 5)
    assert fused.ids.tolist() == [[3, 7, 8, 9, -1]]
    want = [1 / 62 + 1 / 61, 1 / 61, 1 / 62, 1 / 63, 0]
    np.testing.assert_allclose(fused.scores[0], want, rtol=1e-6)
    weighted = fuse_ranks([np.array([[7, 3, 9]]), np.array([[3, 8, -1]])], 2, constant=1, weights=[4, 0])
    assert weighted.ids.tolist() == [[7, 3]] and weighted.scores.tolist() == [[2, np.float32(4 / 3)]]


def test_scores_by_hand() -> None:
    dense = np.array([[5, 6, 7]]), np.array([[0.9, 0.5, 0.1]])
    sparse = np.array([[7, 9, -1]]), np.array([[30.0, 10.0, 0.0]])
    fused = fuse_scores([dense, sparse], 4, weights=[1, 2])
    assert fused.ids.tolist() == [[7, 5, 6, 9]]
    np.testing.assert_allclose(fused.scores[0], [2, 1, 0.5, 0], rtol=1e-6)
    alone = fuse_scores([(np.array([[4, 2, -1]]), np.array([[3.0, 3.0, 9.0]]))], 3)
    assert alone.ids.tolist() == [[2, 4, -1]] and alone.scores.tolist() == [[1, 1, 0]]
    nothing = fuse_scores([(np.array([[-1]]), np.array([[0.0]])), (np.zeros((1, 0), np.int64), np.zeros((1, 0)))], 2)
    assert nothing.ids.tolist() == [[-1]]


def test_against_a_dictionary() -> None:
    rng = inputs.rng(1)
    for _ in range(50):
        lists = [np.stack([rng.permutation(30)[:n] for _ in range(4)]) for n in rng.integers(1, 20, 3)]
        weights = rng.random(3).tolist()
        fused = fuse_ranks(lists, 12, weights=weights)
        for query in range(4):
            totals: dict[int, float] = {}
            for weight, ids in zip(weights, lists, strict=True):
                for rank, id in enumerate(ids[query].tolist(), 1):
                    totals[id] = totals.get(id, 0) + weight / (60 + rank)
            want = sorted(totals, key=lambda id: (-totals[id], id))[:12]
            got = fused.ids[query][fused.ids[query] >= 0].tolist()
            np.testing.assert_allclose([totals[id] for id in got], [totals[id] for id in want], rtol=1e-9)
            assert len(got) == len(want)


@pytest.mark.parametrize(
    "lists, options, message",
    [
        ([], {}, "there must be at least one list"),
        ([np.zeros((2, 1), int), np.zeros((3, 1), int)], {}, r"all of as many queries, got \[2, 3\]"),
        ([np.array([[1, 1]])], {}, "list 0 has the id 1 twice for one query"),
        ([np.array([1, 2])], {}, r"list 0 must be \(num_queries, k\) integer ids, got \(2,\)"),
        ([np.array([[1.5]])], {}, "integer ids"),
        ([np.array([[1]])], {"k": 0}, "k must be an integer of at least 1, got 0"),
        ([np.array([[1]])], {"weights": [0]}, r"weights must be 1 numbers of 0 or above, not all 0, got \[0\]"),
        ([np.array([[1]])], {"weights": [1, 2]}, "weights must be 1 numbers"),
        ([np.array([[1]])], {"weights": [np.nan]}, "weights must be 1 numbers"),
        ([np.array([[1]])], {"weights": [np.inf]}, "weights must be 1 numbers"),
        ([np.array([[1]])], {"weights": [1e39]}, "weights must be 1 numbers"),  # beyond float32
        ([np.array([[1]])], {"weights": ["1"]}, r"weights must be 1 numbers .*got \['1'\]"),
        ([np.array([[1]])] * 2, {"weights": 3}, "weights must be 2 numbers"),
        ([np.array([[1]])], {"constant": 0}, "constant must be a finite number above 0, got 0"),
        ([np.array([[1]])], {"constant": "60"}, "constant must be a finite number above 0, got '60'"),
        ([np.array([[1]])], {"constant": True}, "constant must be a finite number above 0, got True"),
        ([[[1, 2], [3]]], {}, r"list 0 must be \(num_queries, k\) integer ids"),
    ],
)
def test_bad_arguments(lists: list[np.ndarray], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fuse_ranks(lists, **{"k": 3, **options})  # type: ignore[arg-type]


def test_bad_scores() -> None:
    with pytest.raises(ValueError, match=r"results\[0\] must have a finite score for each id"):
        fuse_scores([(np.array([[1, 2]]), np.array([[1.0, np.nan]]))], 3)
    with pytest.raises(ValueError, match=r"results\[0\] must have a finite score for each id"):
        fuse_scores([(np.array([[1, 2]]), np.array([[1.0]]))], 3)
    with pytest.raises(ValueError, match=r"results\[0\] must have numbers for scores, got complex128"):
        fuse_scores([(np.array([[1]]), np.array([[1j]]))], 3)
    with pytest.raises(ValueError, match=r"results\[1\] must be a search's ids and its scores, got one ndarray"):
        fuse_scores([(np.array([[1]]), np.array([[1.0]])), np.array([[1]])], 3)  # type: ignore[list-item]


def test_more_than_there_are() -> None:
    """k is not what is reserved."""
    fused = fuse_ranks([np.array([[7, 3]]), np.array([[3]])], 10**12)
    assert fused.ids.tolist() == [[3, 7, -1]]


def test_lists_of_lists_are_read_once() -> None:
    ids, scores = np.array([[1, 2]]), np.array([[0.5, 0.25]], np.float32)
    np.testing.assert_array_equal(fuse_ranks((each for each in [ids, ids]), 2).ids, ids)
    np.testing.assert_array_equal(fuse_scores(iter([(ids, scores)]), 2).ids, ids)  # type: ignore[arg-type]
    for given in (None, 3, "ab"):
        with pytest.raises(TypeError, match="^fuse_ranks: rankings must be a list of arrays of ids, got "):
            fuse_ranks(given, 2)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="^fuse_scores: results must be a list of ids and scores, got "):
            fuse_scores(given, 2)  # type: ignore[arg-type]
