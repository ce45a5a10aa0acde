"""The folder of `longspan search`: an index, and beside it its documents and how they became vectors.

    index.json, *.bin   the BinaryIndex, or the MultiVectorStore; a document's id is the
                        place of its line in documents.jsonl, in bytes
    documents.jsonl     {"id": 0, "key": "notes.md", "hash": "...", "part": [0, 3], "text": "...",
                        "source": "notes.md", "start": 0, "end": 120} a passage; see `ledger`
    sparse/             a SparseIndex of the same documents, where a sparse model stands beside the dense one
    search.json         the models and their options, and what the last run was to add

Documents are on the disk before the index counts them. Lines behind the last one that it ever counted were left by a
run that was stopped; nobody reads them, and the next run cuts them off. Lines of documents that were deleted stay where
they are, as their places are the other lines' ids.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

import numpy as np

from longspan.checkpoint.json_object import JsonObject
from longspan.documents.kinds import DOCUMENTS, SETTINGS
from longspan.documents.ledger import Ledger
from longspan.documents.sparse import drop
from longspan.errors import IndexFileError
from longspan.own_files import open_new, open_own, sync_folder

if TYPE_CHECKING:
    from longspan.search import BinaryIndex, MultiVectorStore
    from longspan.vectors.origin import Origin

    SearchIndex = BinaryIndex | MultiVectorStore

if sys.platform != "win32":  # there, two runs of one index are not kept apart
    import fcntl

_FORMAT: Final = "longspan search"
_VERSION: Final = 1
_SECONDS_BETWEEN_SAVES: Final = 5.0


def is_unborn(folder: Path) -> bool:
    """Whether it is what a run leaves that was killed before it had written its settings: no document counts yet, so it
    is as good as absent."""
    return folder.is_dir() and set(os.listdir(folder)) <= {DOCUMENTS, f"{SETTINGS}.new"}


@dataclass(frozen=True, slots=True)
class Settings:
    """How an index's documents became vectors, so that its queries do too."""

    model: str | None  # as `Encoder` takes it; None where the vectors came from a file and nobody said
    revision: str | None
    truncate_dim: int | None
    normalize: bool | None
    sparse: str | None = None  # a sparse model beside it, as `SparseEncoder` takes it; see `hybrid`


@dataclass(frozen=True, slots=True)
class Run:
    """What a run was to add."""

    about: Mapping[str, object]  # its inputs and options, as JSON values
    first: int  # documents that were there before
    is_done: bool


@dataclass(frozen=True, slots=True)
class Document:
    """A document that was found again."""

    id: int
    key: str | None  # of the document that it is a part of; None of standard input, or in an index of an older version
    text: str | None  # None where only its vector is known
    source: str
    start: int | None  # characters of the source's text, where it is a part of it
    end: int | None
    fields: Mapping[str, object]  # those of --keep
    file: str | None = None  # of an image or a page: where it lies
    page: int | None = None  # from 1


def read_settings(folder: Path) -> tuple[Settings, Run]:
    """Of the index in `folder`. Raises: FileNotFoundError, there is none; ValueError, its settings are damaged."""
    path = folder / SETTINGS
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no index of `longspan search`: there is no {SETTINGS} in it")
    try:
        content = JsonObject.read(path)
        if (content.get_str("format"), content.get_int("version")) != (_FORMAT, _VERSION):
            raise ValueError(f"{path}: version {content.get('version')} is not {_VERSION}; a newer longspan may do")
        settings = JsonObject(content.get("settings"), f"{path}: settings")
        run = JsonObject(content.get("run"), f"{path}: run")
        return (
            Settings(
                model=settings.get_str("model", None),
                revision=settings.get_str("revision", None),
                truncate_dim=settings.get_int("truncate_dim", None),
                normalize=settings.get_bool("normalize", None),
                sparse=settings.get_str("sparse", None),
            ),
            Run(dict(JsonObject(run.get("about"), str(path))), run.get_int("first"), run.get_bool("is_done")),
        )
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def load_index(folder: Path) -> SearchIndex | None:
    """The index in `folder`; None where no run has saved one yet."""
    from longspan.search import BinaryIndex, MultiVectorStore
    from longspan.search.header import HEADER, read_format
    from longspan.search.token_rows import TokenState

    if not (folder / HEADER).exists():
        return None
    return MultiVectorStore.load(folder) if read_format(folder) == TokenState.FORMAT else BinaryIndex.load(folder)


