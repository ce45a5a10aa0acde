"""Real clients, unmodified, against a live server. Each is skipped where it is not installed.

`make test-clients` brings them all in an environment of its own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from live_server import Live, golden, serving
from longspan import Encoder, MultiVectorEncoder
from longspan.serve import ModelSettings, Settings, create_app

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' own
TEXTS = ["birds swim in cold water", "stones do not", "a text " * 30]


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Clients that cannot be closed leave sockets to the collector: here, not in whichever test comes later."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def served() -> Iterator[Live]:
    """A server with a key, and names that clients expect."""
    models = [
        ModelSettings(golden("bert-minilm"), served_name="minilm"),
        ModelSettings(golden("jina-v3"), served_name="v3"),
        ModelSettings(golden("jina-colbert-v2"), served_name="colbert"),
    ]
    settings = Settings(
        aliases={"text-embedding-3-small": "minilm", "rerank-v3.5": "colbert"}, api_keys=("key",), log="none"
    )
    with serving(create_app(models, settings)) as running:
        yield running


@pytest.fixture(scope="module")
def single() -> Iterator[Live]:
    """A server of one model, for clients that name none; token ids are taken as its own."""
    model = ModelSettings(golden("bert-minilm"), served_name="minilm")
    with serving(create_app(model, Settings(log="none", token_ids="model"))) as running:
        yield running


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.asarray(Encoder(golden("bert-minilm")).encode(TEXTS, normalize_embeddings=True))


def same(found: Any, truth: np.ndarray) -> bool:
    return np.array_equal(np.asarray(found, np.float32), truth)


def test_openai(served: Live, truth: np.ndarray) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="key")
    for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        answer = client.embeddings.create(model="minilm", input=TEXTS, **options)
        rows = [item.embedding for item in answer.data]
        if options.get("encoding_format") == "base64":
            import base64

            rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in rows]
        assert same(rows, truth) and answer.usage.prompt_tokens == answer.usage.total_tokens > 10
    short = client.embeddings.create(model="text-embedding-3-small", input=TEXTS[0], dimensions=8)
    assert len(short.data[0].embedding) == 8
    assert "minilm" in [model.id for model in client.models.list()]
    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="nope", input="x")
    assert missing.value.code == "model_not_found" and "served are" in missing.value.message
    with pytest.raises(openai.BadRequestError, match="shorten it"):
        client.embeddings.create(model="minilm", input="word " * 999)
    with pytest.raises(openai.UnprocessableEntityError):
        client.embeddings.create(model="minilm", input=[])
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="wrong").embeddings.create(model="minilm", input="x")


def test_openai_async(served: Live, truth: np.ndarray) -> None:
    openai = pytest.importorskip("openai")

    async def ask() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="key") as client:
            calls = [client.embeddings.create(model="minilm", input=TEXTS) for _ in range(20)]
            return await asyncio.gather(*calls)

    for answer in asyncio.run(ask()):
        assert same([item.embedding for item in answer.data], truth)


def test_langchain_openai(served: Live, single: Live, truth: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    module, tiktoken = pytest.importorskip("langchain_openai"), pytest.importorskip("tiktoken")
    options = {"model": "minilm", "base_url": f"{served.url}/v1", "api_key": "key"}
    plain = module.OpenAIEmbeddings(**options, check_embedding_ctx_length=False)
    assert same(plain.embed_documents(TEXTS), truth) and same([plain.embed_query(TEXTS[0])], truth[:1])
    assert same(asyncio.run(plain.aembed_documents(TEXTS)), truth)

    # By default it sends token ids: of OpenAI's vocabulary, which is downloaded, so here of one of bytes.
    ranks = {bytes([number]): number for number in range(256)}
    bytewise = tiktoken.Encoding("bytes", pat_str=".", mergeable_ranks=ranks, special_tokens={})
    for name in ("encoding_for_model", "get_encoding"):
        monkeypatch.setattr(tiktoken, name, lambda *_: bytewise)
    with pytest.raises(Exception, match="check_embedding_ctx_length=False"):
        module.OpenAIEmbeddings(**options).embed_documents(TEXTS)
    taken = module.OpenAIEmbeddings(model="minilm", base_url=f"{single.url}/v1", api_key="key")
    ids = [list(text.encode()) for text in TEXTS]  # --token-ids model: taken as they are
    assert same(taken.embed_documents(TEXTS), np.asarray(Encoder(golden("bert-minilm")).encode_ids(ids)))


def test_langchain_jina(served: Live) -> None:
    """LangChain's Jina client has a fixed address, so its session is led here; all that it sends is its own."""
    module = pytest.importorskip("langchain_community.embeddings.jina")
    client = module.JinaEmbeddings(model_name="minilm", jina_api_key="key")
    post = client.session.post
    client.session.post = lambda url, **options: post(f"{served.url}/v1/embeddings", **options)
    rows = client.embed_documents(TEXTS)
    assert np.asarray(rows).shape == (3, 64)
    with pytest.raises(RuntimeError, match="shorten it"):
        client.embed_documents(["word " * 999])


