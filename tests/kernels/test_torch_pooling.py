"""Poolings on torch tensors: the same numbers as on NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from kernel_cases import DEVICE, torch
from longspan.models.engines.engine import OpsEngine
from longspan.models.engines.torch_engine import TorchEngine, _all_arrays
from longspan.packing.batch import pack
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
