"""Sparse vectors: rows, the largest entries, what others bring, dot products."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from longspan import SparseVectors
from longspan.vectors.sparse import dot


def random(rows: int, dim: int, *seed: int) -> SparseVectors:
    rng = inputs.rng(rows, dim, *seed)
    dense = rng.standard_normal((rows, dim)).astype(np.float32)
    dense[rng.random((rows, dim)) > 0.2] = 0
    return SparseVectors.from_dense(dense)


def test_rows() -> None:
    vectors = random(7, 30)
    dense = vectors.to_dense()
    assert len(vectors) == 7 and vectors.dim == 30
    np.testing.assert_array_equal(vectors[2:5].to_dense(), dense[2:5])
    np.testing.assert_array_equal(vectors[-1].to_dense(), dense[-1:])
    np.testing.assert_array_equal(np.concatenate([row.to_dense() for row in vectors]), dense)
    np.testing.assert_array_equal(vectors.take(np.array([5, 0, 5])).to_dense(), dense[[5, 0, 5]])
    np.testing.assert_array_equal(SparseVectors.joined([vectors[:3], vectors[3:]], 30).to_dense(), dense)
    assert len(SparseVectors.joined([], 30)) == 0 and len(vectors[4:2]) == 0
    assert vectors.sparsity() == pytest.approx((dense == 0).mean())
    assert repr(vectors).startswith("SparseVectors(7 rows, dim=30,")
    assert repr(vectors[:1]).startswith("SparseVectors(1 row, dim=30,")
    with pytest.raises(IndexError, match="row must be from -7 to 6, got 7"):
        vectors[7]
    with pytest.raises(ValueError, match="a slice must have the step 1, got 2"):
        vectors[::2]


@pytest.mark.parametrize("k", [1, 3, 100])
def test_the_largest(k: int) -> None:
    """Of equal ones those of lower dimensions."""
    rng = inputs.rng(3)
    dense = rng.integers(0, 4, (20, 25)).astype(np.float32)
    dense[3] = 0
    got = SparseVectors.from_dense(dense).top(k)
    for row, found in zip(dense, got, strict=True):
        order = np.lexsort((np.arange(25), -row))
        want = np.sort(order[row[order] > 0][:k])
        np.testing.assert_array_equal(found.indices, want)
        np.testing.assert_array_equal(found.values, row[want])
    with pytest.raises(ValueError, match="k must be 1 or more, got 0"):
        got.top(0)


def test_dicts_and_scipy() -> None:
    vectors = SparseVectors.of([{5: 1.5, 2: 0.5}, {}, {0: 0.0, 9: 2.0}], dim=10)
    assert vectors.to_dicts() == [{2: 0.5, 5: 1.5}, {}, {9: 2.0}]
    scipy = pytest.importorskip("scipy.sparse")
    array = vectors.to_scipy()
    np.testing.assert_array_equal(array.toarray(), vectors.to_dense())
    unsorted = scipy.csr_array((np.array([1.0, 2.0, 0.0]), np.array([7, 3, 1]), np.array([0, 3])), shape=(1, 10))
    back = SparseVectors.of(unsorted)
    assert back.to_dicts() == [{3: 2.0, 7: 1.0}] and back.values.dtype == np.float32
    np.testing.assert_array_equal(SparseVectors.of(array).values, vectors.values)


@pytest.mark.parametrize(
    "given, dim, message",
    [
        ([{1: 1.0}], None, "dim must be given with dicts"),
        ([{10: 1.0}], 10, "dimensions must be from 0 to 9, got 10 to 10"),
        ([{-1: 1.0}], 10, "dimensions must be from 0 to 9"),
        ([{1: float("nan")}], 10, "values must be finite numbers"),
        (random(2, 5), 6, "must have 6 dimensions, got 5"),
    ],
)
def test_bad_vectors(given: object, dim: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseVectors.of(given, dim)


def test_bad_kinds() -> None:
    for given in ("text", 3, np.ones((2, 3))):
        with pytest.raises(TypeError, match="takes SparseVectors, a scipy CSR array or a list of dicts"):
            SparseVectors.of(given)
    scipy = pytest.importorskip("scipy.sparse")
    twice = scipy.csr_array((np.ones(2), np.array([3, 3]), np.array([0, 2])), shape=(1, 10))
    with pytest.raises(ValueError, match="row 0 has dimension 3 twice"):
        SparseVectors.of(twice)


def test_dot_products() -> None:
    """Each rounded once from float64: whatever else is in either."""
    a, b = random(9, 200, 1), random(13, 200, 2)
    want = (a.to_dense().astype(np.float64) @ b.to_dense().T.astype(np.float64)).astype(np.float32)
    got = dot(a, b)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(dot(a[4], b[3:7])[0], got[4, 3:7])
    assert dot(a[:0], b).shape == (0, 13) and dot(a, b[:0]).shape == (9, 0)
    with pytest.raises(ValueError, match="both must have the same dimensions, got 200 and 30"):
        dot(a, random(2, 30))


def test_scipy_s_other_formats_are_refused() -> None:
    """CSC has the same parts with the other meaning: a square one would be taken for its transpose."""
    scipy = pytest.importorskip("scipy.sparse")
    square = np.triu(np.ones((4, 4), np.float32))
    np.testing.assert_array_equal(SparseVectors.of(scipy.csr_array(square)).to_dense(), square)
    np.testing.assert_array_equal(SparseVectors.of(scipy.csr_matrix(square)).to_dense(), square)
    for other in (scipy.csc_array(square), scipy.csc_matrix(square), scipy.bsr_array(square)):
        with pytest.raises(TypeError, match=r"takes scipy's CSR, got \w+; give its .tocsr"):
            SparseVectors.of(other)


@pytest.mark.parametrize(
    "row, message",
    [
        ({2.7: 1.0}, "a key of a dict must be an int, got float"),
        ({True: 1.0}, "a key of a dict must be an int, got bool"),
        ({"word": 1.0}, r"keys of a dict must be dimensions \(token ids\), got 'word'"),
        ({10**30: 1.0}, "dimensions must be from 0 to 9, got 1000"),
        ({"12": 1.0}, "dimensions must be from 0 to 9, got 12"),
        ({1: None}, "values must be finite numbers, got NoneType"),
        ({1: "2"}, "values must be finite numbers, got str"),
        ({1: [1, 2]}, "values must be finite numbers, got list"),
        ({1: 10**400}, "values must be finite numbers, in float32"),
        ({1: 1e300}, "values must be finite numbers, in float32"),
    ],
)
def test_dicts_that_are_no_vectors(row: dict[object, object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        SparseVectors.of([{1: 1.0}, row], 10)


def test_dimensions_may_be_spelt_out() -> None:
    """As bge-m3's lexical weights, and JSON's keys."""
    given = [{"3": 0.5, "1": 2}, {np.int32(4): np.float32(1)}, {}]
    assert SparseVectors.of(given, 10).to_dicts() == [{1: 2.0, 3: 0.5}, {4: 1.0}, {}]


def test_the_largest_of_any_number() -> None:
    vectors = random(3, 8)
    np.testing.assert_array_equal(vectors.top(10**30).to_dense(), vectors.to_dense())


@pytest.mark.parametrize(
    "offsets, indices, values, message",
    [
        ([0, 5], [1], [1.0], "contradict each other"),
        ([1, 1], [1], [1.0], "contradict each other"),
        ([0, 2, 1], [1, 2], [1.0, 2.0], "contradict each other"),
        ([0, 1], [1], [1.0, 2.0], "contradict each other"),
        ([], [], [], "offsets integers"),
        ([0.0, 1.0], [1], [1.0], "offsets integers"),
        ([0, 1], [[1]], [1.0], "must be one-dimensional"),
        ([0, 1], [10], [1.0], "indices must be integers from 0 to 9"),
        ([0, 1], [-1], [1.0], "indices must be integers from 0 to 9"),
        ([0, 1], [1.5], [1.0], "indices must be integers from 0 to 9"),
        ([0, 1, 1, 3], [4, 3, 3], [1.0, 1.0, 1.0], "must rise within a row, and do not in row 2"),
    ],
)
def test_parts_of_the_caller_s_own(offsets: list, indices: list, values: list, message: str) -> None:
    made = SparseVectors(*map(np.array, (offsets, indices, values)), 10)
    with pytest.raises(ValueError, match=message):
        SparseVectors.of(made)


def test_rows_may_begin_anywhere() -> None:
    for vectors in (random(7, 30), random(1, 3), SparseVectors.joined([], 5), random(5, 30)[2:2]):
        assert SparseVectors.of(vectors).to_dense().tolist() == vectors.to_dense().tolist()
    listed = SparseVectors([0, 0, 2, 2, 3, 3], [1, 4, 0], [1.0, 2.0, 3.0], 5)  # type: ignore[arg-type]
    assert SparseVectors.of(listed).to_dicts() == [{}, {1: 1.0, 4: 2.0}, {}, {0: 3.0}, {}]
