"""layer_norm and rms_norm of torch tensors against float64."""

from __future__ import annotations

import pytest

from kernel_cases import FLOATS, assert_rounded_once, normal, plain, torch
from longspan import ops, reference

SHAPES = ((0, 64), (1, 1), (7, 33), (65, 100), (3, 768), (2, 4500), (5, 3, 64))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, residual = (normal(shape, seed, dtype=dtype) for seed in (1, 2))
    weight, bias = (normal(shape[-1:], seed, dtype=dtype) for seed in (3, 4))
    poisoned = torch.full_like(x, torch.nan)
    for case in (
        lambda cast, op, **more: op.layer_norm(*cast(x, weight, bias), eps=1e-5, **more),
        lambda cast, op, **more: op.layer_norm(*cast(x, weight), eps=1e-12, residual=cast(residual)[0], **more),
        lambda cast, op, **more: op.rms_norm(*cast(x, weight), eps=1e-6, **more),
        lambda cast, op, **more: op.rms_norm(*cast(x, weight), eps=1e-6, residual=cast(residual)[0], **more),
    ):
        got = case(lambda *args: args, ops, backend="triton", out=poisoned)
        assert got is poisoned
        truth, native = (
            case(lambda *args, kind=kind: [plain(arg, kind) for arg in args], reference)
            for kind in ("float64", "float32")
        )
        assert_rounded_once(got, truth, native)
        got.fill_(torch.nan)


def test_layouts_and_places() -> None:
    wide = normal((65, 300), 1, dtype=torch.float16)
    weight = normal((100,), 2, dtype=torch.float16)
    rows = wide[:, 100:200]
    expected = ops.layer_norm(rows.contiguous(), weight, eps=1e-5, residual=wide[:, :100], backend="triton")
    columns = rows.t().contiguous().t()
    assert torch.equal(ops.layer_norm(columns, weight, eps=1e-5, residual=wide[:, :100], backend="triton"), expected)
    heads = rows.reshape(65, 4, 25).transpose(0, 1).contiguous().transpose(0, 1)
    plain_heads = ops.rms_norm(rows.reshape(65, 4, 25), weight[:25], eps=1e-5, backend="triton")
    assert torch.equal(ops.rms_norm(heads, weight[:25], eps=1e-5, backend="triton"), plain_heads)
    got = ops.layer_norm(rows, weight, eps=1e-5, residual=wide[:, :100], out=rows, backend="triton")
    assert got is rows and torch.equal(wide[:, 100:200], expected)
