"""Poolings on torch tensors: the same numbers as on NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from kernel_cases import DEVICE, torch
from longspan.models.engines.engine import OpsEngine
from longspan.models.engines.torch_engine import TorchEngine, _all_arrays
from longspan.models.parts import Product
from longspan.packing.batch import pack
from longspan.pipeline.head import Dense
from longspan.pipeline.pooling import pool, select_pooled

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("pooling", [*MODES, MODES], ids=str)
def test_as_on_numpy(pooling: str | tuple[str, ...], drops: bool) -> None:
    rng = np.random.default_rng(7)
    [batch] = pack([np.zeros(length, np.int32) for length in (1, 5, 3, 64)], batch_tokens=1000)
    hidden = rng.standard_normal((len(batch.ids), 24)).astype(np.float32)
    keep = rng.random(len(batch.ids)) < 0.6 if drops else None
    if keep is not None:
        keep[0] = False  # a row may lose all its tokens
    selection = select_pooled(batch, pooling, keep)  # type: ignore[arg-type]
    want = pool(hidden, batch, selection, pooling, OpsEngine())  # type: ignore[arg-type]
    engine = TorchEngine(str(DEVICE), "float32")
    arrays = [torch.from_numpy(np.asarray(part)).to(engine.device) for part in _all_arrays(batch, selection)]
    placed = engine._placed(batch, selection, arrays)
    got = pool(torch.from_numpy(hidden).to(engine.device), *placed, pooling, engine)  # type: ignore[arg-type]
    assert np.abs(engine.to_host(got) - want).max() < 2e-6


def test_the_largest_by_offsets_that_nobody_looks_at() -> None:
    """torch's own checks bring the lengths to the host: that waits for the device, and ends a capture."""
    hidden = torch.arange(10.0, device=DEVICE).view(5, 2)
    offsets = torch.tensor([0, 2, 2, 4], dtype=torch.int32, device=DEVICE)  # one row short, which a check would tell
    found = TorchEngine(DEVICE, "float32").pool_max(hidden, offsets)
    assert found.tolist() == [[2, 3], [0, 0], [6, 7]]


@pytest.mark.parametrize("activation", [None, "tanh"])
@pytest.mark.parametrize("adds_input", [False, True])
def test_a_residual_of_pooled_vectors(adds_input: bool, activation: str | None) -> None:
    """They are float32, whatever the products are computed in."""
    rng = np.random.default_rng(3)
    weight, other = (rng.standard_normal((8, 8)).astype(np.float32) for _ in range(2))
    x = rng.standard_normal((3, 8)).astype(np.float32)
    engine = TorchEngine(DEVICE, "float16")
    layer = Dense(
        Product(engine.pack([weight])),
        activation,  # type: ignore[arg-type]
        residual=None if adds_input else Product(engine.pack([other])),
        adds_input=adds_input,
    )
    found = engine.to_host(layer.apply(torch.from_numpy(x).to(DEVICE), engine))  # type: ignore[arg-type]
    u = x @ weight.T
    truth = (u if activation is None else np.tanh(u)) + (x if adds_input else x @ other.T)
    np.testing.assert_allclose(found, truth, atol=0.03)
