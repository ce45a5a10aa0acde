"""DocumentIndex: texts with keys, kept in step with where they come from, and found by what they say."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, cast, overload

import numpy as np

from longspan.arguments import names_arguments
from longspan.documents.alone import alone
from longspan.documents.create import SAMPLE, new_index, new_store
from longspan.documents.folder import (
    Documents,
    IndexWriter,
    Settings,
    delete_documents,
    is_unborn,
    load_index,
    read_settings,
)
from longspan.documents.kinds import kind_of, unit_of
from longspan.documents.ledger import Changes, Ledger, hash_of, how_made, key_of_path, stamped
from longspan.documents.sparse import follow, load_sparse
from longspan.integers import checked_int
from longspan.late_chunking.chunking import split_document
from longspan.pipeline.inputs import Input
from longspan.progress import progress_bar
from longspan.vectors.origin import check_added, check_asked

if TYPE_CHECKING:
    from longspan.documents.folder import SearchIndex
    from longspan.encoder import Encoder
    from longspan.multi_vector import MultiVectorEncoder
    from longspan.search import BinaryIndex, MultiVectorStore
    from longspan.sparse_encoder import SparseEncoder

# A text; or {"text": ...} with whatever else is to be kept with it, as JSON.
DocumentText: TypeAlias = "str | Mapping[str, object]"
_AT_A_TIME: Final = 256  # passages
_MEDIA: Final = frozenset(("image", "audio", "video"))
Passage: TypeAlias = tuple[str, str]  # its text, and its line


@dataclass(frozen=True, slots=True)
class DocumentHit:
    """A passage that answers a question.

    Attributes:
        key: of its document; None in an index of an older longspan, or of standard input.
        score: higher is better.
        text: the passage; None of an image.
        start, end: characters of the document's text, where it is a part of it.
        fields: what was kept with the document.
        source: where it comes from: the key, or what `longspan search build` read.
    """

    key: str | None
    score: float
    text: str | None
    start: int | None
    end: int | None
    fields: Mapping[str, object]
    source: str


@names_arguments
class DocumentIndex:
    """Texts with keys, in a folder that `longspan search` shares: cut into passages, embedded, and searched.

    `sync` brings the folder in step with a set of documents: what is new is added, what has changed is replaced, what
    is gone is deleted, and nothing else is embedded. It saves every few seconds: a process that dies loses nothing of
    that, and the next call goes on with what is missing. One process writes at a time; any number may search.

    Documents are texts. Images, pages, sounds and videos come into such a folder by `longspan search build`; a question
    may be any of them.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        encoder: Encoder | MultiVectorEncoder,
        *,
        sparse_encoder: SparseEncoder | None = None,
        chunk_tokens: int | None = 128,
        store: str = "int8",
    ) -> None:
        """Open the index in `folder`, or say where one is to be made.

        Args:
            folder: made by the first `sync` or `add`; its parent must be there.
            encoder: what makes vectors of passages and questions. A late-interaction model makes a MultiVectorStore.
            sparse_encoder: stands beside it; a search then joins both lists by their ranks.
            chunk_tokens: tokens of a passage at most; a key that ends in .md, .py and the like tells how a text is cut.
                None leaves texts whole.
            store: what is kept of vectors: "int8", "float32" or "codes"; of token vectors "int8", "float16", "binary".
        Raises: ValueError, an argument breaks a line above, or the folder holds another model's; IndexFileError, it is
            damaged.
        """
        if not isinstance(folder, str | os.PathLike) or not os.fspath(folder):
            got = "an empty str" if isinstance(folder, str) else type(folder).__name__
            raise TypeError(f"DocumentIndex: folder must be a path, got {got}")
        if not hasattr(encoder, "origin") or not hasattr(encoder, "tokenizer"):
            got = type(encoder).__name__
            raise TypeError(f"DocumentIndex: encoder must be an Encoder or a MultiVectorEncoder, got {got}")
        self.folder: Final = Path(os.path.realpath(folder))
        self.encoder, self.sparse_encoder, self.store = encoder, sparse_encoder, store
        self.chunk_tokens = None if chunk_tokens is None else checked_int("chunk_tokens", chunk_tokens)
        if self.chunk_tokens is not None and self.chunk_tokens < 1:
            raise ValueError(f"DocumentIndex: chunk_tokens must be at least 1, got {chunk_tokens}")
        self._index: SearchIndex | None = None
        self._reload()

    def __len__(self) -> int:
        """How many passages there are."""
        return 0 if self._index is None else len(self._index)

    def __repr__(self) -> str:
        return f"DocumentIndex({str(self.folder)!r}, {len(self):,} passages)"

    def keys(self) -> list[str]:
        """The documents' keys, sorted."""
        return Ledger.read(self.folder, self._index).keys()

    @overload
    def sync(self, documents: Mapping[str, DocumentText], *, show_progress_bar: bool | None = None) -> Changes: ...
    @overload
    def sync(
        self, documents: Iterable[tuple[str, DocumentText]], *, show_progress_bar: bool | None = None
    ) -> Changes: ...
    def sync(
        self,
        documents: Mapping[str, DocumentText] | Iterable[tuple[str, DocumentText]],
        *,
        show_progress_bar: bool | None = None,
    ) -> Changes:
        """Bring the index in step with these documents, which are all that it is to hold.

        Args:
            documents: texts by key, or pairs of both as a stream, which may be larger than memory.
            show_progress_bar: count documents on stderr; None for a terminal alone.
        Returns: how many are new, changed, unchanged and gone.
        Raises: TypeError or ValueError, a document is none, or a key comes twice; what was done until then stays, and
            nothing is deleted. IndexFileError or OSError, as from the folder.
        """
        return self._run(documents, deletes=True, show=show_progress_bar)

    @overload
    def add(self, documents: Mapping[str, DocumentText], *, show_progress_bar: bool | None = None) -> Changes: ...
    @overload
    def add(
        self, documents: Iterable[tuple[str, DocumentText]], *, show_progress_bar: bool | None = None
    ) -> Changes: ...
    def add(
        self,
        documents: Mapping[str, DocumentText] | Iterable[tuple[str, DocumentText]],
        *,
        show_progress_bar: bool | None = None,
    ) -> Changes:
        """Add documents, or replace those of the same keys; others stay. Arguments, returns and raises as `sync`."""
        return self._run(documents, deletes=False, show=show_progress_bar)

    def delete(self, *patterns: str) -> list[str]:
        """Delete documents.

        Args:
            patterns: keys; or files or folders, for all below them; or globs as in a .gitignore.
        Returns: the keys of the documents that are gone.
        Raises: KeyError, a pattern means no document: nothing is deleted then.
        """
        if wrong := [pattern for pattern in patterns if not isinstance(pattern, str)]:
            raise TypeError(f"DocumentIndex.delete: a pattern must be a str, got {type(wrong[0]).__name__}")
        with alone(self.folder, str(self.folder)):
            self._reload()
            ledger = Ledger.read(self.folder, self._index)
            found: dict[str, list[int]] = {}
            for pattern in patterns:
                if not (matching := ledger.matching(pattern, key_of_path(pattern, self.folder) if pattern else None)):
                    raise KeyError(f"DocumentIndex.delete: no document is meant by {pattern!r}")
                found |= matching
            if found and self._index is not None:
                delete_documents(self.folder, self._index, [id for ids in found.values() for id in ids])
        return sorted(found)

    def search(self, query: Input, k: int = 10) -> list[DocumentHit]:
        """The k best passages for a question, best first; of one document there may be several.

        Args:
            query: words; or, of a model that reads them, an image, a sound or a video as `Encoder.encode` takes one
                ({"image": path}), which a sparse model beside it does not see.
            k: how many, at least 1.
        Raises: TypeError or ValueError, the question is empty or none that the model reads, or k is below 1;
            IndexFileError, the folder was altered.
        """
        if isinstance(query, str) and not query.strip():
            raise ValueError("DocumentIndex.search: the question is empty")
        if (k := checked_int("DocumentIndex.search: k", k)) < 1:
            raise ValueError(f"DocumentIndex.search: k must be an integer of at least 1, got {k}")
        if self._index is None or not len(self._index):
            return []
        ids, scores = self._found(query, k)
        with closing(Documents(self.folder)) as documents:
            hits = [(documents.get(id), score) for id, score in zip(ids, scores, strict=True)]
        return [
            DocumentHit(found.key, score, found.text, found.start, found.end, found.fields, found.source)
            for found, score in hits
        ]

    def _found(self, query: Input, k: int) -> tuple[list[int], list[float]]:
        """Ids and scores."""
        from longspan.search.fusion import fuse_ranks

        index = self._index
        assert index is not None
        check_asked("DocumentIndex.search", index.origin, self.encoder.origin)
        sparse = None if self.sparse_encoder is None or not isinstance(query, str) else load_sparse(self.folder)
        wide = k if sparse is None else max(k, 100)
        vectors = self._encode([query], is_query=True)
        if isinstance(vectors, list):
            store = cast("MultiVectorStore", index).search(vectors, wide)
            ids, scores = store.ids, store.scores
        else:
            result = cast("BinaryIndex", index).search(vectors, wide)
            assert result.scores is not None
            ids, scores = result.ids, result.scores
        if sparse is not None and self.sparse_encoder is not None and isinstance(query, str):
            asked = self.sparse_encoder.encode_query([query], on_truncate="ignore", show_progress_bar=False)
            beside = sparse.search(asked, wide, filter=index.ids, origin=self.sparse_encoder.origin)
            joined = fuse_ranks([ids, beside.ids], k)
            ids, scores = joined.ids, joined.scores
        pairs = [(id, score) for id, score in zip(ids[0].tolist(), scores[0].tolist(), strict=True) if id >= 0]
        return [id for id, _ in pairs], [score for _, score in pairs]

    def _run(
        self,
        documents: Mapping[str, DocumentText] | Iterable[tuple[str, DocumentText]],
        *,
        deletes: bool,
        show: bool | None,
    ) -> Changes:
        if isinstance(documents, str | bytes) or not isinstance(documents, Iterable):
            what = "texts by key, or pairs of both"
            raise TypeError(f"DocumentIndex: documents must be {what}, got {type(documents).__name__}")
        pairs = documents.items() if isinstance(documents, Mapping) else documents
        total = len(documents) if isinstance(documents, Mapping) else None
        with alone(self.folder, str(self.folder)):
            self._reload()
            settings, about = self._settings(), {"from": "DocumentIndex", "sync": deletes}
            ledger = Ledger.read(self.folder, self._index)
            writer = IndexWriter(
                self.folder, settings, about, self._index, first=len(self), target=self.folder,
                origin=self.encoder.origin, ledger=ledger,
            )  # fmt: skip
            with closing(writer), progress_bar(total, "document", show) as advance:
                self._write(writer, self._passages(pairs, ledger, advance))
                if writer.index is not None:
                    writer.delete(ledger.leftovers())
                    writer.delete(ledger.gone() if deletes else [])
                    writer.save()
                    if self.sparse_encoder is not None:
                        follow(self.folder, self.sparse_encoder, None, writer.index.ids)
                    writer.finish()
            self._index = writer.index
        return ledger.changes()

    def _write(self, writer: IndexWriter, passages: Iterator[Passage]) -> None:
        """Embed the passages, block by block, and make the index of what the first ones say."""
        size = _AT_A_TIME if writer.index is not None else SAMPLE
        while block := list(itertools.islice(passages, size)):
            vectors = self._encode([text for text, _ in block], is_query=False)
            if writer.index is None and isinstance(vectors, list):
                writer.index = new_store(self.encoder.dim, self.store)
            elif writer.index is None:
                writer.index = new_index(np.asarray(vectors), store=self.store)
            writer.append(vectors, [line for _, line in block])
            size = _AT_A_TIME

    def _passages(
        self, pairs: Iterable[tuple[str, DocumentText]], ledger: Ledger, advance: Callable[[int], object]
    ) -> Iterator[Passage]:
        """What the index does not hold of the documents."""
        for pair in pairs:
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise TypeError(f"DocumentIndex: documents must be pairs of a key and a text, got {pair!r:.80}")
            key, given = pair
            text, kept = _checked(key, given)
            hash = hash_of(how_made(), str(self.chunk_tokens), text, kept)
            is_held = ledger.meet(key, hash)
            if is_held is None:
                raise ValueError(f"DocumentIndex: the key {key!r} comes twice")
            if not is_held:
                yield from self._parts(key, hash, text, kept, ledger)
            advance(1)

    def _parts(self, key: str, hash: str, text: str, kept: str, ledger: Ledger) -> Iterator[Passage]:
        spans = [(0, len(text))]
        if self.chunk_tokens is not None:
            unit = unit_of(kind_of(key)) or "paragraph"
            spans = split_document(text, self.encoder.tokenizer, self.chunk_tokens, unit=unit)
        spans = [(start, end) for start, end in spans if text[start:end].strip()]
        held = ledger.held_parts(key, hash, len(spans))
        fields = {} if kept == "{}" else {"fields": json.loads(kept)}
        for part, (start, end) in enumerate(spans):
            if part not in held:
                place = {} if self.chunk_tokens is None else {"start": start, "end": end}
                line = json.dumps({"text": text[start:end], "source": key, **place, **fields}, ensure_ascii=False)
                yield text[start:end], stamped(line, key, hash, part, len(spans))

    def _encode(self, texts: Sequence[Input], *, is_query: bool) -> np.ndarray | list[np.ndarray]:
        from longspan.multi_vector import MultiVectorEncoder

        encoder = self.encoder
        if isinstance(encoder, MultiVectorEncoder):
            method = encoder.encode_queries if is_query else encoder.encode_documents
            return method(texts, show_progress_bar=False, on_truncate="ignore" if is_query else "warn")
        normalize = self._settings().normalize
        one = encoder.encode_query if is_query else encoder.encode_document
        return one(
            texts, normalize_embeddings=normalize, show_progress_bar=False, on_truncate="ignore" if is_query else "warn"
        )

    def _settings(self) -> Settings:
        """Those of the folder, or of a new one."""
        if self._index is not None:
            return read_settings(self.folder)[0]
        sparse = None if self.sparse_encoder is None else _place_of(self.sparse_encoder.name)
        normalize = True if getattr(self.encoder, "similarity_fn_name", "dot") != "dot" else None
        return Settings(_place_of(self.encoder.name), None, None, normalize, sparse)

    def _reload(self) -> None:
        """What lies in the folder now. Raises: ValueError, it is another model's, or no index."""
        self._index = None
        if not self.folder.exists() or is_unborn(self.folder):
            return
        read_settings(self.folder)
        self._index = load_index(self.folder)
        if self._index is not None:
            check_added("DocumentIndex", self._index.origin, self.encoder.origin)


