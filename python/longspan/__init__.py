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
    from longspan.document_index import DocumentHit, DocumentIndex
    from longspan.documents.ledger import Changes
    from longspan.encoder import Encoder
    from longspan.errors import BackendError, CheckpointError, IndexFileError, OriginWarning, TruncationWarning
    from longspan.images.pages import PdfPage, PdfPages
    from longspan.late_chunking.windows import Chunks
    from longspan.late_interaction.token_places import TokenPlaces
    from longspan.models.spec import ModelSpec
    from longspan.multi_vector import MultiVectorEncoder
    from longspan.pipeline.media_options import MediaOptions
    from longspan.reranker import RankedDocument, RankedText, Reranker
    from longspan.search import (
        BinaryIndex,
        IndexInfo,
        MultiVectorStore,
        RescoredResult,
        SearchResult,
        SparseIndex,
        SparseInfo,
        SparseResult,
        StoreInfo,
        StoreResult,
    )
    from longspan.search.fusion import FusedResult, fuse_ranks, fuse_scores
    from longspan.search.late_interaction import Ranked
    from longspan.sparse.outputs import ModelOutputs
    from longspan.sparse_encoder import SparseEncoder
    from longspan.text.tokenizer import TokenizedText
    from longspan.vectors.origin import Origin
    from longspan.vectors.quantize import quantize_embeddings
    from longspan.vectors.sparse import SparseVectors

_HOMES = {
    "BackendError": "longspan.errors",
    "BinaryIndex": "longspan.search",
    "CheckpointError": "longspan.errors",
    "Chunks": "longspan.late_chunking.windows",
    "Changes": "longspan.documents.ledger",
    "DocumentHit": "longspan.document_index",
    "DocumentIndex": "longspan.document_index",
    "Encoder": "longspan.encoder",
    "FusedResult": "longspan.search.fusion",
    "IndexFileError": "longspan.errors",
    "IndexInfo": "longspan.search",
    "MediaOptions": "longspan.pipeline.media_options",
    "ModelSpec": "longspan.models.spec",
    "ModelOutputs": "longspan.sparse.outputs",
    "MultiVectorEncoder": "longspan.multi_vector",
    "MultiVectorStore": "longspan.search",
    "Origin": "longspan.vectors.origin",
    "OriginWarning": "longspan.errors",
    "PdfPage": "longspan.images.pages",
    "PdfPages": "longspan.images.pages",
    "Ranked": "longspan.search.late_interaction",
    "RankedDocument": "longspan.reranker",
    "RankedText": "longspan.reranker",
    "Reranker": "longspan.reranker",
    "RescoredResult": "longspan.search",
    "SearchResult": "longspan.search",
    "SparseEncoder": "longspan.sparse_encoder",
    "SparseIndex": "longspan.search",
    "SparseInfo": "longspan.search",
    "SparseResult": "longspan.search",
    "SparseVectors": "longspan.vectors.sparse",
    "StoreInfo": "longspan.search",
    "StoreResult": "longspan.search",
    "TokenPlaces": "longspan.late_interaction.token_places",
    "TokenizedText": "longspan.text.tokenizer",
    "TruncationWarning": "longspan.errors",
    "fuse_ranks": "longspan.search.fusion",
    "fuse_scores": "longspan.search.fusion",
    "quantize_embeddings": "longspan.vectors.quantize",
}

__all__ = [
    "BackendError",
    "BinaryIndex",
    "Changes",
    "CheckpointError",
    "Chunks",
    "DocumentHit",
    "DocumentIndex",
    "Encoder",
    "FusedResult",
    "IndexFileError",
    "IndexInfo",
    "MediaOptions",
    "ModelOutputs",
    "ModelSpec",
    "MultiVectorEncoder",
    "MultiVectorStore",
    "Origin",
    "OriginWarning",
    "PdfPage",
    "PdfPages",
    "Ranked",
    "RankedDocument",
    "RankedText",
    "Reranker",
    "RescoredResult",
    "SearchResult",
    "SparseEncoder",
    "SparseIndex",
    "SparseInfo",
    "SparseResult",
    "SparseVectors",
    "StoreInfo",
    "StoreResult",
    "TokenPlaces",
    "TokenizedText",
    "TruncationWarning",
    "__version__",
    "fuse_ranks",
    "fuse_scores",
    "ops",
    "quantize_embeddings",
]


def __getattr__(name: str) -> object:
    if name == "ops":
        return importlib.import_module("longspan.ops")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'longspan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
