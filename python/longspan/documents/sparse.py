"""A sparse index beside the dense one, in `sparse/` of its folder, of the same documents under the same ids.

It follows: whatever the dense index holds and it does not is encoded, and saved every few seconds, after the dense
index is whole; what that no longer holds goes. So a run that is stopped goes on where it was, and a sparse model can be
added to an index that has none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

import numpy as np

from longspan.documents.kinds import DOCUMENTS
from longspan.errors import IndexFileError

if TYPE_CHECKING:
    from longspan.search import SparseIndex
    from longspan.vectors.origin import Origin
    from longspan.vectors.sparse import SparseVectors

SPARSE: Final = "sparse"  # the folder in the index's
_AT_A_TIME = 512  # documents
_SECONDS_BETWEEN_SAVES = 5.0
_MANY_BLOCKS = 16  # small ones, of many saves: then they are joined


class SparseEmbedder(Protocol):
    """As much of `SparseEncoder` as this needs."""

    @property
    def dim(self) -> int: ...
    @property
    def origin(self) -> Origin: ...
    def encode_document(
        self,
        texts: list[str],
        *,
        max_length: int | None,
        on_truncate: Literal["ignore"],
        show_progress_bar: bool,
    ) -> SparseVectors:
        """Texts to sparse vectors."""


def load_sparse(folder: Path) -> SparseIndex | None:
    """The sparse index beside the dense one; None where there is none."""
    from longspan.search import SparseIndex
    from longspan.search.header import HEADER

    return SparseIndex.load(folder / SPARSE) if (folder / SPARSE / HEADER).exists() else None


def follow(folder: Path, encoder: SparseEmbedder, max_length: int | None, ids: np.ndarray) -> SparseIndex:
    """Bring the sparse index to the documents of these ids, and save it.

    Raises: ValueError, a document has no text, or the index is of another model; OSError, as from the disk.
    """
    from longspan.search import SparseIndex

    index = load_sparse(folder) or SparseIndex(encoder.dim)
    if index.dim != encoder.dim:
        raise ValueError(f"{folder / SPARSE} has {index.dim} dimensions, but the sparse model {encoder.dim}")
    index.delete(np.setdiff1d(index.ids, ids))
    saved = time.monotonic()
    records = _records(folder / DOCUMENTS, np.setdiff1d(ids, index.ids))
    while block := list(islice(records, _AT_A_TIME)):
        new, texts = np.array([id for id, _ in block]), [text for _, text in block]
        vectors = encoder.encode_document(texts, max_length=max_length, on_truncate="ignore", show_progress_bar=False)
        index.add(vectors, new, origin=encoder.origin)
        if time.monotonic() - saved > _SECONDS_BETWEEN_SAVES:
            index.save(folder / SPARSE)
            saved = time.monotonic()
    if index.info().blocks > _MANY_BLOCKS + 2 * len(index) // 65536:
        index.compact()
    index.save(folder / SPARSE)
    return index


def drop(folder: Path, ids: np.ndarray) -> None:
    """Delete from the sparse index, if there is one, what it holds of these documents, and save it."""
    index = load_sparse(folder)
    if index is None:
        return
    index.delete(np.intersect1d(index.ids, ids))
    index.save(folder / SPARSE)


def _records(path: Path, ids: np.ndarray) -> Iterator[tuple[int, str]]:
    """Id and text of each of the documents."""
    with open(path, "rb") as file:
        for id in ids.tolist():
            file.seek(id)
            try:
                record = json.loads(file.readline())
                is_right = record["id"] == id
            except (ValueError, KeyError, TypeError):
                is_right = False
            if not is_right:
                raise IndexFileError(f"{path} was altered: there is no document at byte {id}; restore it")
            if not isinstance(record["text"], str):
                raise ValueError(f"--sparse reads texts, and {record['source']} has none")
            yield id, record["text"]
