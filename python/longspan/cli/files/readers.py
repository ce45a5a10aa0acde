"""Input files as one stream of records: a text each, with the fields that are to be kept beside its vector.

A row that cannot be used becomes a `BadRow` in the stream, so that the caller can stop at it or count it and go on.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from longspan.cli.console.failures import CommandError
from longspan.cli.console.terminal import count
from longspan.cli.files.inputs import PICTURES, Input, check_column, named, read_lines, read_whole
from longspan.cli.files.parquet import read_rows
from longspan.cli.files.pictures import read_pictures
from longspan.cli.files.tsv import tsv_rows

if TYPE_CHECKING:
    from longspan.images.pages import PdfPage

_MAX_CSV_FIELD = 2**31 - 1  # the most that the csv module takes everywhere; its own default is 128 kB


@dataclass(frozen=True, slots=True)
class Selection:
    """What is read of each row: the field or column of the text, the fields to keep, and whether a file is one text."""

    field: str = "text"
    keep: tuple[str, ...] = ()
    whole_file: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One text, or one image. `place` is its file and line or page; `kept` its kept fields as one JSON object; `size`
    its bytes of input; `picture` the image, whose `text` is what is known to stand in it."""

    text: str
    kept: str
    place: str
    size: int
    picture: Path | PdfPage | None = None

    @property
    def input(self) -> str | dict[str, object]:
        """What an encoder takes."""
        return self.text if self.picture is None else {"image": self.picture}


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row without a usable text; `reason` is a whole sentence with file and line."""

    reason: str
    size: int


def read_records(inputs: Sequence[Input], selection: Selection) -> Iterator[Record | BadRow]:
    """The records of all inputs in order; nothing is held but the row at hand (Parquet: one batch of a row group).

    Raises: CommandError, a file that cannot be read as its format at all (no such column, damaged, UTF-16).
    """
    for source in inputs:
        if source.format in PICTURES:
            yield from _pictures(source, selection)
        elif selection.whole_file:
            yield _whole_file(source, selection)
        elif source.format == "text":
            yield from _text_lines(source, selection)
        elif source.format == "jsonl":
            yield from _json_lines(source, selection)
        elif source.format == "parquet":
            for place, row, size in read_rows(source, (selection.field, *selection.keep)):
                yield record(row, selection, place, size)
        elif source.format == "tsv":
            yield from tsv_rows(source, selection, record)
        else:
            yield from _csv_rows(source, selection)


def _pictures(source: Input, selection: Selection) -> Iterator[Record | BadRow]:
    """The image, or the pages."""
    for row, picture, place, size in read_pictures(source):
        if picture is None:
            yield BadRow(place, size)
            continue
        kept = {name: row[name] for name in selection.keep if name in row}
        text = row.get("text")
        kept_json = json.dumps(kept, ensure_ascii=False)
        yield Record(text if isinstance(text, str) else "", kept_json, place, size, picture)


def _whole_file(source: Input, selection: Selection) -> Record | BadRow:
    data = read_whole(source)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return BadRow(_not_utf8(source.name, error), len(data))
    return record({"text": text, "file": source.name}, selection, source.name, len(data), field="text")


def _text_lines(source: Input, selection: Selection) -> Iterator[Record | BadRow]:
    """A text a line; an empty line is an empty text, so that row i of the output is line i."""
    for number, line in read_lines(source):
        place = f"{source.name}:{number}"
        try:
            text = line.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            yield BadRow(_not_utf8(place, error), len(line))
            continue
        row = {"text": text, "file": source.name, "line": number}
        yield record(row, selection, place, len(line), field="text")


def _json_lines(source: Input, selection: Selection) -> Iterator[Record | BadRow]:
    """A JSON object a line; blank lines are passed over."""
    for number, line in read_lines(source):
        place = f"{source.name}:{number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
        except UnicodeDecodeError as error:
            yield BadRow(_not_utf8(place, error), len(line))
        except (ValueError, RecursionError) as error:
            yield BadRow(f"{place}: not JSON: {error}", len(line))
        else:
            if isinstance(row, dict):
                yield record(row, selection, place, len(line))
            else:
                yield BadRow(f"{place}: a row must be a JSON object, got {_kind(row)}", len(line))


def _csv_rows(source: Input, selection: Selection) -> Iterator[Record | BadRow]:
    """Rows under a header line; quoted fields may span lines, and every row has as many fields as the header."""
    csv.field_size_limit(_MAX_CSV_FIELD)
    lines = _CsvLines(source)
    reader = csv.reader(lines, strict=True)  # strict: an unclosed quote must not eat the file
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise CommandError(f"{source.name}:1: not a header line: {error}") from error
    if header is None:
        return
    for name in (selection.field, *selection.keep):
        check_column(source, name, header)
    while True:
        place, start = f"{source.name}:{reader.line_num + 1}", lines.size
        try:
            values = next(reader, None)
        except csv.Error as error:
            yield BadRow(f"{place}: not a row of {source.format.upper()}: {error}", lines.size - start)
            continue
        if values is None:
            return
        size = lines.size - start
        if len(values) == len(header):
            yield record(dict(zip(header, values, strict=True)), selection, place, size)
        elif values:  # a blank line is no row
            yield BadRow(f"{place}: {count(len(values), 'field')} where the header has {len(header)}", size)


class _CsvLines:
    """The decoded lines of a file, counting bytes. A bad byte becomes a surrogate, for which its row is refused."""

    def __init__(self, source: Input) -> None:
        self._lines = read_lines(source)
        self.size = 0

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        _, line = next(self._lines)
        self.size += len(line)
        return line.decode(errors="surrogateescape")


def record(
    row: Mapping[str, object], selection: Selection, place: str, size: int, *, field: str | None = None
) -> Record | BadRow:
    """Check one row: its text is there and is a string of whole characters, what is kept can be written."""
    field = field or selection.field
    if field not in row:
        return BadRow(f"{place}: no field {field!r} (the row has {named(row)})", size)
    text = row[field]
    if not isinstance(text, str):
        return BadRow(f"{place}: field {field!r} must be a string, got {_kind(text)}", size)
    try:
        text.encode()
        kept = {name: row[name] for name in selection.keep if name in row}
        kept_json = json.dumps(kept, ensure_ascii=False, allow_nan=False, default=_as_text)
        kept_json.encode()
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        what = "is not UTF-8" if 0xDC80 <= code <= 0xDCFF else f"holds half a character (U+{code:04X})"
        return BadRow(f"{place}: the row {what}", size)
    except (TypeError, ValueError) as error:
        return BadRow(f"{place}: a kept field cannot be written as JSON: {error}", size)
    return Record(text, kept_json, place, size)


def _as_text(value: object) -> str:
    """JSON for what only Parquet can hold. Raises: TypeError, a kind with no plain text form."""
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta | decimal.Decimal | uuid.UUID):
        return str(value)
    raise TypeError(f"it holds {_kind(value)}")


def _kind(value: object) -> str:
    """What JSON calls a value's type."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a number"}
    names |= {float: "a number", type(None): "null", bytes: "bytes"}
    return names.get(type(value), type(value).__name__)


def _not_utf8(place: str, error: UnicodeDecodeError) -> str:
    return f"{place}: not UTF-8: byte 0x{error.object[error.start]:02x} at position {error.start}"
