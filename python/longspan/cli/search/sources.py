"""What `longspan search build` puts into an index: texts, whole or in passages, or vectors with their texts."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from longspan.cli.console.failures import CommandError
from longspan.cli.embedding.stream import Tally, fit_for, good_records, media_read
from longspan.cli.files.inputs import Input
from longspan.cli.files.parquet import read_vectors
from longspan.cli.files.readers import read_records
from longspan.cli.files.records import BadRow, Record, Selection
from longspan.cli.files.stage import Vectors
from longspan.documents.kinds import PROSE, ROWS, unit_of
from longspan.documents.ledger import Ledger, hash_of, key_of_path, stamped

if TYPE_CHECKING:
    from longspan.cli.search.plan import BuildRequest
    from longspan.late_chunking.chunking import ChunkUnit

FILE_CHUNK_TOKENS = 128  # of a passage of a text file: what a person reads at a glance
VECTORS_COLUMN = "embedding"  # as `longspan embed` names it
_ROWS_A_BLOCK = 4096
_BYTES_A_READ = 1 << 20

# From a text, the most tokens of a passage, and what the text is, to spans of characters.
Split = Callable[[str, int, "ChunkUnit"], list[tuple[int, int]]]
# (n, dim), or of each document its tokens'; and for each a JSON object with `text` and `source`.
DocumentBlock = tuple[Vectors | list[np.ndarray], list[str]]


@dataclass(frozen=True, slots=True)
class Keys:
    """How documents get their keys and hashes, and what the index holds of them.

    Attributes:
        index: the folder, from which paths are told.
        field: where a row has its key; None for its place.
        shows_field: whether that is kept with the row, to be shown.
        how: what shapes a vector beside the document: another `how`, another hash.
        ledger: what the index holds.
    """

    index: Path
    field: str | None
    shows_field: bool
    how: str
    ledger: Ledger

    def met(self, record: Record, source: Input, most: int | None) -> Record | BadRow:
        """The record with its key, its hash, and whether the index holds it; a row without a key is bad."""
        fields = json.loads(record.kept)
        own = self.field if source.format in ROWS else None
        if own is None and source.path is None:
            return record  # standard input has no place
        key = self._place(record.place, source) if own is None else _text_of(fields.pop(own, None))
        if key is None:
            return BadRow(f"{record.place}: field {own!r} must be the row's key, a string or a number", record.size)
        kept = record.kept if own is None or self.shows_field else json.dumps(fields, ensure_ascii=False)
        content = record.text
        if record.medium is not None:  # the file, and which page of it
            try:
                content = _file_hash(source.path) + record.place.removeprefix(source.name)
            except OSError as error:
                if not source.is_found:
                    raise
                return BadRow(f"not readable ({error.strerror})", record.size, file=source.name, is_found=True)
        hash = hash_of(self.how, str(most), content, kept)
        is_held = self.ledger.meet(key, hash)
        if is_held is None:
            return BadRow(f"{record.place}: the key {key!r} is another document's too", record.size)
        return replace(record, kept=kept, key=key, hash=hash, is_held=is_held)

    def unread(self, source: Input) -> None:
        """Say that a file could not be read, and what the index holds of it stays."""
        if source.path is not None:
            self.ledger.keep_file(key_of_path(source.path, self.index))

    def _place(self, place: str, source: Input) -> str:
        assert source.path is not None, "standard input has no key"
        return key_of_path(source.path, self.index) + place.removeprefix(source.name)


def _text_of(value: object) -> str | None:
    return value if isinstance(value, str) else str(value) if type(value) is int else None


def _file_hash(path: Path | None) -> str:
    assert path is not None, "pictures are files"
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(_BYTES_A_READ):
            digest.update(data)
    return digest.hexdigest()


def text_records(
    request: BuildRequest, inputs: Sequence[Input], split: Split, tally: Tally, *, encoder: object, keys: Keys
) -> Iterator[Record]:
    """A record a passage, blank ones left out; `kept` is its line in the index's documents, but for the id.

    Text files are one text each, cut into passages unless they are to stay whole; a row of the other formats stays
    whole unless a size is given. What the index holds already is marked so.
    """

    reads, fit = media_read(encoder), fit_for(encoder)
    most: int | None = None  # tokens, of the source that is being read
    keep = request.keep if request.key is None else tuple(dict.fromkeys((*request.keep, request.key)))

    def rows() -> Iterator[Record | BadRow]:
        nonlocal most
        for source in inputs:
            is_file = source.format in PROSE or (source.format == "text" and not request.lines)
            is_cut = (is_file or source.format == "pdf") and not request.whole_file
            most = request.chunk_tokens or (FILE_CHUNK_TOKENS if is_cut else None)
            is_one = is_file or request.whole_file
            own = keep if source.format in ROWS else request.keep
            for row in read_records([source], Selection(request.field, own, is_one, reads, fit)):
                told = keys.met(row, source, most) if isinstance(row, Record) else row
                if isinstance(told, BadRow) and told.file is not None:
                    keys.unread(source)
                yield told

    def passages() -> Iterator[Record]:
        for record in good_records(rows(), tally, keep=request.keep, skip_bad=request.skip_bad):
            yield from [record] if record.is_held else _passages(record, split, most, keys.ledger)

    return islice(passages(), request.limit)


def _passages(record: Record, split: Split, most: int | None, ledger: Ledger) -> Iterator[Record]:
    """The record's parts of at most so many tokens, or the record; each with its share of the bytes read."""
    if record.medium is not None:
        yield _stamped(_whole(record), 0, 1)
        return
    text = record.text
    spans = [(0, len(text))] if most is None else split(text, most, unit_of(record.form) or "paragraph")
    spans = [(start, end) for start, end in spans if not text[start:end].isspace() and start < end]
    held = set() if record.key is None else ledger.held_parts(record.key, record.hash, len(spans))
    fields = {} if record.kept == "{}" else {"fields": json.loads(record.kept)}
    told = 0
    for part, (start, end) in enumerate(spans):
        place = {} if most is None else {"start": start, "end": end}
        line = json.dumps({"text": text[start:end], "source": record.place, **place, **fields}, ensure_ascii=False)
        size = record.size * end // len(text) - told
        told += size
        one = replace(record, text=text[start:end], kept=line, size=size, is_held=part in held)
        yield _stamped(one, part, len(spans))


