"""The CUDA kernel of binarize against np.packbits."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from cuda_kernels import CudaKernels, rounded
from emulated import Emulated

SPECIAL = np.array([0.0, -0.0, 1e-45, -1e-45, np.inf, -np.inf, np.nan, 6e-8, -6e-8, 1.0], np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint16])
@pytest.mark.parametrize(
    "rows, dim", [(1, 1), (5, 7), (3, 8), (9, 255), (40, 256), (17, 257), (70, 1000), (3, 2056), (200, 64)]
)
def test_matches_packbits(kernels: CudaKernels, rows: int, dim: int, dtype: type) -> None:
    values = inputs.normal((rows, dim), 1)
    places = inputs.rng(rows, dim).integers(0, values.size, 1 + values.size // 20)
    values.ravel()[places] = np.resize(SPECIAL, len(places))
    given, x = rounded(values, dtype)
    thresholds = inputs.normal((dim,), 2)
    thresholds[::5] = x[0, ::5]  # equal to a value: not above
    thresholds[np.isnan(thresholds)] = 0
    np.testing.assert_array_equal(kernels.binarize(given), np.packbits(x > 0, axis=1))
    np.testing.assert_array_equal(kernels.binarize(given, thresholds), np.packbits(x > thresholds, axis=1))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("columns", [slice(0, 300), slice(16, 316), slice(1, 301), slice(3, 290)])
def test_strides(kernels: CudaKernels, columns: slice, dtype: type) -> None:
    x = inputs.normal((21, 320), 3).astype(dtype)[:, columns]
    np.testing.assert_array_equal(kernels.binarize(x), np.packbits(x > 0, axis=1))


def test_every_half(emulated: Emulated) -> None:
    halves = np.arange(1 << 16, dtype=np.uint16)
    got = np.array([emulated.half_to_float(int(bits)) for bits in halves], np.float32)
    np.testing.assert_array_equal(got, halves.view(np.float16).astype(np.float32))
