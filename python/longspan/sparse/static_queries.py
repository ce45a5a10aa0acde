"""Queries that need no encoder: each token of the query has a fixed weight (opensearch's inference-free models)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from longspan.checkpoint.checkpoint import UNLIMITED, Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.checkpoint.modules import ModuleEntry
from longspan.checkpoint.safetensors_folder import SafetensorsFolder
from longspan.errors import CheckpointError
from longspan.text.tokenizer import TextTokenizer
from longspan.vectors.sparse import SparseVectors


@dataclass(frozen=True, slots=True, eq=False)
class StaticQueries:
    """v[id] = weight[id] for each id that occurs, once, however often; special tokens that are added do not count."""

    tokenizer: TextTokenizer  # its limit is in tokens of text
    weight: np.ndarray  # (vocab_size,) f32

    @property
    def max_length(self) -> int:
        """Tokens of a query at most, unless a call says otherwise; special ones do not count."""
        return self.tokenizer.max_length - self.tokenizer.num_special_tokens

    def encode(
        self, texts: Sequence[str], prompts: Sequence[str], max_length: int
    ) -> tuple[list[SparseVectors], list[int]]:
        """One row a text, and for each how many tokens were left out behind `max_length`, special ones not counted."""
        limit = max_length + self.tokenizer.num_special_tokens
        rows: list[SparseVectors] = []
        lost: list[int] = []
        for text in self.tokenizer.encode(texts, prompt=prompts, max_length=limit):
            ids = np.unique(text.ids[~text.special_mask])
            ids = ids[self.weight[ids] != 0].astype(np.int32)
            rows.append(SparseVectors(np.array([0, len(ids)]), ids, self.weight[ids], len(self.weight)))
            lost.append(text.truncated)
        return rows, lost


def load_static_queries(checkpoint: Checkpoint, vocab_size: int) -> StaticQueries | None:
    """The query side of a Router; None where there is none.

    Raises: CheckpointError, its table or its tokenizer is missing, damaged or of another vocabulary.
    """
    if not checkpoint.query_modules:
        return None
    [module] = checkpoint.query_modules
    config = JsonObject.read_optional(module.folder / "tokenizer_config.json")
    longest = config.get_float("model_max_length", None)
    if longest is not None and longest < 1:
        raise CheckpointError(f"{config.source}: 'model_max_length' must be 1 or more, got {longest}")
    limit = 512 if longest is None or longest > UNLIMITED else int(longest)
    tokenizer = TextTokenizer.from_file(
        module.folder / "tokenizer.json", max_length=1 << 30, vocab_size=vocab_size, config=config
    )
    tokenizer.max_length = limit + tokenizer.num_special_tokens
    weight = _read_weights(checkpoint, module, tokenizer, vocab_size)
    return StaticQueries(tokenizer, weight)


def _read_weights(checkpoint: Checkpoint, module: ModuleEntry, tokenizer: TextTokenizer, vocab_size: int) -> np.ndarray:
    named = module.config.get_str("path", None)
    if named is not None and named.endswith(".json"):
        return _from_json(module.config.get_path("path", module.folder), tokenizer, vocab_size)
    if not (module.folder / "model.safetensors").exists() and (checkpoint.folder / "idf.json").exists():
        return _from_json(checkpoint.folder / "idf.json", tokenizer, vocab_size)
    tensors = SafetensorsFolder.open(module.folder)
    if "weight" not in tensors.names or tensors.shape("weight") != (vocab_size,):
        got = {name: tensors.shape(name) for name in tensors.names}
        raise CheckpointError(f"{module.folder}: must hold weight of shape ({vocab_size},), got {got}")
    weight = np.array(tensors.read("weight"))
    tensors.require_finite("weight", weight)
    tensors.close()
    return weight


def _from_json(path: Path, tokenizer: TextTokenizer, vocab_size: int) -> np.ndarray:
    """{token: weight}; tokens that the tokenizer does not know, or the model has no row for, are passed over."""
    table, weight = JsonObject.read(path), np.zeros(vocab_size, np.float32)
    for token in table:
        value = table.get_float(token)
        if abs(value) > float(np.finfo(np.float32).max):
            raise CheckpointError(f"{path}: the weight of {token!r} must be a number of float32, got {value}")
        number = tokenizer.token_id(token)
        if number is not None and number < vocab_size:
            weight[number] = value
    return weight
