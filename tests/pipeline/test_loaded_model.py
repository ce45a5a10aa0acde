"""What every public class that runs a checkpoint has of it."""

from __future__ import annotations

import os
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
