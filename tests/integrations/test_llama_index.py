"""LlamaIndex: an embedding model and a late-chunking node parser under its own in-memory index."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from answerable import ANSWERS, DOCUMENT, QUESTIONS, TEXTS
from longspan import Encoder, Reranker

core = pytest.importorskip("llama_index.core", reason="needs longspan[llama-index]")
adapter = pytest.importorskip("longspan.integrations.llama_index")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def encoder(minilm_path: Path) -> Encoder:
    return Encoder(minilm_path)


def test_a_question_finds_its_answer(encoder: Encoder) -> None:
    model = adapter.LongspanEmbedding(encoder)
    nodes = [core.schema.TextNode(text=text) for text in TEXTS]
    retriever = core.VectorStoreIndex(nodes, embed_model=model).as_retriever(similarity_top_k=1)
    for question, answer in zip(QUESTIONS, ANSWERS, strict=True):
        [found] = retriever.retrieve(question)
        assert found.text == TEXTS[answer]
        wanted = encoder.similarity(encoder.encode_query(question), encoder.encode_document(TEXTS))[0, answer]
        assert found.score == pytest.approx(float(wanted), abs=1e-6)
    [found] = asyncio.run(retriever.aretrieve(QUESTIONS[0]))
    assert found.text == TEXTS[ANSWERS[0]]


def test_vectors_are_the_encoders_own(golden: Path) -> None:
    encoder = Encoder(golden / "jina-v3")
    model = adapter.LongspanEmbedding(encoder, truncate_dim=32, document_task="classification")
    np.testing.assert_array_equal(model.get_query_embedding("a"), encoder.encode_query("a", truncate_dim=32))
    wanted = encoder.encode_document(TEXTS, truncate_dim=32, task="classification")
    np.testing.assert_array_equal(model.get_text_embedding_batch(TEXTS), wanted)
    np.testing.assert_array_equal(model.get_text_embedding(TEXTS[2]), wanted[2])
    np.testing.assert_array_equal(asyncio.run(model.aget_text_embedding_batch(TEXTS)), wanted)
    np.testing.assert_array_equal(asyncio.run(model.aget_text_embedding(TEXTS[1])), wanted[1])
    assert (model.model_name, model.class_name()) == (encoder.name, "LongspanEmbedding")


def test_late_chunks_keep_the_vectors_of_their_document(encoder: Encoder) -> None:
    parser = adapter.LateChunkNodeParser(encoder, chunk_tokens=None)
    document = core.Document(text=DOCUMENT, metadata={"title": "facts"})
    wanted = encoder.encode_chunks(DOCUMENT, chunk_tokens=None)
    nodes = parser.get_nodes_from_documents([document])
    assert [node.text for node in nodes] == list(wanted.texts)
    assert [(node.start_char_idx, node.end_char_idx) for node in nodes] == [tuple(span) for span in wanted.spans]
    assert nodes[0].metadata == {"title": "facts"} and nodes[1].prev_node.node_id == nodes[0].node_id
    index = core.VectorStoreIndex(nodes, embed_model=adapter.LongspanEmbedding(encoder))
    kept = index.vector_store.data.embedding_dict
    np.testing.assert_array_equal(np.array([kept[node.node_id] for node in nodes], np.float32), wanted.embeddings)
    pipeline = core.ingestion.IngestionPipeline(transformations=[parser])
    np.testing.assert_array_equal([one.embedding for one in pipeline.run(documents=[document])], wanted.embeddings)
    found = asyncio.run(parser.aget_nodes_from_documents([document]))
    np.testing.assert_array_equal([one.embedding for one in found], wanted.embeddings)


def test_wrong_use(golden: Path, encoder: Encoder) -> None:
    with pytest.raises(TypeError, match="LongspanEmbedding: model must be a longspan Encoder, a folder or a name, got"):
        adapter.LongspanEmbedding(3)
    with pytest.raises(ValueError, match="task must be None or one of .*got 'nonsense'"):
        adapter.LongspanEmbedding(golden / "jina-v3", query_task="nonsense")
    with pytest.raises(ValueError, match="chunk_tokens must"):
        adapter.LateChunkNodeParser(encoder, chunk_tokens=0)
    with pytest.raises(TypeError, match=r"encode: texts\[1\] must be a str, got int"):
        adapter.LongspanEmbedding(encoder).get_text_embedding_batch(["a", 2])


def test_a_reranker_keeps_the_best_nodes(golden: Path) -> None:
    schema = pytest.importorskip("llama_index.core.schema")
    reranker = Reranker(golden / "rerank-bert" / "model")
    nodes = [schema.NodeWithScore(node=schema.TextNode(text=text), score=0.5) for text in TEXTS]
    postprocessor = adapter.LongspanRerank(reranker, top_n=3, keep_retrieval_score=True)
    kept = postprocessor.postprocess_nodes(nodes, query_str=QUESTIONS[0])
    expected = reranker.rank(QUESTIONS[0], TEXTS, 3)
    assert [one.score for one in kept] == [entry["score"] for entry in expected]
    assert [one.node.get_content() for one in kept] == [TEXTS[entry["corpus_id"]] for entry in expected]
    assert {one.node.metadata["retrieval_score"] for one in kept} == {0.5}
    with pytest.raises(ValueError, match="a query is needed"):
        postprocessor.postprocess_nodes(nodes)
