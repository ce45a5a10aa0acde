"""binarize against np.packbits, in every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from longspan import BackendError, ops, reference


@pytest.mark.parametrize("rows", inputs.AWKWARD)
@pytest.mark.parametrize("dim", [1, 7, 8, 9, 63, 64, 65, 100, 384, 1000])
def test_matches_reference(isa: str, rows: int, dim: int) -> None:
    x, thresholds = inputs.normal((rows, dim), 1), inputs.normal((dim,), 2)
    for given in (None, thresholds):
        got = ops.binarize(x, thresholds=given)
        assert got.dtype == np.uint8 and got.shape == (rows, (dim + 7) // 8)
        np.testing.assert_array_equal(got, reference.binarize(x, thresholds=given))


def test_strictly_above(isa: str) -> None:
    tiny = np.float32(1e-45)
    x = np.array([[0.0, -0.0, tiny, -tiny, np.inf, -np.inf, 1.0, -1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(ops.binarize(x), [[0b00101010, 0b10000000]])
    thresholds = np.array(
        [0, 0, tiny, -tiny, np.inf, -np.inf, 1, -2, np.nextafter(np.float32(2), np.float32(1))], np.float32
    )
    np.testing.assert_array_equal(ops.binarize(x, thresholds=thresholds), [[0b00000001, 0b10000000]])


def test_layouts(isa: str) -> None:
    x = inputs.normal((9, 70), 1)
    expected = ops.binarize(x)
    for name, odd in inputs.odd_layouts(x).items():
        np.testing.assert_array_equal(ops.binarize(odd), expected, name)


@pytest.mark.parametrize("place", [(0, 0), (3, 69), (400, 64)])
def test_nan_is_named(isa: str, place: tuple[int, int]) -> None:
    x = inputs.normal((500, 70), 1)
    x[place] = np.nan
    with pytest.raises(ValueError, match=rf"binarize: x must not hold NaN, got one at \[{place[0]}, {place[1]}\]"):
        ops.binarize(x)


def test_reference_backend_and_dtype_refusal() -> None:
    x = inputs.normal((3, 10), 1)
    np.testing.assert_array_equal(ops.binarize(x, backend="reference"), ops.binarize(x))
    with pytest.raises(BackendError, match="cpu: dtype must be float32, got float64"):
        ops.binarize(x.astype(np.float64))


@pytest.mark.parametrize(
    "x, thresholds, message",
    [
        (np.zeros(8, np.float32), None, r"binarize: x must be \(rows, dim\), got \(8,\)"),
        (np.zeros((2, 0), np.float32), None, "binarize: x must have at least one column, got 0"),
        (np.zeros((2, 8), np.float32), np.zeros(7, np.float32), r"binarize: thresholds must be \(8,\), got \(7,\)"),
        (
            np.zeros((2, 2), np.float32),
            np.array([0, np.nan], np.float32),
            "binarize: thresholds must not hold NaN, got one at 1",
        ),
    ],
)
def test_bad_input(x: np.ndarray, thresholds: np.ndarray | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.binarize(x, thresholds=thresholds)
