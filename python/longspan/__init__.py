"""longspan: text-embedding models, run fast and right.

    from longspan import Encoder
    encoder = Encoder("sentence-transformers/all-MiniLM-L6-v2")
    vectors = encoder.encode(["a text", "another"])

Names load when they are first used, so that `import longspan` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from longspan import ops
    from longspan.encoder import Encoder
    from longspan.errors import BackendError, CheckpointError, IndexFileError, OriginWarning, TruncationWarning
    from longspan.multi_vector import MultiVectorEncoder
    from longspan.reranker import Reranker
    from longspan.search import BinaryIndex, MultiVectorStore, SparseIndex
    from longspan.sparse_encoder import SparseEncoder
    from longspan.vectors.sparse import SparseVectors

_HOMES = {
    "BackendError": "longspan.errors",
    "BinaryIndex": "longspan.search",
    "CheckpointError": "longspan.errors",
    "Encoder": "longspan.encoder",
    "IndexFileError": "longspan.errors",
    "MultiVectorEncoder": "longspan.multi_vector",
    "MultiVectorStore": "longspan.search",
    "OriginWarning": "longspan.errors",
    "Reranker": "longspan.reranker",
    "SparseEncoder": "longspan.sparse_encoder",
    "SparseIndex": "longspan.search",
    "SparseVectors": "longspan.vectors.sparse",
    "TruncationWarning": "longspan.errors",
}

__all__ = [
    "BackendError",
    "BinaryIndex",
    "CheckpointError",
    "Encoder",
    "IndexFileError",
    "MultiVectorEncoder",
    "MultiVectorStore",
    "OriginWarning",
    "Reranker",
    "SparseEncoder",
    "SparseIndex",
    "SparseVectors",
    "TruncationWarning",
    "__version__",
    "ops",
]


def __getattr__(name: str) -> object:
    if name == "ops":
        return importlib.import_module("longspan.ops")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'longspan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
