"""MultiVectorEncoder against sentence-transformers' own, on one BERT in the layouts of colbert-ai and of PyLate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from checkpoints import read_config, write_checkpoint
from longspan import MultiVectorEncoder
from longspan.checkpoint.safetensors_folder import SafetensorsFolder

LIMIT = 5e-6  # the goldens' for unit vectors of a float32 runtime
QUERIES = ["what is late chunking?", "Hi!", "", "a longer question about attention, " * 12]
DOCUMENTS = ["Late chunking embeds the whole document first.", "Hello, world! (a, b); c: d...", "", "many words. " * 60]
QUERY, DOCUMENT = "[Q] ", "[D] "


@pytest.fixture(params=["stanford", "pylate"])
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


def write_model(source: Path, target: Path, layout: str, attends: bool) -> Path:
    """A ColBERT of the golden BERT's backbone, two more tokens for markers, and a random projection."""
    rng = np.random.default_rng(1)
    files = SafetensorsFolder.open(source)
    tensors = {name: files.read(name).copy() for name in files.names if not name.endswith("position_ids")}
    words = tensors["embeddings.word_embeddings.weight"]
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.add_tokens([QUERY, DOCUMENT])
    more = rng.normal(0, words.std(), (tokenizer.get_vocab_size() - len(words), words.shape[1]))
    tensors["embeddings.word_embeddings.weight"] = np.concatenate([words, more.astype(np.float32)])
    projection = rng.normal(0, 0.1, (32, 64)).astype(np.float32)
    config = {**read_config(source), "vocab_size": len(words) + len(more)}
    if layout == "stanford":
        tensors = {f"bert.{name}": values for name, values in tensors.items()} | {"linear.weight": projection}
        config["architectures"] = ["HF_ColBERT"]
    write_checkpoint(source, target, tensors, config)
    tokenizer.save(str(target / "tokenizer.json"))
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (target / name).unlink()
    if layout == "stanford":
        lengths = {"query_maxlen": 32, "doc_maxlen": 60, "dim": 32}
        rules = {"query_token_id": QUERY, "doc_token_id": DOCUMENT, "attend_to_mask_tokens": attends, **lengths}
        (target / "artifact.metadata").write_text(json.dumps(rules))
        return target
    rules = {"query_prefix": QUERY, "document_prefix": DOCUMENT, "query_length": 32, "document_length": 60}
    rules |= {"attend_to_expansion_tokens": attends, "skiplist_words": list("!,.?"), "model_type": "ColBERT"}
    (target / "config_sentence_transformers.json").write_text(json.dumps(rules))
    kinds = {"": "sentence_transformers.models.Transformer", "1_Dense": "pylate.models.Dense.Dense"}
    modules = [{"idx": i, "name": str(i), "path": path, "type": kinds[path]} for i, path in enumerate(kinds)]
    (target / "modules.json").write_text(json.dumps(modules))
    (target / "1_Dense").mkdir()
    dense = {"in_features": 64, "out_features": 32, "bias": False}
    dense["activation_function"] = "torch.nn.modules.linear.Identity"
    (target / "1_Dense" / "config.json").write_text(json.dumps(dense))
    save_file({"linear.weight": projection}, target / "1_Dense" / "model.safetensors")
    return target


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("attends", [False, True])
def test_same_vectors(layout: str, attends: bool, golden: Path, tmp_path: Path) -> None:
    """Its skip list is PyLate's for both layouts; colbert-ai's is in the golden of jina-colbert-v2."""
    peers = pytest.importorskip("sentence_transformers.multi_vector_encoder", reason="sentence-transformers >= 5.4")
    folder = write_model(golden / "bert-minilm", tmp_path / "model", layout, attends)
    ours, theirs = MultiVectorEncoder(folder), peers.MultiVectorEncoder(str(folder), device="cpu")
    found = [
        *ours.encode_queries(QUERIES, on_truncate="ignore"),
        *ours.encode_documents(DOCUMENTS, skip_list="pylate", on_truncate="ignore"),
    ]
    for one, other in zip(found, [*theirs.encode_query(QUERIES), *theirs.encode_document(DOCUMENTS)], strict=True):
        np.testing.assert_allclose(one, np.asarray(other), rtol=0, atol=LIMIT)
