"""span_mean and pool_mean of torch tensors, and their gradients, against float64."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from errors import assert_no_worse
from kernel_cases import FLOATS, assert_rounded_once, cu_seqlens, normal, plain, tensor, torch
from longspan import ops, reference
from longspan.kernels import span_mean as kernels

SPANS = np.array([[0, 1], [299, 300], [0, 300], [5, 70], [6, 70], [5, 69], [100, 133], [5, 70]], np.int32)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("dim, truncate_dim", [(1, None), (200, None), (200, 129), (769, 64)])
@pytest.mark.parametrize("normalize", [False, True])
def test_matches_reference(dim: int, truncate_dim: int | None, normalize: bool, dtype: torch.dtype) -> None:
    hidden = normal((300, dim), 1, dtype=dtype)
    how = {"truncate_dim": truncate_dim, "normalize": normalize}
    out = torch.full((len(SPANS), truncate_dim or dim), torch.nan, device=hidden.device)
    assert ops.span_mean(hidden, tensor(SPANS), **how, out=out, backend="triton") is out
    truth, native = (reference.span_mean(plain(hidden, kind), SPANS, **how) for kind in (np.float64, np.float32))
    assert_rounded_once(out, truth, native)


def test_parts_of_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, spans = normal((700, 40), 1, dtype=torch.float32), tensor(np.array([[0, 700], [3, 5]], np.int32))
    split = ops.span_mean(hidden, spans, backend="triton")
    monkeypatch.setattr(kernels, "PROGRAMS", 1)
    whole = ops.span_mean(hidden, spans, backend="triton")
    assert not torch.equal(split[0], whole[0]), "both ran the same way"
    truth, native = (reference.span_mean(plain(hidden, kind), plain(spans)) for kind in (np.float64, np.float32))
    assert_rounded_once(split, truth, native)
    assert_rounded_once(whole, truth, native)


@pytest.mark.parametrize("lengths", inputs.RAGGED, ids=str)
def test_pool_mean(lengths: list[int]) -> None:
    hidden, offsets = normal((sum(lengths), 130), 1, dtype=torch.float16), cu_seqlens(tuple(lengths))
    got = ops.pool_mean(hidden, offsets, backend="triton")
    truth, native = (reference.pool_mean(plain(hidden, kind), plain(offsets)) for kind in (np.float64, np.float32))
    assert_rounded_once(got, truth, native)


@pytest.mark.parametrize("normalize", [False, True])
def test_gradient(normalize: bool) -> None:
    hidden = normal((300, 70), 1, dtype=torch.float32).requires_grad_()
    result = ops.span_mean(hidden, tensor(SPANS), truncate_dim=40, normalize=normalize, backend="triton")
    grad = normal(tuple(result.shape), 2, dtype=torch.float32)
    result.backward(grad)
    truth, native = (
        reference.span_mean_backward(plain(grad, kind), plain(hidden, kind), SPANS, normalize=normalize)
        for kind in (np.float64, np.float32)
    )
    assert_no_worse(plain(hidden.grad, np.float32), truth, native)


def test_gradient_of_pool_mean() -> None:
    lengths = (3, 0, 65)
    hidden = normal((68, 20), 1, dtype=torch.float32).requires_grad_()
    result = ops.pool_mean(hidden, cu_seqlens(lengths), backend="triton")
    result.backward(torch.ones_like(result))
    expected = np.repeat([1 / 3, 1 / 65], [3, 65])[:, None] * np.ones(20)
    np.testing.assert_allclose(plain(hidden.grad), expected, rtol=2.0**-22)


def test_spans_on_a_gpu_are_not_looked_at() -> None:
    meta = torch.empty((5, 4), device="meta")
    with pytest.raises(ValueError, match="span_mean: drop_invalid needs the spans' values"):
        ops.span_mean(meta, torch.empty((2, 2), dtype=torch.int32, device="meta"), drop_invalid=True)
