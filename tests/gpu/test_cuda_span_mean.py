"""The CUDA kernel of span_mean against the reference in float64."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from cuda_kernels import CudaKernels, rounded
from errors import assert_no_worse
from longspan import reference

SPANS = np.array(
    [(0, 1), (5, 8), (0, 4), (7, 12), (0, 31), (1, 33), (2, 35), (100, 300), (0, 300), (299, 300), (150, 151), (0, 64)],
    np.int32,
)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint16])
@pytest.mark.parametrize("dim, out_dim", [(1, 1), (20, 20), (257, 200), (768, 768), (768, 515), (1032, 1032)])
@pytest.mark.parametrize("normalize", [False, True])
def test_matches_reference(kernels: CudaKernels, dim: int, out_dim: int, dtype: type, normalize: bool) -> None:
    given, hidden = rounded(inputs.normal((300, dim), 1), dtype)
    got = kernels.span_mean(given, SPANS, out_dim, normalize)
    options = {"truncate_dim": out_dim, "normalize": normalize}
    truth = reference.span_mean(hidden.astype(np.float64), SPANS, **options)
    assert_no_worse(got, truth, reference.span_mean(hidden, SPANS, **options))


@pytest.mark.parametrize("normalize", [False, True])
def test_a_span_alone_is_the_same(kernels: CudaKernels, normalize: bool) -> None:
    """Few spans are cut into columns, many are not: bit for bit the same."""
    hidden = inputs.normal((300, 600), 2)
    spans = np.resize(SPANS, (700, 2))
    many = kernels.span_mean(hidden, spans, 600, normalize)
    for at in (0, 8, 699):
        alone = kernels.span_mean(hidden, spans[at : at + 1].copy(), 600, normalize)
        np.testing.assert_array_equal(alone[0], many[at])


def test_strides(kernels: CudaKernels) -> None:
    wide = inputs.normal((300, 128), 3)
    for columns in (slice(0, 64), slice(4, 68), slice(1, 65)):
        part = wide[:, columns]
        truth = reference.span_mean(part.astype(np.float64), SPANS)
        assert_no_worse(kernels.span_mean(part, SPANS, 64), truth, reference.span_mean(part, SPANS))


def test_zeros_stay_zeros(kernels: CudaKernels) -> None:
    got = kernels.span_mean(np.zeros((300, 40), np.float32), SPANS, 40, normalize=True)
    np.testing.assert_array_equal(got, np.zeros((len(SPANS), 40), np.float32))


@pytest.mark.parametrize("normalize", [False, True])
def test_bad_spans_become_nan(kernels: CudaKernels, normalize: bool) -> None:
    """They are not looked at before; nothing outside is read for them."""
    hidden = inputs.normal((300, 40), 4)
    spans = np.array([(0, 5), (3, 3), (5, 2), (-1, 4), (290, 301), (1 << 30, 2**31 - 1)], np.int32)
    got = kernels.span_mean(hidden, spans, 40, normalize)
    assert np.isnan(got[1:]).all() and np.isfinite(got[0]).all()