def _stamped(passage: Record, part: int, parts: int) -> Record:
    """With the document's key and hash in its line, if it has one."""
    if passage.key is None:
        return passage
    return replace(passage, kept=stamped(passage.kept, passage.key, passage.hash, part, parts))


def _whole(record: Record) -> Record:
    """The record of what is no text, with its line: where it lies, and what text is known to stand in it."""
    from longspan.images.pages import PdfPage

    medium = record.medium
    if isinstance(medium, PdfPage):
        where: dict[str, object] = {"file": os.path.realpath(str(medium.path)), "page": medium.number}
    else:
        where = {"file": os.path.realpath(str(medium))}
    fields = {} if record.kept == "{}" else {"fields": json.loads(record.kept)}
    told = {"text": record.text or None, "source": record.place, **where, **fields}
    return replace(record, kept=json.dumps(told, ensure_ascii=False))


def vector_blocks(
    request: BuildRequest, inputs: Sequence[Input], texts: Sequence[Input], keys: Keys
) -> Iterator[DocumentBlock]:
    """The rows of .npy and Parquet files, with the texts that lie beside them or in `texts`, but those that the index
    holds.

    Raises: CommandError, a file holds no vectors, or `texts` has more or fewer rows.
    """
    told = _told_texts(request, texts) if texts else None
    rows_left = request.limit
    for source in inputs:
        for vectors, lines in _blocks_of(source, request, keys):
            count = len(lines) if rows_left is None else min(rows_left, len(lines))
            rows_left = None if rows_left is None else rows_left - count
            given = lines[:count]
            if told is not None:
                given = [(line, key) for line, (_, key) in zip(islice(told, count), given)]
            if len(given) < count:
                raise CommandError(f"{request.texts} has fewer texts than there are vectors; give one for each")
            wanted, new = _not_held(vectors[:count], given, keys)
            if new:
                yield vectors[wanted], new
    if told is not None and rows_left is None and next(told, None) is not None:
        raise CommandError(f"{request.texts} has more texts than there are vectors; give one for each")


