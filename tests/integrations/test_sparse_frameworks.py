"""Sparse vectors under LangChain, LlamaIndex and Haystack, by the stores that take them: what is found is the same."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder, SparseEncoder
from longspan.integrations.text_sparse import TextSparse

TEXTS = [
    "wild cats hunt at night",
    "the market opens at nine",
    "a river of ice, moving slowly",
    "kernels are compiled once",
    "cats sleep most of the day",
]
QUESTION = "when do cats hunt"

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def encoder(golden: Path) -> SparseEncoder:
    return SparseEncoder(golden / "splade-bert" / "model")


@pytest.fixture(scope="module")
def static(golden: Path) -> SparseEncoder:
    """Its queries are not its documents."""
    return SparseEncoder(golden / "splade-doc" / "model")


def ranking(encoder: SparseEncoder) -> list[tuple[str, float]]:
    """The three best texts with their scores."""
    scores = encoder.similarity(encoder.encode_query(QUESTION), encoder.encode_document(TEXTS))[0]
    return [(TEXTS[place], float(scores[place])) for place in np.argsort(-scores, kind="stable")[:3]]


def assert_ranked(found: list[tuple[str, float]], encoder: SparseEncoder) -> None:
    wanted = ranking(encoder)
    assert [text for text, _ in found] == [text for text, _ in wanted]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in wanted], rtol=1e-5)


@pytest.mark.parametrize("name", ["encoder", "static"])
def test_langchain(name: str, request: pytest.FixtureRequest) -> None:
    qdrant = pytest.importorskip("langchain_qdrant", reason="needs longspan[langchain-qdrant]")
    adapter = pytest.importorskip("longspan.integrations.langchain_sparse")
    encoder = request.getfixturevalue(name)
    sparse = adapter.LongspanSparseEmbeddings(encoder)
    store = qdrant.QdrantVectorStore.from_texts(
        TEXTS, sparse_embedding=sparse, retrieval_mode=qdrant.RetrievalMode.SPARSE, location=":memory:"
    )
    found = store.similarity_search_with_score(QUESTION, k=3)
    assert_ranked([(document.page_content, score) for document, score in found], encoder)
    assert asyncio.run(sparse.aembed_query(QUESTION)) == sparse.embed_query(QUESTION)
    assert asyncio.run(sparse.aembed_documents(TEXTS)) == sparse.embed_documents(TEXTS)
    assert sparse.embed_documents([]) == []
    few = adapter.LongspanSparseEmbeddings(encoder, max_active_dims=3)
    assert [len(row.indices) <= 3 for row in few.embed_documents(TEXTS)] == [True] * len(TEXTS)
    with pytest.raises(TypeError, match="LongspanSparseEmbeddings: model must be a longspan SparseEncoder"):
        adapter.LongspanSparseEmbeddings(3)


@pytest.mark.parametrize("name", ["encoder", "static"])
def test_llama_index(name: str, request: pytest.FixtureRequest) -> None:
    schema = pytest.importorskip("llama_index.core.schema", reason="needs longspan[llama-index]")
    adapter = pytest.importorskip("longspan.integrations.llama_index_sparse")
    encoder = request.getfixturevalue(name)
    sparse = adapter.LongspanSparseEmbedding(encoder)
    of_texts = encoder.encode_document(TEXTS).to_dicts()
    assert sparse.get_text_embedding_batch(TEXTS) == of_texts and sparse.get_text_embedding(TEXTS[1]) == of_texts[1]
    assert sparse.get_query_embedding(QUESTION) == encoder.encode_query(QUESTION).to_dicts()[0]
    assert asyncio.run(sparse.aget_query_embedding(QUESTION)) == sparse.get_query_embedding(QUESTION)
    assert asyncio.run(sparse.aget_text_embedding_batch(TEXTS)) == of_texts
    assert sparse.model_name == encoder.name

    stores = pytest.importorskip("llama_index.vector_stores.qdrant", reason="llama-index-vector-stores-qdrant")
    query = pytest.importorskip("llama_index.core.vector_stores.types")
    store = stores.QdrantVectorStore(
        "texts",
        client=pytest.importorskip("qdrant_client").QdrantClient(":memory:"),
        enable_hybrid=True,
        sparse_doc_fn=sparse.encode_lists,
        sparse_query_fn=sparse.encode_query_lists,
    )
    store.add([schema.TextNode(text=text, embedding=[1.0, 0.0]) for text in TEXTS])
    asked = query.VectorStoreQuery(
        query_str=QUESTION, query_embedding=[1.0, 0.0], mode=query.VectorStoreQueryMode.SPARSE, sparse_top_k=3
    )
    answer = store.query(asked)
    assert_ranked([(node.text, score) for node, score in zip(answer.nodes, answer.similarities)], encoder)


def test_milvus_under_llama_index(static: SparseEncoder) -> None:
    pytest.importorskip("llama_index.vector_stores.milvus", reason="llama-index-vector-stores-milvus")
    types = pytest.importorskip("llama_index.vector_stores.milvus.utils")
    adapter = pytest.importorskip("longspan.integrations.llama_index_sparse")
    function = adapter.LongspanSparseEmbedding(static).for_milvus()
    assert isinstance(function, types.BaseSparseEmbeddingFunction)
    assert function.encode_documents(TEXTS) == static.encode_document(TEXTS).to_dicts()
    assert function.encode_queries([QUESTION]) == static.encode_query(QUESTION).to_dicts()
    assert asyncio.run(function.async_encode_queries([QUESTION])) == function.encode_queries([QUESTION])
    assert asyncio.run(function.async_encode_documents(TEXTS)) == function.encode_documents(TEXTS)


@pytest.mark.parametrize("name", ["encoder", "static"])
def test_haystack(name: str, request: pytest.FixtureRequest) -> None:
    haystack = pytest.importorskip("haystack", reason="needs longspan[haystack]")
    adapter = pytest.importorskip("longspan.integrations.haystack_sparse")
    encoder = request.getfixturevalue(name)
    documents = [haystack.Document(content=text, meta={"title": "T"}) for text in TEXTS]
    embedder = adapter.LongspanSparseDocumentEmbedder(encoder)
    written = embedder.run(documents)["documents"]
    assert all(one.sparse_embedding is None for one in documents)
    rows = encoder.encode_document(TEXTS)
    for row, one in zip(rows, written, strict=True):
        assert (one.sparse_embedding.indices, one.sparse_embedding.values) == (
            row.indices.tolist(),
            row.values.tolist(),
        )
    assert asyncio.run(embedder.run_async(documents))["documents"] == written
    asking = adapter.LongspanSparseTextEmbedder(encoder)
    titled = adapter.LongspanSparseDocumentEmbedder(encoder, meta_fields_to_embed=["title"], embedding_separator=": ")
    [first] = titled.run(documents[:1])["documents"]
    assert first.sparse_embedding.indices == encoder.encode_document(f"T: {TEXTS[0]}").indices.tolist()
    trusted = {"allowed_modules": [adapter.__name__]}  # Haystack 3 loads no module that it was not told to trust
    takes_them = "allowed_modules" in inspect.signature(haystack.Pipeline.loads).parameters
    again = haystack.Pipeline.loads(_pipeline(haystack, titled).dumps(), **(trusted if takes_them else {}))
    assert again.get_component("step").run(documents[:1])["documents"] == [first]
    with pytest.raises(ValueError, match=r"documents\[0\].content must be a str, got NoneType"):
        embedder.run([haystack.Document(content=None)])

    stores = pytest.importorskip("haystack_integrations.document_stores.qdrant", reason="qdrant-haystack")
    retrievers = pytest.importorskip("haystack_integrations.components.retrievers.qdrant")
    store = stores.QdrantDocumentStore(":memory:", embedding_dim=2, use_sparse_embeddings=True)
    store.write_documents([haystack.Document.from_dict({**one.to_dict(), "embedding": [1.0, 0.0]}) for one in written])
    retriever = retrievers.QdrantSparseEmbeddingRetriever(store, top_k=3)
    found = retriever.run(query_sparse_embedding=asking.run(QUESTION)["sparse_embedding"])["documents"]
    assert [one.content for one in found] == [text for text, _ in ranking(encoder)]


def _pipeline(haystack: object, step: object) -> object:
    pipeline = haystack.Pipeline()
    pipeline.add_component("step", step)
    return pipeline


def test_mistakes_are_said_at_once(encoder: SparseEncoder, golden: Path) -> None:
    with pytest.raises(ValueError, match="max_active_dims must be 1 or more, got 0"):
        TextSparse(encoder, "test", max_active_dims=0)
    with pytest.raises(ValueError, match="max_length must be from"):
        TextSparse(encoder, "test", max_length=10**6)
    with pytest.raises(ValueError, match="task"):
        TextSparse(encoder, "test", query_task="law")
    with pytest.raises(
        TypeError, match="test: model must be a longspan SparseEncoder, a folder or a name, got Encoder"
    ):
        TextSparse(Encoder(golden / "bert-minilm"), "test")
