"""Runtimes that embed texts, each behind the same small interface, so that they can be measured side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, Protocol

import numpy as np

Kind = Literal["text", "query", "document"]


class Embed(Protocol):
    """Embeds texts with the prompt that the checkpoint names for their kind, or with `prompt` if it is not None."""

    def __call__(self, texts: Sequence[str], kind: Kind = "text", prompt: str | None = None) -> np.ndarray:
        """(n, dim) f32, rows of unit length; texts longer than the model's limit are cut."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A model loaded by a runtime."""

    name: str  # with its version
    embed: Embed


def load_longspan(model: str, num_threads: int | None, dtype: str = "float32") -> Runtime:
    """Ours."""
    import longspan

    encoder = longspan.Encoder(model, dtype=dtype, num_threads=num_threads)
    calls: dict[Kind, Callable[..., object]] = {
        "text": encoder.encode,
        "query": encoder.encode_query,
        "document": encoder.encode_document,
    }

    def embed(texts: Sequence[str], kind: Kind = "text", prompt: str | None = None) -> np.ndarray:
        vectors = calls[kind](texts, prompt=prompt, normalize_embeddings=True, on_truncate="ignore")
        return np.asarray(vectors)

    return Runtime(f"longspan {longspan.__version__}" + (f" {dtype}" if dtype != "float32" else ""), embed)


def load_sentence_transformers(model: str, num_threads: int | None) -> Runtime:
    """sentence-transformers on torch, float32, on the CPU. Raises: ImportError, it is not installed."""
    import sentence_transformers
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    peer = sentence_transformers.SentenceTransformer(model, device="cpu", model_kwargs={"dtype": torch.float32})
    calls: dict[Kind, Callable[..., object]] = {
        "text": peer.encode,
        "query": peer.encode_query,
        "document": peer.encode_document,
    }

    def embed(texts: Sequence[str], kind: Kind = "text", prompt: str | None = None) -> np.ndarray:
        vectors = calls[kind](list(texts), prompt=prompt, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors)

    return Runtime(f"sentence-transformers {sentence_transformers.__version__}", embed)


# The first is ours; the others are compared with it. Another runtime is one function and one line more.
RUNTIMES: Final[dict[str, Callable[[str, int | None], Runtime]]] = {
    "longspan": load_longspan,
    "longspan-bfloat16": partial(load_longspan, dtype="bfloat16"),
    "longspan-int8": partial(load_longspan, dtype="int8"),
    "sentence-transformers": load_sentence_transformers,
}
