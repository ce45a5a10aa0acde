"""What `longspan search build` puts into an index: texts, whole or in passages, or vectors with their texts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from longspan.cli.console.failures import CommandError
from longspan.cli.embedding.stream import Tally, good_records
from longspan.cli.files.inputs import Input
from longspan.cli.files.parquet import read_vectors
from longspan.cli.files.readers import BadRow, Record, Selection, read_records
from longspan.cli.files.stage import Vectors
from longspan.documents.kinds import PROSE, unit_of

if TYPE_CHECKING:
    from longspan.cli.search.plan import BuildRequest
    from longspan.late_chunking.chunking import ChunkUnit

FILE_CHUNK_TOKENS = 128  # of a passage of a text file: what a person reads at a glance
VECTORS_COLUMN = "embedding"  # as `longspan embed` names it
_ROWS_A_BLOCK = 4096

# From a text, the most tokens of a passage, and what the text is, to spans of characters.
Split = Callable[[str, int, "ChunkUnit"], list[tuple[int, int]]]
# (n, dim), or of each document its tokens'; and for each a JSON object with `text` and `source`.
DocumentBlock = tuple[Vectors | list[np.ndarray], list[str]]


def text_records(
    request: BuildRequest, inputs: Sequence[Input], split: Split, tally: Tally, *, reads: frozenset[str]
) -> Iterator[Record]:
    """A record a document, blank ones left out; `kept` is its line in the index's documents, but for the id.

    Text files are one text each, cut into passages unless they are to stay whole; a row of the other formats stays
    whole unless a size is given.
    """

    most: int | None = None  # tokens, of the source that is being read

    def rows() -> Iterator[Record | BadRow]:
        nonlocal most
        for source in inputs:
            is_file = source.format in PROSE or (source.format == "text" and not request.lines)
            is_cut = (is_file or source.format == "pdf") and not request.whole_file
            most = request.chunk_tokens or (FILE_CHUNK_TOKENS if is_cut else None)
            is_one = is_file or request.whole_file
            yield from read_records([source], Selection(request.field, request.keep, whole_file=is_one, reads=reads))

    def passages() -> Iterator[Record]:
        for record in good_records(rows(), tally, keep=request.keep, skip_bad=request.skip_bad):
            yield from _passages(record, split, most)

    return islice(passages(), request.limit)


def _passages(record: Record, split: Split, most: int | None) -> Iterator[Record]:
    """The record's parts of at most so many tokens, or the record; each with its share of the bytes read."""
    if record.medium is not None:
        yield _whole(record)
        return
    text, told = record.text, 0
    spans = [(0, len(text))] if most is None else split(text, most, unit_of(record.form) or "paragraph")
    fields = {} if record.kept == "{}" else {"fields": json.loads(record.kept)}
    for start, end in spans:
        passage = text[start:end]
        if not passage.strip():
            continue
        place = {} if most is None else {"start": start, "end": end}
        line = json.dumps({"text": passage, "source": record.place, **place, **fields}, ensure_ascii=False)
        size = record.size * end // len(text) - told
        told += size
        yield Record(passage, line, record.place, size)


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


def vector_blocks(request: BuildRequest, inputs: Sequence[Input], texts: Sequence[Input]) -> Iterator[DocumentBlock]:
    """The rows of .npy and Parquet files, with the texts that lie beside them or in `texts`.

    Raises: CommandError, a file holds no vectors, or `texts` has more or fewer rows.
    """
    told = _told_texts(request, texts) if texts else None
    rows_left = request.limit
    for source in inputs:
        for vectors, lines in _blocks_of(source, request):
            count = len(lines) if rows_left is None else min(rows_left, len(lines))
            rows_left = None if rows_left is None else rows_left - count
            given = lines[:count] if told is None else list(islice(told, count))
            if len(given) < count:
                raise CommandError(f"{request.texts} has fewer texts than there are vectors; give one for each")
            if count:
                yield vectors[:count], given
    if told is not None and rows_left is None and next(told, None) is not None:
        raise CommandError(f"{request.texts} has more texts than there are vectors; give one for each")


def _told_texts(request: BuildRequest, texts: Sequence[Input]) -> Iterator[str]:
    rows = read_records(texts, Selection(request.field, request.keep))
    for record in good_records(rows, Tally(), keep=(), skip_bad=False):
        fields = {} if record.kept == "{}" else {"fields": json.loads(record.kept)}
        yield json.dumps({"text": record.text, "source": record.place, **fields}, ensure_ascii=False)


def _blocks_of(source: Input, request: BuildRequest) -> Iterable[DocumentBlock]:
    if not source.name.endswith(".npy"):
        columns = (request.field, *request.keep)
        for first, vectors, rows in read_vectors(source, VECTORS_COLUMN, columns):
            yield vectors, [_line(source, first + i, row, request) for i, row in enumerate(rows)]
        return
    array = open_vectors(source.path or source.name)
    for first in range(0, len(array), _ROWS_A_BLOCK):
        block = np.ascontiguousarray(array[first : first + _ROWS_A_BLOCK])
        numbers = range(first + 1, first + 1 + len(block))
        yield block, [_line(source, number, {}, request) for number in numbers]


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