def _told_texts(request: BuildRequest, texts: Sequence[Input]) -> Iterator[str]:
    rows = read_records(texts, Selection(request.field, request.keep))
    for record in good_records(rows, Tally(), keep=(), skip_bad=None):
        fields = {} if record.kept == "{}" else {"fields": json.loads(record.kept)}
        yield json.dumps({"text": record.text, "source": record.place, **fields}, ensure_ascii=False)


def _not_held(vectors: Vectors, lines: Sequence[tuple[str, str]], keys: Keys) -> tuple[list[int], list[str]]:
    """Places of the rows that the index does not hold, and their lines. Raises: CommandError, a key is there twice."""
    places, new = [], []
    for place, (line, key) in enumerate(lines):
        hash = hash_of(keys.how, np.ascontiguousarray(vectors[place]).tobytes(), line)
        is_held = keys.ledger.meet(key, hash)
        if is_held is None:
            raise CommandError(f"the key {key!r} is another row's too")
        if not is_held:
            places.append(place)
            new.append(stamped(line, key, hash, 0, 1))
    return places, new


def _blocks_of(source: Input, request: BuildRequest, keys: Keys) -> Iterable[tuple[Vectors, list[tuple[str, str]]]]:
    """Rows of vectors, and of each its line and its key."""
    file = key_of_path(source.path or "", keys.index)
    if not source.name.endswith(".npy"):
        own = () if request.key is None else (request.key,)
        for first, vectors, rows in read_vectors(source, VECTORS_COLUMN, (request.field, *request.keep, *own)):
            lines = []
            for number, row in enumerate(rows, first):
                key = f"{file}: row {number}" if request.key is None else _text_of(row.get(request.key))
                if key is None:
                    place = f"{source.name}: row {number}"
                    raise CommandError(f"{place}: field {request.key!r} must be the row's key, a string or a number")
                lines.append((_line(source, number, row, request), key))
            yield vectors, lines
        return
    array = open_vectors(source.path or source.name)
    for first in range(0, len(array), _ROWS_A_BLOCK):
        block = np.ascontiguousarray(array[first : first + _ROWS_A_BLOCK])
        numbers = range(first + 1, first + 1 + len(block))
        yield block, [(_line(source, number, {}, request), f"{file}: row {number}") for number in numbers]


def _line(source: Input, number: int, row: dict[str, object], request: BuildRequest) -> str:
    text = row.get(request.field)
    fields = {name: row[name] for name in request.keep if name in row}
    told = {"text": text if isinstance(text, str) else None, "source": f"{source.name}: row {number}"}
    return json.dumps({**told, **({"fields": fields} if fields else {})}, ensure_ascii=False, default=str)


def open_vectors(name: str | Path) -> Vectors:
    """(n, dim) floats or uint8 codes of a .npy file, mapped. Raises: CommandError, it holds something else."""
    try:
        array = np.load(Path(name), mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CommandError(f"{name} is not a .npy file of vectors: {error}") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or (array.dtype.kind != "f" and array.dtype != np.uint8):
        got = f"{array.shape} {array.dtype}" if isinstance(array, np.ndarray) else "several arrays"
        raise CommandError(f"{name} must hold vectors, (n, dim) of floats, or (n, dim / 8) uint8 codes, got {got}")
    return array
