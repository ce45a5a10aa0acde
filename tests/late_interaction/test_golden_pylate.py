"""PyLate's layouts: every case of the golden (1_Dense; LateOn's two Dense without expansion), and residual layers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from longspan import MultiVectorEncoder

VECTOR_LIMIT, MAXSIM_LIMIT = 5e-6, 2e-5  # for a float32 runtime


@pytest.mark.parametrize("name", ["model", "model-lateon"])
def test_every_case(isa: str, name: str, golden: Path) -> None:
    folder = golden / "colbert-pylate"
    encoder = MultiVectorEncoder(folder / name)
    case = next(case for case in json.loads((folder / "cases.json").read_text())["cases"] if case["model_dir"] == name)
    expected = np.load(folder / "expected.npz")
    assert (encoder.query_maxlen, encoder.doc_maxlen) == (case["query_length"], case["document_length"])
    queries = encoder.encode_queries(case["queries"], on_truncate="ignore")
    documents = encoder.encode_documents(case["documents"], on_truncate="ignore")
    for role, found in (("query", queries), ("document", documents)):
        for place, vectors in enumerate(found):
            truth = expected[f"{name}/{role}/{place}"]
            np.testing.assert_allclose(vectors, truth, rtol=0, atol=VECTOR_LIMIT, err_msg=f"{role} {place}")
    np.testing.assert_allclose(encoder.score(queries, documents), expected[f"{name}/maxsim"], rtol=0, atol=MAXSIM_LIMIT)


@pytest.mark.parametrize("out_features", [64, 48])
@pytest.mark.parametrize("activation", ["Identity", "Sigmoid"])
def test_a_residual_is_added_behind_the_activation(
    out_features: int, activation: str, golden: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(golden / "colbert-pylate" / "model", folder)
    rng = np.random.default_rng(6)
    weight, residual = (rng.standard_normal((out_features, 64)).astype(np.float32) for _ in range(2))
    tensors = {"linear.weight": weight}
    if out_features != 64:
        tensors["residual.weight"] = residual
    save_file(tensors, folder / "1_Dense" / "model.safetensors")
    config = {"in_features": 64, "out_features": out_features, "bias": False, "use_residual": True}
    config["activation_function"] = f"torch.nn.modules.{activation}"
    (folder / "1_Dense" / "config.json").write_text(json.dumps(config))
    # The hidden states, from the same encoder under another projection.
    plain = tmp_path / "plain"
    shutil.copytree(folder, plain)
    save_file({"linear.weight": np.eye(64, dtype=np.float32)}, plain / "1_Dense" / "model.safetensors")
    same = {"in_features": 64, "out_features": 64, "bias": False, "activation_function": "torch.nn.Identity"}
    (plain / "1_Dense" / "config.json").write_text(json.dumps(same))
    hidden = _hidden(MultiVectorEncoder(plain))
    wide = hidden.astype(np.float64)
    product = wide @ weight.T.astype(np.float64)
    if activation == "Sigmoid":
        product = 1 / (1 + np.exp(-product))
    vectors = product + (wide if out_features == 64 else wide @ residual.T)
    truth = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = MultiVectorEncoder(folder).encode_documents("reset a password", skip_list=None)
    np.testing.assert_allclose(found, truth, rtol=0, atol=2e-6)


def _hidden(encoder: MultiVectorEncoder) -> np.ndarray:
    """The last hidden states of a document, before any projection."""
    from longspan.models.engines.workspace import Workspace
    from longspan.packing.batch import pack

    [text] = encoder._tokenizer.documents(["reset a password"], encoder.doc_maxlen)
    [batch] = pack([np.asarray(text.ids)], batch_tokens=999)
    inner = encoder._encoder
    return np.array(inner.forward(batch, Workspace(inner.engine.empty)))
