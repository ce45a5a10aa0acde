"""Interleaved rotary positions against GPT-J's in transformers, frozen in tests/golden/interleaved-rotary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import inputs
from errors import assert_no_worse
from longspan import ops, reference
from longspan.models.positions import rotary_tables
from longspan.models.spec import Rotary

TOKENS, HEADS, HEAD_DIM = 9, 2, 16


@pytest.fixture(scope="module")
def expected(golden: Path) -> dict[str, np.ndarray]:
    return dict(np.load(golden / "interleaved-rotary" / "expected.npz"))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rotary_dim", [8, HEAD_DIM])
def test_against_gptj(isa: str, rotary_dim: int, causal: bool, expected: dict[str, np.ndarray]) -> None:
    q, k, v = (inputs.normal((TOKENS, HEADS, HEAD_DIM), seed) for seed in range(3))
    cu_seqlens = inputs.cu_seqlens([TOKENS])
    tables = {name: expected[f"{rotary_dim}/{name}"] for name in ("cos", "sin")}
    truth = expected[f"{rotary_dim}/{'causal' if causal else 'full'}"]
    args = (q, k, v, cu_seqlens, cu_seqlens)
    got = ops.attention_varlen(*args, **tables, interleaved=True, causal=causal)
    native = reference.attention_varlen(*args, **tables, interleaved=True, causal=causal)
    assert_no_worse(np.asarray(got), truth, np.asarray(native))
    other = ops.attention_varlen(*args, **tables, causal=causal)
    assert np.abs(np.asarray(other) - truth).max() > 0.1, "the two layouts must differ for this to say anything"


@pytest.mark.parametrize("rotary_dim", [8, HEAD_DIM])
def test_tables(rotary_dim: int, expected: dict[str, np.ndarray]) -> None:
    """Ours differ by the rounding of angles (frequency and product, half an ulp each) and of the result itself."""
    limit = 2 * np.spacing(np.float32(TOKENS - 1)) + np.spacing(np.float32(1))
    for name, table in zip(("cos", "sin"), rotary_tables(Rotary(theta=10000.0, dim=rotary_dim), TOKENS), strict=True):
        np.testing.assert_allclose(table, expected[f"{rotary_dim}/{name}"], rtol=0, atol=limit)
