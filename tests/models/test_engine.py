"""The encoder's short way to the kernels against the public ops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder

TEXTS = ["a short text", "one that is rather longer than the short one, by some words", "x"]


@pytest.mark.parametrize("family", ["bert-minilm", "jina-v2-en", "jina-v3", "mpnet", "modernbert", "jina-v4/model"])
def test_direct_calls_give_the_bits_of_the_public_ops(
    family: str, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = "retrieval" if family.startswith("jina-v4") else None
    direct = Encoder(golden / family).encode(TEXTS, task=task)
    monkeypatch.setenv("LONGSPAN_BACKEND", "cpu")
    np.testing.assert_array_equal(Encoder(golden / family).encode(TEXTS, task=task), direct)


def test_a_named_backend_is_obeyed(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    direct = Encoder(golden / "bert-minilm").encode(TEXTS)
    monkeypatch.setenv("LONGSPAN_BACKEND", "nonsense")
    with pytest.raises(ValueError, match="LONGSPAN_BACKEND must be one of auto, cpu, .*, got 'nonsense'"):
        Encoder(golden / "bert-minilm").encode(TEXTS)
    monkeypatch.setenv("LONGSPAN_BACKEND", "reference")
    plain = Encoder(golden / "bert-minilm").encode(TEXTS)
    assert not np.array_equal(plain, direct)  # NumPy sums in another order
    np.testing.assert_allclose(plain, direct, rtol=0, atol=5e-6)
