"""Which head a sparse checkpoint has, opened."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError
from longspan.pipeline.loaded_model import OpenedModel
from longspan.pipeline.purpose import PURPOSES, purpose_of
from longspan.sparse.mlm_head import PooledLogits, counted, find_layout, head_tensors, load_head, read_pooling
from longspan.sparse.token_weights import (
    COLBERT,
    SPARSE,
    TokenOutputs,
    has_token_heads,
    load_token_heads,
    read_head,
)
from longspan.text.tokenizer import TextTokenizer


def open_head(
    opened: OpenedModel, tokenizer: TextTokenizer
) -> tuple[OpenedModel, PooledLogits | TokenOutputs, dict[str, object]]:
    """The model, its fingerprint made to count the head; the head; and what shapes a vector beside the files."""
    checkpoint, spec, engine = opened.checkpoint, opened.spec, opened.engine
    layout = find_layout(checkpoint)
    is_splade = any(module.kind == "SpladePooling" for module in checkpoint.modules)
    if has_token_heads(checkpoint) and not is_splade:
        found = {stem: read_head(checkpoint, stem) for stem in (SPARSE, COLBERT)}
        read = {stem: parts for stem, parts in found.items() if parts is not None}
        heads = load_token_heads(checkpoint, spec.hidden_size, read, tokenizer, engine)
        digests = {stem: [digest(parts[name]) for name in sorted(parts)] for stem, parts in read.items()}
        return opened, TokenOutputs(heads, with_hidden=False), {"token heads": digests}
    if layout is None:
        raise CheckpointError(
            f"{checkpoint.folder} is no sparse model: it needs a masked-language-model head (SPLADE), "
            f"{SPARSE}.safetensors or {SPARSE}.pt (bge-m3), or a token classifier of one label "
            f"(gte-multilingual-base), and has none of them{_open_with(checkpoint)}"
        )
    if checkpoint.similarity_fn_name not in (None, "dot"):
        raise CheckpointError(
            f"{checkpoint.folder}: similarity_fn_name must be 'dot' for SPLADE, got {checkpoint.similarity_fn_name!r}"
        )
    kinds = [module.kind for module in checkpoint.modules]
    if kinds and kinds not in (["Transformer"], ["Transformer", "SpladePooling"]):
        raise CheckpointError(
            f"{checkpoint.folder} is no sparse model: modules.json of one may list a Transformer and a SpladePooling, "
            f"and this one has {', '.join(kinds)}{_open_with(checkpoint)}"
        )
    pooling, saturation = read_pooling(checkpoint)
    tensors = head_tensors(checkpoint, layout, opened.names)
    head = load_head(checkpoint, spec, layout, tensors, engine)
    opened = replace(opened, unused=counted(opened.unused, tensors))
    return opened, PooledLogits(head, pooling, saturation), {"pooling": [pooling, saturation]}


def _open_with(checkpoint: Checkpoint) -> str:
    """Which class runs the checkpoint, where it is another one."""
    purpose = purpose_of(checkpoint)
    return "" if purpose == "sparse" else f"; open it with {PURPOSES[purpose][1]}"


def own_active_dims(checkpoint: Checkpoint) -> int | None:
    """Entries of a vector at most, as the model's own files say; None where they do not.

    Raises: CheckpointError, they say less than 1.
    """
    published = JsonObject.read_optional(checkpoint.folder / "config_sentence_transformers.json")
    number = published.get_int("max_active_dims", None)
    if number is not None and number < 1:
        raise CheckpointError(f"{published.source}: 'max_active_dims' must be 1 or more, got {number}")
    return number


def has_first_token_vectors(checkpoint: Checkpoint) -> bool:
    """Whether the model's dense vector of a text is its first token's, of unit length, as bge-m3's is: what
    `TokenOutputs` makes."""
    kinds = {module.kind for module in checkpoint.modules}
    return not kinds or (kinds <= {"Transformer", "Pooling", "Normalize"} and checkpoint.pooling_modes == ("cls",))


def digest(values: np.ndarray) -> str:
    """Of the bytes of an array."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
