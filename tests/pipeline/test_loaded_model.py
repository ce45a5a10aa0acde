"""What every public class that runs a checkpoint has of it."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from longspan import CheckpointError, Encoder, MultiVectorEncoder, SparseEncoder


@pytest.mark.parametrize(
    "kind, name",
    [(Encoder, "bert-minilm"), (MultiVectorEncoder, "colbert-pylate/model"), (SparseEncoder, "splade-bert")],
)
def test_weights_that_are_shortened_while_they_are_in_use(
    golden: Path, tmp_path: Path, kind: type[Encoder], name: str
) -> None:
    """Embedding tables stay in their file. A read behind its end would end the process."""
    folder = tmp_path / "model"
    source = golden / name
    shutil.copytree(source if (source / "config.json").is_file() else source / "model", folder)
    model = kind(folder)
    encode = model.encode if hasattr(model, "encode") else model.encode_documents
    encode(["a text"])
    os.truncate(folder / "model.safetensors", 100)
    with pytest.raises(CheckpointError, match="was shortened while the model was in use: it has 100 of"):
        encode(["another"])


def test_what_may_be_set_and_what_not(golden: Path) -> None:
    """A misspelt attribute is no new one, and nothing changes under a model's vectors and its fingerprint."""
    encoder = Encoder(golden / "bert-minilm")
    encoder.max_length, encoder.similarity_fn_name = 16, "dot"
    encoder.max_seq_length = 12
    assert (encoder.max_length, encoder.similarity_fn_name) == (12, "dot")
    encoder.note_of_its_user = "a framework's own"
    for name, said in (
        ("max_lenght", "Encoder has no attribute 'max_lenght' to set; did you mean 'max_length'?"),
        ("max_seq_len", "did you mean 'max_seq_length'"),
        ("device", "Encoder.device cannot be set: it belongs to the model as it was opened"),
        ("prompts", "Encoder.prompts cannot be set"),
        ("default_prompt_name", "cannot be set"),
        ("dim", "set"),
    ):
        with pytest.raises(AttributeError, match=re.escape(said)):
            setattr(encoder, name, "x")
    prompts = Encoder(golden / "jina-v3").prompts
    kept = dict(prompts)
    for change in (
        lambda: prompts.update({"query": "x"}),
        lambda: prompts.__setitem__("query", "x"),
        lambda: prompts.pop("retrieval.query"),
        lambda: prompts.setdefault("x", "y"),
        prompts.clear,
    ):
        with pytest.raises(TypeError, match="a model's prompts stay as its files have them; give a call prompt="):
            change()
    assert kept and prompts == kept and json.loads(json.dumps(prompts)) == kept
    assert type(copy.deepcopy(prompts)) is dict  # a copy is the caller's own
    colbert = MultiVectorEncoder(golden / "colbert-pylate" / "model")
    with pytest.raises(AttributeError, match=r"MultiVectorEncoder.doc_maxlen cannot be set"):
        colbert.doc_maxlen = 3
