"""rescore against float64, in every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from errors import assert_no_worse
from longspan import BackendError, ops, reference

KINDS = ("vectors", "levels", "codes")


def documents(kind: str, n: int, dim: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Documents of a kind, and scales."""
    rng = inputs.rng(n, dim, KINDS.index(kind))
    if kind == "vectors":
        return inputs.normal((n, dim), 3), None
    if kind == "levels":
        return rng.integers(-128, 128, (n, dim), dtype=np.int8), (rng.random(n) + 0.1).astype(np.float32)
    return np.packbits(rng.random((n, dim)) < 0.5, axis=1), None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [1, 5, 8, 15, 16, 17, 31, 64, 65, 100, 384, 1000])
def test_matches_reference(isa: str, kind: str, dim: int) -> None:
    n, m = 150, 70
    stored, scales = documents(kind, n, dim)
    q = inputs.normal((4, dim), 1)
    candidates = inputs.rng(dim).integers(0, n, (4, m))
    scores, rows = ops.rescore(q, candidates, stored, scales=scales)
    # Every pair's score, in the order of the result.
    places = np.arange(4 * m).reshape(4, m)
    wide = reference.rescore(q.astype(np.float64), candidates, stored, scales=scales)
    native = reference.rescore(q, candidates, stored, scales=scales)

    def by_row(found: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return np.stack([s[np.lexsort((s, r))] for s, r in zip(*found)])

    assert rows.dtype == np.int64 and scores.dtype == np.float32 and places.shape == rows.shape
    assert_no_worse(by_row((scores, rows)), by_row(wide), by_row(native))
    for query in range(4):
        order = np.lexsort((rows[query], -scores[query]))
        np.testing.assert_array_equal(order, np.arange(m))
        np.testing.assert_array_equal(np.sort(rows[query]), np.sort(candidates[query]))
    best = ops.rescore(q, candidates, stored, scales=scales, k=10)
    np.testing.assert_array_equal(best[0], scores[:, :10])
    np.testing.assert_array_equal(best[1], rows[:, :10])


@pytest.mark.parametrize("kind", KINDS)
def test_whole_numbers_are_exact(isa: str, kind: str) -> None:
    """Products and sums of small integers have no rounding: the order is the brute-force one, ties by row."""
    dim, n = 40, 300
    rng = inputs.rng(7)
    q = rng.integers(-3, 4, (5, dim)).astype(np.float32)
    stored = {
        "vectors": rng.integers(-2, 3, (n, dim)).astype(np.float32),
        "levels": rng.integers(-2, 3, (n, dim)).astype(np.int8),
        "codes": np.packbits(rng.random((n, dim)) < 0.5, axis=1),
    }[kind]
    scales = np.full(n, 0.5, np.float32) if kind == "levels" else None
    candidates = np.stack([rng.permutation(n) for _ in range(5)])
    got = ops.rescore(q, candidates, stored, scales=scales, k=100)
    for found, truth in zip(got, reference.rescore(q, candidates, stored, scales=scales, k=100)):
        np.testing.assert_array_equal(found, truth)


def test_a_score_depends_on_its_pair_alone(isa: str) -> None:
    stored, _ = documents("vectors", 500, 100)
    q = inputs.normal((3, 100), 1)
    candidates = np.tile(np.arange(500), (3, 1))
    scores, rows = ops.rescore(q, candidates, stored)
    for query, place in ((0, 0), (1, 250), (2, 499)):
        row = rows[query, place]
        alone = ops.rescore(q[query : query + 1], np.array([[row]]), stored[: row + 1])
        assert alone[0][0, 0] == scores[query, place]


def test_empty() -> None:
    stored, _ = documents("vectors", 5, 8)
    q = inputs.normal((3, 8), 1)
    assert ops.rescore(q, np.zeros((3, 0), np.int64), stored)[0].shape == (3, 0)
    assert ops.rescore(q[:0], np.zeros((0, 4), np.int64), stored)[1].shape == (0, 4)
    assert ops.rescore(q, np.zeros((3, 4), np.int64), stored, k=0)[0].shape == (3, 0)


def test_reference_backend_and_dtype_refusal() -> None:
    stored, _ = documents("vectors", 5, 8)
    q, candidates = inputs.normal((2, 8), 1), np.array([[0, 4], [3, 3]])
    found = ops.rescore(q, candidates, stored, backend="reference")
    np.testing.assert_array_equal(found[1], reference.rescore(q, candidates, stored)[1])
    with pytest.raises(BackendError, match="cpu: dtype must be float32, got float64"):
        ops.rescore(q.astype(np.float64), candidates, stored)


VECTORS = np.ones((5, 8), np.float32)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"candidates": np.array([[0, 5]])},
            r"rescore: candidates must be rows of the documents, 0 to 4, got 5 at \[0, 1\]",
        ),
        ({"candidates": np.array([[-1, 0]])}, r"rescore: candidates must be rows .* got -1 at \[0, 0\]"),
        ({"candidates": np.zeros((2, 2), np.int64)}, r"rescore: candidates must be \(1, m\), got \(2, 2\)"),
        ({"candidates": np.zeros((1, 2), np.int32)}, "rescore: candidates must be int64, got int32"),
        ({"documents": np.ones((5, 9), np.float32)}, r"rescore: documents must be \(n, 8\), got \(5, 9\)"),
        ({"documents": np.ones((5, 8), np.uint8)}, r"rescore: documents must be \(n, 1\), got \(5, 8\)"),
        (
            {"documents": np.ones((5, 8), np.int16)},
            "rescore: documents must be float32, int8 or uint8 codes, got int16",
        ),
        (
            {"documents": np.ones((5, 8), np.int8)},
            "rescore: scales must be given with int8 documents and with no others",
        ),
        ({"scales": np.ones(5, np.float32)}, "rescore: scales must be given with int8 documents and with no others"),
        ({"k": 3}, r"rescore: k must be from 0 to 2 \(the candidates\), got 3"),
        ({"q": np.zeros((1, 0), np.float32)}, "rescore: q must have at least one column, got 0"),
        (
            {"q": np.full((1, 8), np.nan, np.float32)},
            "rescore: q and documents must give numbers, the score of query 0 and document 0 is NaN",
        ),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    good = {"q": np.ones((1, 8), np.float32), "candidates": np.array([[0, 4]]), "documents": VECTORS}
    with pytest.raises(ValueError, match=message):
        ops.rescore(**{**good, **change})