def test_llama_index_jina(served: Live, truth: np.ndarray) -> None:
    """Its constructor takes no address, so the one that it has kept is changed; all that it sends is its own."""
    module = pytest.importorskip("llama_index.embeddings.jinaai")

    def led_here(**options: Any) -> Any:
        client = module.JinaEmbedding(api_key="key", **options)
        client._api.api_url = f"{served.url}/v1/embeddings"
        return client

    plain = led_here(model="minilm")
    assert same(plain.get_text_embedding_batch(TEXTS), truth)
    v3 = Encoder(golden("jina-v3"))
    as_query = led_here(model="v3", task="retrieval.query")
    query = np.asarray(v3.encode_query(TEXTS[:1], normalize_embeddings=True))
    assert same([as_query.get_query_embedding(TEXTS[0])], query)
    for encoding in ("ubinary", "binary"):
        coded = led_here(model="minilm", encoding_queries=encoding, encoding_documents=encoding)
        assert np.array_equal(np.asarray(coded.get_text_embedding_batch(TEXTS)) > 0, truth > 0)


def test_llama_index_tei(single: Live, truth: np.ndarray) -> None:
    module = pytest.importorskip("llama_index.embeddings.text_embeddings_inference")
    client = module.TextEmbeddingsInference(model_name="minilm", base_url=single.url, text_instruction=" ")
    rows = client.get_text_embedding_batch(["birds swim", "stones"])
    assert np.asarray(rows).shape == (2, 64)
    assert same(asyncio.run(client.aget_text_embedding_batch(["birds swim", "stones"])), np.asarray(rows, np.float32))


def test_llama_index_openai(served: Live, truth: np.ndarray) -> None:
    module = pytest.importorskip("llama_index.embeddings.openai")
    client = module.OpenAIEmbedding(model_name="minilm", api_base=f"{served.url}/v1", api_key="key")
    assert same(client.get_text_embedding_batch([text.strip() for text in TEXTS[:2]]), truth[:2])


def test_huggingface_hub(single: Live, truth: np.ndarray) -> None:
    hub = pytest.importorskip("huggingface_hub")
    client = hub.InferenceClient(single.url)
    assert same(client.feature_extraction(TEXTS[0]), truth[:1])
    assert same(
        client.feature_extraction(TEXTS[0], normalize=True, truncate=True, dimensions=8).shape, np.array([1, 8])
    )
    scores = client.sentence_similarity(TEXTS[0], other_sentences=TEXTS)
    assert np.allclose(scores, truth @ truth[0], atol=1e-6)


