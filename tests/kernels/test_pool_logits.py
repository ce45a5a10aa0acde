"""The torch engine's pool_logits: slices of the vocabulary, against the reference."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from longspan import reference

torch = pytest.importorskip("torch")
torch_engine = pytest.importorskip("longspan.models.engines.torch_engine")
parts = pytest.importorskip("longspan.models.parts")


@pytest.mark.parametrize("limit", [600, 16 << 20])
@pytest.mark.parametrize("saturation", ["log1p", "log1p_twice"])
@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_against_the_reference(monkeypatch: pytest.MonkeyPatch, pooling: str, saturation: str, limit: int) -> None:
    monkeypatch.setattr("longspan.kernels.pool_logits.MAX_LOGITS", limit)
    engine = torch_engine.TorchEngine("cpu", "float32")
    offsets = inputs.cu_seqlens([3, 0, 40, 1])
    x, bias = inputs.normal((44, 20), 1), inputs.normal((700,), 3)
    weight = inputs.normal((700, 20), 2) / np.float32(np.sqrt(20))
    product = parts.Product(engine.pack([weight], [bias]))
    how = {"pooling": pooling, "saturation": saturation}
    got = engine.pool_logits(torch.from_numpy(x), product, torch.from_numpy(offsets), **how)
    want = reference.pool_logits(x.astype(np.float64), weight.astype(np.float64), bias, offsets, **how)
    np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=2e-5)
