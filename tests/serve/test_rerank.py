"""`/v1/rerank` and its siblings, with a late-interaction model."""

from __future__ import annotations

import numpy as np
import pytest

from live_server import Live, golden
from longspan import MultiVectorEncoder
from longspan.reranker import Reranker

QUERY = "which birds swim"
DOCUMENTS = ["Penguins swim.", "Stones do not.", "", "Penguins swim.", "Ducks swim and fly."]


@pytest.fixture(scope="module")
def scores() -> np.ndarray:
    encoder = MultiVectorEncoder(golden("jina-colbert-v2"))
    return encoder.score([encoder.encode_queries(QUERY)], list(encoder.encode_documents(DOCUMENTS)))[0]


def best_first(scores: np.ndarray) -> list[int]:
    return sorted(range(len(scores)), key=lambda index: (-scores[index], index))


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/rerank/"])
def test_jina(live: Live, scores: np.ndarray, path: str) -> None:
    answer = live.post(path, {"model": "colbert", "query": QUERY, "documents": DOCUMENTS})
    assert list(answer.json) == ["model", "object", "usage", "results"]
    assert [result["index"] for result in answer.json["results"]] == best_first(scores)
    first = answer.json["results"][0]
    assert first["relevance_score"] == round(float(scores[first["index"]]), 8)
    assert first["document"] == {"text": DOCUMENTS[first["index"]]}
    assert answer.json["usage"]["total_tokens"] > 32


def test_jina_options(live: Live, scores: np.ndarray) -> None:
    documents = [{"text": text, "id": place} for place, text in enumerate(DOCUMENTS)]
    body = {"model": "colbert", "query": {"text": QUERY}, "documents": documents}
    top = live.post("/v1/rerank", {**body, "top_n": 2}).json["results"]
    assert [result["document"]["id"] for result in top] == best_first(scores)[:2]
    bare = live.post("/v1/rerank", {**body, "top_k": 99, "return_documents": False}).json["results"]
    assert len(bare) == 5 and "document" not in bare[0]
    cut = live.post("/v1/rerank", {**body, "documents": ["word " * 99], "max_doc_length": 20})
    assert cut.headers["x-longspan-truncated"] == "1; first=0"
    refused = live.post("/v1/rerank", {**body, "documents": ["word " * 99], "max_doc_length": 20, "truncate": False})
    assert refused.status == 400
    for wrong in ({"top_n": 0}, {"documents": []}, {"documents": "x"}, {"query": None}, {"max_doc_length": 9000}):
        assert live.post("/v1/rerank", {**body, **wrong}).status == 422
    assert live.post("/v1/rerank", {**body, "model": "minilm"}).status == 400


@pytest.mark.parametrize("name, family", [("cross", "rerank-bert"), ("listwise", "rerank-jina-v3")])
def test_cross_encoders(live: Live, name: str, family: str) -> None:
    reranker = Reranker(golden(family))
    truth = reranker.rank(QUERY, DOCUMENTS)
    body = {"model": name, "query": QUERY}
    jina = live.post("/v1/rerank", {**body, "documents": DOCUMENTS}).json["results"]
    assert [result["index"] for result in jina] == [each["corpus_id"] for each in truth]
    assert [result["relevance_score"] for result in jina] == [round(each["score"], 8) for each in truth]
    raw = live.post("/rerank", {**body, "texts": DOCUMENTS, "raw_scores": True}).json
    logits = reranker.rank(QUERY, DOCUMENTS, activation_fn="identity")
    assert [np.float32(each["score"]) for each in raw] == [np.float32(each["score"]) for each in logits]
    cohere = live.post("/v2/rerank", {**body, "documents": DOCUMENTS, "top_n": 2}).json["results"]
    assert [result["index"] for result in cohere] == [each["corpus_id"] for each in truth[:2]]
    cut = live.post("/v1/rerank", {**body, "documents": ["word " * 99, "x"], "max_doc_length": 20})
    assert cut.status == 200 and cut.headers["x-longspan-truncated"] == "1; first=0"
    refused = live.post("/v1/rerank", {**body, "documents": ["word " * 9999], "truncate": False})
    assert refused.status == 400 and refused.json["detail"]["code"] == "INPUT_TOKEN_LIMIT_EXCEEDED"
    assert live.post("/v1/embeddings", {"model": name, "input": "x"}).status == 400


