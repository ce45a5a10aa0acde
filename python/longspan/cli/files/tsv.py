"""Tab-separated values: as data sets ship them, without quotes, and as spreadsheets write them, with."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from longspan.cli.console.terminal import count
from longspan.cli.files.inputs import PLACE, Input, check_column, of_file
from longspan.cli.files.lines import read_lines

if TYPE_CHECKING:
    from longspan.cli.files.readers import BadRow, Record, Selection

MOST_LINES: Final = 1000  # that one quoted field may span

Check = Callable[[dict[str, object], "Selection", str, int], "Record | BadRow"]


def tsv_rows(source: Input, selection: Selection, check: Check) -> Iterator[Record | BadRow]:
    """Rows under a header line, each made a record by `check`.

    A line with as many fields as the header is a row, whatever quotes stand in it: a quote at the start of a field
    means nothing, unless the field also ends with one. Only where a line has too few fields and one of them opens a
    quote do the lines behind it join it, until the row is whole.
    """
    from longspan.cli.files.readers import BadRow

    lines = iter(read_lines(source))
    first = next(lines, None)
    if first is None:
        return
    header = _fields(_decoded(first[1]))
    for name in (selection.field, *selection.keep):
        if name not in PLACE or name in header:
            check_column(source, name, header)
    for number, line in lines:
        place, text, size = f"{source.name}:{number}", _decoded(line), len(line)
        values = _fields(text)
        if len(values) < len(header) and any(value.startswith('"') for value in text.split("\t")):
            for more, (_, behind) in enumerate(lines, 1):
                size += len(behind)
                text += _decoded(behind)
                values = _quoted(text)
                if len(values) >= len(header) or more == MOST_LINES:
                    break
        if len(values) == len(header):
            yield check(of_file(source, dict(zip(header, values, strict=True)), number), selection, place, size)
        elif text.strip("\r\n"):  # a blank line is no row
            yield BadRow(f"{place}: {count(len(values), 'field')} where the header has {len(header)}", size)


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
