"""Routes, keys, bounds, probes, metrics, logs, hang-ups: what operators rely on."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import math
import socket
import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from live_server import Live, golden, serving
from longspan import Encoder
from longspan.serve import ModelSettings, Settings, create_app, models
from longspan.serve.company import Company
from longspan.serve.models import Models, ServedModel

MINILM = ModelSettings(golden("bert-minilm"), served_name="minilm")
TEXT = {"model": "minilm", "input": "a text"}


def test_models_are_listed(live: Live) -> None:
    listed = {model["id"]: model for model in live.get("/v1/models").json["data"]}
    of_text, of_media = {"minilm", "v3", "v5", "code", "v2"}, {"clip", "omni"}
    assert set(listed) == of_text | of_media | {"colbert", "cross", "listwise", "judge", "splade", "doc"}
    assert listed["minilm"]["object"] == "model" and listed["minilm"]["owned_by"] == "longspan"
    assert listed["minilm"]["created"] == live.get("/v1/models").json["data"][0]["created"] > 0
    assert "retrieval.query" in listed["v3"]["tasks"] and "retrieval.passage" in listed["v5"]["tasks"]
    assert "nl2code.query" in listed["code"]["tasks"] and "text-embedding-3-small" in listed["minilm"]["aliases"]
    assert listed["v3"]["fingerprint"] == Encoder(golden("jina-v3")).fingerprint


def test_methods_and_paths(live: Live) -> None:
    for path in ("/health", "/live", "/ready", "/ping", "/"):
        assert (live.get(path).status, live.get(path).body) == (200, b"")
        head = live.ask("HEAD", path)
        assert (head.status, head.body) == (200, b"")
    options = live.ask("OPTIONS", "/v1/embeddings")
    assert (options.status, options.headers["allow"], options.body) == (204, "POST, OPTIONS", b"")
    wrong = live.get("/v1/embeddings")
    assert wrong.status == 405 and wrong.headers["allow"] == "POST, OPTIONS"
    lost = live.post("/v1/v1/embeddings", TEXT)
    assert lost.status == 404 and "/v1/embeddings" in lost.json["error"]["message"]
    for path in ("/v1/embeddings/", "//v1//embeddings", "/v1%2Fembeddings", "/v1/embeddings?api-version=1"):
        assert live.post(path, TEXT).status == 200, path
    assert live.post(f"{live.url}/v1/embeddings", TEXT).status == 200  # as it is sent to a proxy


@pytest.mark.parametrize(
    "header, words",
    [
        ({"content_encoding": "gzip"}, "the body must not be compressed, got content-encoding: gzip; send it as it is"),
        (
            {"content_type": "multipart/form-data; boundary=x"},
            "the body must be a JSON object, got content-type: multip",
        ),
    ],
    ids=["gzip", "a form"],
)
def test_bodies_in_other_codings(live: Live, header: dict[str, str], words: str) -> None:
    answer = live.post("/v1/embeddings", gzip.compress(json.dumps(TEXT).encode()), **header)
    assert answer.status == 415 and answer.json["error"]["message"].startswith(words)
    plain = {"content_encoding": "identity", "content_type": "text/plain"}
    assert live.post("/v1/embeddings", TEXT, **plain).status == 200


def test_a_body_whose_end_is_said_twice(live: Live) -> None:
    """Someone before us may have taken the other of the two for it."""
    header = {"transfer-encoding": "chunked", "content-length": "100"}
    answer = live.ask("POST", "/v1/embeddings", b"0\r\n\r\n", header)
    assert answer.status == 400 and answer.headers["connection"].lower() == "close"


def test_names_of_fields_are_the_clients(live: Live) -> None:
    for field, value in (("encoding_format", "hex"), ("embedding_type", "hex"), ("input_type", 5), ("task", [1, 2])):
        answer = live.post("/v1/embeddings", {**TEXT, field: value})
        assert answer.status == 422 and answer.json["error"]["param"] == field


def test_request_ids(live: Live) -> None:
    assert live.post("/v1/embeddings", TEXT, x_request_id="mine-7").headers["x-request-id"] == "mine-7"
    for bad in ("", "with space", "x" * 200):
        assert live.post("/v1/embeddings", TEXT, x_request_id=bad).headers["x-request-id"] != bad


@pytest.mark.parametrize(
    "body, words",
    [
        (b"", "the body is empty"),
        (b"{", "not usable JSON"),
        (b'{"input": "\xff"}', "not usable JSON"),
        (b"[1]", "must be a JSON object, got a list"),
        (b"null", "got null"),
        (b'{"input": NaN}', "not usable JSON"),
        (b"[" * 100_000, "not usable JSON"),
        (b'{"input":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not usable JSON"),
        (b'{"input": "\\ud83d' + b'", "x":' + b"[" * 100_000, "not usable JSON"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_bodies_that_are_no_json(live: Live, body: bytes, words: str) -> None:
    answer = live.post("/v1/embeddings", body)
    assert answer.status == 400 and words in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "text", ["", " ", "\x00", "a\x00b", "\x1b[0m", "\u2028", "\ufffe", "w" * 1_000_000, "\n" * 1_000_000, "\U0001f600"]
)
def test_odd_texts_are_texts(live: Live, text: str) -> None:
    answer = live.post("/v1/embeddings", {**TEXT, "input": text, "truncate": True})
    assert answer.status == 200 and np.isfinite(answer.json["data"][0]["embedding"]).all()


def test_lone_surrogates_become_replacement_characters(live: Live) -> None:
    answer = live.post(
        "/v1/embeddings", b'{"model": "minilm", "input": ["cut \\ud83d", "\\ude00 here", "\\ud83d\\ude00"]}'
    )
    same = live.post("/v1/embeddings", {"model": "minilm", "input": ["cut \ufffd", "\ufffd here", "\U0001f600"]})
    assert answer.status == 200 and answer.json["data"] == same.json["data"]
    assert answer.headers["x-longspan-replaced-surrogates"] == "2"


def test_bodies_are_bounded(live: Live) -> None:
    size = live.app.settings.max_body_bytes
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=20)
    connection.putrequest("POST", "/v1/embeddings")
    connection.putheader("content-length", str(size + 1))
    connection.endheaders()  # the body is never sent, and the answer comes
    response = connection.getresponse()
    assert response.status == 413 and b"at most" in response.read()
    connection.close()
    text = "a" * (size - 100)
    long = live.post("/v1/embeddings", {**TEXT, "input": text, "truncate": True})
    assert long.status == 400 and "may have 1048576; send it in parts" in long.json["error"]["message"]
    assert live.post("/embed", b"x" * (size + 1)).status == 413


def test_keys() -> None:
    settings = Settings(api_keys=("right", "another"), warm_up=False, log="none")
    with serving(create_app(MINILM, settings)) as live:
        missing = live.post("/v1/embeddings", TEXT)
        assert missing.status == 401 and missing.json["error"]["code"] == "invalid_api_key"
        assert missing.json["code"] == "AUTH_MISSING_API_KEY"
        for value, code in (
            ("Bearer wrong", "AUTH_INVALID_API_KEY"),
            ("Bearer ", "AUTH_INVALID_API_KEY"),
            ("Basic right", "AUTH_INVALID_FORMAT"),
        ):
            assert live.post("/v1/embeddings", TEXT, authorization=value).json["code"] == code
        assert live.post("/embed", {"inputs": "x"}).body == b""
        for value in ("Bearer right", "bearer another", "right"):
            assert live.post("/v1/embeddings", TEXT, authorization=value).status == 200
        assert live.post("/v1/embeddings", TEXT, x_api_key="right").status == 200
        assert [live.get(path).status for path in ("/live", "/ready", "/metrics", "/info")] == [200, 200, 401, 401]


def test_without_keys_any_authorization_will_do(live: Live) -> None:
    for value in ("", "Bearer", "Bearer ", "Bearer EMPTY", "nonsense and more", "Basic dXNlcg=="):
        assert live.post("/v1/embeddings", TEXT, authorization=value).status == 200


def test_pages_of_one_origin() -> None:
    settings = Settings(cors_origins=("https://a.example",), warm_up=False, log="none")
    with serving(create_app(MINILM, settings)) as live:
        mine = live.post("/v1/embeddings", TEXT, origin="https://a.example")
        assert mine.headers["access-control-allow-origin"] == "https://a.example"
        other = live.post("/v1/embeddings", TEXT, origin="https://b.example")
        assert "access-control-allow-origin" not in other.headers


def test_no_page_by_default(live: Live) -> None:
    answer = live.post("/v1/embeddings", TEXT, origin="https://a.example")
    assert not any(name.startswith("access-control") for name in answer.headers)


def leave_to_the_computing_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a lone client's request would otherwise not be, and the event loop would wait for what a test holds up."""
    monkeypatch.setattr("longspan.serve.company.LONELY_AFTER", math.inf)