def _checked(key: str, given: DocumentText) -> tuple[str, str]:
    """A document's text, and what is kept with it as JSON. Raises: TypeError or ValueError, it is none."""
    if not isinstance(key, str):
        raise TypeError(f"DocumentIndex: a key must be a str, got {type(key).__name__}")
    fields: dict[str, object] = {}
    text: object = given
    if isinstance(given, Mapping):
        fields = {name: value for name, value in given.items() if name != "text"}
        text = given.get("text")
    if not isinstance(text, str):
        what = 'a str, or {"text": a str} with what is to be kept'
        is_medium = (
            _MEDIA & given.keys() if isinstance(given, Mapping) else not isinstance(given, (int, float, type(None)))
        )
        more = "; images, sounds and videos come into the same folder by `longspan search build`" if is_medium else ""
        raise TypeError(f"DocumentIndex: the document {key!r} must be {what}, got {type(text).__name__}{more}")
    try:
        kept = json.dumps(fields, ensure_ascii=False, allow_nan=False)
        (key + text + kept).encode()
    except (TypeError, ValueError) as error:
        raise ValueError(f"DocumentIndex: the document {key!r} cannot be written as JSON: {error}") from error
    return text, kept


def _place_of(name: str) -> str:
    """A folder's whole path: the index may be opened from another one."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name
