"""Search over embeddings: binary codes with exact Hamming search and rescoring; token vectors with MaxSim; sparse
vectors in inverted lists."""

from longspan.search.binary_index import BinaryIndex
from longspan.search.multi_vector_store import MultiVectorStore, StoreInfo, StoreResult
from longspan.search.ranking import RescoredResult, SearchResult
from longspan.search.sparse_index import SparseIndex, SparseInfo, SparseResult
from longspan.search.spread import IndexInfo

__all__ = [
    "BinaryIndex",
    "IndexInfo",
    "MultiVectorStore",
    "RescoredResult",
    "SearchResult",
    "SparseIndex",
    "SparseInfo",
    "SparseResult",
    "StoreInfo",
    "StoreResult",
]
