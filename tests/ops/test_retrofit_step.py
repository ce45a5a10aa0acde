"""retrofit_step and group_sums against float64, in every instruction set, for any number of threads."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from errors import assert_no_worse
from longspan import BackendError, _core, ops, reference

LENGTHS = {
    "ragged": [0, 1, 3, 63, 64, 65, 0, 200, 1, 5000, 2, 0],  # around a block of terms; a hub
    "short": [4] * 300,
    "nothing": [0, 0, 0],
    "no rows": [],
}
DIMS = (1, 7, 16, 24, 100, 136)
N, GROUPS = 150, 9


def sparse(lengths: list[int], among: int, *seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(indptr, indices, weights) of rows with so many terms."""
    rng = inputs.rng(*seed)
    total = sum(lengths)
    indptr = np.cumsum([0, *lengths], dtype=np.int64)
    return indptr, rng.integers(0, among, total, dtype=np.int32), rng.standard_normal(total).astype(np.float32)


def options(rows: int, dim: int, dtype: type = np.float32) -> dict[str, np.ndarray]:
    """All that a step may have."""
    anchor = inputs.normal((rows,), 2)
    anchor[::3] = 0
    indptr, indices, weights = sparse([row % 4 for row in range(rows)], GROUPS, 3)
    return {
        "base": inputs.normal((rows, dim), 4, dtype=dtype),
        "anchor": anchor,
        "sums": inputs.normal((GROUPS, dim), 5, dtype=dtype),
        "sum_indptr": indptr,
        "sum_indices": indices,
        "sum_weights": weights,
        "scale": np.abs(inputs.normal((N,), 6)) + 0.1,
        "divisor": np.abs(inputs.normal((rows,), 7)) + 1,
    }


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("plain", [False, True])
def test_matches_reference(isa: str, lengths: list[int], dim: int, plain: bool) -> None:
    vectors, graph = inputs.normal((N, dim), 1), sparse(lengths, N, 2)
    how = {} if plain else options(len(lengths), dim)
    truth = reference.retrofit_step(vectors.astype(np.float64), *graph, **how)
    native = reference.retrofit_step(vectors, *graph, **how)
    squares = np.full(len(lengths), 3.0)
    poisoned = np.full((len(lengths), dim), np.nan, np.float32)
    assert ops.retrofit_step(vectors, *graph, **how, squares=squares, out=poisoned) is poisoned
    assert_no_worse(poisoned, truth, native)
    np.testing.assert_allclose(squares, 3 + np.square(poisoned.astype(np.float64)).sum(1), rtol=1e-6)
    np.testing.assert_array_equal(ops.retrofit_step(vectors, *graph, **how), poisoned)


@pytest.mark.parametrize("dim", DIMS)
def test_group_sums(isa: str, dim: int) -> None:
    vectors, scale = inputs.normal((N, dim), 1) + 10, np.abs(inputs.normal((N,), 6))
    indptr, indices, _ = sparse([0, 1, 2047, 2048, 2049, 7000, 0], N, 8)
    for factors in (None, scale):
        truth = reference.group_sums(vectors.astype(np.float64), indptr, indices, scale=factors)
        got = ops.group_sums(vectors, indptr, indices, scale=factors)
        np.testing.assert_allclose(got, truth, rtol=2.0**-22)


def test_rows_without_an_anchor_are_not_read(isa: str) -> None:
    graph, how = sparse([2] * 12, N, 2), options(12, 40)
    expected = ops.retrofit_step(inputs.normal((N, 40), 1), *graph, **how)
    how["base"][how["anchor"] == 0] = np.nan
    np.testing.assert_array_equal(ops.retrofit_step(inputs.normal((N, 40), 1), *graph, **how), expected)


def test_columns_are_independent(isa: str) -> None:
    """Also of views: what lies beside the columns is neither read nor written."""
    vectors, graph, how = inputs.normal((N, 96), 1), sparse(LENGTHS["ragged"], N, 2), options(12, 96)
    whole = ops.retrofit_step(vectors, *graph, **how)
    wide = np.full((12, 200), np.nan, np.float32)
    for first, last in ((0, 32), (32, 95), (95, 96)):
        part = {**how, "base": how["base"][:, first:last], "sums": how["sums"][:, first:last]}
        ops.retrofit_step(vectors[:, first:last], *graph, **part, out=wide[:, 10 + first : 10 + last])
    np.testing.assert_allclose(wide[:, 10:106], whole, rtol=0, atol=0)
    assert np.isnan(wide[:, :10]).all() and np.isnan(wide[:, 106:]).all()


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_thread_count_does_not_matter(num_threads: int) -> None:
    vectors, graph, how = inputs.normal((N, 70), 1), sparse([9] * 3000, N, 2), options(3000, 70)
    expected = ops.retrofit_step(vectors, *graph, **how)
    sums = ops.group_sums(vectors, *sparse([9000, 5, 20_000], N, 3)[:2])
    before = _core.set_num_threads(num_threads)
    try:
        np.testing.assert_array_equal(ops.retrofit_step(vectors, *graph, **how), expected)
        np.testing.assert_array_equal(ops.group_sums(vectors, *sparse([9000, 5, 20_000], N, 3)[:2]), sums)
    finally:
        _core.set_num_threads(before)


