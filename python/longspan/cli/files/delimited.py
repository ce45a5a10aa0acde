"""Rows under a header line: CSV, and tab-separated values as data sets ship them, without quotes, and as spreadsheets
write them, with."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import Final

from longspan.cli.console.failures import CommandError
from longspan.cli.console.terminal import count
from longspan.cli.files.inputs import PLACE, Input, check_column, of_file
from longspan.cli.files.lines import read_lines
from longspan.cli.files.records import BadRow, Record, Selection, record

MOST_LINES: Final = 1000  # that one quoted field of tab-separated values may span
MOST_CSV_FIELD: Final = 2**31 - 1  # the most that the csv module takes everywhere; its own default is 128 kB


def csv_rows(source: Input, selection: Selection) -> Iterator[Record | BadRow]:
    """Quoted fields may span lines, and every row has as many fields as the header."""
    csv.field_size_limit(MOST_CSV_FIELD)
    lines = _CsvLines(source)
    reader = csv.reader(lines, delimiter=source.delimiter, strict=True)  # else an unclosed quote would eat the file
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise CommandError(f"{source.name}:1: not a header line: {error}") from error
    if header is None:
        return
    _check_header(source, header, selection)
    while True:
        number, start = reader.line_num + 1, lines.size
        try:
            values = next(reader, None)
        except csv.Error as error:
            place = f"{source.name}:{number}"
            yield BadRow(f"{place}: not a row of {source.format.upper()}: {error}", lines.size - start)
            continue
        if values is None:
            return
        if values:  # a blank line is no row
            yield _row(source, selection, number, header, values, lines.size - start)


def tsv_rows(source: Input, selection: Selection) -> Iterator[Record | BadRow]:
    """A line with as many fields as the header is a row, whatever quotes stand in it: a quote at the start of a field
    means nothing, unless the field also ends with one. Only where a line has too few fields and one of them opens a
    quote do the lines behind it join it, until the row is whole.
    """
    lines = iter(read_lines(source))
    first = next(lines, None)
    if first is None:
        return
    header = _fields(_decoded(first[1]))
    _check_header(source, header, selection)
    for number, line in lines:
        text, size = _decoded(line), len(line)
        values = _fields(text)
        if len(values) < len(header) and any(value.startswith('"') for value in text.split("\t")):
            for more, (_, behind) in enumerate(lines, 1):
                size += len(behind)
                text += _decoded(behind)
                values = _quoted(text)
                if len(values) >= len(header) or more == MOST_LINES:
                    break
        if len(values) == len(header) or text.strip("\r\n"):  # a blank line is no row, but where rows have one field
            yield _row(source, selection, number, header, values, size)


def _check_header(source: Input, header: Sequence[str], selection: Selection) -> None:
    """CommandError unless it has the columns that are asked for, beside those that say where a row lies."""
    for name in (selection.field, *selection.keep):
        if name not in PLACE or name in header:
            check_column(source, name, header)


def _row(
    source: Input, selection: Selection, number: int, header: Sequence[str], values: Sequence[str], size: int
) -> Record | BadRow:
    """The record of the row on that line; a bad one, if it has not as many fields as the header."""
    place = f"{source.name}:{number}"
    if len(values) != len(header):
        return BadRow(f"{place}: {count(len(values), 'field')} where the header has {len(header)}", size)
    return record(of_file(source, dict(zip(header, values, strict=True)), number), selection, place, size)


class _CsvLines:
    """The decoded lines of a file, counting bytes."""

    def __init__(self, source: Input) -> None:
        self._lines = read_lines(source)
        self.size = 0

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        _, line = next(self._lines)
        self.size += len(line)
        return _decoded(line)


def _decoded(line: bytes) -> str:
    """A bad byte becomes a surrogate, for which its row is refused."""
    return line.decode(errors="surrogateescape")


def _fields(line: str) -> list[str]:
    return [_bare(value) for value in line.removesuffix("\n").removesuffix("\r").split("\t")]


def _bare(value: str) -> str:
    """A field without the quotes around it, if they are a spreadsheet's: those within are doubled."""
    inner = value[1:-1]
    is_quoted = len(value) > 1 and value[0] == value[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if is_quoted else value


def _quoted(text: str) -> list[str]:
    """The fields of one row that spans lines; none where it is not whole."""
    lines = text.removesuffix("\n").removesuffix("\r").splitlines(keepends=True)
    try:
        [row] = list(csv.reader(lines, delimiter="\t", strict=True))
    except (csv.Error, ValueError):
        return []
    return row
