"""Haystack: embedders and the late-chunking splitter in pipelines with its own in-memory store."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import numpy as np
import pytest

from answerable import ANSWERS, DOCUMENT, QUESTIONS, TEXTS
from longspan import Encoder, Reranker

haystack = pytest.importorskip("haystack", reason="needs longspan[haystack]")
adapter = pytest.importorskip("longspan.integrations.haystack")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def encoder(minilm_path: Path) -> Encoder:
    return Encoder(minilm_path)


def asking(store: object, encoder: Encoder) -> object:
    from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever

    pipeline = haystack.Pipeline()
    pipeline.add_component("embedder", adapter.LongspanTextEmbedder(encoder))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    return pipeline


def writing(store: object, step: object) -> object:
    from haystack.components.writers import DocumentWriter

    pipeline = haystack.Pipeline()
    pipeline.add_component("step", step)
    pipeline.add_component("writer", DocumentWriter(store))
    pipeline.connect("step.documents", "writer.documents")
    return pipeline


def new_store() -> object:
    from haystack.document_stores.in_memory import InMemoryDocumentStore

    return InMemoryDocumentStore(embedding_similarity_function="cosine")


def test_a_question_finds_its_answer(encoder: Encoder) -> None:
    store = new_store()
    documents = [haystack.Document(content=text) for text in TEXTS]
    writing(store, adapter.LongspanDocumentEmbedder(encoder)).run({"step": {"documents": documents}})
    assert all(document.embedding is None for document in documents)
    ask = asking(store, encoder)
    for question, answer in zip(QUESTIONS, ANSWERS, strict=True):
        [found] = ask.run({"embedder": {"text": question}})["retriever"]["documents"]
        assert found.content == TEXTS[answer]
        wanted = encoder.similarity(encoder.encode_query(question), encoder.encode_document(TEXTS))[0, answer]
        assert found.score == pytest.approx(float(wanted), abs=1e-6)


def test_vectors_are_the_encoders_own(golden: Path) -> None:
    encoder = Encoder(golden / "jina-v3")
    query = adapter.LongspanTextEmbedder(encoder, truncate_dim=32)
    np.testing.assert_array_equal(query.run("a")["embedding"], encoder.encode_query("a", truncate_dim=32))
    np.testing.assert_array_equal(asyncio.run(query.run_async("a"))["embedding"], query.run("a")["embedding"])
    embedder = adapter.LongspanDocumentEmbedder(
        encoder, task="classification", meta_fields_to_embed=["title", "none"], embedding_separator=": "
    )
    documents = [haystack.Document(content=text, meta={"title": f"T{i}"}) for i, text in enumerate(TEXTS)]
    wanted = encoder.encode_document([f"T{i}: {text}" for i, text in enumerate(TEXTS)], task="classification")
    for found in (embedder.run(documents), asyncio.run(embedder.run_async(documents))):
        np.testing.assert_array_equal([one.embedding for one in found["documents"]], wanted)
        assert [one.id for one in found["documents"]] == [one.id for one in documents]


def test_late_chunks_keep_the_vectors_of_their_document(encoder: Encoder) -> None:
    store = new_store()
    splitter = adapter.LongspanLateChunkSplitter(encoder, chunk_tokens=None)
    document = haystack.Document(content=DOCUMENT, meta={"title": "facts"})
    writing(store, splitter).run({"step": {"documents": [document]}})
    wanted = encoder.encode_chunks(DOCUMENT, chunk_tokens=None)
    kept = sorted(store.filter_documents(), key=lambda one: one.meta["split_id"])
    assert [one.content for one in kept] == list(wanted.texts)
    np.testing.assert_array_equal(np.array([one.embedding for one in kept], np.float32), wanted.embeddings)
    meta = kept[1].meta
    assert DOCUMENT[meta["split_idx_start"] : meta["split_idx_end"]] == kept[1].content
    assert (meta["title"], meta["source_id"]) == ("facts", document.id)
    [found] = asking(store, encoder).run({"embedder": {"text": "dough"}})["retriever"]["documents"]
    assert "yeast" in found.content or "baked" in found.content


def test_a_pipeline_is_stored_by_the_models_name(minilm_path: Path) -> None:
    pipeline = haystack.Pipeline()
    pipeline.add_component("query", adapter.LongspanTextEmbedder(str(minilm_path), truncate_dim=100))
    pipeline.add_component("documents", adapter.LongspanDocumentEmbedder(minilm_path, meta_fields_to_embed=("a",)))
    pipeline.add_component("splitter", adapter.LongspanLateChunkSplitter(str(minilm_path), chunks="paragraph"))
    trusted = {"allowed_modules": [adapter.__name__]}  # Haystack 3 loads no module that it was not told to trust
    takes_them = "allowed_modules" in inspect.signature(haystack.Pipeline.loads).parameters
    again = haystack.Pipeline.loads(pipeline.dumps(), **(trusted if takes_them else {}))
    assert again.to_dict() == pipeline.to_dict()
    inputs = {"query": {"text": "a"}, "documents": {"documents": []}, "splitter": {"documents": []}}
    assert again.run(inputs) == pipeline.run(inputs)
    splitter = adapter.LongspanLateChunkSplitter(minilm_path, chunks=lambda text: [(0, len(text))])
    with pytest.raises(ValueError, match="LongspanLateChunkSplitter.to_dict: chunks is a function, which no file can"):
        splitter.to_dict()


def test_wrong_use(golden: Path, encoder: Encoder) -> None:
    with pytest.raises(TypeError, match="LongspanTextEmbedder: model must be a longspan Encoder, a folder or a name"):
        adapter.LongspanTextEmbedder(None)
    with pytest.raises(ValueError, match="task must be None or one of .*got 'nonsense'"):
        adapter.LongspanDocumentEmbedder(golden / "jina-v3", task="nonsense")
    with pytest.raises(ValueError, match=r"documents\[0\].content must be a str, got NoneType; leave it out"):
        adapter.LongspanDocumentEmbedder(encoder).run([haystack.Document(meta={"a": 1})])
    with pytest.raises(TypeError, match=r"encode: texts\[0\] must be a str, got int"):
        adapter.LongspanTextEmbedder(encoder).run(5)


def test_a_ranker_keeps_the_best_documents(golden: Path) -> None:
    reranker = Reranker(golden / "rerank-bert" / "model")
    given = [haystack.Document(content=text, meta={"title": "t"}) for text in TEXTS]
    ranker = adapter.LongspanRanker(reranker, top_k=3)
    kept = ranker.run(QUESTIONS[0], given)["documents"]
    expected = reranker.rank(QUESTIONS[0], TEXTS, 3)
    assert [one.score for one in kept] == [entry["score"] for entry in expected]
    assert [one.content for one in kept] == [TEXTS[entry["corpus_id"]] for entry in expected]
    assert len(ranker.run(QUESTIONS[0], given, top_k=2)["documents"]) == 2
    assert asyncio.run(ranker.run_async(QUESTIONS[0], given))["documents"] == kept
    titled = adapter.LongspanRanker(reranker, meta_fields_to_embed=["title"]).run(QUESTIONS[0], given)["documents"]
    assert titled[0].score == reranker.rank(QUESTIONS[0], [f"t\n{text}" for text in TEXTS])[0]["score"]
    again = adapter.LongspanRanker.from_dict(ranker.to_dict())
    assert again.run(QUESTIONS[0], given)["documents"] == kept
    few = adapter.LongspanRanker(reranker, score_threshold=expected[1]["score"]).run(QUESTIONS[0], given)
    assert len(few["documents"]) == 2
