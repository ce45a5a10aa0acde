"""The model that runtimes are compared on, and how runtimes without packing are fed: sorted, in batches, padded."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

BATCH_SIZES: Final = (8, 16, 32)  # the best is taken; 32 is what sentence-transformers and its kin default to
PROBE_TEXTS: Final = 64  # texts that choose it

# ids, mask (batch, longest) int64 -> vectors (batch, dim) f32 of unit length
Forward = Callable[[np.ndarray, np.ndarray], np.ndarray]
Embed = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True, slots=True)
class Subject:
    """A checkpoint on disk and what its own files say of its use."""

    folder: Path
    pooling: str  # "mean" or "cls"
    max_length: int  # tokens, the special ones included
    config: Mapping[str, Any]  # config.json

    @classmethod
    def of(cls, folder: Path, pooling: str, max_length: int) -> Subject:
        """The checkpoint in `folder`."""
        return cls(folder, pooling, max_length, json.loads((folder / "config.json").read_text(encoding="utf-8")))

    @property
    def key(self) -> tuple[str, ...]:
        """All that an export of it depends on."""
        weights = self.folder / "model.safetensors"
        return (str(self.folder), str(weights.stat().st_size), str(weights.stat().st_mtime_ns), self.pooling)


class Padded:
    """Embeds texts by a forward pass on padded batches, texts of like length together, as these runtimes' users do."""

    def __init__(self, subject: Subject, forward: Forward, batch_size: int) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(subject.folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(subject.max_length)
        self._forward = forward
        self._batch_size = batch_size

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dim) f32."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        order = np.argsort([-len(row) for row in rows], kind="stable")
        parts = []
        for start in range(0, len(rows), self._batch_size):
            batch = [rows[index] for index in order[start : start + self._batch_size]]
            ids = np.zeros((len(batch), len(batch[0])), np.int64)
            mask = np.zeros_like(ids)
            for place, row in enumerate(batch):
                ids[place, : len(row)] = row
                mask[place, : len(row)] = 1
            parts.append(self._forward(ids, mask))
        sorted_vectors = np.concatenate(parts)
        vectors = np.empty_like(sorted_vectors)
        vectors[order] = sorted_vectors
        return vectors


def fastest(variants: Mapping[str, Embed], texts: Sequence[str]) -> tuple[str, Embed]:
    """The one of several ways that is quickest with some of the texts; its name tells which."""
    some = texts[:: max(1, len(texts) // PROBE_TEXTS)]
    seconds: dict[str, float] = {}
    for name, embed in variants.items():
        embed(some[:1])
        started = time.perf_counter()
        embed(some)
        seconds[name] = time.perf_counter() - started
    best = min(seconds, key=seconds.__getitem__)
    return best, variants[best]


def batched(subject: Subject, forwards: Mapping[str, Forward]) -> dict[str, Embed]:
    """Every forward pass with every batch size, named `batches of 32`, `fused, batches of 32`."""
    return {
        ", ".join(filter(None, [name, f"batches of {size}"])): Padded(subject, forward, size)
        for name, forward in forwards.items()
        for size in BATCH_SIZES
    }


def pooled(hidden: np.ndarray, mask: np.ndarray, pooling: str) -> np.ndarray:
    """(batch, dim) f32 of unit length from hidden (batch, longest, dim)."""
    if pooling == "cls":
        vectors = hidden[:, 0]
    else:
        vectors = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32)) / mask.sum(1, keepdims=True)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def first(found: object) -> np.ndarray:
    """Of towers, what is held against the truth: the first image's vectors, of unit length."""
    values = np.asarray(found)[0].astype(np.float64)
    values = values.reshape(-1, values.shape[-1])
    unit: np.ndarray = values / np.linalg.norm(values, axis=1, keepdims=True)
    return unit
