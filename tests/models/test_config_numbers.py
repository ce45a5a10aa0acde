"""Numbers of config.json that no model has are refused by name, in every family; vectors that are not finite too."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from checkpoints import spoilt
from longspan import CheckpointError, Encoder, MultiVectorEncoder


@pytest.mark.parametrize(
    "name, key, value",
    [
        ("bert-minilm", "layer_norm_eps", -1),
        ("bert-minilm", "layer_norm_eps", 0),
        ("xlmr-absolute", "layer_norm_eps", -1),
        ("xlmr-absolute", "pad_token_id", -2),
        ("jina-v2-en", "layer_norm_eps", -1.0),
        ("modernbert", "norm_eps", 3),
        ("jina-v5-text-nano/model", "rms_norm_eps", -1e-6),
        ("jina-code/model", "rope_theta", 1e-300),
        ("jina-v3", "rotary_emb_base", 1e-300),
        ("nomic-bert", "layer_norm_epsilon", -1),
        ("mpnet", "layer_norm_eps", 1e300),
    ],
)
def test_a_number_out_of_range(name: str, key: str, value: float, golden: Path, tmp_path: Path) -> None:
    model = spoilt(golden / name, tmp_path / "model", **{key: value})
    with pytest.raises(CheckpointError, match=f"'{key}' must be from .*, got {re.escape(repr(value))}"):
        Encoder(model)


def test_a_number_within_an_object(golden: Path, tmp_path: Path) -> None:
    model = spoilt(golden / "jina-code/model", tmp_path / "model", rope_parameters={"rope_theta": 0.0})
    with pytest.raises(CheckpointError, match=r"config.json: rope_parameters: 'rope_theta' must be from 1 to 1e\+12"):
        Encoder(model)


def huge(tensors: dict[str, np.ndarray]) -> None:
    name = next(name for name in tensors if name.endswith("layer.0.intermediate.dense.weight"))
    tensors[name][...] = 3e38


def test_a_vector_that_is_not_finite_is_an_error_that_names_the_text(golden: Path, tmp_path: Path) -> None:
    encoder = Encoder(spoilt(golden / "bert-minilm", tmp_path / "model", huge))
    with np.errstate(all="ignore"):
        for options in ({}, {"output_value": "token_embeddings"}, {"batch_size": 1}):
            with pytest.raises(ValueError, match=r"texts\[0\] gives a vector that is not finite: .* range of float32"):
                encoder.encode(["a", "b"], **options)  # type: ignore[arg-type]


def overflowing(tensors: dict[str, np.ndarray]) -> None:
    """One token's embedding alone is too large."""
    name = next(name for name in tensors if name.endswith("word_embeddings.weight"))
    tensors[name][700] = 3e38


def test_it_is_named_wherever_it_stands(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longspan.pipeline.blocks.TEXTS_PER_BLOCK", 2)
    encoder = Encoder(spoilt(golden / "bert-minilm", tmp_path / "model", overflowing))
    word = encoder.tokenizer.backend.id_to_token(700).removeprefix("##")
    rows = [one.ids.tolist() for one in encoder.tokenize(["plain", word, f"x{word}"])]
    wrong = next(place for place, row in enumerate(rows) if 700 in row)
    texts = ["plain"] * 3 + [["", word, f"x{word}"][wrong]] + ["plain"] * 2
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"texts\[3\] gives a vector that is not finite"):
        encoder.encode(texts)


def test_token_vectors_too(golden: Path, tmp_path: Path) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        next(values for name, values in tensors.items() if name.endswith("fc1.weight"))[...] = 3e38

    encoder = MultiVectorEncoder(spoilt(golden / "jina-colbert-v2", tmp_path / "model", change))
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"texts\[0\] gives a vector that is not finite"):
        encoder.encode_documents(["a", "b"])
