"""layer_norm and rms_norm against float64, in every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from errors import assert_no_worse
from longspan import BackendError, ops, reference

EPS = 1e-5


def case(rows: int, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x with a mean far from 0, weight, bias, residual."""
    x = inputs.normal((rows, dim), 1) * 3 + 5
    return x, inputs.normal((dim,), 2), inputs.normal((dim,), 3), inputs.normal((rows, dim), 4)


@pytest.mark.parametrize("rows", inputs.AWKWARD)
@pytest.mark.parametrize("dim", [1, 7, 63, 64, 65, 384, 1000])
def test_matches_reference(isa: str, rows: int, dim: int) -> None:
    x, weight, bias, residual = case(rows, dim)
    doubles = [array.astype(np.float64) for array in (x, weight, bias, residual)]
    for plain, op, shift in (
        (reference.layer_norm, ops.layer_norm, True),
        (reference.rms_norm, ops.rms_norm, False),
    ):
        for with_residual in (False, True):
            args = (x, weight, bias) if shift else (x, weight)
            truth = plain(*doubles[: len(args)], eps=EPS, residual=doubles[3] if with_residual else None)
            native = plain(*args, eps=EPS, residual=residual if with_residual else None)
            poisoned = np.full_like(x, np.nan)
            got = op(*args, eps=EPS, residual=residual if with_residual else None, out=poisoned)
            assert got is poisoned
            assert_no_worse(got, truth, native)


def test_layouts_and_row_independence(isa: str) -> None:
    x, weight, bias, residual = case(65, 100)
    expected = ops.layer_norm(x, weight, bias, eps=EPS, residual=residual)
    for name, odd in inputs.odd_layouts(x).items():
        np.testing.assert_array_equal(ops.layer_norm(odd, weight, bias, eps=EPS, residual=residual), expected, name)
    for row in (0, 33, 64):
        alone = ops.layer_norm(x[row : row + 1], weight, bias, eps=EPS, residual=residual[row : row + 1])
        np.testing.assert_array_equal(alone[0], expected[row])


def test_groups_of_a_wide_row(isa: str) -> None:
    """The heads of q inside a fused projection, in place."""
    weight, wide = inputs.normal((24,), 1), inputs.normal((65, 3 * 96), 2)
    heads = wide[:, 96:192].reshape(65, 4, 24)
    expected = ops.rms_norm(np.ascontiguousarray(heads).reshape(-1, 24), weight, eps=EPS).reshape(65, 4, 24)
    rest = wide[:, 192:].copy()
    assert ops.rms_norm(heads, weight, eps=EPS, out=heads) is heads
    np.testing.assert_array_equal(wide[:, 96:192].reshape(65, 4, 24), expected)
    np.testing.assert_array_equal(wide[:, 192:], rest)


def test_out_may_be_an_input(isa: str) -> None:
    x, weight, bias, residual = case(9, 70)
    expected = ops.layer_norm(x, weight, bias, eps=EPS, residual=residual)
    np.testing.assert_array_equal(ops.layer_norm(x.copy(), weight, bias, eps=EPS, residual=residual, out=x), expected)


def test_reference_backend_and_dtype_refusal() -> None:
    x, weight, bias, _ = case(3, 8)
    doubles = [array.astype(np.float64) for array in (x, weight, bias)]
    with pytest.raises(
        BackendError,
        match="cpu: dtype must be float32, got float64; triton: takes torch tensors only; reference: only on request",
    ):
        ops.layer_norm(*doubles, eps=EPS)
    got = ops.layer_norm(*doubles, eps=EPS, backend="reference")
    np.testing.assert_array_equal(got, reference.layer_norm(*doubles, eps=EPS))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"weight": np.ones(5, np.float32)}, r"layer_norm: weight must be \(8,\), got \(5,\)"),
        ({"x": np.ones(8, np.float32)}, r"layer_norm: x must be \(rows, dim\), got \(8,\)"),
        ({"residual": np.ones((2, 8), np.float32)}, r"layer_norm: residual must be \(3, 8\), got \(2, 8\)"),
        ({"eps": 0.0}, "layer_norm: eps must be a finite number above 0, got 0.0"),
        ({"backend": "gpu"}, "layer_norm: backend must be one of auto, cpu, triton, reference, got 'gpu'"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    x, weight, bias, _ = case(3, 8)
    with pytest.raises(ValueError, match=message):
        ops.layer_norm(**{"x": x, "weight": weight, "bias": bias, "eps": EPS, **change})
