"""PyLate's interface over longspan; against PyLate itself where it is installed, in an environment of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longspan import MultiVectorEncoder
from longspan.integrations.pylate import ColBERT, rerank
from test_multi_vector_peer import DOCUMENTS, LIMIT, QUERIES, write_model

IDS = [["a", "b", "c", "d"], ["d", "c"]]
TEXTS = [DOCUMENTS, DOCUMENTS[:1:-1]]


@pytest.fixture(scope="module")
def encoder(golden: Path) -> MultiVectorEncoder:
    return MultiVectorEncoder(golden / "jina-colbert-v2", doc_maxlen=400)


@pytest.mark.filterwarnings("ignore")
def test_encode_and_rerank_as_pylate_names_them(encoder: MultiVectorEncoder) -> None:
    model = ColBERT(encoder)
    queries, documents = model.encode(QUERIES[:2], is_query=True), model.encode(TEXTS, is_query=False)
    assert [len(each) for each in documents] == [4, 2]
    for found, wanted in zip(documents[0], encoder.encode_documents(DOCUMENTS), strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(model.encode("one"), encoder.encode_queries("one"))
    ranked = rerank(documents_ids=IDS, queries_embeddings=queries, documents_embeddings=documents)
    scores = encoder.score(queries, documents[0])
    assert [one["id"] for one in ranked[0]] == [IDS[0][place] for place in np.argsort(-scores[0], kind="stable")]
    assert {one["id"]: one["score"] for one in ranked[1]} == pytest.approx(dict(zip("cd", scores[1, 2:].tolist())))
    assert rerank([["a"]], queries[0], [documents[0][:1]]) == rerank([["a"]], queries[:1], [documents[0][:1]])
    assert rerank([[]], queries[:1], [[]]) == [[]]


@pytest.mark.filterwarnings("ignore")
def test_vectors_and_ranks_of_pylate_itself(golden: Path, tmp_path: Path) -> None:
    pylate = pytest.importorskip("pylate.models", reason="PyLate 1.6 pins sentence-transformers 5.3: make test-pylate")
    from pylate import rank

    folder = write_model(golden / "bert-minilm", tmp_path / "model", "pylate", attends=False)
    ours, theirs = ColBERT(folder), pylate.ColBERT(str(folder), device="cpu")
    vectors = [
        [model.encode(QUERIES[:2], is_query=True), model.encode(TEXTS, is_query=False)] for model in (ours, theirs)
    ]
    for one, other in zip(vectors[0][0] + vectors[0][1][0], [*vectors[1][0], *vectors[1][1][0]], strict=True):
        np.testing.assert_allclose(one, np.asarray(other), rtol=0, atol=LIMIT)
    found, wanted, mixed = rerank(IDS, *vectors[0]), rank.rerank(IDS, *vectors[1]), rank.rerank(IDS, *vectors[0])
    for mine, others, both in zip(found, wanted, mixed, strict=True):
        assert [one["id"] for one in mine] == [one["id"] for one in others] == [one["id"] for one in both]
        for other in (others, both):  # sums over 32 query tokens
            np.testing.assert_allclose([one["score"] for one in mine], [one["score"] for one in other], atol=32 * LIMIT)


def test_wrong_use(encoder: MultiVectorEncoder) -> None:
    model = ColBERT(encoder)
    with pytest.raises(TypeError, match="ColBERT: model must be a longspan MultiVectorEncoder, a folder or a name"):
        ColBERT(3)
    with pytest.raises(ValueError, match="encode: pool_factor cannot be used with longspan"):
        model.encode(["a"], pool_factor=2)
    with pytest.raises(ValueError, match="convert_to_numpy must be True; torch.from_numpy makes tensors"):
        model.encode(["a"], convert_to_numpy=False)
    with pytest.raises(TypeError, match="sentences must be all texts or all lists of texts, got both"):
        model.encode(["a", ["b"]])
    with pytest.raises(TypeError, match=r"texts\[1\] must be a str, got int"):
        model.encode([["a", 1]], is_query=False)
    query = model.encode(["a"])
    with pytest.raises(ValueError, match="ids, queries and documents must be of one length, got 2, 1 and 1"):
        rerank([["a"], ["b"]], query, [query])
    with pytest.raises(ValueError, match="query 0 has 1 ids and 2 documents"):
        rerank([["a"]], query, [[query[0], query[0]]])
    with pytest.raises(ValueError, match="all vectors must have one dim, got 48 and 7"):
        rerank([["a"]], query, [[np.ones((2, 7), np.float32)]])
    with pytest.raises(ValueError, match="device must be None or 'cpu', got 'cuda'"):
        rerank([["a"]], query, [query], device="cuda")