@pytest.mark.parametrize("name, family", [("cross", "rerank-bert"), ("judge", "rerank-qwen3")])
def test_a_document_keeps_as_many_tokens_as_asked_for(live: Live, name: str, family: str) -> None:
    """Beside the query, and the prompt of a model that has one, which takes more tokens than most limits leave."""
    reranker = Reranker(golden(family))
    long, limit = "word " * 99, 20
    kept = limit + (name == "judge")  # the blank that ends its prompt becomes the first word's
    ids = reranker.tokenizer.bare_ids([" " + long if name == "judge" else long])[0][:kept]
    cut = reranker.tokenizer.backend.decode(ids.tolist()).strip()
    answer = live.post("/v1/rerank", {"model": name, "query": QUERY, "documents": [long], "max_doc_length": limit})
    assert answer.status == 200 and answer.headers["x-longspan-truncated"] == "1; first=0"
    [result], [entry] = answer.json["results"], reranker.rank(QUERY, [cut])
    assert result["relevance_score"] == pytest.approx(entry["score"], abs=1e-6)
    assert answer.json["usage"]["total_tokens"] == reranker.beside_document(QUERY) + limit


def test_the_vectors_that_documents_were_scored_by(live: Live) -> None:
    body = {"query": QUERY, "documents": DOCUMENTS, "return_embeddings": True}
    truth = Reranker(golden("rerank-jina-v3")).rank(QUERY, DOCUMENTS, return_embeddings=True)
    results = live.post("/v1/rerank", {**body, "model": "listwise"}).json["results"]
    assert list(results[0]) == ["index", "relevance_score", "document", "embedding"]
    for result, entry in zip(results, truth, strict=True):
        assert result["index"] == entry["corpus_id"]
        assert np.array_equal(np.array(result["embedding"], np.float32), entry["embedding"])
    bare = live.post("/v1/rerank", {**body, "model": "listwise", "return_embeddings": False, "top_n": 1}).json[
        "results"
    ]
    assert list(bare[0]) == ["index", "relevance_score", "document"]
    for name, words in (("cross", "makes no vector of a document"), ("colbert", "/v1/multi-vector")):
        refused = live.post("/v1/rerank", {**body, "model": name})
        assert refused.status == 400 and words in refused.json["error"]["message"]
        assert refused.json["error"]["param"] == "return_embeddings"


def test_tei_cuts_at_either_end(live: Live) -> None:
    texts = ["word " * 9999 + "birds", "x"]
    body = {"model": "cross", "query": QUERY, "texts": texts, "raw_scores": True}
    reranker = Reranker(golden("rerank-bert"))
    for direction, side in (("Left", "left"), ("Right", "right")):
        answer = live.post("/rerank", {**body, "truncation_direction": direction}).json
        options = {"activation_fn": "identity", "on_truncate": "ignore", "truncation_side": side}
        truth = reranker.rank(QUERY, texts, **options)  # type: ignore[arg-type]
        found = [(each["index"], np.float32(each["score"])) for each in answer]
        assert found == [(each["corpus_id"], np.float32(each["score"])) for each in truth]
    for name in ("listwise", "colbert"):
        refused = live.post("/rerank", {**body, "model": name, "texts": ["x"], "truncation_direction": "Left"})
        assert refused.status == 422 and "at their end alone" in refused.json["error"]


