"""LangChain: embeddings and late chunking through its own in-memory store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from answerable import ANSWERS, DOCUMENT, QUESTIONS, TEXTS
from longspan import Encoder, Reranker

pytest.importorskip("langchain_core", reason="needs longspan[langchain]")
documents = pytest.importorskip("langchain_core.documents")
stores = pytest.importorskip("langchain_core.vectorstores")
adapter = pytest.importorskip("longspan.integrations.langchain")

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def encoder(minilm_path: Path) -> Encoder:
    return Encoder(minilm_path)


def test_a_question_finds_its_answer(encoder: Encoder) -> None:
    store = stores.InMemoryVectorStore.from_texts(TEXTS, adapter.LongspanEmbeddings(encoder))
    for question, answer in zip(QUESTIONS, ANSWERS, strict=True):
        [(found, score)] = store.similarity_search_with_score(question, k=1)
        assert found.page_content == TEXTS[answer]
        wanted = encoder.similarity(encoder.encode_query(question), encoder.encode_document(TEXTS))[0, answer]
        assert score == pytest.approx(float(wanted), abs=1e-6)
    retriever = store.as_retriever(search_kwargs={"k": 1})
    found = asyncio.run(retriever.ainvoke(QUESTIONS[0]))
    assert [one.page_content for one in found] == [TEXTS[ANSWERS[0]]]


def test_vectors_are_the_encoders_own(golden: Path) -> None:
    encoder = Encoder(golden / "jina-v3")
    embeddings = adapter.LongspanEmbeddings(encoder, truncate_dim=32, document_task="classification")
    np.testing.assert_array_equal(embeddings.embed_query("a"), encoder.encode_query("a", truncate_dim=32))
    wanted = encoder.encode_document(TEXTS, truncate_dim=32, task="classification")
    np.testing.assert_array_equal(embeddings.embed_documents(TEXTS), wanted)
    np.testing.assert_array_equal(asyncio.run(embeddings.aembed_documents(TEXTS)), wanted)
    assert embeddings.embed_documents([]) == []


def test_late_chunks_keep_the_vectors_of_their_document(encoder: Encoder) -> None:
    chunker = adapter.LateChunkEmbeddings(encoder, chunk_tokens=None)
    pieces = chunker.transform_documents([documents.Document(page_content=DOCUMENT, metadata={"title": "facts"})] * 2)
    wanted = encoder.encode_chunks(DOCUMENT, chunk_tokens=None)
    assert [one.page_content for one in pieces] == [*wanted.texts] * 2
    place = pieces[1].metadata
    assert place["title"] == "facts" and DOCUMENT[place["start_index"] : place["end_index"]] == pieces[1].page_content
    store = stores.InMemoryVectorStore(chunker)
    store.add_documents(pieces[:5])
    store.add_documents(pieces[5:])  # a store may add in parts
    kept = [row["vector"] for row in store.store.values()]
    np.testing.assert_array_equal(np.array(kept, np.float32), np.concatenate([wanted.embeddings] * 2))
    [found] = store.similarity_search("population of the French capital", k=1)
    assert found.page_content in wanted.texts
    with pytest.raises(ValueError, match=r"texts\[0\] is no chunk of transform_documents whose vector is still here"):
        chunker.embed_documents([pieces[0].page_content])
    with pytest.raises(ValueError, match="split its document with this object first"):
        chunker.embed_documents(["something else"])


def test_wrong_use(golden: Path, encoder: Encoder) -> None:
    with pytest.raises(TypeError, match="LongspanEmbeddings: model must be a longspan Encoder, a folder or a name"):
        adapter.LongspanEmbeddings(3)
    with pytest.raises(ValueError, match="task must be None or one of .*got 'nonsense'"):
        adapter.LongspanEmbeddings(golden / "jina-v3", query_task="nonsense")
    with pytest.raises(ValueError, match="truncate_dim must be from 1 to 384, got 400"):
        adapter.LateChunkEmbeddings(encoder, truncate_dim=400)
    store = stores.InMemoryVectorStore(adapter.LongspanEmbeddings(encoder))
    with pytest.raises(TypeError, match=r"encode: texts\[1\] must be a str, got int"):
        store.embedding.embed_documents(["a", 2])
    with pytest.raises(TypeError, match=r"encode: texts\[0\] must be a str, got NoneType"):
        store.similarity_search(None)


def test_a_reranker_keeps_the_best_documents(golden: Path) -> None:
    reranker = Reranker(golden / "rerank-bert" / "model")
    given = [documents.Document(page_content=text, metadata={"place": place}) for place, text in enumerate(TEXTS)]
    compressor = adapter.LongspanReranker(reranker, top_n=3)
    kept = compressor.compress_documents(given, QUESTIONS[0])
    expected = reranker.rank(QUESTIONS[0], TEXTS, 3)
    assert [one.metadata for one in kept] == [
        {"place": entry["corpus_id"], "relevance_score": entry["score"]} for entry in expected
    ]
    assert asyncio.run(compressor.acompress_documents(given, QUESTIONS[0])) == kept
    assert "relevance_score" not in given[0].metadata
    assert compressor.compress_documents([], QUESTIONS[0]) == []
    with pytest.raises(ValueError, match="top_k must be 1 or more"):
        adapter.LongspanReranker(reranker, top_n=0)


def test_names_of_langchain_s_own_classes(golden: Path) -> None:
    """What is written for HuggingFaceEmbeddings runs with another class's name."""
    folder = str(golden / "jina-code" / "model")
    embeddings = adapter.LongspanEmbeddings(
        model_name=folder,
        model_kwargs={"device": "cpu", "num_threads": 1, "local_files_only": True},
        encode_kwargs={"prompt_name": "nl2code_document", "batch_size": 2},
        query_encode_kwargs={"task": "nl2code.query"},
        show_progress=False,
    )
    encoder = Encoder(folder)
    np.testing.assert_array_equal(embeddings.embed_query("a"), encoder.encode("a", task="nl2code.query"))
    np.testing.assert_array_equal(embeddings.embed_documents(["a"])[0], encoder.encode("a", task="nl2code.passage"))
    with pytest.warns(UserWarning, match="trust_remote_code=True is not needed"):
        adapter.LongspanEmbeddings(model_name=folder, model_kwargs={"trust_remote_code": True})
    for call, said in (
        (
            lambda: adapter.LongspanEmbeddings(folder, model_name=folder),
            "give the model as model or as model_name, got both",
        ),
        (adapter.LongspanEmbeddings, "got neither"),
        (
            lambda: adapter.LongspanEmbeddings(encoder, model_kwargs={"device": "cpu"}),
            "device are for a model that is op",
        ),
        (
            lambda: adapter.LongspanEmbeddings(folder, encode_kwarg={}),
            "LongspanEmbeddings: .*did you mean 'encode_kwargs'",
        ),
        (lambda: adapter.LongspanEmbeddings(folder, encode_kwargs={"promt": "a"}), "did you mean 'prompt'"),
        (lambda: adapter.LongspanEmbeddings(folder, model_kwargs={"devise": "cpu"}), "did you mean 'device'"),
    ):
        with pytest.raises(TypeError, match=said):
            call()


def test_late_chunks_as_a_splitter(encoder: Encoder) -> None:
    chunker = adapter.LateChunkEmbeddings(encoder, chunk_tokens=None)
    pieces = chunker.split_documents(iter([documents.Document(page_content=DOCUMENT)]))
    assert [one.page_content for one in pieces] == [*encoder.encode_chunks(DOCUMENT, chunk_tokens=None).texts]
    chunker.embed_documents([one.page_content for one in pieces])
