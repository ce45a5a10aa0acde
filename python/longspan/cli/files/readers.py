"""Input files as one stream of records: a text each, with the fields that are to be kept beside its vector.

A row that cannot be used becomes a `BadRow` in the stream, so that the caller can stop at it or count it and go on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from longspan.cli.console.failures import CommandError
from longspan.cli.files.delimited import csv_rows, tsv_rows
from longspan.cli.files.inputs import Input, of_file
from longspan.cli.files.json_values import json_values
from longspan.cli.files.lines import read_bytes, read_lines, read_whole
from longspan.cli.files.parquet import read_rows
from longspan.cli.files.pictures import read_pages, read_pages_to_see
from longspan.cli.files.recordings import read_recording
from longspan.cli.files.records import BadRow, Record, Selection, kind_of, not_utf8, record
from longspan.documents.kinds import MEDIA, PLURALS, PROSE, ROWS, Format
from longspan.images.decode import read_image

_MOST_BAD = 1000  # rows of a file before the first good one that are held


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
        yield from tsv_rows(source, selection)
    else:
        yield from csv_rows(source, selection)


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
        return BadRow(not_utf8(source.name, error), len(data))
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
            yield BadRow(not_utf8(place, error), len(line))
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
            yield BadRow(not_utf8(place, error), len(line))
        except (ValueError, RecursionError) as error:
            yield BadRow(f"{place}: not JSON: {error}", len(line))
        else:
            if isinstance(row, dict):
                yield record(of_file(source, row, number), selection, place, len(line))
            else:
                yield BadRow(f"{place}: a row must be a JSON object, got {kind_of(row)}", len(line))


def _json_file(source: Input, selection: Selection) -> Iterator[Record | BadRow]:
    """The objects of an array, or one behind the other."""
    try:
        for number, (row, size) in enumerate(json_values(line for _, line in read_lines(source)), 1):
            place = f"{source.name}: row {number}"
            if isinstance(row, dict):
                yield record(of_file(source, row, number), selection, place, size)
            else:
                yield BadRow(f"{place}: a row must be a JSON object, got {kind_of(row)}", size)
    except (ValueError, RecursionError) as error:
        if isinstance(error, CommandError):
            raise
        raise CommandError(f"{source.name}: not JSON: {error}") from error
