"""Every case of the rerankers' goldens: tiny published-layout checkpoints, independent outputs in float64."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from longspan import Reranker
from longspan.reranking.formats import Cut
from longspan.reranking.request import Request
from longspan.reranking.scorer import PairScorer
from longspan.text.pairs import PairRow

# The NOTES' limits for a float32 runtime: logits, scores.
LIMITS = {
    "rerank-bert": (1e-4, 1e-4),
    "rerank-xlmr": (1e-4, 1e-5),
    "rerank-modernbert": (3e-4, 1e-5),
    "rerank-gte": (1e-4, 1e-5),
    "rerank-jina-v1": (1e-4, 1e-5),
    "rerank-jina-v2": (1e-4, 1e-5),
    "rerank-qwen3": (1e-4, 1e-5),
    "rerank-mxbai": (1e-4, 1e-4),
}
PLAIN = Request("predict", "", -1, None, None)


def load(folder: Path) -> tuple[list[dict], dict[str, np.ndarray]]:
    """The cases, and the expected arrays by name."""
    return json.loads((folder / "cases.json").read_text())["cases"], dict(np.load(folder / "expected.npz"))


def logits_of_rows(reranker: Reranker, rows: list[PairRow]) -> np.ndarray:
    """(rows, labels) of ids that are given."""
    scorer = reranker._scorer
    assert isinstance(scorer, PairScorer)
    return scorer._row_logits(rows, PLAIN)


@pytest.mark.parametrize("name", LIMITS)
def test_every_case(isa: str, name: str, golden: Path) -> None:
    reranker = Reranker(golden / name / "model")
    cases, expected = load(golden / name)
    of_logits, of_scores = LIMITS[name]
    for case in cases:
        key = case["id"]
        if case["kind"] == "rerank":
            continue
        if case["kind"] == "ids":
            rows = [
                PairRow(expected[f"ids/{key}/{place}"].astype(np.int32), expected.get(f"types/{key}/{place}"))
                for place in range(len(case["lengths"]))
            ]
            got = logits_of_rows(reranker, rows)
            np.testing.assert_allclose(got, expected[f"logits/{key}"], rtol=0, atol=of_logits, err_msg=key)
            continue
        query, documents = case["query"], case["documents"]
        options = {
            "max_length": case["max_length"],
            "prompt": case.get("instruction") or "",
            "on_truncate": "ignore",
        }
        pairs = [(query, document) for document in documents]
        logits = reranker.predict(pairs, activation_fn="identity", **options)
        np.testing.assert_allclose(logits, expected[f"logits/{key}"][:, 0], rtol=0, atol=of_logits, err_msg=key)
        scores = reranker.predict(pairs, **options)
        np.testing.assert_allclose(scores, expected[f"scores/{key}"], rtol=0, atol=of_scores, err_msg=key)
        ranking = reranker.rank(query, documents, **options)
        assert [entry["corpus_id"] for entry in ranking] == expected[f"rank/{key}"].tolist(), key


@pytest.mark.parametrize("name", LIMITS)
def test_texts_give_the_expected_rows(name: str, golden: Path) -> None:
    reranker = Reranker(golden / name / "model")
    cases, expected = load(golden / name)
    scorer = reranker._scorer
    assert isinstance(scorer, PairScorer)
    for case in cases:
        if case["kind"] != "text":
            continue
        key, limit = case["id"], case["max_length"] or reranker.max_length
        pairs = [(case["query"], document) for document in case["documents"]]
        for place, row in enumerate(scorer._format.rows(pairs, Cut(limit), case.get("instruction"))):
            assert row.ids.tolist() == expected[f"ids/{key}/{place}"].tolist(), (key, place)
            types = expected.get(f"types/{key}/{place}")
            assert types is None or (row.types is not None and row.types.tolist() == types.tolist()), (key, place)


def test_windows_as_jina_reranker_v2_makes_them(isa: str, golden: Path) -> None:
    folder = golden / "rerank-jina-v2"
    reranker = Reranker(folder / "model")
    cases, expected = load(folder)
    case = next(case for case in cases if case["kind"] == "rerank")
    ranking = reranker.rank(
        case["query"],
        case["documents"],
        long_documents="windows",
        max_length=case["max_length"],
        max_query_length=case["max_query_length"],
        overlap_tokens=case["overlap_tokens"],
    )
    assert [entry["corpus_id"] for entry in ranking] == expected["rank/rerank"].tolist()
    for entry in ranking:
        assert abs(entry["score"] - expected["scores/rerank"][entry["corpus_id"]]) < 1e-5


def test_lists_as_jina_reranker_v3_scores_them(isa: str, golden: Path) -> None:
    folder = golden / "rerank-jina-v3"
    reranker = Reranker(folder / "model")
    scorer = reranker._scorer
    cases, expected = load(folder)
    for case in cases:
        key = case["id"]
        options = {"prompt": case["instruction"] or "", "on_truncate": "ignore"}
        if case["kind"] == "rerank":
            options |= {"max_length": case["max_doc_length"], "max_query_length": case["max_query_length"]}
        scorer._max_length = case.get("model_max_length", 1 << 20)  # a block of the golden has all in one sequence
        ranking = reranker.rank(case["query"], case["documents"], return_embeddings=True, **options)
        assert [entry["corpus_id"] for entry in ranking] == expected[f"rank/{key}"].tolist(), key
        for entry in ranking:
            assert abs(entry["score"] - expected[f"scores/{key}"][entry["corpus_id"]]) < 1e-5, key
            if case["kind"] == "block":
                vector = expected[f"doc_embeddings/{key}"][entry["corpus_id"]]
                np.testing.assert_allclose(entry["embedding"], vector, rtol=0, atol=1e-4 * np.abs(vector).max())


def test_qwen3_as_a_sequence_classifier(isa: str, golden: Path) -> None:
    folder = golden / "rerank-qwen3"
    reranker = Reranker(folder / "model-seq-cls")
    cases, expected = load(folder)
    for case in cases:
        pairs = [(case["query"], document) for document in case["documents"]]
        options = {"max_length": case["max_length"], "prompt": case["instruction"] or "", "on_truncate": "ignore"}
        got = reranker.predict(pairs, activation_fn="identity", **options)
        truth = expected[f"logits_seq_cls/{case['id']}"]
        np.testing.assert_allclose(got, truth.ravel(), rtol=0, atol=1e-4, err_msg=case["id"])


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", [*LIMITS, "rerank-jina-v3"])
def test_other_compute_types_rank_alike(name: str, dtype: str, golden: Path) -> None:
    """Random weights have no margins to speak of, so the bound is on the logits' spread, not on their order."""
    folder = golden / name
    reranker = Reranker(folder / "model", dtype=dtype)
    cases, _ = load(folder)
    case = next(case for case in cases if case["kind"] in ("text", "block") and len(case["documents"]) > 3)
    pairs = [(case["query"], document) for document in case["documents"]]
    exact = Reranker(folder / "model").predict(pairs, activation_fn="identity", on_truncate="ignore")
    got = reranker.predict(pairs, activation_fn="identity", on_truncate="ignore")
    assert np.abs(got - exact).max() <= 0.35 * (exact.max() - exact.min())
