"""Calls written for sentence-transformers' `encode`, on our Encoder."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder

TEXTS = ["one text", "and another"]


@pytest.fixture(scope="module")
def encoder(golden: Path) -> Encoder:
    return Encoder(golden / "bert-minilm")


@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
def test_its_names_are_taken(method: str, encoder: Encoder) -> None:
    encode = getattr(encoder, method)
    wanted = encode(TEXTS)
    for name in ("sentences", "inputs", "texts"):
        np.testing.assert_array_equal(encode(**{name: TEXTS}), wanted)
    everything = {"convert_to_numpy": True, "convert_to_tensor": False, "device": "cpu", "pool": None, "chunk_size": 5}
    everything |= {"prompt_name": None, "prompt": None, "batch_size": 32, "show_progress_bar": False, "task": None}
    everything |= {"output_value": "sentence_embedding", "precision": "float32", "truncate_dim": None}
    np.testing.assert_array_equal(encode(TEXTS, **everything, normalize_embeddings=True), wanted)
    assert "sentences" not in inspect.signature(encode).parameters  # ours stay as they are


def test_without_numpy_it_is_a_list_of_tensors(encoder: Encoder) -> None:
    torch = pytest.importorskip("torch", reason="convert_to_numpy=False gives torch tensors")
    found = encoder.encode(TEXTS, convert_to_numpy=False)
    assert isinstance(found, list) and all(isinstance(one, torch.Tensor) and one.shape == (64,) for one in found)
    assert encoder.encode(TEXTS[0], convert_to_numpy=False).shape == (64,)
    assert encoder.encode(TEXTS, convert_to_numpy=False, convert_to_tensor=True).shape == (2, 64)
    tokens = encoder.encode(TEXTS, convert_to_numpy=False, output_value="token_embeddings")
    assert [len(one) for one in tokens] == [len(text.ids) for text in encoder.tokenize(TEXTS)]


def test_what_has_no_meaning_here_is_refused(encoder: Encoder) -> None:
    with pytest.raises(TypeError, match="texts and sentences are the same argument; give one of them"):
        encoder.encode(TEXTS, sentences=TEXTS)
    with pytest.raises(TypeError, match="texts and inputs are the same argument"):
        encoder.encode(sentences=TEXTS, inputs=TEXTS)
    with pytest.raises(ValueError, match="device must be None or the encoder's own, 'cpu', got 'cuda:0'"):
        encoder.encode(TEXTS, device="cuda:0")
    with pytest.raises(ValueError, match="pool must be None: longspan runs its own threads"):
        encoder.encode(TEXTS, pool={"processes": []})
    with pytest.raises(
        ValueError, match="output_value must be one of 'sentence_embedding', 'token_embeddings', got None"
    ):
        encoder.encode(TEXTS, output_value=None)
    with pytest.raises(TypeError, match="there is no argument 'nonsense'; there are batch_size, "):
        encoder.encode(TEXTS, nonsense=1)
