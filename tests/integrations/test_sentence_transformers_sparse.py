"""sentence-transformers' SparseEncoder over longspan's: the same vectors, methods and files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from longspan import SparseEncoder, TruncationWarning

library = pytest.importorskip("sentence_transformers", minversion="6", reason="needs longspan[sentence-transformers]")
torch = pytest.importorskip("torch", reason="needs longspan[sentence-transformers]")
adapter = pytest.importorskip("longspan.integrations.sentence_transformers_sparse")

pytestmark = pytest.mark.filterwarnings("default")

QUERIES = ["how do I reset a password", "what does the lock protect"]
DOCUMENTS = ["open the sign-in page", "", "the interpreter takes the lock before it runs byte code", "größte Städte"]
LIMIT = 1e-4


@pytest.mark.parametrize("name", ["splade-bert", "splade-doc"])
def test_same_vectors_as_its_own_backend(golden: Path, name: str) -> None:
    folder = golden / name / "model"
    ours, theirs = adapter.as_sparse_encoder(folder), library.SparseEncoder(str(folder), device="cpu")
    models = (ours, theirs)
    pairs = [
        tuple(model.encode_query(QUERIES) for model in models),
        tuple(model.encode_document(DOCUMENTS, batch_size=2) for model in models),
        tuple(model.encode_document(DOCUMENTS, max_active_dims=8) for model in models),
    ]
    for got, want in pairs:
        assert got.is_sparse
        np.testing.assert_allclose(got.to_dense().numpy(), want.to_dense().numpy(), rtol=0, atol=LIMIT)
    scores = [model.similarity(pairs[0][place], pairs[1][place]) for place, model in enumerate(models)]
    np.testing.assert_allclose(scores[0].numpy(), scores[1].numpy(), rtol=1e-5, atol=1e-3)
    decoded = ours.decode(pairs[0][0], top_k=3)
    assert [token for token, _ in decoded[0]] == [token for token, _ in theirs.decode(pairs[0][1], top_k=3)[0]]


def test_the_same_bits_as_longspan(golden: Path) -> None:
    encoder = SparseEncoder(golden / "bge-m3" / "model")
    got = adapter.as_sparse_encoder(encoder).encode(DOCUMENTS).to_dense().numpy()
    np.testing.assert_array_equal(got, encoder.encode(DOCUMENTS).to_dense())


def test_saved_and_pickled(golden: Path, tmp_path: Path) -> None:
    for name in ("splade-doc", "bge-m3"):
        model = adapter.as_sparse_encoder(golden / name / "model")
        want = model.encode_document(DOCUMENTS).to_dense().numpy()
        model.save(str(tmp_path / name))
        again = library.SparseEncoder(str(tmp_path / name), trust_remote_code=True, device="cpu").eval()
        np.testing.assert_array_equal(again.encode_document(DOCUMENTS).to_dense().numpy(), want)
        copied = pickle.loads(pickle.dumps(model[0]))
        np.testing.assert_array_equal(copied.encoder.encode_document(DOCUMENTS).to_dense(), want)


def test_cuts_are_told_once(golden: Path) -> None:
    model = adapter.as_sparse_encoder(golden / "splade-bert" / "model")
    with pytest.warns(TruncationWarning, match="this is said once") as told:
        model.encode(["one word after another " * 25] * 2, batch_size=1)
    assert len([one for one in told if issubclass(one.category, TruncationWarning)]) == 1
    with pytest.raises(TypeError, match="model must be a longspan SparseEncoder, a folder or a name, got int"):
        adapter.as_sparse_encoder(3)
