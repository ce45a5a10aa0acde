"""DistilBERT: what is refused, and a file of the masked language model's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from checkpoints import Change, Tensors, assert_refused, spoilt
from longspan import Encoder

QUERY = "distilbert.transformer.layer.1.attention.q_lin.weight"


@pytest.mark.parametrize(
    "change, config, message",
    [
        (lambda t: t.pop(QUERY), {}, f"tensor {QUERY} is missing"),
        (lambda t: t.update({QUERY: t[QUERY][:47]}), {}, rf"tensor {QUERY} must be \(48, 48\) .* got \(47, 48\)"),
        (None, {"n_layers": 1}, r"tensors distilbert.transformer.layer.1.* are not part of this model"),
        (None, {"n_heads": 5}, "'dim' 48 is no multiple of 'n_heads' 5"),
        (None, {"activation": "mish"}, "'activation' must be one of gelu, .* got 'mish'"),
        (None, {"max_position_embeddings": 513}, r"position_embeddings.weight must be \(513, 48\)"),
    ],
)
def test_hostile(change: Change | None, config: dict[str, object], message: str, golden: Path, tmp_path: Path) -> None:
    assert_refused(golden / "distilbert", tmp_path, change, config, message)


def test_without_the_language_model(golden: Path, tmp_path: Path) -> None:
    def bare(tensors: Tensors) -> None:
        for name in list(tensors):
            values = tensors.pop(name)
            if name.startswith("distilbert."):
                tensors[name.removeprefix("distilbert.")] = values

    folder = spoilt(golden / "distilbert", tmp_path / "model", bare)
    np.testing.assert_array_equal(Encoder(folder).encode("a text"), Encoder(golden / "distilbert").encode("a text"))
