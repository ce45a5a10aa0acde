"""Bodies by hypothesis on every route: never an error of ours, never a hang, always an answer that parses.

LONGSPAN_TEST_BODIES=10000 runs as many; the default is for every day. The app is called in this process, without a
socket, so that most of the time goes to the bodies.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import wave
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from live_server import golden
from longspan.serve import ModelSettings, Settings, create_app
from longspan.serve.app import ROUTES, App

BODIES = int(os.environ.get("LONGSPAN_TEST_BODIES", "300"))
POSTS = sorted({route.path for route in ROUTES if route.method == "POST"})
FIELDS = [
    "model",
    "input",
    "content",
    "texts",
    "task",
    "task_type",
    "input_type",
    "dimensions",
    "output_dimension",
    "late_chunking",
    "embedding_type",
    "encoding_format",
    "output_dtype",
    "normalized",
    "normalize",
    "truncate",
    "truncation",
    "return_multivector",
    "return_tokenized_input",
    "prompt_name",
    "prompt",
    "user",
    "inputs",
    "truncation_direction",
    "query",
    "documents",
    "top_n",
    "return_documents",
    "max_doc_length",
    "raw_scores",
    "return_text",
    "ids",
    "skip_special_tokens",
    "add_special_tokens",
    "parameters",
    "options",
    "keep_alive",
    "images",
    "embedding_types",
    "max_tokens",
    "embed_dtype",
    "endianness",
    "name",
]
WORDS = [
    "minilm",
    "colbert",
    "cross",
    "listwise",
    "v3",
    "query",
    "document",
    "search_query",
    "retrieval.query",
    "base64",
    "float",
    "binary",
    "ubinary",
    "int8",
    "bytes_only",
    "Left",
    "Right",
    "NONE",
    "START",
    "END",
    "a",
    "text",
]
TEXTS = st.text(st.characters(codec=None), max_size=40) | st.sampled_from(["", "\ud83d", "\x00", "word " * 400, *WORDS])
SCALARS = st.none() | st.booleans() | st.integers(-3, 3000) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
IDS = st.lists(st.integers(-2, 40_000), max_size=6)


def small_files() -> list[bytes]:
    """An image, a document, a sound."""
    files = []
    if find_spec("PIL"):
        from PIL import Image

        for kind in ("PNG", "PDF"):
            Image.new("RGB", (40, 30), (9, 90, 200)).save(made := io.BytesIO(), kind)
            files.append(made.getvalue())
    with wave.open(made := io.BytesIO(), "wb") as sound:
        sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(16_000)
        sound.writeframes(bytes(4000))
    return [*files, made.getvalue()]


FILES = small_files()


def damaged(which: int, at: int, by: bytes) -> str:
    """A file's base64, a part of it changed."""
    file = FILES[which % len(FILES)]
    at %= len(file)
    return base64.b64encode(file[:at] + by + file[at + len(by) :]).decode()


