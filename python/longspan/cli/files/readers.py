"""Input files as one stream of records: a text each, with the fields that are to be kept beside its vector.

A row that cannot be used becomes a `BadRow` in the stream, so that the caller can stop at it or count it and go on.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from longspan.cli.console.failures import CommandError
from longspan.cli.console.terminal import count
from longspan.cli.files.inputs import PLACE, Input, check_column, named, of_file
from longspan.cli.files.json_values import json_values
from longspan.cli.files.lines import read_bytes, read_lines, read_whole
from longspan.cli.files.parquet import read_rows
from longspan.cli.files.pictures import read_pages, read_pages_to_see
from longspan.cli.files.recordings import read_recording
from longspan.cli.files.tsv import tsv_rows
from longspan.documents.kinds import MEDIA, PLURALS, PROSE, ROWS, Format
from longspan.images.decode import read_image

if TYPE_CHECKING:
    from longspan.images.pages import PdfPage

_MOST_BAD = 1000  # rows of a file before the first good one that are held
Fit = Callable[[Path, str], np.ndarray]
_MAX_CSV_FIELD = 2**31 - 1  # the most that the csv module takes everywhere; its own default is 128 kB


@dataclass(frozen=True, slots=True)
class Selection:
    """What is read of each row.

    Attributes:
        field: the field or column of the text; `meta.text` is the field `text` within `meta`.
        keep: the fields to keep, likewise.
        whole_file: whether a file of plain text, or a PDF file, is one text.
        reads: what the model reads beside texts: "image", "audio", "video"; a PDF file is its pages' images or, for a
            model that reads none, its text.
        fit: what makes of an image file, and its name for messages, the pixels that the model reads; None where images
            are looked at, and decoded again when their turn comes.
    """

    field: str = "text"
    keep: tuple[str, ...] = ()
    whole_file: bool = False
    reads: frozenset[str] = frozenset()
    fit: Fit | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One text, image, sound or video. `place` is its file and line or page; `kept` its kept fields as one JSON object;
    `size` its bytes of input; `medium` what is no text, whose `text` is what is known to stand in it; `form` what the
    text is, or the medium."""

    text: str
    kept: str
    place: str
    size: int
    medium: Path | PdfPage | None = None
    form: Format = "text"
    key: str | None = None  # of the document, where it goes into an index; see `documents.ledger`
    hash: str = ""
    is_held: bool = False  # the index has it already
    pixels: np.ndarray | None = None  # of an image, as small as the model reads it

    @property
    def input(self) -> str | dict[str, object]:
        """What an encoder takes."""
        if self.medium is None:
            return self.text
        return {"image" if self.form == "pdf" else self.form: self.medium if self.pixels is None else self.pixels}


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row without a usable text; `reason` is a whole sentence with file and line. Of a file that a folder holds and
    that gave no row, `file` is the name, and `reason` says why in a few words."""

    reason: str
    size: int
    file: str | None = None
    is_found: bool = False  # a folder holds its file, which nobody has named


def read_records(inputs: Sequence[Input], selection: Selection) -> Iterator[Record | BadRow]:
    """The records of all inputs in order; nothing is held but the row at hand (Parquet: one batch of a row group).

    A file that a folder holds and that cannot be read as what it is becomes a `BadRow`.

    Raises: CommandError, a file that the user named cannot be read as its format at all (no such column, damaged).
    """
    for source in inputs:
        if not source.is_found:
            yield from _records_of(source, selection)
            continue
        try:
            yield from _records_found(source, selection)
        except (CommandError, OSError, ImportError) as error:
            reason = f"not readable ({error.strerror})" if isinstance(error, OSError) else str(error)
            yield _unusable(source, reason)


def _records_found(source: Input, selection: Selection) -> Iterator[Record | BadRow]:
    """Those of a file that a folder holds; one of bad rows alone is bad as a whole."""
    rows = (replace(row, is_found=True) if isinstance(row, BadRow) else row for row in _records_of(source, selection))
    bad: list[BadRow] = []  # those before the first good one
    for row in rows:
        if isinstance(row, Record) or len(bad) == _MOST_BAD:
            yield from (*bad, row)
            yield from rows
            return
        bad.append(row)
    if bad and source.format in ROWS:
        reason = re.sub(r"^(?::\d+|: row \d+): ", "", bad[0].reason.removeprefix(source.name))
        yield _unusable(source, f"without a text: {reason}")
    else:
        yield from bad


def _unusable(source: Input, reason: str) -> BadRow:
    """A file that gave nothing, and why in a few words that fit many files."""
    return BadRow(
        re.split(r"; it has|; '|\(the row has", reason.removeprefix(source.name).lstrip(": "))[0].strip(), 0,
        file=source.name, is_found=True,
    )  # fmt: skip


def _records_of(source: Input, selection: Selection) -> Iterator[Record | BadRow]:
    if source.format in MEDIA:
        is_read = ("image" if source.format == "pdf" else source.format) in selection.reads
        if source.format == "pdf" and not is_read:
            yield from _pdf_texts(source, selection)
        elif source.is_found and not is_read:
            others = ", ".join(PLURALS[kind] for kind in sorted(MEDIA) if kind in selection.reads)
            raise CommandError(f"{PLURALS[source.format]}, and this model reads texts{others and f' and {others}'}")
        else:
            yield from _media(source, selection)
    elif source.format in PROSE or (selection.whole_file and source.format not in ROWS):
        yield _whole_file(source, selection)
    elif source.format == "text":
        yield from _text_lines(source, selection)
    elif source.format == "jsonl":
        yield from _json_lines(source, selection)
    elif source.format == "json":
        yield from _json_file(source, selection)
    elif source.format == "parquet":
        for number, row, size in read_rows(source, (selection.field, *selection.keep)):
            yield record(of_file(source, row, number), selection, f"{source.name}: row {number}", size)
    elif source.format == "tsv":
        yield from tsv_rows(source, selection, record)
    else:
        yield from _csv_rows(source, selection)


def _media(source: Input, selection: Selection) -> Iterator[Record | BadRow]:
    """The image, sound or video, or the pages."""
    if source.format == "image":
        yield _image(source, selection)
        return
    read = read_recording if source.format in ("audio", "video") else read_pages_to_see
    for row, medium, place, size in read(source):
        if medium is None:
            yield BadRow(place, size)
            continue
        text = row.get("text")
        text = text if isinstance(text, str) else ""
        yield Record(text, _kept_of_medium(row, selection), place, size, medium, source.format)


def _image(source: Input, selection: Selection) -> Record | BadRow:
    """The image, decoded once where the model says what is left of it."""
    assert source.path is not None  # `find_inputs` sees to it
    fit, size = selection.fit or (lambda path, name: read_image(path, name)[:0]), source.size or 0
    try:
        pixels = fit(source.path, source.name)
    except ValueError as error:
        return BadRow(str(error), size)
    kept = _kept_of_medium({"text": None, "file": source.name}, selection)
    return Record("", kept, source.name, size, source.path, "image", pixels=pixels if pixels.size else None)


def _kept_of_medium(row: Mapping[str, object], selection: Selection) -> str:
    return json.dumps({name: row[name] for name in selection.keep if name in row}, ensure_ascii=False)


def _pdf_texts(source: Input, selection: Selection) -> Iterator[Record | BadRow]:
    """The text of each page, or of all; a page without text, such as a scan, is a blank one."""
    fields: dict[str, object] = {"file": source.name}
    pages = []
    for number, text, place, size in read_pages(source):
        if number is None:
            yield BadRow(text, size)
        elif selection.whole_file:
            pages.append(text)
        else:
            yield record({**fields, "page": number, "text": text}, selection, place, size, field="text")
    if pages:
        row = {**fields, "text": "\n\n".join(pages)}
        yield record(row, selection, source.name, source.size or 0, field="text")


def _whole_file(source: Input, selection: Selection) -> Record | BadRow:
    """The file as one text; of HTML the text in it."""
    from longspan.cli.files.html_text import text_of_html

    is_html = source.format == "html"
    data = read_bytes(source) if is_html else read_whole(source)
    if source.is_found and b"\x00" in data[:8192]:
        raise CommandError("binary")
    try:
        text = text_of_html(data, source.encoding) if is_html else data.decode()
    except UnicodeDecodeError as error:
        if source.is_found:
            raise CommandError("not UTF-8 text") from error
        return BadRow(_not_utf8(source.name, error), len(data))
    row = {"text": text, "file": source.name}
    form: Format = "markdown" if is_html else source.format
    return record(row, selection, source.name, len(data), field="text", form=form)


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
                yield record(of_file(source, row, number), selection, place, len(line))
            else:
                yield BadRow(f"{place}: a row must be a JSON object, got {_kind(row)}", len(line))


def _json_file(source: Input, selection: Selection) -> Iterator[Record | BadRow]:
    """The objects of an array, or one behind the other."""
    try:
        for number, (row, size) in enumerate(json_values(line for _, line in read_lines(source)), 1):
            place = f"{source.name}: row {number}"
            if isinstance(row, dict):
                yield record(of_file(source, row, number), selection, place, size)
            else:
                yield BadRow(f"{place}: a row must be a JSON object, got {_kind(row)}", size)
    except (ValueError, RecursionError) as error:
        if isinstance(error, CommandError):
            raise
        raise CommandError(f"{source.name}: not JSON: {error}") from error


def _csv_rows(source: Input, selection: Selection) -> Iterator[Record | BadRow]:
    """Rows under a header line; quoted fields may span lines, and every row has as many fields as the header."""
    csv.field_size_limit(_MAX_CSV_FIELD)
    lines = _CsvLines(source)
    reader = csv.reader(
        lines, delimiter=source.delimiter, strict=True
    )  # strict: an unclosed quote must not eat the file
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise CommandError(f"{source.name}:1: not a header line: {error}") from error
    if header is None:
        return
    for name in (selection.field, *selection.keep):
        if name not in PLACE or name in header:
            check_column(source, name, header)
    while True:
        number, start = reader.line_num + 1, lines.size
        place = f"{source.name}:{number}"
        try:
            values = next(reader, None)
        except csv.Error as error:
            yield BadRow(f"{place}: not a row of {source.format.upper()}: {error}", lines.size - start)
            continue
        if values is None:
            return
        size = lines.size - start
        if len(values) == len(header):
            yield record(of_file(source, dict(zip(header, values, strict=True)), number), selection, place, size)
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
    row: Mapping[str, object],
    selection: Selection,
    place: str,
    size: int,
    *,
    field: str | None = None,
    form: Format = "text",
) -> Record | BadRow:
    """Check one row: its text is there and is a string of whole characters, what is kept can be written."""
    field = field or selection.field
    try:
        text = value_at(row, field)
    except KeyError:
        has = named(name for name in row if name not in PLACE)
        return BadRow(f"{place}: no field {field!r} (the row has {has})", size)
    if not isinstance(text, str):
        return BadRow(f"{place}: field {field!r} must be a string, got {_kind(text)}", size)
    try:
        text.encode()
        kept_json = json.dumps(_kept(row, selection.keep), ensure_ascii=False, allow_nan=False, default=_as_text)
        kept_json.encode()
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        what = "is not UTF-8" if 0xDC80 <= code <= 0xDCFF else f"holds half a character (U+{code:04X})"
        return BadRow(f"{place}: the row {what}", size)
    except (TypeError, ValueError) as error:
        return BadRow(f"{place}: a kept field cannot be written as JSON: {error}", size)
    return Record(text, kept_json, place, size, form=form)


def value_at(row: Mapping[str, object], name: str) -> object:
    """The field of that name, or what a path such as `meta.text` or `parts.0.text` leads to. Raises: KeyError."""
    if name in row or "." not in name:
        return row[name]
    value: object = row
    for part in name.split("."):
        if isinstance(value, Mapping):
            value = value[part]
        elif isinstance(value, list) and part.isascii() and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise KeyError(name)
    return value


def _kept(row: Mapping[str, object], keep: Sequence[str]) -> dict[str, object]:
    kept = {}
    for name in keep:
        with suppress(KeyError):
            kept[name] = value_at(row, name)
    return kept


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