@pytest.mark.parametrize("layout", inputs.odd_layouts(np.zeros((2, 2), np.float32)))
def test_layouts(layout: str) -> None:
    graph, how = sparse([2] * 12, N, 2), options(12, 40)
    expected = ops.retrofit_step(inputs.normal((N, 40), 1), *graph, **how)
    odd = {name: inputs.odd_layouts(how[name])[layout] for name in ("base", "sums")}
    vectors = inputs.odd_layouts(inputs.normal((N, 40), 1))[layout]
    out = inputs.odd_layouts(np.zeros((12, 40), np.float32))[layout]
    np.testing.assert_array_equal(ops.retrofit_step(vectors, *graph, **{**how, **odd}, out=out), expected)
    named = ops.retrofit_step(vectors, *graph, **how, backend="reference")
    np.testing.assert_allclose(named, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"indptr": np.int64([0, 2, 1, 3])}, "neighbors must have an indptr that never falls, it does at 1"),
        ({"indptr": np.int64([1, 2, 2, 3])}, "indptr from 0 to the number of indices, 3, got 1 to 3"),
        ({"indptr": np.int64([0, 2, 3, 4])}, "indptr from 0 to the number of indices, 3, got 0 to 4"),
        ({"indices": np.int32([0, 5, 1])}, r"indices from 0 to below 5, indices\[1\] is 5"),
        ({"indices": np.int32([0, 1, -1])}, r"indices from 0 to below 5, indices\[2\] is -1"),
        ({"indices": np.int64([0, 1, 2])}, "indices must be int32, got int64"),
        ({"indptr": np.int32([0, 1, 2, 3])}, "indptr must be int64, got int32"),
        ({"indptr": np.int64([])}, r"indptr must start with 0, got \[\]"),
        ({"weights": np.ones(2, np.float32)}, r"weights must be \(3,\), got \(2,\)"),
        ({"base": np.ones((3, 2), np.float32)}, "base and anchor go together"),
        (
            {"base": np.ones((3, 1), np.float32), "anchor": np.ones(3, np.float32)},
            r"base must be \(3, 2\), got \(3, 1\)",
        ),
        ({"sums": np.ones((1, 2), np.float32)}, "sums and sum_indptr, sum_indices and sum_weights go together"),
        ({"scale": np.ones(3, np.float32)}, r"scale must be \(5,\), got \(3,\)"),
        ({"divisor": np.ones(5, np.float32)}, r"divisor must be \(3,\), got \(5,\)"),
        ({"squares": np.ones(3, np.float32)}, "squares must be float64, got float32"),
        ({"out": np.ones((2, 2), np.float32)}, r"out must be \(3, 2\), got \(2, 2\)"),
    ],
    ids=str,
)
def test_bad_input(changes: dict[str, np.ndarray], message: str) -> None:
    given = {
        "vectors": np.ones((5, 2), np.float32),
        "indptr": np.int64([0, 1, 2, 3]),
        "indices": np.int32([0, 1, 2]),
        "weights": np.ones(3, np.float32),
    }
    with pytest.raises(ValueError, match=message):
        ops.retrofit_step(**{**given, **changes})


def test_bad_groups_and_backends() -> None:
    vectors = np.ones((5, 2), np.float32)
    with pytest.raises(
        ValueError, match=r"group_sums: the groups must have indices from 0 to below 5, indices\[0\] is 7"
    ):
        ops.group_sums(vectors, np.int64([0, 1]), np.int32([7]))
    with pytest.raises(ValueError, match=r"group_sums: out must be \(1, 2\), got \(2, 2\)"):
        ops.group_sums(vectors, np.int64([0, 1]), np.int32([0]), out=np.ones((2, 2), np.float32))
    with pytest.raises(BackendError, match="cpu: dtype must be float32, got float64; triton: takes torch tensors only"):
        ops.group_sums(vectors.astype(np.float64), np.int64([0, 1]), np.int32([0]))