class Documents:
    """The documents' file, open to be read."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / DOCUMENTS
        self._file = open(self._path, "rb")  # noqa: SIM115  (it lives as long as this)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def get(self, id: int) -> Document:
        """The document of this id. Raises: IndexFileError, the file is not what was written with the index."""
        self._file.seek(id)
        try:
            line = json.loads(self._file.readline())
            if line["id"] != id:
                raise ValueError
            start, end, fields = line.get("start"), line.get("end"), line.get("fields", {})
            picture = line.get("file"), line.get("page")
            return Document(id, line.get("key"), line["text"], line["source"], start, end, fields, *picture)
        except (ValueError, KeyError, TypeError) as error:
            raise IndexFileError(f"{self._path} was altered: there is no document at byte {id}; restore it") from error


class IndexWriter:
    """A run that adds documents, and saves them every few seconds.

    Args:
        folder: made if it is not there.
        target: where the index is to be in the end: `folder`, or the folder of one that it replaces.
        about: what makes two runs the same run, as JSON values.
        index: what is there already; None where nothing is.
        first: documents that were there before the run began.
        origin: the model that makes the vectors; None where that is not known.
        ledger: what the index holds of each document; None where that is nobody's business.
    Raises: ValueError, another run is at work there; OSError, the folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        about: Mapping[str, object],
        index: SearchIndex | None,
        *,
        first: int,
        target: Path,
        origin: Origin | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.folder, self.target, self.index, self._settings = folder, target, index, settings
        self._origin, self._ledger = origin, Ledger() if ledger is None else ledger
        self.added = self.deleted = 0  # passages
        self._run = Run(about, first, is_done=False)
        self._last_save = time.monotonic()
        folder.mkdir(exist_ok=True)
        self._file: IO[bytes] = open_own(folder / DOCUMENTS)
        try:
            self._lock()
            self._cut()
            self._write_settings(self._run)
        except BaseException:
            self._file.close()
            raise

    def append(self, vectors: np.ndarray | list[np.ndarray], lines: Sequence[str]) -> None:
        """Add passages; `lines`: of each what follows its id in the file, a JSON object with `text` and `source`.

        Those of a document's other versions go when the last passage of the new one is there.
        """
        assert self.index is not None, "the index is made before the first row"
        ids, data, at = np.empty(len(lines), np.int64), bytearray(), self._file.tell()
        for place, line in enumerate(lines):
            ids[place] = at + len(data)
            data += f'{{"id": {ids[place]}, {line[1:]}\n'.encode()
        self._file.write(data)
        origin = self._origin if self.index.origin is None else None  # what is there was held against it before
        if isinstance(vectors, list):
            cast("MultiVectorStore", self.index).add(vectors, ids, origin=origin)
        else:
            cast("BinaryIndex", self.index).add(vectors, ids, origin=origin)
        self.added += len(lines)
        outdated = [self._ledger.add(json.loads(line), id) for line, id in zip(lines, ids.tolist(), strict=True)]
        self.delete([id for some in outdated for id in some])
        if time.monotonic() - self._last_save > _SECONDS_BETWEEN_SAVES:
            self.save()

    def delete(self, ids: Sequence[int]) -> None:
        """Delete passages; they are gone with the next save."""
        if ids:
            assert self.index is not None, "it holds them"
            self.index.delete(np.array(ids, np.int64))
            self.deleted += len(ids)

    def save(self) -> None:
        """Bring what was added to the disk: the documents, then the index that counts them."""
        assert self.index is not None, "the index is made before the first row"
        self._file.flush()
        os.fsync(self._file.fileno())
        self.index.save(self.folder)
        self._last_save = time.monotonic()

    def finish(self) -> None:
        """Save, put the index where it is to be, and say that the run is done."""
        self.save()
        if self.folder != self.target:
            self._replace()
        self._write_settings(Run(self._run.about, self._run.first, is_done=True))

    def close(self) -> None:
        """Let another run begin."""
        self._file.close()

    def _replace(self) -> None:
        """This index in the place of the one that is there. Between the two renames none is, and --resume goes on."""
        old = self.target.with_name(f"{self.target.name}.old")
        if (old / SETTINGS).is_file():  # left by a run that was killed here
            shutil.rmtree(old)
        if self.target.exists():
            os.rename(self.target, old)
        try:
            os.rename(self.folder, self.target)
        except BaseException:
            if old.exists():
                os.rename(old, self.target)
            raise
        self.folder = self.target
        sync_folder(self.target.parent)
        shutil.rmtree(old, ignore_errors=True)

    def _lock(self) -> None:
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another run is adding to {self.folder}; wait for it") from error

    def _cut(self) -> None:
        """Cut off the lines that the index never counted; an id is never given twice."""
        end = 0
        if self.index is not None and self.index.next_id:
            with open(self.folder / DOCUMENTS, "rb") as file:
                file.seek(self.index.next_id - 1)
                file.readline()
                end = file.tell()
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)

    def _write_settings(self, run: Run) -> None:
        content = {"format": _FORMAT, "version": _VERSION, "settings": asdict(self._settings), "run": asdict(run)}
        fresh = self.folder / f"{SETTINGS}.new"
        with open_new(fresh) as file:
            file.write(json.dumps(content, indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self.folder / SETTINGS)
        sync_folder(self.folder)


def delete_documents(folder: Path, index: SearchIndex, ids: Sequence[int]) -> None:
    """Delete passages from an index and save it: from the sparse one beside it first, which follows again where a run
    was stopped between the two. Raises: as `save`."""
    wanted = np.array(ids, np.int64)
    drop(folder, wanted)
    index.delete(wanted)
    index.save(folder)
