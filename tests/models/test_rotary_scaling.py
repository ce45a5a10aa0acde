"""Scaled RoPE: linear, dynamic and YaRN against transformers in float64, texts of all lengths in one batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from checkpoints import spoilt
from longspan import CheckpointError, Encoder

SCALINGS = json.loads((Path(__file__).parents[1] / "golden" / "rotary-scaling" / "scalings.json").read_text())
LENGTHS = (1, 40, 64, 65, 200)


@pytest.mark.parametrize("name", SCALINGS)
def test_every_scaling(isa: str, name: str, golden: Path, tmp_path: Path) -> None:
    config = {"max_position_embeddings": 64, "rope_scaling": SCALINGS[name]}
    encoder = Encoder(spoilt(golden / "jina-code" / "model", tmp_path / "model", **config))
    expected = np.load(golden / "rotary-scaling" / "expected.npz")
    fits = [size for size in LENGTHS if size <= encoder.spec.max_tokens]
    ids = [expected[f"ids/{size}"] for size in fits]
    together = encoder.encode_ids([*ids, *ids], normalize_embeddings=True)
    for place, size in enumerate(fits):
        truth = expected[f"emb/{name}/{size}"]
        np.testing.assert_allclose(together[place], truth, rtol=0, atol=2e-6, err_msg=str(size))
        np.testing.assert_array_equal(together[place], together[place + len(fits)])
        [alone] = encoder.encode_ids(ids[place : place + 1], normalize_embeddings=True)
        np.testing.assert_array_equal(together[place], alone)


def test_a_scaling_reaches_as_far_as_it_says(golden: Path, tmp_path: Path) -> None:
    limits = {}
    for name, scaling in SCALINGS.items():
        config = {"max_position_embeddings": 64, "rope_scaling": scaling}
        encoder = Encoder(spoilt(golden / "jina-code" / "model", tmp_path / name, **config))
        limits[name] = encoder.spec.max_tokens
    assert limits == {
        "default": 64,
        "linear": 64,
        "dynamic": 128,
        "yarn": 192,
        "yarn-told": 256,
        "yarn-attention": 256,
    }


@pytest.mark.parametrize(
    "scaling, message",
    [
        ({"rope_type": "yarn"}, "rope_scaling: 'factor' is missing"),
        ({"rope_type": "yarn", "factor": 0.5}, "'factor' must be from 1 to 1024, got 0.5"),
        ({"rope_type": "linear", "factor": 1e9}, "'factor' must be from 1 to 1024"),
        ({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 0}, "must be 1 or more, got 0"),
        ({"rope_type": "yarn", "factor": 2.0, "beta_fast": 1.0, "beta_slow": 2.0}, "'beta_fast' must be at least"),
        ({"rope_type": "yarn", "factor": 2.0, "attention_factor": -1}, "'attention_factor' must be above 0"),
        ({"rope_type": "longrope", "factor": 2.0}, "'rope_type' must be one of default, linear, dynamic, yarn"),
    ],
)
def test_hostile(scaling: dict[str, object], message: str, golden: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        Encoder(spoilt(golden / "jina-code" / "model", tmp_path / "model", rope_scaling=scaling))