def test_tei(live: Live, scores: np.ndarray) -> None:
    body = {"model": "colbert", "query": QUERY, "texts": DOCUMENTS}
    raw = live.post("/rerank", {**body, "raw_scores": True}).json
    assert [(each["index"], np.float32(each["score"])) for each in raw] == [(i, scores[i]) for i in best_first(scores)]
    mean = live.post("/rerank", {**body, "return_text": True}).json
    assert mean[0]["text"] == DOCUMENTS[mean[0]["index"]] and 0 < mean[0]["score"] <= 1
    refused = live.post("/rerank", {**body, "model": "minilm"})
    assert refused.status == 424 and refused.json["error_type"] == "Backend"


def test_cohere(live: Live, scores: np.ndarray) -> None:
    body = {"model": "colbert", "query": QUERY, "documents": DOCUMENTS, "top_n": 3}
    answer = live.post("/v2/rerank", body).json
    assert [result["index"] for result in answer["results"]] == best_first(scores)[:3] and answer["id"]
    assert live.post("/v2/rerank", {**body, "documents": [{"text": "a"}]}).status == 200
    refused = live.post("/v2/rerank", {**body, "documents": []})
    assert refused.status == 400 and set(refused.json) == {"message", "id"}


def test_tei_and_cohere_answer_between_0_and_1_whatever_the_models_own_activation_is(live: Live) -> None:
    reranker = Reranker(golden("rerank-bert"))
    assert reranker.default_activation == "identity", "else nothing is shown"
    truth = reranker.rank(QUERY, DOCUMENTS, activation_fn="sigmoid")
    body = {"model": "cross", "query": QUERY}
    for answer, name in (
        (live.post("/rerank", {**body, "texts": DOCUMENTS}).json, "score"),
        (live.post("/v2/rerank", {**body, "documents": DOCUMENTS}).json["results"], "relevance_score"),
    ):
        found = [(each["index"], np.float32(each[name])) for each in answer]
        assert found == [(each["corpus_id"], np.float32(each["score"])) for each in truth]
    jina = live.post("/v1/rerank", {**body, "documents": DOCUMENTS}).json["results"]
    assert jina[0]["relevance_score"] == round(reranker.rank(QUERY, DOCUMENTS)[0]["score"], 8)


@pytest.mark.parametrize("name", ["cross", "listwise", "colbert"])
def test_a_query_that_is_cut_is_told(live: Live, name: str) -> None:
    body = {"model": name, "query": "word " * 2000, "documents": ["birds", "x"]}
    answer = live.post("/v1/rerank", body)
    assert answer.status == 200 and answer.headers["x-longspan-truncated"].partition("; ")[2].startswith("first=query")
    most = {"cross": 2 * 512, "listwise": 512 + 12, "colbert": 32 + 12}[name]  # tokens that the model reads
    assert most / 2 < answer.json["usage"]["total_tokens"] <= most
    texts = body.pop("documents")
    for path, field, status in (("/v1/rerank", "documents", 400), ("/rerank", "texts", 422)):
        refused = live.post(path, {**body, field: texts, "truncate": False})
        assert refused.status == status and "query has " in str(refused.json)
        assert "shorten it, or send truncate: true" in str(refused.json)
    short = live.post("/v1/rerank", {**body, "documents": texts, "query": "birds", "truncate": False})
    assert short.status == 200 and "x-longspan-truncated" not in short.headers


def test_the_tokens_of_a_listwise_ranking_are_the_querys_too(live: Live) -> None:
    reranker = Reranker(golden("rerank-jina-v3"))
    counts = [len(ids) for ids in reranker.tokenizer.bare_ids([QUERY, *DOCUMENTS])]
    answer = live.post("/v1/rerank", {"model": "listwise", "query": QUERY, "documents": DOCUMENTS})
    assert answer.json["usage"]["total_tokens"] == sum(counts) == int(answer.headers["x-compute-tokens"])


def test_documents_without_a_text_are_named(live: Live) -> None:
    for path, status in (("/v1/rerank", 422), ("/v2/rerank", 400)):
        refused = live.post(path, {"model": "cross", "query": QUERY, "documents": ["a", {"id": 1}]})
        assert refused.status == status
        assert refused.json["message"] == "documents[1] must be a string, or an object with text, got {'id': 1}"
