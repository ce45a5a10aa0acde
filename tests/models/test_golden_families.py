"""Every case of the goldens of Qwen3-Embedding, EmbeddingGemma, GTE and nomic-embed-text-v2-moe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder

LIMITS = {  # the NOTES', for a float32 runtime: unit vectors, hidden states
    "qwen3-embedding": (2e-6, 2e-5),
    "embeddinggemma": (2e-6, 2e-5),
    "gte-new": (2e-6, 2e-5),
    "nomic-moe": (2e-6, 2e-5),
}


@pytest.mark.parametrize("name", LIMITS)
def test_every_case(isa: str, name: str, golden: Path) -> None:
    encoder = Encoder(golden / name / "model")
    cases = json.loads((golden / name / "cases.json").read_text())["cases"]
    expected = np.load(golden / name / "expected.npz")
    of_vectors, of_states = LIMITS[name]
    ids = [expected[f"ids/{case['id']}"] for case in cases]
    vectors = encoder.encode_ids(ids, normalize_embeddings=True)
    states = encoder.encode_ids(ids, output_value="token_embeddings")
    for case, vector, hidden in zip(cases, vectors, states, strict=True):
        key = case["id"]
        np.testing.assert_allclose(vector, expected[f"emb/{key}"], rtol=0, atol=of_vectors, err_msg=key)
        if case["has_hidden"]:
            np.testing.assert_allclose(hidden, expected[f"hidden/{key}"], rtol=0, atol=of_states, err_msg=key)
        for dim in case["truncate_dims"]:
            [shorter] = encoder.encode_ids([expected[f"ids/{key}"]], truncate_dim=dim, normalize_embeddings=True)
            np.testing.assert_allclose(shorter, expected[f"emb{dim}/{key}"], rtol=0, atol=3 * of_vectors, err_msg=key)


@pytest.mark.parametrize("name", LIMITS)
def test_texts_give_the_expected_ids_and_vectors(name: str, golden: Path) -> None:
    encoder = Encoder(golden / name / "model")
    cases = json.loads((golden / name / "cases.json").read_text())["cases"]
    expected = np.load(golden / name / "expected.npz")
    for case in cases:
        if case["kind"] != "text":
            continue
        key, prompt = case["id"], case.get("prompt_name")
        before = "" if prompt is None else encoder.prompts[prompt]
        [text] = encoder.tokenize([case["text"]], prompt=before, max_length=case.get("max_length"))
        assert text.ids.tolist() == expected[f"ids/{key}"].tolist(), key
        got = encoder.encode(case["text"], prompt=before, max_length=case.get("max_length"), on_truncate="ignore")
        np.testing.assert_allclose(got, expected[f"emb/{key}"], rtol=0, atol=LIMITS[name][0], err_msg=key)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", LIMITS)
def test_a_text_alone_is_the_text_in_any_batch(name: str, dtype: str, golden: Path) -> None:
    """With experts too, whose rows come from all over the batch."""
    encoder = Encoder(golden / name / "model", dtype=dtype)
    cases = json.loads((golden / name / "cases.json").read_text())["cases"]
    expected = np.load(golden / name / "expected.npz")
    ids = [expected[f"ids/{case['id']}"] for case in cases if case["n_tokens"] < 300]
    together = encoder.encode_ids([*ids, *ids[::-1]])
    for place, own in enumerate(ids):
        np.testing.assert_array_equal(encoder.encode_ids([own])[0], together[place])
        np.testing.assert_array_equal(together[place], together[2 * len(ids) - 1 - place])
