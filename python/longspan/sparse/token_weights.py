"""bge-m3's heads: a weight and a vector for every token, beside the dense vector, of one pass.

gte-multilingual-base has the weight alone.

    dense        h_0 / |h_0|
    weight       w_t = relu(s . h_t + c); a text's sparse vector has for each token id its largest weight
    multi-vector u_t = C h_t + c, of unit length, of all tokens but the first

The heads lie beside the checkpoint in `sparse_linear` and `colbert_linear`, as .safetensors, or as .pt, which is read
without running its pickle (`torch_file`). gte's weight is the checkpoint's token classifier, of one label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.safetensors_folder import SafetensorsFolder
from longspan.checkpoint.torch_file import read_torch_file
from longspan.errors import CheckpointError
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import Product
from longspan.packing.batch import PackedBatch
from longspan.packing.selection import Selection
from longspan.text.special_tokens import special_token
from longspan.text.tokenizer import TextTokenizer
from longspan.vectors.sparse import SparseVectors
from longspan.vectors.unit_length import unit_length

SPARSE, COLBERT = "sparse_linear", "colbert_linear"
CLASSIFIER: Final = "classifier"  # of a ...ForTokenClassification
PARTS: Final = ("weight", "bias")
# Tokens that say nothing of a text, by their part in the tokenizer.
LEFT_OUT: Final = ("cls_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True, slots=True, eq=False)
class TokenHeads:
    """The heads, stacked: first the row of weights, then those of the vectors, if there are any."""

    product: Product
    vector_dim: int  # 0: no vectors
    left_out: np.ndarray  # token ids without a sparse weight, rising
    vocab_size: int
    engine: OpsEngine


@dataclass(frozen=True, slots=True)
class TokenOutputs:
    """A tail: for each token its weight and its vector as they leave the product, and its hidden state if asked for:
    (total_tokens, 1 + vector_dim [+ hidden_size]) f32."""

    heads: TokenHeads
    with_hidden: bool

    def __call__(self, hidden: np.ndarray, batch: PackedBatch, selection: Selection) -> np.ndarray:
        engine, width = self.heads.engine, 1 + self.heads.vector_dim
        outputs = engine.empty(len(hidden), width)
        engine.multiply(hidden, self.heads.product, None, out=outputs)
        if not self.with_hidden:
            return outputs
        joined = engine.empty(len(hidden), width + hidden.shape[1])
        joined[:, :width] = outputs
        joined[:, width:] = hidden
        return joined


@dataclass(frozen=True, slots=True, eq=False)
class TextOutputs:
    """What one text's tokens make."""

    sparse: SparseVectors  # one row
    dense: np.ndarray | None  # (hidden_size,) f32 of unit length
    vectors: np.ndarray | None  # (tokens - 1, vector_dim) f32, rows of unit length


def has_token_heads(checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint has the sparse head."""
    beside = any((checkpoint.folder / f"{SPARSE}{suffix}").exists() for suffix in (".safetensors", ".pt"))
    return beside or _has_classifier(checkpoint)


def _has_classifier(checkpoint: Checkpoint) -> bool:
    """Whether a class that config.json names reads tokens, and the weights hold its head of one label."""
    named = checkpoint.config.get_list("architectures", None) or []
    return (
        any(isinstance(name, str) and name.endswith("ForTokenClassification") for name in named)
        and f"{CLASSIFIER}.weight" in checkpoint.tensor_names
        and checkpoint.shape(f"{CLASSIFIER}.weight")[:1] == (1,)
    )


def read_head(checkpoint: Checkpoint, stem: str) -> dict[str, np.ndarray] | None:
    """`weight` and `bias` of a head, f32; None where there is none. Raises: CheckpointError, it is not read."""
    folder = checkpoint.folder
    if (folder / f"{stem}.safetensors").exists():
        tensors = SafetensorsFolder.open(folder, stem)
        if set(tensors.names) != set(PARTS):
            raise CheckpointError(f"{folder / stem}.safetensors: must hold weight and bias, got {tensors.names}")
        read = {name: np.array(tensors.read(name)) for name in PARTS}
        for name, values in read.items():
            tensors.require_finite(name, values)
        tensors.close()
    elif (folder / f"{stem}.pt").exists():
        read = read_torch_file(folder / f"{stem}.pt", PARTS)
    elif stem == SPARSE and _has_classifier(checkpoint):
        read = {name: checkpoint.read(f"{CLASSIFIER}.{name}") for name in PARTS}
        for name, values in read.items():
            checkpoint.require_finite(f"{CLASSIFIER}.{name}", values)
    else:
        return None
    rows = read["weight"].shape[:1] if "weight" in read else ()
    if set(read) != set(PARTS) or read["weight"].ndim != 2 or read["bias"].shape != rows:
        shapes = {name: values.shape for name, values in read.items()}
        raise CheckpointError(f"{folder / stem}: weight must be (rows, hidden_size) and bias (rows,), got {shapes}")
    return read


def load_token_heads(
    checkpoint: Checkpoint,
    hidden_size: int,
    heads: dict[str, dict[str, np.ndarray]],
    tokenizer: TextTokenizer,
    engine: OpsEngine,
) -> TokenHeads:
    """Pack what `read_head` gave. Raises: CheckpointError, a head is for another model."""
    for stem, parts in heads.items():
        rows, columns = parts["weight"].shape
        if columns != hidden_size or (stem == SPARSE and rows != 1):
            wanted = (1, hidden_size) if stem == SPARSE else ("rows", hidden_size)
            raise CheckpointError(f"{checkpoint.folder / stem}: weight must be {wanted}, got {(rows, columns)}")
    stacked = [heads[stem] for stem in (SPARSE, COLBERT) if stem in heads]
    weight, bias = (np.concatenate([parts[name] for parts in stacked]) for name in PARTS)
    product = engine.pack_exactly(weight, bias)
    tokens = [special_token(checkpoint, name) for name in LEFT_OUT]
    ids = [None if token is None else tokenizer.token_id(token) for token in tokens]
    return TokenHeads(
        product=Product(product),
        vector_dim=len(heads[COLBERT]["bias"]) if COLBERT in heads else 0,
        left_out=np.unique([number for number in ids if number is not None]).astype(np.int32),
        vocab_size=tokenizer.vocab_size,
        engine=engine,
    )


def text_outputs(heads: TokenHeads, ids: np.ndarray, outputs: np.ndarray, *, vectors: bool) -> TextOutputs:
    """One text's part of what `TokenOutputs` made."""
    width = 1 + heads.vector_dim
    dense = unit_length(outputs[:1, width:])[0] if outputs.shape[1] > width else None
    found = unit_length(outputs[1:, 1:width]) if vectors else None
    return TextOutputs(_largest(ids, outputs[:, 0], heads), dense, found)


def _largest(ids: np.ndarray, weights: np.ndarray, heads: TokenHeads) -> SparseVectors:
    """For each id its largest weight above 0; NaN shows."""
    kept = ~(weights <= 0) & ~np.isin(ids, heads.left_out)
    indices, places = np.unique(ids[kept], return_inverse=True)
    values = np.full(len(indices), -np.inf, np.float32)
    np.maximum.at(values, places.reshape(-1), weights[kept])
    return SparseVectors(np.array([0, len(indices)]), indices.astype(np.int32), values, heads.vocab_size)
