"""sentence-transformers' MultiVectorEncoder over longspan's: the same token vectors, scores, and files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from longspan import MultiVectorEncoder, TruncationWarning
from test_multi_vector_peer import DOCUMENTS, LIMIT, QUERIES, write_model

library = pytest.importorskip("sentence_transformers", minversion="6", reason="needs longspan[sentence-transformers]")
torch = pytest.importorskip("torch", reason="needs longspan[sentence-transformers]")
adapter = pytest.importorskip("longspan.integrations.sentence_transformers_multi_vector")

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def encoder(golden: Path) -> MultiVectorEncoder:
    return MultiVectorEncoder(golden / "jina-colbert-v2")


def assert_same(found: list[object], wanted: list[object], atol: float = 0) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=0, atol=atol)


def test_same_vectors_as_its_own_backend(golden: Path, tmp_path: Path) -> None:
    folder = write_model(golden / "bert-minilm", tmp_path / "model", "pylate", attends=False)
    ours = adapter.as_multi_vector_encoder(folder, on_truncate="ignore")
    theirs = library.MultiVectorEncoder(str(folder), device="cpu")
    queries = [model.encode_query(QUERIES) for model in (ours, theirs)]
    documents = [model.encode_document(DOCUMENTS, batch_size=2) for model in (ours, theirs)]
    assert_same(*queries, atol=LIMIT)
    assert_same(*documents, atol=LIMIT)
    scores = [model.similarity(*pair) for model, *pair in zip((ours, theirs), queries, documents)]
    np.testing.assert_allclose(*scores, rtol=0, atol=32 * LIMIT)  # sums over 32 query tokens
    assert ours.get_embedding_dimension() == theirs.get_embedding_dimension() == 32


def test_colbert_v2_is_ours_to_the_bit(encoder: MultiVectorEncoder) -> None:
    model = adapter.as_multi_vector_encoder(encoder, on_truncate="ignore")
    queries, documents = model.encode_query(QUERIES), model.encode_document(DOCUMENTS)
    assert_same(queries, encoder.encode_queries(QUERIES, on_truncate="ignore"))
    assert_same(documents, encoder.encode_documents(DOCUMENTS, on_truncate="ignore"))
    assert_same(model.encode(DOCUMENTS, convert_to_numpy=True), documents)  # no task counts as a document
    np.testing.assert_allclose(model.similarity(queries, documents), encoder.score(queries, documents), rtol=1e-5)
    assert model.encode_query("one").shape == (encoder.query_maxlen, encoder.dim)
    assert_same(model.encode(["a"], prompt="about: "), [encoder.encode_documents("about: a")])


def test_saving_loading_and_pickling_keep_what_overrules_the_files(golden: Path, tmp_path: Path) -> None:
    encoder = MultiVectorEncoder(golden / "jina-colbert-v2", query_maxlen=12, mask_punctuation=False, query_marker="")
    model = adapter.as_multi_vector_encoder(encoder, on_truncate="ignore")
    model.save(str(tmp_path / "saved"))
    loaded = library.MultiVectorEncoder(str(tmp_path / "saved"), trust_remote_code=True)
    for again in (loaded, pickle.loads(pickle.dumps(model))):
        assert_same(again.encode_query(QUERIES), encoder.encode_queries(QUERIES, on_truncate="ignore"))
        assert_same(again.encode_document(DOCUMENTS), encoder.encode_documents(DOCUMENTS, on_truncate="ignore"))


def test_a_cut_text_is_said_once(encoder: MultiVectorEncoder) -> None:
    model = adapter.as_multi_vector_encoder(encoder)
    with pytest.warns(TruncationWarning, match="had more than 32 tokens; .* were left out; this is said once") as seen:
        model.encode_query(["word " * 60] * 6, batch_size=2)
    assert len([one for one in seen if one.category is TruncationWarning]) == 1
    with pytest.raises(ValueError, match=r"encode_queries: texts\[0\] has 91 tokens more than 32"):
        adapter.as_multi_vector_encoder(encoder, on_truncate="error").encode_query("word " * 60)


def test_wrong_use(encoder: MultiVectorEncoder, golden: Path) -> None:
    model = adapter.as_multi_vector_encoder(encoder)
    with pytest.raises(TypeError, match="a text must be a str, got int: 3"):
        model.encode_query(["a", 3])
    with pytest.raises(ValueError, match="task must be None or one of 'base', got 'clustering'"):
        model.encode(["a"], task="clustering")
    with pytest.raises(TypeError, match="model must be a longspan MultiVectorEncoder, a folder or a name, got float"):
        adapter.as_multi_vector_encoder(0.5)
    with pytest.raises(RuntimeError, match="MultiVectorModule has no gradients"):
        model.train()(model.preprocess(["a"]))
