"""`/v1/embeddings` and `/v1/multi-vector`: what Jina's and OpenAI's clients send, and what they read."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest

from live_server import Live, golden
from longspan import Encoder, MultiVectorEncoder
from longspan.vectors.quantize import quantize_embeddings

TEXTS = ["a text about birds", "", "Zwei Sätze. Noch einer!", " ", "x" * 300]


@pytest.fixture(scope="module")
def encoders() -> dict[str, Encoder]:
    families = {"minilm": "bert-minilm", "v3": "jina-v3", "v5": "jina-v5-text-nano", "code": "jina-code"}
    return {name: Encoder(golden(family)) for name, family in families.items()}


def vectors(answer: Any) -> np.ndarray:
    return np.array([item["embedding"] for item in answer.json["data"]], np.float32)


def unit(encoder: Encoder, texts: list[str], **options: Any) -> np.ndarray:
    return np.asarray(encoder.encode(texts, normalize_embeddings=True, **options))


def test_answers_hold_what_encode_gives_bit_for_bit(live: Live, encoders: dict[str, Encoder]) -> None:
    answer = live.post("/v1/embeddings", {"model": "minilm", "input": TEXTS})
    assert answer.status == 200 and list(answer.json) == ["model", "object", "usage", "data"]
    assert [item["index"] for item in answer.json["data"]] == list(range(5))
    assert list(answer.json["data"][0]) == ["object", "index", "embedding"]
    assert np.array_equal(vectors(answer), unit(encoders["minilm"], TEXTS))
    tokens = sum(len(text.ids) for text in encoders["minilm"].tokenize(TEXTS))
    assert answer.json["usage"] == {"total_tokens": tokens, "prompt_tokens": tokens}
    assert answer.headers["x-longspan-fingerprint"] == encoders["minilm"].fingerprint


@pytest.mark.parametrize(
    "given",
    ["one text", {"text": "one text"}, {"type": "text", "text": "one text"}, ["one text"], [{"text": "one text"}]],
    ids=str,
)
def test_forms_of_input(live: Live, encoders: dict[str, Encoder], given: Any) -> None:
    for name in ("input", "content", "texts"):
        answer = live.post("/embeddings/", {"model": "minilm", name: given, "user": None, "dimensions": None})
        assert np.array_equal(vectors(answer), unit(encoders["minilm"], ["one text"]))


def test_dimensions_are_cut_before_the_length(live: Live, encoders: dict[str, Encoder]) -> None:
    dim = encoders["minilm"].dim
    for name in ("dimensions", "output_dimension", "output_dimensionality"):
        answer = live.post("/v1/embeddings", {"model": "minilm", "input": TEXTS, name: 5})
        assert np.array_equal(vectors(answer), unit(encoders["minilm"], TEXTS, truncate_dim=5))
    above = live.post("/v1/embeddings", {"model": "minilm", "input": "x", "dimensions": dim + 1})
    assert above.status == 422 and above.json["errors"][0]["type"] == "less_than_equal"
    assert above.json["errors"][0]["field"] == "body -> dimensions"
    assert live.post("/v1/embeddings", {"model": "minilm", "input": "x", "dimensions": 0}).status == 422
    raw = live.post("/v1/embeddings", {"model": "minilm", "input": TEXTS, "normalized": False})
    assert np.array_equal(vectors(raw), encoders["minilm"].encode(TEXTS, normalize_embeddings=False))


def test_types(live: Live, encoders: dict[str, Encoder]) -> None:
    truth = unit(encoders["minilm"], TEXTS)

    def ask(**options: Any) -> Any:
        return live.post("/v1/embeddings", {"model": "minilm", "input": TEXTS, **options}).json["data"]

    for name in ("embedding_type", "encoding_format", "encoding_type"):
        for value in ("base64", ["base64"]):
            found = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in ask(**{name: value})]
            assert np.array_equal(found, truth)
    for kind in ("binary", "ubinary"):
        found = [item["embedding"] for item in ask(embedding_type=kind)]
        assert np.array_equal(found, quantize_embeddings(truth, kind))  # type: ignore[arg-type]
        assert np.array_equal(found, [item["embedding"] for item in ask(output_dtype=kind)])
    both = ask(output_dtype="ubinary", encoding_format="base64")
    assert np.array_equal(
        [np.frombuffer(base64.b64decode(item["embedding"]), np.uint8) for item in both],
        quantize_embeddings(truth, "ubinary"),
    )
    assert np.array_equal([item["embedding"] for item in ask(output_dtype="int8")], np.rint(truth * 127))
    several = live.post("/v1/embeddings", {"input": "x", "model": "minilm", "embedding_type": ["float", "binary"]})
    assert several.status == 422 and "/v2/embed" in several.json["detail"]
    assert live.post("/v1/embeddings", {"input": "x", "model": "minilm", "embedding_type": "fp4"}).status == 422


def test_bytes_and_npy(live: Live, encoders: dict[str, Encoder]) -> None:
    truth, body = unit(encoders["minilm"], TEXTS), {"model": "minilm", "input": TEXTS}
    raw = live.post("/v1/embeddings", {**body, "encoding_format": "bytes_only"})
    shape = tuple(map(int, raw.headers["x-longspan-shape"].split(",")))
    assert raw.headers["content-type"] == "application/octet-stream" and shape == truth.shape
    assert np.array_equal(np.frombuffer(raw.body, "<f4").reshape(shape), truth)
    half = live.post("/v1/embeddings", {**body, "encoding_format": "bytes_only", "embed_dtype": "float16"})
    assert np.array_equal(np.frombuffer(half.body, "<f2").reshape(shape), truth.astype(np.float16))
    npy = live.post("/v1/embeddings", body, accept="application/x-npy")
    assert np.array_equal(np.load(io.BytesIO(npy.body)), truth)


def test_tasks_of_adapters(live: Live, encoders: dict[str, Encoder]) -> None:
    v3, v5 = encoders["v3"], encoders["v5"]

    def ask(model: str, **options: Any) -> np.ndarray:
        return vectors(live.post("/v1/embeddings", {"model": model, "input": TEXTS, **options}))

    as_query = np.asarray(v3.encode_query(TEXTS, normalize_embeddings=True))
    for options in ({"task": "retrieval.query"}, {"input_type": "query"}, {"task_type": "search_query"}):
        assert np.array_equal(ask("v3", **options), as_query)
    assert np.array_equal(ask("v3-query"), as_query)
    assert np.array_equal(ask("v3:retrieval.query"), as_query)
    assert np.array_equal(ask("v3:query"), as_query)
    passages = np.asarray(v3.encode_document(TEXTS, normalize_embeddings=True))
    assert np.array_equal(ask("v3", task="retrieval.passage"), passages)
    assert np.array_equal(ask("v3"), unit(v3, TEXTS, task="base"))
    assert np.array_equal(ask("v3", task="clustering"), unit(v3, TEXTS, task="separation"))
    assert np.array_equal(ask("v5", task="retrieval.query"), np.asarray(v5.encode_query(TEXTS)))
    assert np.array_equal(ask("v5", task="retrieval.passage"), np.asarray(v5.encode_document(TEXTS)))
    assert np.array_equal(ask("v5"), unit(v5, TEXTS, task="text-matching"))
    unknown = live.post("/v1/embeddings", {"model": "v3", "input": "x", "task": "cooking"})
    assert unknown.status == 400 and "'retrieval.query'" in unknown.json["detail"]["message"]


def test_a_task_an_item(live: Live, encoders: dict[str, Encoder]) -> None:
    tasks = ["retrieval.query", None, "classification"]
    answer = live.post("/v1/embeddings", {"model": "v3", "input": TEXTS[:3], "task": tasks})
    alone = [
        live.post("/v1/embeddings", {"model": "v3", "input": [text], "task": task})
        for text, task in zip(TEXTS[:3], tasks, strict=True)
    ]
    assert np.array_equal(vectors(answer), np.concatenate([vectors(each) for each in alone]))
    wrong = live.post("/v1/embeddings", {"model": "v3", "input": TEXTS[:3], "task": tasks[:2]})
    assert wrong.status == 422 and "one an item" in wrong.json["detail"]


def test_tasks_of_code_models_choose_the_prompt(live: Live, encoders: dict[str, Encoder]) -> None:
    code = encoders["code"]

    def ask(**options: Any) -> np.ndarray:
        return vectors(live.post("/v1/embeddings", {"model": "code", "input": ["def f(): pass"], **options}))

    for base in ("nl2code", "qa", "code2code", "code2nl", "code2completion"):
        for role, name in (("query", "query"), ("passage", "document")):
            truth = unit(code, ["def f(): pass"], prompt_name=f"{base}_{name}")
            assert np.array_equal(ask(task=f"{base}.{role}"), truth)
    assert np.array_equal(ask(), unit(code, ["def f(): pass"], prompt_name="nl2code_query"))
    assert np.array_equal(ask(input_type="document"), unit(code, ["def f(): pass"], prompt_name="nl2code_document"))
    assert live.post("/v1/embeddings", {"model": "code", "input": "x", "task": "nl2code.cook"}).status == 400


def test_models_without_tasks_take_any(live: Live, encoders: dict[str, Encoder]) -> None:
    for task in ("retrieval.query", "separation", "anything"):
        answer = live.post("/v1/embeddings", {"model": "minilm", "input": TEXTS, "task": task})
        assert np.array_equal(vectors(answer), unit(encoders["minilm"], TEXTS))


def test_prompts(live: Live, encoders: dict[str, Encoder]) -> None:
    answer = live.post("/v1/embeddings", {"model": "minilm", "input": TEXTS, "prompt": "note: "})
    assert np.array_equal(vectors(answer), unit(encoders["minilm"], TEXTS, prompt="note: "))
    named = live.post("/v1/embeddings", {"model": "v5", "input": TEXTS, "prompt_name": "query", "task": "retrieval"})
    assert np.array_equal(vectors(named), unit(encoders["v5"], TEXTS, prompt_name="query", task="retrieval"))
    assert live.post("/v1/embeddings", {"model": "minilm", "input": "x", "prompt_name": "nope"}).status == 400


def test_late_chunking(live: Live, encoders: dict[str, Encoder]) -> None:
    chunks = ["Berlin is the capital. ", "The city has many people. ", "It lies on the Spree."]
    document = "".join(chunks)
    ends = np.cumsum([len(chunk) for chunk in chunks])
    spans = [(int(end) - len(chunk), int(end)) for end, chunk in zip(ends, chunks, strict=True)]
    for model in ("minilm", "v3"):
        truth = encoders[model].encode_chunks([document], chunks=[spans], normalize_embeddings=True)[0]
        answer = live.post("/v1/embeddings", {"model": model, "input": chunks, "late_chunking": True})
        assert np.array_equal(vectors(answer), truth.embeddings)
        plain = vectors(live.post("/v1/embeddings", {"model": model, "input": chunks}))
        assert not np.allclose(vectors(answer)[1], plain[1], atol=1e-3)  # it has seen the others
    long = [f"Sentence number {i} of a long document. " for i in range(400)]
    answer = live.post("/v1/embeddings", {"model": "minilm", "input": long, "late_chunking": True})
    spans = [(i0, i0 + len(s)) for i0, s in zip(np.cumsum([0, *map(len, long)])[:-1].tolist(), long, strict=True)]
    truth = encoders["minilm"].encode_chunks(["".join(long)], chunks=[spans], normalize_embeddings=True)[0]
    assert answer.json["usage"]["total_tokens"] > 8 * encoders["minilm"].max_length
    assert np.array_equal(vectors(answer), truth.embeddings)
    empty = live.post("/v1/embeddings", {"model": "minilm", "input": ["a", ""], "late_chunking": True})
    assert empty.status == 400 and "input[1] is empty" in empty.json["error"]["message"]
    assert live.post("/v1/embeddings", {"model": "minilm", "input": ["a", " "], "late_chunking": True}).status in (
        200,
        400,
    )


def test_what_is_too_long_is_told(live: Live, encoders: dict[str, Encoder]) -> None:
    texts = ["short", "long " * 1000, "longer " * 2000]
    limit = encoders["minilm"].max_length
    refused = live.post("/v1/embeddings", {"model": "minilm", "input": texts})
    assert refused.status == 400 and refused.json["detail"]["code"] == "INPUT_TOKEN_LIMIT_EXCEEDED"
    lengths = [len(text.ids) for text in encoders["minilm"].tokenizer.encode(texts, max_length=1 << 20)]
    said = f"input[1] has {lengths[1]} tokens, and the limit is {limit} (and 1 more)"
    assert said in refused.json["error"]["message"]
    for name in ("truncate", "truncation"):
        cut = live.post("/v1/embeddings", {"model": "minilm", "input": texts, name: True})
        assert cut.headers["x-longspan-truncated"] == "2; first=1,2"
        assert np.array_equal(vectors(cut), unit(encoders["minilm"], texts, on_truncate="ignore"))
        assert cut.json["usage"]["total_tokens"] == lengths[0] + 2 * limit
    many = live.post("/v1/embeddings", {"model": "minilm", "input": texts[1:2] * 50, "truncate": True})
    assert many.headers["x-longspan-truncated"] == "50; first=" + ",".join(map(str, range(32)))


def test_token_ids_are_refused_with_advice(live: Live) -> None:
    for ids in ([101, 7592, 102], [[101, 7592, 102], [101, 102]]):
        answer = live.post("/v1/embeddings", {"model": "minilm", "input": ids})
        assert answer.status == 400 and "check_embedding_ctx_length=False" in answer.json["error"]["message"]
    assert live.post("/v1/embeddings", {"model": "minilm", "input": ["a", [1, 2]]}).status == 422


@pytest.mark.parametrize(
    "body, status, words",
    [
        ({"model": "minilm"}, 422, "input is missing"),
        ({"model": "minilm", "input": []}, 422, "must not be empty"),
        ({"model": "minilm", "input": 5}, 422, "must be a string"),
        ({"model": "minilm", "input": [None]}, 422, "input[0]"),
        ({"model": "minilm", "input": [["a"]]}, 422, "input[0]"),
        ({"model": "minilm", "input": [{"image": "http://x.y/z.png"}]}, 400, "no URL is fetched"),
        ({"model": "minilm", "input": [{"image": "aGk="}]}, 400, "reads no images"),
        ({"model": "minilm", "input": "x", "normalized": "yes"}, 422, "normalized must be true or false"),
        ({"model": "minilm", "input": "x", "dimensions": "5"}, 422, "whole number"),
        ({"model": "minilm", "input": ["x"] * 2049}, 400, "at most 2048 items"),
        ({"model": "minilm", "input": "x", "return_multivector": True, "dimensions": 3}, 422, "must be absent"),
        ({"model": "minilm", "input": "x", "return_multivector": True}, 400, "not token vectors"),
        ({"model": "minilm", "input": "x", "return_tokenized_input": True}, 422, "needs return_multivector"),
        ({"model": "colbert", "input": "x"}, 400, "makes token vectors"),
        ({"model": "nope", "input": "x"}, 404, "served are"),
        ({"input": "x"}, 400, "model is missing"),
        ({"model": 7, "input": "x"}, 422, "model must be a string"),
    ],
    ids=str,
)
def test_errors_are_for_every_client(live: Live, body: Any, status: int, words: str) -> None:
    answer = live.post("/v1/embeddings", body)
    assert answer.status == status and words in answer.json["error"]["message"]
    assert list(answer.json["error"]) == ["message", "type", "param", "code"]
    assert answer.json["error"]["type"] == "invalid_request_error" and answer.json["request_id"]
    assert words in str(answer.json["detail"])
    if status == 404:
        assert answer.json["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("name", ["openai/minilm", "jina_ai/minilm", "minilm:latest", "huggingface/minilm:latest"])
def test_names_as_clients_write_them(live: Live, name: str) -> None:
    answer = live.post("/v1/embeddings", {"model": name, "input": "x"})
    assert answer.status == 200 and answer.json["model"] == "minilm"
    assert live.post("/v1/embeddings", {"model": golden("bert-minilm"), "input": "x"}).status == 200
    assert live.post("/v1/embeddings", {"model": "text-embedding-3-small", "input": "x"}).status == 200


def test_multi_vector(live: Live) -> None:
    encoder = MultiVectorEncoder(golden("jina-colbert-v2"))
    texts = ["a query about birds", "another"]
    answer = live.post("/v1/multi-vector", {"model": "colbert", "input": texts, "input_type": "query"})
    truth = encoder.encode_queries(texts)
    for item, matrix in zip(answer.json["data"], truth, strict=True):
        assert item["object"] == "embeddings" and np.array_equal(np.array(item["embeddings"], np.float32), matrix)
    assert answer.json["usage"]["total_tokens"] == 2 * encoder.query_maxlen
    answer = live.post("/v1/multi-vector", {"model": "colbert", "input": texts, "dimensions": 8})
    for item, matrix in zip(answer.json["data"], encoder.encode_documents(texts, dim=8), strict=True):
        assert np.array_equal(np.array(item["embeddings"], np.float32), matrix)
    echoed = live.post(
        "/v1/embeddings",
        {"model": "colbert", "input": texts, "return_multivector": True, "return_tokenized_input": True},
    )
    assert len(echoed.json["data"][0]["tokenized_input"]) > 3
    assert live.post("/v1/multi-vector", {"model": "minilm", "input": texts}).status == 400
    coded = live.post("/v1/multi-vector", {"model": "colbert", "input": texts[0], "embedding_type": "base64"})
    rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in coded.json["data"][0]["embeddings"]]
    assert np.array_equal(rows, encoder.encode_documents(texts[0]))
