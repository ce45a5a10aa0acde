"""What `longspan info INDEX` prints, of an index, a store of token vectors or a sparse index."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from longspan.cli.console.terminal import count
from longspan.documents.folder import load_index, read_settings
from longspan.documents.kinds import SETTINGS
from longspan.documents.sparse import load_sparse
from longspan.search import BinaryIndex, IndexInfo, MultiVectorStore, SparseIndex, SparseInfo, StoreInfo
from longspan.search.header import HEADER, read_format
from longspan.search.posting_rows import SparseState
from longspan.search.spread import FEW
from longspan.search.token_rows import TokenState
from longspan.vectors.origin import Origin


@dataclass(frozen=True, slots=True)
class SearchIndexInfo:
    """What an index holds, how its documents became vectors, and whether its codes are good ones."""

    index: str
    model: str | None
    fingerprint: str | None  # of the model, as `longspan info MODEL` prints it; None where it is not known
    dtype: str | None  # what the vectors were computed in
    is_whole: bool  # False: the last run was stopped, and goes on with --resume
    bytes: int  # of all its files
    contents: IndexInfo | StoreInfo | SparseInfo | None  # None: nothing was saved yet
    sparse_model: str | None = None  # that stands beside it, and how many documents it holds
    sparse_documents: int | None = None


def is_index(name: str) -> bool:
    """Whether a folder is one of `longspan search`, or a BinaryIndex."""
    return (Path(name) / SETTINGS).is_file() or (Path(name) / HEADER).is_file()


def describe_index(name: str) -> SearchIndexInfo:
    """Raises: IndexFileError or CommandError, the index is damaged."""
    folder = Path(os.path.realpath(name))
    size = sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())
    if not (folder / SETTINGS).is_file():
        kinds: dict[str | None, type[MultiVectorStore] | type[SparseIndex]] = {
            TokenState.FORMAT: MultiVectorStore,
            SparseState.FORMAT: SparseIndex,
        }
        bare = kinds.get(read_format(folder), BinaryIndex).load(folder)
        return SearchIndexInfo(name, None, *_origin(bare.origin), True, size, bare.info())
    settings, run = read_settings(folder)
    index = load_index(folder)
    if index is None:
        return SearchIndexInfo(name, settings.model, None, None, run.is_done, size, None)
    beside = load_sparse(folder)
    sparse = (settings.sparse, None if beside is None else len(beside))
    return SearchIndexInfo(name, settings.model, *_origin(index.origin), run.is_done, size, index.info(), *sparse)


def _origin(origin: Origin | None) -> tuple[str | None, str | None]:
    return (None, None) if origin is None else (origin.fingerprint, origin.dtype)


def index_as_json(info: SearchIndexInfo) -> dict[str, object]:
    """One object, without a level for the contents."""
    flat = asdict(info)
    contents = flat.pop("contents")
    return {**flat, **(contents or {})}


def index_rows(info: SearchIndexInfo) -> list[tuple[str, str]]:
    """Names and values, for a person."""
    rows = [("model", info.model or "not known"), ("size", f"{info.bytes / 1e6:,.1f} MB")]
    if info.fingerprint is not None:
        rows.append(("fingerprint", f"{info.fingerprint}, computed in {info.dtype}"))
    if not info.is_whole:
        rows.append(("last run", "stopped; the same command with --resume goes on with it"))
    if info.sparse_model is not None:
        rows.append(("sparse model", f"{info.sparse_model}, {count(info.sparse_documents or 0, 'document')}"))
    contents = info.contents
    if contents is None:
        return [*rows, ("documents", "none yet")]
    deleted = f", {contents.deleted:,} deleted" if contents.deleted else ""
    if isinstance(contents, SparseInfo):
        documents = f"{count(contents.documents, 'document')}{deleted}"
        lists = f"{contents.entries:,} entries of {contents.dim:,} dimensions in {count(contents.blocks, 'block')}"
        return [("documents", documents), ("lists", lists), *rows]
    if isinstance(contents, StoreInfo):
        each = f"{contents.dim} dimensions as {contents.store}, {count(contents.token_bytes, 'byte')}"
        held = [("documents", f"{count(contents.documents, 'document')}{deleted}")]
        return [*held, ("vectors", f"{count(contents.tokens, 'token')} of {each}"), *rows]
    sides = {
        "documents": contents.has_center_documents,
        "queries": contents.has_center_queries or contents.has_center_documents,
    }
    centered = " and ".join(side for side, has in sides.items() if has)
    spread = [] if contents.mean_length is None else [f"mean vector {contents.mean_length:.2f} of 1 long"]
    spread += [] if contents.bit_balance is None else [f"bit balance {contents.bit_balance:.2f} of 1"]
    return [
        ("documents", f"{count(contents.rows, 'document')}{deleted}"),
        ("codes", f"{count(contents.dim, 'bit')}, {'centred: ' + centered if centered else 'not centred'}"),
        ("scored again by", contents.store),
        ("spread", ", ".join(spread) or "no document"),
        (
            "verdict",
            contents.advice or ("good codes" if contents.rows >= FEW else "too few documents to judge the codes"),
        ),
        *rows,
    ]
