"""Search over embeddings: binary codes with exact Hamming search and rescoring."""

from longspan.search.binary_index import BinaryIndex
from longspan.search.ranking import SearchResult
from longspan.search.spread import IndexInfo

__all__ = ["BinaryIndex", "IndexInfo", "SearchResult"]
