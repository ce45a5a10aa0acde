"""Embeddings in one kernel against float64: tables, places, token type, adapters and the norm behind them."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from gpu_errors import sums_error
from kernel_cases import FLOATS, ROUNDING, assert_within, normal, plain, tensor, torch
from longspan.kernels.embed import TableLora, embed

VOCAB, PLACES, RANK, ADAPTERS = 50, 30, 4, 3
KINDS = ("word", "places", "all but adapters", "adapters", "rms_norm", "all")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("rows, dim", [(1, 1), (70, 130), (9, 768), (33, 1030)])
@pytest.mark.parametrize("kind", KINDS)
def test_matches_float64(kind: str, rows: int, dim: int, dtype: torch.dtype) -> None:
    if kind != "all" and dim > 130:
        pytest.skip("a width for each kind, all widths for the whole")
    ids = inputs.rng(1).integers(0, VOCAB, rows).astype(np.int32)
    positions = inputs.rng(2).integers(0, PLACES - 2, rows).astype(np.int32)
    lora_ids = inputs.rng(3).integers(-1, ADAPTERS + 1, rows).astype(np.int32)  # the last adapts no table
    word, places = normal((VOCAB, dim), 4, dtype=dtype), normal((PLACES, dim), 5, dtype=dtype)
    token_type, weight, bias = (normal((dim,), seed, dtype=torch.float32) for seed in (6, 7, 8))
    tables = TableLora(
        normal((ADAPTERS, VOCAB, RANK), 9, dtype=dtype),
        normal((ADAPTERS, RANK, dim), 10, dtype=dtype),
        normal((ADAPTERS, dim), 11, dtype=dtype),
    )
    has_places = kind in ("places", "all but adapters", "all")
    has_type = kind in ("all but adapters", "all")
    has_adapters = kind in ("adapters", "all")
    norm = {"all but adapters": (weight, bias), "rms_norm": (weight, None), "all": (weight, bias)}.get(kind)
    memory = torch.full((rows, dim + 5), torch.nan, dtype=dtype, device=word.device)
    embed(
        tensor(ids),
        word,
        memory[:, :dim],
        positions=tensor(positions) if has_places else None,
        places=places if has_places else None,
        offset=2,
        token_type=token_type if has_type else None,
        lora_ids=tensor(lora_ids) if has_adapters else None,
        adapters=tables if has_adapters else None,
        norm=norm,
        eps=1e-5,
        centred=kind != "rms_norm",
    )

    def expected(to: type) -> np.ndarray:
        z = plain(word, to)[ids].copy()
        if has_places:
            z += plain(places, to)[positions + 2]
        if has_type:
            z += plain(token_type, to)
        if has_adapters:
            for row in np.flatnonzero((lora_ids >= 0) & (lora_ids < ADAPTERS)):
                task = lora_ids[row]
                z[row] += plain(tables.rows, to)[task, ids[row]] @ plain(tables.expand, to)[task]
                z[row] += plain(tables.token_type, to)[task]
        if norm is not None:
            if kind != "rms_norm":
                z = z - z.mean(axis=1, keepdims=True)
            z = z / np.sqrt((z * z).mean(axis=1, keepdims=True) + to(1e-5)) * plain(norm[0], to)
            z = z if norm[1] is None else z + plain(norm[1], to)
        return z

    truth, native = expected(np.float64), expected(np.float32)
    assert_within(
        memory[:, :dim], truth, ROUNDING[dtype] * np.abs(truth) * (1 + 2.0**-8) + 4 * sums_error(truth, native)
    )
    assert memory[:, dim:].isnan().all()
