"""The dialects of text-embeddings-inference, Cohere and Ollama, field by field."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from live_server import Live, golden
from longspan import Encoder
from longspan.sparse_encoder import SparseEncoder

TEXTS = ["a text about birds", "", "Zwei Sätze."]
LONG = "birds swim in the sea and " * 200


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(golden("bert-minilm"))


def unit(encoder: Encoder, texts: list[str], **options: Any) -> np.ndarray:
    return np.asarray(encoder.encode(texts, normalize_embeddings=True, on_truncate="ignore", **options))


@pytest.mark.parametrize("path", ["/embed", "/", "/invocations"])
def test_tei_embed(live: Live, encoder: Encoder, path: str) -> None:
    def ask(**body: Any) -> np.ndarray:
        return np.array(live.post(path, {"model": "minilm", **body}).json, np.float32)

    assert np.array_equal(ask(inputs=TEXTS), unit(encoder, TEXTS))
    assert np.array_equal(ask(inputs=TEXTS[0]), unit(encoder, TEXTS[:1]))
    assert np.array_equal(ask(inputs=TEXTS, dimensions=7), unit(encoder, TEXTS, truncate_dim=7))
    assert np.array_equal(
        ask(inputs=TEXTS, normalize=False), np.asarray(encoder.encode(TEXTS, normalize_embeddings=False))
    )
    ids = [text.ids.tolist() for text in encoder.tokenize(TEXTS)]
    assert np.array_equal(ask(inputs=ids), unit(encoder, TEXTS))
    assert np.array_equal(ask(inputs=ids[0]), unit(encoder, TEXTS[:1]))


def test_tei_truncation(live: Live, encoder: Encoder) -> None:
    cut = live.post("/embed", {"model": "minilm", "inputs": [LONG]})
    assert cut.headers["x-longspan-truncated"] == "1; first=0"
    assert np.array_equal(np.array(cut.json, np.float32), unit(encoder, [LONG]))
    left = live.post("/embed", {"model": "minilm", "inputs": [LONG], "truncation_direction": "Left"})
    ids = encoder.tokenizer.encode([LONG], max_length=1 << 20)[0].ids
    kept = np.concatenate([ids[:1], ids[-encoder.max_length + 1 :]])
    truth = np.asarray(encoder.encode_ids([kept], normalize_embeddings=True))
    assert np.array_equal(np.array(left.json, np.float32), truth)
    refused = live.post("/embed", {"model": "minilm", "inputs": LONG, "truncate": False})
    assert refused.status == 422 and refused.json["error_type"] == "Validation"


def test_tei_embed_all(live: Live, encoder: Encoder) -> None:
    answer = live.post("/embed_all", {"model": "minilm", "inputs": TEXTS}).json
    truth = encoder.encode(TEXTS, output_value="token_embeddings")
    for found, matrix in zip(answer, truth, strict=True):
        assert np.array_equal(np.array(found, np.float32), matrix)


def test_tei_similarity(live: Live, encoder: Encoder) -> None:
    body = {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS}, "parameters": {"truncate": True}}
    answer = live.post("/similarity", {"model": "minilm", **body}).json
    vectors = unit(encoder, TEXTS)
    assert np.allclose(answer, vectors @ vectors[0], atol=1e-6)


def test_tei_tokenize_and_decode(live: Live, encoder: Encoder) -> None:
    [tokens] = live.post("/tokenize", {"model": "minilm", "inputs": "a bird"}).json
    assert tokens[0]["special"] and tokens[0]["start"] is None and tokens[1]["start"] == 0
    ids = [token["id"] for token in tokens]
    assert ids == encoder.tokenize(["a bird"])[0].ids.tolist()
    bare = live.post("/tokenize", {"model": "minilm", "inputs": ["a bird"], "add_special_tokens": False}).json[0]
    assert [token["id"] for token in bare] == ids[1:-1]
    decode = {"model": "minilm", "ids": ids}
    assert live.post("/decode", decode).json == live.post("/decode", {**decode, "ids": [ids]}).json
    assert live.post("/decode", {**decode, "ids": [10**9]}).status == 422
    assert live.post("/decode", {**decode, "ids": "x"}).status == 422


@pytest.mark.parametrize(
    "path, body, status, kind",
    [
        ("/embed", {"inputs": []}, 400, "Empty"),
        ("/embed", {}, 422, "Validation"),
        ("/embed", {"inputs": "x", "model": "nope"}, 404, "Validation"),
        ("/embed", {"inputs": {"a": 1}}, 422, "Validation"),
        ("/embed", {"inputs": "x", "truncation_direction": "up"}, 422, "Validation"),
        ("/embed", {"inputs": "x", "model": "colbert"}, 424, "Backend"),
        ("/predict", {"inputs": "x"}, 424, "Backend"),
        ("/embed_sparse", {"inputs": "x"}, 424, "Backend"),
        ("/similarity", {"inputs": {"source_sentence": "x", "sentences": []}}, 400, "Empty"),
    ],
    ids=str,
)
def test_tei_errors(live: Live, path: str, body: dict[str, Any], status: int, kind: str) -> None:
    answer = live.post(path, {"model": "minilm", **body})
    assert answer.status == status and set(answer.json) == {"error", "error_type"}
    assert answer.json["error_type"] == kind


def test_tei_embed_sparse(live: Live) -> None:
    encoder = SparseEncoder(golden("splade-bert"))
    answer = live.post("/embed_sparse", {"model": "splade", "inputs": TEXTS}).json
    truth = encoder.encode(TEXTS)
    for place, row in enumerate(answer):
        own = truth[place : place + 1]
        assert [entry["index"] for entry in row] == own.indices.tolist()
        assert np.array_equal(np.array([entry["value"] for entry in row], np.float32), own.values)
    assert live.post("/embed_sparse", {"model": "splade", "inputs": LONG}).headers["x-longspan-truncated"]
    assert live.post("/embed_sparse", {"model": "splade", "inputs": LONG, "truncate": False}).status == 422
    assert live.post("/embed", {"model": "splade", "inputs": "x"}).status == 424
    assert live.post("/embed_sparse", {"model": "splade", "inputs": []}).status == 400


def sparse_rows(answer: Any) -> list[dict[int, np.float32]]:
    return [{entry["index"]: np.float32(entry["value"]) for entry in row} for row in answer.json]


def test_tei_embed_sparse_in_every_form(live: Live) -> None:
    encoder = SparseEncoder(golden("splade-bert"))

    def truth(ids: list[Any]) -> list[dict[int, np.float32]]:
        return [{k: np.float32(v) for k, v in row.items()} for row in encoder.encode_ids(ids).to_dicts()]

    ids = [text.ids.tolist() for text in encoder.tokenize(TEXTS)]
    assert sparse_rows(live.post("/embed_sparse", {"model": "splade", "inputs": ids})) == truth(ids)
    assert sparse_rows(live.post("/embed_sparse", {"model": "splade", "inputs": ids[0]})) == truth(ids[:1])
    left = live.post("/embed_sparse", {"model": "splade", "inputs": LONG + "now", "truncation_direction": "Left"})
    whole = encoder.tokenizer.encode([LONG + "now"], max_length=1 << 20)[0].ids
    assert sparse_rows(left) == truth([np.concatenate([whole[:1], whole[-encoder.max_length + 1 :]])])
    assert left.headers["x-longspan-truncated"] == "1; first=0"
    for wrong in ({"inputs": [[10**6]]}, {"inputs": ["x", [1]]}, {"prompt_name": "none"}, {"inputs": [3.5]}):
        assert live.post("/embed_sparse", {"model": "splade", "inputs": "x", **wrong}).status in (400, 422)


def test_static_queries_by_the_model_s_name(live: Live) -> None:
    encoder = SparseEncoder(golden("splade-doc"))
    for name, rows in {
        "doc": encoder.encode(TEXTS),
        "doc:document": encoder.encode_document(TEXTS),
        "doc:query": encoder.encode_query(TEXTS),
    }.items():
        found = sparse_rows(live.post("/embed_sparse", {"model": name, "inputs": TEXTS}))
        assert found == [{k: np.float32(v) for k, v in row.items()} for row in rows.to_dicts()]
    refused = live.post("/embed_sparse", {"model": "doc:query", "inputs": [[1, 2]]})
    assert refused.status == 422 and "queries are texts here" in refused.json["error"]


def test_tei_headers(live: Live) -> None:
    answer = live.post("/embed", {"model": "minilm", "inputs": TEXTS})
    for name in ("total", "tokenization", "queue", "inference", "compute"):
        assert answer.headers[f"x-{name}-time"].isdigit()
    assert answer.headers["x-compute-characters"] == str(sum(map(len, TEXTS)))
    assert int(answer.headers["x-compute-tokens"]) > 6


def test_tei_info(live: Live, encoder: Encoder) -> None:
    info = live.get("/info").json
    assert info["model_sha"] == encoder.fingerprint and info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["max_client_batch_size"] == 2048 and info["dimensions"] == encoder.dim
    scores = {model["id"]: model.get("score") for model in info["models"]}
    assert scores[golden("jina-colbert-v2")] == "maxsim"


def test_cohere_embed(live: Live, encoder: Encoder) -> None:
    types = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    body = {"model": "minilm", "input_type": "search_document", "texts": TEXTS, "embedding_types": types}
    answer = live.post("/v2/embed", body).json
    assert list(answer) == ["id", "embeddings", "texts", "images", "meta", "response_type"]
    assert list(answer["embeddings"]) == types and answer["texts"] == TEXTS
    truth, found = unit(encoder, TEXTS), answer["embeddings"]
    assert np.array_equal(np.array(found["float"], np.float32), truth)
    assert np.array_equal(found["int8"], np.rint(127 * truth))
    assert np.array_equal(found["uint8"], np.rint((truth + 1) * np.float32(127.5)))
    assert np.array_equal(found["ubinary"], np.packbits(truth > 0, axis=1))
    assert np.array_equal([np.frombuffer(base64.b64decode(text), "<f4") for text in found["base64"]], truth)
    plain = live.post("/v2/embed", {"model": "minilm", "input_type": "search_query", "texts": TEXTS}).json
    assert list(plain["embeddings"]) == ["float"]
    content = [{"content": [{"type": "text", "text": text}]} for text in TEXTS]
    again = live.post("/v2/embed", {"model": "minilm", "input_type": "search_query", "inputs": content}).json
    assert again["embeddings"] == plain["embeddings"]


def test_cohere_roles(live: Live) -> None:
    v3 = Encoder(golden("jina-v3"))

    def ask(input_type: str) -> np.ndarray:
        body = {"model": "v3", "input_type": input_type, "texts": TEXTS}
        return np.array(live.post("/v2/embed", body).json["embeddings"]["float"], np.float32)

    assert np.array_equal(ask("search_query"), np.asarray(v3.encode_query(TEXTS, normalize_embeddings=True)))
    assert np.array_equal(ask("search_document"), np.asarray(v3.encode_document(TEXTS, normalize_embeddings=True)))
    assert np.array_equal(ask("clustering"), unit(v3, TEXTS, task="separation"))


def test_cohere_errors(live: Live) -> None:
    good = {"model": "minilm", "input_type": "search_query", "texts": TEXTS}
    for wrong in (
        {"input_type": None},
        {"input_type": "cooking"},
        {"texts": []},
        {"texts": [1]},
        {"images": ["data:image/png;base64,aGk="]},
        {"embedding_types": "float"},
        {"embedding_types": ["fp4"]},
        {"output_dimension": 4096},
        {"texts": [LONG], "truncate": "NONE"},
    ):
        answer = live.post("/v2/embed", {**good, **wrong})
        assert answer.status == 400 and set(answer.json) == {"message", "id"}
    ends = [
        live.post("/v2/embed", {**good, "texts": [LONG, "x"], "truncate": end}).json["embeddings"]["float"]
        for end in ("START", "END")
    ]
    assert ends[0][0] != ends[1][0] and ends[0][1] == ends[1][1]


def test_ollama(live: Live, encoder: Encoder) -> None:
    answer = live.post("/api/embed", {"model": "minilm:latest", "input": TEXTS, "keep_alive": "5m", "options": {}}).json
    assert np.array_equal(np.array(answer["embeddings"], np.float32), unit(encoder, TEXTS))
    assert answer["model"] == "minilm:latest" and answer["total_duration"] > 0 and answer["prompt_eval_count"] > 6
    one = live.post("/api/embed", {"model": "minilm", "input": TEXTS[0], "dimensions": 5}).json
    assert np.array_equal(np.array(one["embeddings"], np.float32), unit(encoder, TEXTS[:1], truncate_dim=5))
    short = live.post("/api/embed", {"model": "minilm", "input": LONG, "options": {"num_ctx": 16}}).json
    assert short["prompt_eval_count"] == 16
    assert live.post("/api/embed", {"model": "minilm"}).json == {"model": "minilm", "embeddings": []}
    old = live.post("/api/embeddings", {"model": "minilm", "prompt": TEXTS[0]}).json
    assert np.array_equal(np.array(old["embedding"], np.float32), unit(encoder, TEXTS[:1])[0])
    for body, status in (
        ({"model": "minilm", "input": 5}, 400),
        ({"model": "nope", "input": "x"}, 404),
        ({"model": "minilm", "input": LONG, "truncate": False}, 400),
    ):
        refused = live.post("/api/embed", body)
        assert refused.status == status and list(refused.json) == ["error"]


def test_ollama_lists(live: Live, encoder: Encoder) -> None:
    names = [model["name"] for model in live.get("/api/tags").json["models"]]
    assert "minilm:latest" in names
    shown = live.post("/api/show", {"model": "minilm"}).json
    assert shown["capabilities"] == ["embedding"] and shown["model_info"]["BERT.embedding_length"] == encoder.dim
    assert live.get("/api/version").json["version"]


def test_a_reranker_is_shown_as_none_that_embeds(live: Live) -> None:
    shown = live.post("/api/show", {"model": "cross"}).json
    assert shown["capabilities"] == [] and "BERT.embedding_length" not in shown["model_info"]
    assert live.post("/api/show", {"model": "minilm"}).json["capabilities"] == ["embedding"]


@pytest.mark.parametrize("name", ["colbert", "cross", "listwise", "splade"])
def test_tokenize_knows_the_prompts_of_every_kind(live: Live, name: str) -> None:
    refused = live.post("/tokenize", {"model": name, "inputs": "a", "prompt_name": "no such"})
    assert refused.status == 422 and "prompt_name must be one of the model's prompts" in refused.json["error"]
    prompts = next(model for model in live.get("/v1/models").json["data"] if model["id"] == name)["prompts"]
    for prompt in prompts:
        body = {"model": name, "inputs": "a"}
        truth = live.post("/tokenize", {**body, "inputs": prompts[prompt] + "a"}).json
        assert live.post("/tokenize", {**body, "prompt_name": prompt}).json == truth


def test_advice_is_in_the_dialects_own_words(live: Live) -> None:
    body = {"model": "minilm", "input_type": "search_query", "texts": ["a", LONG]}
    refused = live.post("/v2/embed", {**body, "truncate": "NONE"})
    assert refused.status == 400 and refused.json["message"].endswith('shorten it, or send truncate: "END"')
    assert live.post("/v2/embed", {**body, "truncate": "END"}).status == 200