def test_cohere(served: Live, truth: np.ndarray) -> None:
    cohere = pytest.importorskip("cohere")
    client = cohere.ClientV2(api_key="key", base_url=served.url)
    types = ["float", "int8", "ubinary"]
    answer = client.embed(model="minilm", input_type="search_document", texts=TEXTS, embedding_types=types)
    assert same(answer.embeddings.float_, truth)
    assert np.array_equal(answer.embeddings.int8, np.rint(127 * truth))
    assert answer.meta.billed_units.input_tokens > 10
    ranked = client.rerank(model="rerank-v3.5", query="birds", documents=TEXTS, top_n=2)
    encoder = MultiVectorEncoder(golden("jina-colbert-v2"))
    scores = encoder.score([encoder.encode_queries("birds")], list(encoder.encode_documents(TEXTS)))[0]
    assert [result.index for result in ranked.results] == np.argsort(-scores, kind="stable")[:2].tolist()
    with pytest.raises(cohere.NotFoundError):
        client.embed(model="nope", input_type="search_query", texts=["x"], embedding_types=["float"])


def test_ollama(single: Live, truth: np.ndarray) -> None:
    ollama = pytest.importorskip("ollama")
    client = ollama.Client(host=single.url)
    answer = client.embed(model="minilm", input=TEXTS)
    assert same(answer.embeddings, truth) and answer.prompt_eval_count > 10
    assert same([client.embeddings(model="minilm", prompt=TEXTS[0]).embedding], truth[:1])
    assert [model.model for model in client.list().models] == ["minilm:latest"]
    assert client.show("minilm").capabilities == ["embedding"]
    with pytest.raises(ollama.ResponseError, match="served are"):
        client.embed(model="nope", input="x")


def test_litellm(served: Live, single: Live, truth: np.ndarray) -> None:
    litellm = pytest.importorskip("litellm")
    answer = litellm.embedding(
        model="openai/minilm", input=TEXTS, api_base=f"{served.url}/v1", api_key="key", encoding_format="float"
    )
    assert same([item["embedding"] for item in answer.data], truth)
    jina = litellm.embedding(model="jina_ai/minilm", input=TEXTS, api_base=f"{served.url}/v1/embeddings", api_key="key")
    assert same([item["embedding"] for item in jina.data], truth)
    local = litellm.embedding(model="ollama/minilm", input=TEXTS, api_base=single.url)
    assert same([item["embedding"] for item in local.data], truth)
    ranked = litellm.rerank(
        model="jina_ai/colbert", query="birds", documents=TEXTS, api_base=f"{served.url}/v1/rerank", api_key="key"
    )
    assert len(ranked.results) == 3


NPM = """
import OpenAI from "openai";
const [base, key] = process.argv.slice(2);
const client = new OpenAI({ baseURL: base, apiKey: key });
const texts = JSON.parse(process.env.TEXTS);
const answer = await client.embeddings.create({ model: "minilm", input: texts });
const floats = await client.embeddings.create({ model: "minilm", input: texts, encoding_format: "float" });
let refused = "";
try { await client.embeddings.create({ model: "nope", input: "x" }); } catch (error) { refused = error.code; }
const rows = (each) => each.data.map((item) => Array.from(item.embedding));
const tokens = answer.usage.prompt_tokens;
console.log(JSON.stringify({ base64: rows(answer), floats: rows(floats), refused, tokens }));
"""


def test_npm_openai(served: Live, truth: np.ndarray, tmp_path: Path) -> None:
    """OpenAI's Node client, which asks for base64 and decodes it without looking."""
    modules = os.environ.get("LONGSPAN_TEST_NODE_MODULES", "")
    if not shutil.which("node") or not (Path(modules) / "openai").is_dir():
        pytest.skip("LONGSPAN_TEST_NODE_MODULES names no node_modules with openai, or node is not here")
    (tmp_path / "node_modules").symlink_to(Path(modules).resolve())
    (tmp_path / "ask.mjs").write_text(NPM)
    line = ["node", str(tmp_path / "ask.mjs"), f"{served.url}/v1", "key"]
    environment = {**os.environ, "TEXTS": json.dumps(TEXTS)}
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert same(said["base64"], truth) and same(said["floats"], truth)
    assert said["refused"] == "model_not_found" and said["tokens"] > 10
