"""Every case of the encoders' goldens: tiny published-layout checkpoints, independent outputs in float64."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder
from longspan.checkpoint.checkpoint import Checkpoint
from longspan.models import FAMILIES

HIDDEN_LIMIT, POOLED_LIMIT = 1e-4, 5e-6  # the golden README's, for a float32 runtime
NAMES = {
    "bert-minilm": "BERT",
    "xlmr-absolute": "RoBERTa",
    "jina-v1-t5": "T5",
    "jina-v2-en": "JinaBERT",
    "jina-v2-de": "JinaBERT",
    "jina-v2-code": "JinaBERT (variant B)",
    "jina-v3": "XLM-RoBERTa with RoPE",
    "modernbert": "ModernBERT",
    "nomic-bert": "NomicBERT",
    "mpnet": "MPNet",
    "distilbert": "DistilBERT",
    "t5-gated": "T5",
}

IDS_ALONE = ("mpnet", "distilbert", "t5-gated")  # no case has texts


def load(folder: Path) -> tuple[list[dict], dict[str, np.ndarray]]:
    """The cases and the expected arrays of a golden folder; of jina-v3's arrays those without a task."""
    cases = json.loads((folder / "cases.json").read_text())["cases"]
    expected = dict(np.load(folder / "expected.npz"))
    for case in cases if folder.name == "jina-v3" else ():
        name = case["name"]
        expected[f"{name}/hidden"] = expected[f"{name}/hidden/none"]
        expected[f"{name}/pooled"] = expected[f"{name}/pooled_by_task"][0]
        expected[f"{name}/pooled_l2"] = expected[f"{name}/pooled_l2_by_task"][0]
    return cases, expected


def real_ids(case: dict) -> list[list[int]]:
    """The case's ids without its padding."""
    pairs = zip(case["input_ids"], case["attention_mask"])
    return [[token for token, real in zip(ids, mask) if real] for ids, mask in pairs]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of unit length."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("family", NAMES)
def test_every_case(isa: str, family: str, golden: Path) -> None:
    encoder = Encoder(golden / family)
    cases, expected = load(golden / family)
    assert encoder.spec.family == NAMES[family]
    for case in cases:
        name, ids = case["name"], real_ids(case)
        truth, truth_l2 = expected[f"{name}/pooled"], expected[f"{name}/pooled_l2"]
        if encoder.pooling == "cls":
            truth = expected[f"{name}/cls"]
            truth_l2 = unit(truth)
        pooled = encoder.encode_ids(ids, normalize_embeddings=True)
        np.testing.assert_allclose(pooled, truth_l2, rtol=0, atol=POOLED_LIMIT, err_msg=name)
        raw = encoder.encode_ids(ids, normalize_embeddings=False)
        np.testing.assert_allclose(raw, truth, rtol=0, atol=HIDDEN_LIMIT, err_msg=name)
        for row, states in enumerate(encoder.encode_ids(ids, output_value="token_embeddings")):
            truth = expected[f"{name}/hidden"][row]
            shown = states[case.get("hidden_rows", slice(None))]
            np.testing.assert_allclose(shown, truth[: len(shown)], rtol=0, atol=HIDDEN_LIMIT, err_msg=name)


@pytest.mark.parametrize("family", [name for name in NAMES if name not in IDS_ALONE])
def test_texts_give_the_expected_ids_and_vectors(family: str, golden: Path) -> None:
    encoder = Encoder(golden / family)
    cases, expected = load(golden / family)
    for case in cases:
        if case["texts"] is None:
            continue
        limit = case["max_length"] or encoder.spec.max_tokens
        assert [text.ids.tolist() for text in encoder.tokenize(case["texts"], max_length=limit)] == real_ids(case)
        got = encoder.encode(case["texts"], max_length=limit, on_truncate="ignore", normalize_embeddings=True)
        name = case["name"]
        truth = unit(expected[f"{name}/cls"]) if encoder.pooling == "cls" else expected[f"{name}/pooled_l2"]
        np.testing.assert_allclose(got, truth, rtol=0, atol=POOLED_LIMIT)


def test_every_checkpoint_belongs_to_one_family_alone(golden: Path) -> None:
    for config in golden.glob("**/config.json"):
        if (config.parent / "tokenizer.json").exists() and "model_type" in json.loads(config.read_text("utf-8")):
            checkpoint = Checkpoint.open(config.parent)
            matching = [family.name for family in FAMILIES if family.matches(checkpoint)]
            assert len(matching) == 1, (config, matching)


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