class Slow:
    """An encoder whose passes wait for `gate`."""

    def __init__(self, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate, self.entered, self.texts = threading.Event(), threading.Event(), 0
        encoder = app.service.models.all[0].encoder
        plain = encoder.encode_ids

        def slow(ids: Sequence[Any], **options: Any) -> Any:
            self.entered.set()
            self.texts += len(ids)
            assert self.gate.wait(30)
            return plain(ids, **options)

        monkeypatch.setattr(encoder, "encode_ids", slow)
        leave_to_the_computing_thread(monkeypatch)


def in_thread(live: Live, answers: list[Any], body: Any, **headers: str) -> threading.Thread:
    thread = threading.Thread(target=lambda: answers.append(live.post("/v1/embeddings", body, **headers)))
    thread.start()
    return thread


def until(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_full_queue_deadlines_and_hang_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(golden("bert-minilm"))
    settings = Settings(max_queue_tokens=400, warm_up=False, log="none")
    with serving(create_app(encoder, settings)) as live:
        scheduler, slow = live.app.service.scheduler, Slow(live.app, monkeypatch)
        answers: list[Any] = []
        threads = [in_thread(live, answers, {"input": "first"})]
        assert slow.entered.wait(20)
        threads.append(in_thread(live, answers, {"input": "a " * 200}))
        until(lambda: scheduler.queued_items == 1)
        full = live.post("/v1/embeddings", {"input": ["b " * 200, "x"]})
        assert full.status == 429 and full.json["error"]["code"] == "rate_limit_exceeded"
        assert int(full.headers["retry-after"]) >= 1 and int(full.headers["retry-after-ms"]) >= 1000
        assert 0 < int(full.headers["x-ratelimit-remaining-tokens"]) < 400
        assert live.post("/embed", {"inputs": "c " * 200}).json["error_type"] == "Overloaded"
        assert scheduler.queued_items == 1  # admitted whole or not at all

        late = in_thread(live, answers, {"input": "late"}, x_request_timeout_ms="30")
        sdk = in_thread(live, answers, {"input": "later"}, x_stainless_read_timeout="0.03")
        until(lambda: scheduler.queued_items == 3)
        for number in range(20):  # clients that hang up
            client = socket.create_connection(("127.0.0.1", live.port))
            body = json.dumps({"input": f"gone {number}"}).encode()
            client.sendall(b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            until(lambda: scheduler.queued_items == 4)
            client.close()
            until(lambda: scheduler.queued_items == 3)
        time.sleep(0.05)
        slow.gate.set()
        for thread in [*threads, late, sdk]:
            thread.join(20)
        assert sorted(answer.status for answer in answers) == [200, 200, 504, 504]
        assert all(answer.headers["x-should-retry"] == "false" for answer in answers if answer.status == 504)
        assert slow.texts == 2 and scheduler.num_jobs == 0
        until(lambda: b'te_request_failure{err="dropped",model="bert-minilm"} 20.0' in live.get("/metrics").body)


def test_equal_texts_in_flight_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(golden("bert-minilm"))
    with serving(create_app(encoder, Settings(warm_up=False, log="none"))) as live:
        slow = Slow(live.app, monkeypatch)
        answers: list[Any] = []
        threads = [in_thread(live, answers, {"input": "first"})]
        assert slow.entered.wait(20)
        threads += [in_thread(live, answers, {"input": ["same", "same"], "dimensions": 3 + i}) for i in range(5)]
        until(lambda: live.app.service.scheduler.num_jobs == 6)
        assert live.app.service.scheduler.queued_items == 1
        slow.gate.set()
        for thread in threads:
            thread.join(20)
        assert [answer.status for answer in answers] == [200] * 6 and slow.texts == 2


def test_a_vector_that_is_not_finite_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(golden("bert-minilm"))
    with serving(create_app(encoder, Settings(warm_up=False, log="none"))) as live:

        def broken(ids: Sequence[Any], **options: Any) -> Any:
            rows = np.ones((len(ids), encoder.dim), np.float32)
            rows[[place for place, each in enumerate(ids) if len(each) == 3]] = np.nan
            return rows

        monkeypatch.setattr(encoder, "encode_ids", broken)
        answer = live.post("/v1/embeddings", {"input": ["a", "two words"]})
        assert answer.status == 500 and "not finite" in answer.json["error"]["message"]
        assert answer.json["error"]["type"] == "server_error" and b"null" not in answer.json["detail"].encode()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_computing_thread_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(golden("bert-minilm"))
    with serving(create_app(encoder, Settings(warm_up=False, log="none"))) as live:

        def dies(ids: Sequence[Any], **options: Any) -> Any:
            raise SystemExit

        monkeypatch.setattr(encoder, "encode_ids", dies)
        leave_to_the_computing_thread(monkeypatch)
        assert live.post("/v1/embeddings", {"input": "a"}).status == 503
        until(lambda: live.get("/ready").status == 503)
        assert "has died" in live.get("/health").json["error"] and live.get("/live").status == 200
        assert live.post("/v1/embeddings", {"input": "a"}).status == 503


def test_a_model_that_cannot_be_loaded_is_not_ready(tmp_path: Any) -> None:
    with serving(create_app(str(tmp_path / "nothing"), Settings(log="none")), is_ready=False) as live:
        until(lambda: live.app.service.state == "failed")
        assert live.get("/live").status == 200
        ready, asked = live.get("/ready"), live.post("/v1/embeddings", {"input": "x"})
        assert ready.status == asked.status == 503 and ready.headers["retry-after"] == "1"
        assert "cannot be loaded" in ready.json["error"]


def test_lazy_loading_and_idle_unloading() -> None:
    settings = Settings(lazy=True, idle_unload=0.2, log="none")
    with serving(create_app([MINILM, ModelSettings(golden("jina-v3"), served_name="v3")], settings)) as live:
        first, second = live.app.service.models.all
        assert not first.is_loaded and not second.is_loaded
        before = live.post("/v1/embeddings", TEXT)
        assert before.status == 200 and first.is_loaded and not second.is_loaded
        until(lambda: not first.is_loaded)
        assert live.post("/v1/embeddings", TEXT).json["data"] == before.json["data"]
        assert [model["loaded"] for model in live.get("/v1/models").json["data"]] == [True, False]


def test_loading_keeps_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, plain = threading.Event(), models.open_model

    def slow(settings: ModelSettings) -> Any:
        assert gate.wait(20)
        return plain(settings)

    monkeypatch.setattr(models, "open_model", slow)
    with serving(create_app(MINILM, Settings(lazy=True, log="none"))) as live:
        answers: list[Any] = []
        threads = [in_thread(live, answers, TEXT) for _ in range(3)]
        for _ in range(10):
            assert live.ask("GET", "/live", timeout=5).status == 200
            assert live.get("/v1/models").json["data"][0]["loaded"] is False
        gate.set()
        for thread in threads:
            thread.join(20)
        assert [answer.status for answer in answers] == [200, 200, 200]


def test_kept_vectors_are_the_same() -> None:
    with serving(create_app(MINILM, Settings(cache_mb=1, warm_up=False, log="none"))) as live:
        answers = [live.post("/v1/embeddings", TEXT) for _ in range(3)]
        assert len({json.dumps(answer.json["data"]) for answer in answers}) == 1
        cache = live.app.service.cache
        assert cache is not None and (cache.hits, cache.misses) == (2, 1)
        assert b"longspan_cache_hits 2.0" in live.get("/metrics").body


def test_token_ids_of_the_model() -> None:
    encoder = Encoder(golden("bert-minilm"))
    with serving(create_app(encoder, Settings(token_ids="model", warm_up=False, log="none"))) as live:
        ids = encoder.tokenize(["a text"])[0].ids.tolist()
        answer = live.post("/v1/embeddings", {"input": ids})
        assert answer.json["data"] == live.post("/v1/embeddings", {"input": "a text"}).json["data"]
        assert live.post("/v1/embeddings", {"input": [ids, ids[:2]]}).status == 200
        beyond = live.post("/v1/embeddings", {"input": [100_000_000]})
        assert beyond.status == 400 and "token id 100000000" in beyond.json["error"]["message"]


def test_any_model_and_truncate_by_default() -> None:
    settings = Settings(any_model=True, truncate=True, warm_up=False, log="none")
    with serving(create_app(MINILM, settings)) as live:
        answer = live.post("/v1/embeddings", {"model": "gpt-embed", "input": "word " * 999})
        assert answer.status == 200 and answer.headers["x-longspan-truncated"] == "1; first=0"
        assert live.post("/v1/embeddings", {"model": "x", "input": "word " * 999, "truncate": False}).status == 400


def test_metrics_have_their_names(live: Live) -> None:
    live.post("/v1/embeddings", {**TEXT, "input": ["a", "b"], "never_heard_of": 1, "user": "u"})
    text = live.get("/metrics").body.decode()
    for name in (
        'te_request_count{method="batch",model="minilm"}',
        'te_request_success{method="single",model="minilm"}',
        'te_embed_count{model="minilm"}',
        'te_request_duration_bucket{le="1.5e-05",model="minilm"}',
        'te_request_queue_duration_count{model="minilm"}',
        'te_embed_inference_duration_sum{model="minilm"}',
        'te_request_input_length_bucket{le="512.0",model="minilm"}',
        "te_batch_next_size_bucket",
        "te_batch_next_tokens_count",
        "te_queue_size 0.0",
        "longspan_queue_tokens 0.0",
        'longspan_ignored_fields_total{field="never_heard_of"}',
        "longspan_build_info{version=",
    ):
        assert name in text, name
    assert "te_request_count_total" not in text and 'field="user"' not in text
    assert text.count("te_request_duration_bucket{") % 36 == 0


def test_a_line_a_request(caplog: pytest.LogCaptureFixture) -> None:
    with serving(create_app(MINILM, Settings(log="json", warm_up=False))) as live:
        with caplog.at_level(logging.INFO, "longspan.serve.access"):
            trace = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
            live.post("/v1/embeddings", {**TEXT, "input": "a secret"}, traceparent=trace, authorization="Bearer hidden")
            lines: list[dict[str, Any]] = []  # probes have theirs

            def is_told() -> bool:
                records = [record for record in caplog.records if record.name == "longspan.serve.access"]
                lines[:] = [line for line in (json.loads(record.message) for record in records) if line["tokens"]]
                return bool(lines)

            until(is_told)
        [line] = lines
        assert line["status"] == 200 and line["model"] == "minilm" and line["items"] == 1 and line["tokens"] > 2
        assert line["trace"] == "ab" * 16
        assert "secret" not in caplog.text and "hidden" not in caplog.text


def test_bad_names() -> None:
    model = ServedModel(MINILM)
    with pytest.raises(ValueError, match="is none of the models"):
        Models([model], {"a": "b"})
    with pytest.raises(ValueError, match="two models are called"):
        Models([model, ServedModel(MINILM)], {})
    with pytest.raises(ValueError, match="at least one"):
        create_app([])


def test_the_name_may_be_left_out_where_one_model_alone_answers() -> None:
    """Of an embedder and a reranker, that is; clients made for a server of one model cannot say which."""
    families = ("bert-minilm", "rerank-bert", "splade-bert", "jina-colbert-v2")
    models = [ModelSettings(golden(family), served_name=family) for family in families]
    texts, asks = ["a", "b"], {"query": "a", "documents": ["a", "b"]}
    with serving(create_app(models[:3], Settings(warm_up=False, log="none"))) as live:
        for path, body, name in (
            ("/v1/embeddings", {"input": texts}, "bert-minilm"),
            ("/embed", {"inputs": texts}, "bert-minilm"),
            ("/embed_all", {"inputs": texts}, "bert-minilm"),
            ("/", {"inputs": texts}, "bert-minilm"),
            ("/similarity", {"inputs": {"source_sentence": "a", "sentences": texts}}, "bert-minilm"),
            ("/tokenize", {"inputs": texts}, "bert-minilm"),
            ("/v2/embed", {"texts": texts, "input_type": "search_query"}, "bert-minilm"),
            ("/v1/rerank", asks, "rerank-bert"),
            ("/rerank", {"query": "a", "texts": texts}, "rerank-bert"),
            ("/v2/rerank", asks, "rerank-bert"),
            ("/embed_sparse", {"inputs": texts}, "splade-bert"),
        ):
            bare, named = live.post(path, body), live.post(path, {**body, "model": name})
            assert bare.status == named.status == 200, path
            answers = [{**each.json, "id": ""} if isinstance(each.json, dict) else each.json for each in (bare, named)]
            assert answers[0] == answers[1], path
        refused = live.post("/v1/multi-vector", {"input": texts})  # none of them
        assert refused.status == 400 and "model is missing; served are" in refused.json["message"]
        wrong = live.post("/v1/embeddings", {"input": texts, "model": "rerank-bert"})
        assert "POST /v1/rerank, or ask another model" in wrong.json["message"]
    with serving(create_app(models[1:], Settings(lazy=True, log="none"))) as live:
        assert live.post("/v1/rerank", asks).status == 400  # both the reranker and ColBERT may be meant
        assert live.post("/v1/multi-vector", {"input": "a"}).status == 400  # not known before they are loaded
        for family in families[1:3]:
            assert live.post("/tokenize", {"inputs": "a", "model": family}).status == 200
        assert live.post("/v1/multi-vector", {"input": "a"}).status == 200


def test_values_in_messages_are_called_as_json_calls_them(live: Live) -> None:
    for value, called in ((None, "null"), (True, "true"), (False, "false"), (2.5, "2.5")):
        refused = live.post("/v1/embeddings", {"model": "minilm", "input": [value]})
        assert refused.status == 422 and refused.json["message"].endswith(f"got {called}")


def test_models_whose_last_parts_are_the_same() -> None:
    """Neither answers to it, and both say their full names."""
    twins = [ServedModel(ModelSettings(f"{owner}/minilm")) for owner in "ab"]
    found = Models([*twins, ServedModel(ModelSettings("c/other"))], {})
    assert [model.short_name for model in found.all] == ["a/minilm", "b/minilm", "other"]
    assert found.names == ["a/minilm", "b/minilm", "c/other", "other"]
    assert found.find("openai/b/minilm").model is twins[1]


def test_vectors_under_load_are_those_of_encode(live: Live) -> None:
    """Requests of many kinds at once; each vector as `encode` gives it alone, bit for bit."""
    encoder, v3 = Encoder(golden("bert-minilm")), Encoder(golden("jina-v3"))
    words = ["birds", "swim", "in", "cold", "water", "and", "stones", "do", "not", "while", "bread", "rises"]
    texts = [" ".join(words[i % 5 : i % 11 + 1]) * (1 + i % 7) for i in range(60)]
    plain = np.asarray(encoder.encode(texts, normalize_embeddings=True))
    short = np.asarray(encoder.encode(texts, normalize_embeddings=True, truncate_dim=7))
    query = np.asarray(v3.encode_query(texts, normalize_embeddings=True))
    wrong: list[int] = []

    def ask(number: int) -> None:
        for turn in range(12):
            part = slice((number + turn) % 40, (number + turn) % 40 + 1 + turn)
            body, truth = (
                ({"model": "minilm"}, plain),
                ({"model": "minilm", "dimensions": 7}, short),
                ({"model": "v3", "task": "retrieval.query"}, query),
            )[(number + turn) % 3]
            answer = live.post("/v1/embeddings", {**body, "input": texts[part]}, x_priority="bulk" if turn % 4 else "")
            found = np.array([item["embedding"] for item in answer.json["data"]], np.float32)
            if not np.array_equal(found, truth[part]):
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_a_lone_client_is_computed_for_where_its_request_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the event loop; with company, and what takes long, on the computing thread. The vectors are the same."""
    encoder = Encoder(golden("bert-minilm"))
    threads: list[str] = []
    plain = encoder.encode_ids

    def noted(ids: Sequence[Any], **options: Any) -> Any:
        threads.append(threading.current_thread().name)
        return plain(ids, **options)

    def asked(is_alone: bool, most: float) -> Any:
        monkeypatch.setattr("longspan.serve.company.LONELY_AFTER", 0.0 if is_alone else math.inf)
        monkeypatch.setattr("longspan.serve.service.HERE_SECONDS", most)
        return live.post("/v1/embeddings", {"input": "a text"}).json["data"]

    with serving(create_app(encoder, Settings(warm_up=False, log="none"))) as live:
        monkeypatch.setattr(encoder, "encode_ids", noted)
        answers = [asked(True, 60.0), asked(True, 60.0), asked(False, 60.0), asked(True, 0.0)]
    assert answers.count(answers[0]) == 4
    # Of the first it is not known how long it takes.
    assert [name == "longspan-compute" for name in threads] == [True, False, True, True]


def test_company(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("longspan.serve.company.time", SimpleNamespace(monotonic=lambda: now[0]))
    company = Company()
    a, b = {"client": ("127.0.0.1", 1)}, {"client": ("127.0.0.1", 2)}

    def comes(scope: Any) -> bool:
        is_alone = company.enter(scope)
        company.leave()
        return is_alone

    assert comes(a)  # nobody was here
    assert comes(a) and comes(a)
    assert not comes(b) and not comes(a) and not comes(a)  # in turns, which may go on
    now[0] += 0.03
    assert comes(a) and comes(a)
    assert company.enter(a) and not company.enter(a)  # two at once, on one connection
    company.leave(), company.leave()
    assert not comes(a)
    now[0] += 0.03
    nobody: dict[str, Any] = {"client": None}  # of a Unix socket, whose clients have no names
    assert comes(nobody) and not comes(nobody)
    now[0] += 0.03
    assert comes(nobody)
