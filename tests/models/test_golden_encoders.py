"""Every case of the plain encoders' goldens: tiny published-layout checkpoints, outputs of transformers in float64."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder

FAMILIES = ("bert-minilm", "xlmr-absolute")
HIDDEN_LIMIT, POOLED_LIMIT = 1e-4, 5e-6  # the golden README's, for a float32 runtime


def load(folder: Path) -> tuple[list[dict], dict[str, np.ndarray]]:
    """The cases and the expected arrays of a golden folder."""
    cases = json.loads((folder / "cases.json").read_text())["cases"]
    return cases, dict(np.load(folder / "expected.npz"))


def real_ids(case: dict) -> list[list[int]]:
    """The case's ids without its padding."""
    pairs = zip(case["input_ids"], case["attention_mask"])
    return [[token for token, real in zip(ids, mask) if real] for ids, mask in pairs]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_case(isa: str, family: str, golden: Path) -> None:
    encoder = Encoder(golden / family)
    cases, expected = load(golden / family)
    for case in cases:
        name, ids = case["name"], real_ids(case)
        pooled = encoder.encode_ids(ids)
        np.testing.assert_allclose(pooled, expected[f"{name}/pooled_l2"], rtol=0, atol=POOLED_LIMIT, err_msg=name)
        raw = encoder.encode_ids(ids, normalize_embeddings=False)
        np.testing.assert_allclose(raw, expected[f"{name}/pooled"], rtol=0, atol=HIDDEN_LIMIT, err_msg=name)
        for row, states in enumerate(encoder.encode_ids(ids, output_value="token_embeddings")):
            truth = expected[f"{name}/hidden"][row]
            shown = states[case.get("hidden_rows", slice(None))]
            np.testing.assert_allclose(shown, truth[: len(shown)], rtol=0, atol=HIDDEN_LIMIT, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_give_the_expected_ids_and_vectors(family: str, golden: Path) -> None:
    encoder = Encoder(golden / family)
    cases, expected = load(golden / family)
    for case in cases:
        if case["texts"] is None:
            continue
        limit = case["max_length"] or encoder.spec.max_tokens
        assert [text.ids.tolist() for text in encoder.tokenize(case["texts"], max_length=limit)] == real_ids(case)
        got = encoder.encode(case["texts"], max_length=limit, on_truncate="ignore")
        np.testing.assert_allclose(got, expected[f"{case['name']}/pooled_l2"], rtol=0, atol=POOLED_LIMIT)


def test_real_minilm(isa: str, minilm_path: Path, golden: Path) -> None:
    encoder = Encoder(minilm_path)
    cases = json.loads((golden / "minilm" / "cases.json").read_text())["cases"]
    expected = np.load(golden / "minilm" / "expected.npz")
    texts = [case["text"] for case in cases]
    assert encoder.max_length == 256  # sentence_bert_config.json's, not tokenizer.json's 128
    assert [text.ids.tolist() for text in encoder.tokenize(texts)] == [case["ids"] for case in cases]
    got = encoder.encode(texts, on_truncate="ignore")
    np.testing.assert_allclose(got, expected["emb_f64"], rtol=0, atol=2e-6)
    for key in expected.files:
        if key.startswith("tok_") and key != "tok_cases":
            states = encoder.encode(texts[int(key[4:])], output_value="token_embeddings", on_truncate="ignore")
            np.testing.assert_allclose(states, expected[key], rtol=0, atol=1e-4)
