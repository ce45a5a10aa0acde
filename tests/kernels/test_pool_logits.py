"""pool_logits of torch tensors against float64: ragged sequences, both poolings, what is not finite, the engine."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import inputs
from gpu_errors import matrix_sum
from kernel_cases import DEVICE, FLOATS, assert_within, cu_seqlens, normal, plain, torch
from longspan import ops, reference
from longspan.models.parts import Product
from longspan.ops.dispatch import BackendError
from longspan.ops.pool_logits import LOGIT_POOLINGS, SATURATIONS

kernels = pytest.importorskip("longspan.kernels.pool_logits")
torch_engine = pytest.importorskip("longspan.models.engines.torch_engine")

LENGTHS = ((0,), (3, 0, 139, 0, 1, 2), (1,) * 70)
KINDS = (("max", None), ("max", "log1p"), ("max", "log1p_twice"), ("sum", None), ("sum", "log1p"))
LOG = 4 * 2.0**-22  # what a GPU's logarithm is off, and ours near 1


def case(lengths: tuple[int, ...], out_features: int, dim: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Tokens, weights, offsets, bias: logits of about 1, of either sign."""
    x = normal((sum(lengths), dim), 1, dtype=dtype)
    weight = normal((out_features, dim), 2, dtype=torch.float32) / dim**0.5
    return x, weight.to(dtype), cu_seqlens(lengths), normal((out_features,), 3, dtype=dtype)


def allowed(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, offsets: np.ndarray, pooling: str) -> np.ndarray:
    """Each logit's sum by matrix units or in any order, f32's rounding of it, and of what f makes of it."""
    sizes = np.abs(x) @ np.abs(weight).T + np.abs(bias)
    each = (max(matrix_sum(x.shape[1]), (x.shape[1] + 8) * 2.0**-24) + LOG) * sizes
    parts = [(each[first:end], sizes[first:end]) for first, end in pairwise(offsets)]
    if pooling == "max":
        return np.stack([part.max(axis=0, initial=0) for part, _ in parts])
    return np.stack([part.sum(axis=0) + 2.0**-24 * len(part) * size.sum(axis=0) for part, size in parts])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("pooling, saturation", KINDS)
def test_matches_reference(pooling: str, saturation: str | None, lengths: tuple[int, ...], dtype: torch.dtype) -> None:
    for out_features, dim in ((1, 1), (70, 70)):
        x, weight, offsets, bias = case(lengths, out_features, dim, dtype)
        how = {"pooling": pooling, "saturation": saturation}
        out = torch.full((len(lengths), out_features), torch.nan, device=x.device)
        got = ops.pool_logits(x, weight, offsets, bias, **how, out=out, backend="triton")
        assert got is out
        wide = [np.asarray(plain(part)) for part in (x, weight, bias)]
        truth = reference.pool_logits(*wide, plain(offsets), **how)
        finite = np.isfinite(truth)
        assert np.array_equal(plain(got)[~finite], truth[~finite])  # -infinity, of a sequence without tokens
        bound = allowed(*wide, plain(offsets), pooling)
        assert_within(torch.where(torch.isfinite(got), got, 0.0), np.where(finite, truth, 0), bound)


def test_layouts_and_no_bias() -> None:
    x, weight, offsets, _ = case((40, 9), 33, 48, torch.float32)
    want = ops.pool_logits(x, weight, offsets, backend="triton")
    wide_x, wide_weight = torch.cat([x, x], 1)[:, :48], torch.cat([weight, weight], 1)[:, :48]
    assert torch.equal(ops.pool_logits(wide_x, wide_weight, offsets, backend="triton"), want)
    turned = x.t().contiguous().t()
    assert torch.equal(ops.pool_logits(turned, weight, offsets, backend="triton"), want)


def test_small_and_large_logits_keep_their_digits() -> None:
    """log(1 + u) of what is next to nothing is u, not what 1 + u rounds to."""
    values = np.array([0.0, 1e-30, 1e-12, 1e-7, 3e-4, 0.1, 0.2499, 0.25, 1.0, 9.5, 1e6, 1e30, 3e38], np.float32)
    x, one = torch.ones((1, 1), device=DEVICE), cu_seqlens((1,))
    weight = torch.from_numpy(values[:, None]).to(DEVICE)
    for times, saturation in enumerate(SATURATIONS):
        truth = values.astype(np.float64)
        for _ in range(times):
            truth = np.log1p(truth)
        for pooling in LOGIT_POOLINGS:
            got = ops.pool_logits(x, weight, one, pooling=pooling, saturation=saturation, backend="triton")
            np.testing.assert_allclose(plain(got)[0], truth, rtol=4 * 2.0**-20, atol=0)
    below = ops.pool_logits(-x, weight + 1, one, saturation="log1p", backend="triton")
    assert not below.any()


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")  # NumPy's
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("pooling", LOGIT_POOLINGS)
def test_what_is_not_finite_shows(pooling: str, bad: float) -> None:
    """In its own sequence, and in no other."""
    x, weight, offsets, bias = case((20, 20, 20), 30, 40, torch.float32)
    how = {"pooling": pooling, "saturation": "log1p", "backend": "triton"}
    good = ops.pool_logits(x, weight, offsets, bias, **how)
    for at in (20, 39):
        spoilt = x.clone()
        spoilt[at] = bad
        got = ops.pool_logits(spoilt, weight, offsets, bias, **how)
        assert got[1].isnan().all() and torch.equal(got[[0, 2]], good[[0, 2]])


def test_under_torch_s_dispatcher() -> None:
    x, weight, offsets, bias = case((20, 30), 30, 40, torch.float32)
    want = ops.pool_logits(x, weight, offsets, bias, backend="triton")
    got = kernels.pool_logits(x, weight.clone().requires_grad_(), offsets, bias)
    assert torch.equal(got, want)
    torch.library.opcheck(kernels._pool_logits_op, (x, weight, offsets, bias, False, 1))


def test_refusals() -> None:
    x, weight, offsets, bias = case((20, 30), 30, 40, torch.float32)
    with pytest.raises(BackendError, match="weight must be float32, as x, got float16"):
        ops.pool_logits(x, weight.half(), offsets, bias, backend="triton")
    with pytest.raises(BackendError, match="not packed for the CPU"):
        ops.pool_logits(x, ops.pack_linear([plain(weight, np.float32)]), offsets, backend="triton")


@pytest.mark.parametrize("pooling", LOGIT_POOLINGS)
def test_as_the_engine_calls_it(pooling: str) -> None:
    engine = torch_engine.TorchEngine(DEVICE, "float32")
    offsets = inputs.cu_seqlens([3, 0, 40, 1])
    x, bias = inputs.normal((44, 20), 1), inputs.normal((300,), 3)
    weight = inputs.normal((300, 20), 2) / np.float32(np.sqrt(20))
    product = Product(engine.pack([weight], [bias]))
    how = {"pooling": pooling, "saturation": "log1p"}
    got = engine.pool_logits(torch.from_numpy(x).to(DEVICE), product, torch.from_numpy(offsets), **how)
    want = reference.pool_logits(x.astype(np.float64), weight.astype(np.float64), bias, offsets, **how)
    np.testing.assert_allclose(got.cpu().numpy(), want, rtol=0, atol=2e-5)
