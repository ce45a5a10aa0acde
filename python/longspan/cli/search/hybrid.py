"""`longspan search` with a sparse model beside the dense one: `sparse/` in the index's folder, and one list of both.

The sparse index follows the documents: whatever lines of documents.jsonl it does not hold yet are encoded, and saved
every few seconds, after the dense index is whole. So a run that is stopped there goes on where it was, and a sparse
model can be added to an index that has none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np

from longspan.cli.console.failures import CommandError
from longspan.cli.search.index_folder import DOCUMENTS

if TYPE_CHECKING:
    from longspan.search import SparseIndex
    from longspan.sparse_encoder import SparseEncoder

SPARSE: Final = "sparse"  # the folder in the index's
Fusion = Literal["ranks", "scores", "dense", "sparse"]
FUSIONS: Final[tuple[Fusion, ...]] = get_args(Fusion)
CANDIDATES: Final = 100  # of each kind, at least, before they are one list
_AT_A_TIME = 512  # documents
_SECONDS_BETWEEN_SAVES = 5.0
_MANY_BLOCKS = 16  # small ones, of many saves: then they are joined


def load_sparse(folder: Path) -> SparseIndex | None:
    """The sparse index beside the dense one; None where there is none."""
    from longspan.search import SparseIndex
    from longspan.search.header import HEADER

    return SparseIndex.load(folder / SPARSE) if (folder / SPARSE / HEADER).exists() else None


def follow(folder: Path, encoder: SparseEncoder, max_length: int | None, limit: int) -> SparseIndex:
    """Bring the sparse index to the documents that lie in the folder, up to the id `limit`, and save it.

    Raises: CommandError, a document has no text, or the index is of another model; OSError, as from the disk.
    """
    from longspan.search import SparseIndex

    index = load_sparse(folder) or SparseIndex(encoder.dim)
    if index.dim != encoder.dim:
        raise CommandError(f"{folder / SPARSE} has {index.dim} dimensions, but the sparse model {encoder.dim}")
    last = int(index.ids.max()) if len(index) else -1
    saved = time.monotonic()
    records = _records_after(folder / DOCUMENTS, last, limit)
    while block := list(islice(records, _AT_A_TIME)):
        ids, texts = np.array([id for id, _ in block]), [text for _, text in block]
        options = {"max_length": max_length, "on_truncate": "ignore", "show_progress_bar": False}
        vectors = encoder.encode_document(texts, **options)  # type: ignore[arg-type]
        index.add(vectors, ids, origin=encoder.origin)
        if time.monotonic() - saved > _SECONDS_BETWEEN_SAVES:
            index.save(folder / SPARSE)
            saved = time.monotonic()
    if index.info().blocks > _MANY_BLOCKS + 2 * len(index) // 65536:
        index.compact()
    index.save(folder / SPARSE)
    return index


def _records_after(path: Path, last: int, limit: int) -> Iterator[tuple[int, str]]:
    """Id and text of each document behind the id `last`."""
    with open(path, "rb") as file:
        if last >= 0:
            file.seek(last)
            file.readline()
        for line in file:
            record = json.loads(line)
            if record["id"] > limit:
                return
            if not isinstance(record["text"], str):
                raise CommandError(f"--sparse reads texts, and {record['source']} has none")
            yield record["id"], record["text"]


def fused(
    dense: tuple[np.ndarray, np.ndarray],
    sparse: tuple[np.ndarray, np.ndarray],
    k: int,
    fusion: Fusion,
    weights: tuple[float, float] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores (n, k) of two searches' ids and scores: one of them, or both joined as `search.fusion` does."""
    from longspan.search.fusion import fuse_ranks, fuse_scores

    if fusion in ("dense", "sparse"):
        ids, scores = dense if fusion == "dense" else sparse
        return ids[:, :k], scores[:, :k]
    if fusion == "ranks":
        found = fuse_ranks([dense[0], sparse[0]], k, weights=weights)
    else:
        found = fuse_scores([dense, sparse], k, weights=weights)
    return found.ids, found.scores