DATA = TEXTS | st.builds(damaged, st.integers(0, 2), st.integers(0, 1 << 16), st.binary(max_size=6))
# Deferred, as hypothesis spells out strategies, and these stand in many.
PARTS: st.SearchStrategy[dict[str, Any]] = st.deferred(
    lambda: st.fixed_dictionaries(
        {},
        optional={
            "text": TEXTS,
            "image": DATA,
            "pdf": DATA,
            "audio": DATA,
            "video": DATA,
            "page": st.integers(-1, 3),
        },
    )
)
ITEMS: st.SearchStrategy[Any] = st.deferred(
    lambda: (
        TEXTS
        | IDS
        | st.dictionaries(st.sampled_from(["text", "image", "type", "url", "content"]), SCALARS, max_size=3)
        | PARTS
        | st.fixed_dictionaries({"content": st.lists(PARTS | TEXTS, max_size=3)})
    )
)
VALUES = st.recursive(
    SCALARS | st.lists(ITEMS, max_size=4) | st.lists(TEXTS, max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=8,
)
MODELS = [
    "minilm",
    "colbert",
    "cross",
    "listwise",
    "v3",
    "v3:query",
    "openai/minilm",
    "omni",
    "clip",
    "doc",
    "doc:query",
]
# Half of the bodies are nearly right, so that they reach what lies behind the checks.
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(MODELS),
        "input": st.lists(TEXTS, max_size=4) | ITEMS | st.lists(PARTS, max_size=3),
        "inputs": st.lists(TEXTS, max_size=4)
        | ITEMS
        | st.fixed_dictionaries({"source_sentence": TEXTS, "sentences": st.lists(TEXTS, max_size=3)}),
        "texts": st.lists(TEXTS, max_size=4),
        "documents": st.lists(ITEMS, max_size=4),
        "query": TEXTS,
        "prompt": TEXTS,
        "ids": IDS | st.lists(IDS, max_size=3),
        "input_type": st.sampled_from(["query", "document", "search_query", "clustering"]),
        "task": st.sampled_from(["retrieval.query", "text-matching", "nonsense"]),
        "dimensions": st.integers(-1, 70),
        "late_chunking": st.booleans(),
        "truncate": st.booleans() | st.sampled_from(["NONE", "START", "END"]),
        "truncation_direction": st.sampled_from(["Left", "Right"]),
        "embedding_type": st.sampled_from(["float", "base64", "binary", "bytes_only"]),
        "embedding_types": st.lists(st.sampled_from(["float", "int8", "base64"]), max_size=3),
        "return_multivector": st.booleans(),
        "max_doc_length": st.integers(1, 50),
        "max_tokens": st.integers(-1, 50),
        "options": st.fixed_dictionaries({"num_ctx": st.integers(-1, 300)}),
    },
)
BODY = LIKELY | st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6)


class Harness:
    """The app and a loop for it."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(app.service.start())
        self.loop.run_until_complete(self._until_ready())

    async def _until_ready(self) -> None:
        while self.app.service.state == "starting":
            await asyncio.sleep(0.01)
        assert self.app.service.is_ready

    def ask(self, path: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        return self.loop.run_until_complete(asyncio.wait_for(self._ask(path, body), 30))

    async def _ask(self, path: str, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        sent: list[dict[str, Any]] = []
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if waiting:
                return waiting.pop()
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": path, "headers": [(b"content-type", b"application/json")]}
        await self.app(scope, receive, send)
        assert sent[0]["type"] == "http.response.start" and not sent[-1].get("more_body")
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        answer = b"".join(message["body"] for message in sent[1:])
        if "content-length" in headers:
            assert int(headers["content-length"]) == len(answer)
        return sent[0]["status"], answer, headers

    def close(self) -> None:
        self.loop.run_until_complete(self.app.service.stop())
        self.loop.close()


@pytest.fixture(scope="module")
def harness() -> Iterator[Harness]:
    families = {
        "minilm": "bert-minilm",
        "v3": "jina-v3",
        "colbert": "jina-colbert-v2",
        "cross": "rerank-bert",
        "listwise": "rerank-jina-v3",
        "omni": "jina-v5-omni-nano",
        "clip": "jina-clip-v2",
        "doc": "splade-doc",
    }
    models = [ModelSettings(golden(family), served_name=name) for name, family in families.items()]
    made = Harness(create_app(models, Settings(warm_up=False, log="none", token_ids="model")))
    yield made
    made.close()


def check(harness: Harness, path: str, body: bytes) -> None:
    status, answer, headers = harness.ask(path, body)
    assert status < 500 or status == 504, (path, body, answer)
    if answer and headers.get("content-type") == "application/json":
        assert json.loads(answer, parse_constant=pytest.fail) is not None
    assert harness.app.service.scheduler.num_jobs == 0 and harness.app.service.scheduler.queued_tokens == 0


@settings(max_examples=BODIES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=BODIES < 1000)
@given(path=st.sampled_from(POSTS), body=BODY)
def test_bodies_of_fields(harness: Harness, path: str, body: dict[str, Any]) -> None:
    check(harness, path, json.dumps(body).encode())


@settings(max_examples=BODIES // 3, deadline=None, suppress_health_check=list(HealthCheck), derandomize=BODIES < 1000)
@given(path=st.sampled_from(POSTS), body=st.binary(max_size=80) | BODY.map(lambda body: json.dumps(body).encode()[:-1]))
def test_bodies_of_bytes(harness: Harness, path: str, body: bytes) -> None:
    status, _, _ = harness.ask(path, body)
    assert status in (400, 422)
