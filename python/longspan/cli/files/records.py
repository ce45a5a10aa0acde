"""A record: what one row of an input holds that is to become a vector, and why a row cannot be used."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from longspan.cli.files.inputs import PLACE, named
from longspan.documents.kinds import Format

if TYPE_CHECKING:
    from longspan.images.pages import PdfPage

Fit = Callable[[Path, str], np.ndarray]


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
        return BadRow(f"{place}: field {field!r} must be a string, got {kind_of(text)}", size)
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
    raise TypeError(f"it holds {kind_of(value)}")


def kind_of(value: object) -> str:
    """What JSON calls a value's type."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a number"}
    names |= {float: "a number", type(None): "null", bytes: "bytes"}
    return names.get(type(value), type(value).__name__)


def not_utf8(place: str, error: UnicodeDecodeError) -> str:
    return f"{place}: not UTF-8: byte 0x{error.object[error.start]:02x} at position {error.start}"
