"""sentence-transformers' CrossEncoder over longspan, beside its own torch backend."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from answerable import QUESTIONS, TEXTS
from longspan import Reranker

library = pytest.importorskip("sentence_transformers", reason="needs longspan[sentence-transformers]")
pytest.importorskip("sentence_transformers.cross_encoder.modules", reason="needs sentence-transformers 6")
torch = pytest.importorskip("torch")
adapter = pytest.importorskip("longspan.integrations.sentence_transformers_reranker")

pytestmark = pytest.mark.filterwarnings("default")
PAIRS = [(QUESTIONS[0], text) for text in TEXTS]


@pytest.mark.parametrize("name", ["rerank-bert", "rerank-xlmr", "rerank-modernbert"])
def test_the_library_s_own_numbers(name: str, golden: Path) -> None:
    folder = golden / name / "model"
    ours = adapter.as_cross_encoder(folder)
    theirs = library.CrossEncoder(str(folder), device="cpu")
    assert isinstance(ours, library.CrossEncoder)
    np.testing.assert_allclose(ours.predict(PAIRS), theirs.predict(PAIRS), rtol=0, atol=3e-4)
    ranking, own = ours.rank(QUESTIONS[0], TEXTS, top_k=3), theirs.rank(QUESTIONS[0], TEXTS, top_k=3)
    assert [entry["corpus_id"] for entry in ranking] == [entry["corpus_id"] for entry in own]
    np.testing.assert_allclose(float(ours.predict(PAIRS[0])), float(theirs.predict(PAIRS[0])), atol=3e-4)


def test_options_and_files(golden: Path, tmp_path: Path) -> None:
    reranker = Reranker(golden / "rerank-xlmr" / "model")
    model = adapter.as_cross_encoder(reranker)
    np.testing.assert_allclose(model.predict(PAIRS), reranker.predict(PAIRS), atol=1e-6)
    logits = model.predict(PAIRS, activation_fn=torch.nn.Identity(), batch_size=3)
    np.testing.assert_array_equal(logits, reranker.predict(PAIRS, activation_fn="identity"))
    tensor = model.predict(PAIRS, convert_to_tensor=True)
    assert isinstance(tensor, torch.Tensor) and model.num_labels == 1
    assert len(model.predict([])) == 0
    again = pickle.loads(pickle.dumps(model[0]))
    np.testing.assert_array_equal(again.encoder.predict(PAIRS), reranker.predict(PAIRS))
    with pytest.raises(TypeError, match="model must be a longspan Reranker"):
        adapter.as_cross_encoder(3)
