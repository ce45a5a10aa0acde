"""The files a command reads: their format by suffix, gzip, standard input, byte order marks, lines of bytes."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from longspan.cli.console.failures import CommandError
from longspan.cli.console.streams import standard_input
from longspan.images.suffixes import SUFFIXES

Format = Literal["text", "jsonl", "csv", "tsv", "parquet", "image", "pdf"]
FORMATS: tuple[Format, ...] = get_args(Format)
STDIN = "-"

_BY_SUFFIX: dict[str, Format] = {
    ".txt": "text",
    ".text": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
PICTURES: tuple[Format, ...] = ("image", "pdf")  # for commands that embed them
_PROSE = (".md", ".markdown", ".rst")  # text, for commands that read files whole
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Input:
    """One file to read. `name` is as the user wrote it, for messages; `path` is None for standard input."""

    name: str
    path: Path | None
    format: Format

    @property
    def is_gzip(self) -> bool:
        return self.path is not None and self.path.suffix.lower() == ".gz"

    @property
    def size(self) -> int | None:
        """Bytes that reading will yield; None where that is not known before the end (gzip, pipes)."""
        if self.path is None or self.is_gzip or not self.path.is_file():
            return None
        return self.path.stat().st_size

    def open(self) -> AbstractContextManager[Iterable[bytes]]:
        """The file's bytes, unzipped, a line at a time."""
        if self.path is None:
            return nullcontext(standard_input().buffer)  # not ours to close
        return gzip.open(self.path, "rb") if self.is_gzip else open(self.path, "rb")


def find_inputs(
    names: Sequence[str],
    *,
    format: Format | None = None,
    whole_file: bool = False,
    takes_prose: bool = False,
    takes_pictures: bool = False,
) -> list[Input]:
    """Check that every input can be read, before any slow work; `takes_prose`: Markdown and the like are text;
    `takes_pictures`: images and PDF files are taken.

    Raises: FileNotFoundError, no such file; CommandError, a folder, an input named twice, or a format that neither
        the suffix nor `format` tells.
    """
    inputs: list[Input] = []
    seen: set[str] = set()
    for name in names:
        path = None if name == STDIN else Path(name)
        identity = STDIN if path is None else os.path.realpath(path)
        if identity in seen:
            raise CommandError(f"{name} is given twice; its texts would be embedded twice")
        seen.add(identity)
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{name}: no such file")
        if path is not None and path.is_dir():
            raise CommandError(f"{name} is a folder; name the files in it, for example {name.rstrip('/')}/*.txt")
        found = format or _picture_of(name)
        if found is None or (whole_file and found not in PICTURES):
            found = "text" if whole_file else _format_of(name, takes_prose, takes_pictures)
        if found in PICTURES:
            _check_picture(name, found, takes_pictures)
        inputs.append(Input(name, path, found))
    return inputs


def read_lines(source: Input) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, the line's bytes with their line end); a UTF-8 byte order mark is dropped.

    Raises: CommandError, a file that is UTF-16, or gzip that is damaged or cut off.
    """
    try:
        with source.open() as handle:
            yield from enumerate(_without_mark(source, handle), start=1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CommandError(f"{source.name} is not a whole gzip file: {error}") from error


def read_whole(source: Input) -> bytes:
    """All bytes of a file, without a UTF-8 byte order mark. Raises: as `read_lines`."""
    return b"".join(line for _, line in read_lines(source))


def _without_mark(source: Input, handle: Iterable[bytes]) -> Iterator[bytes]:
    lines = iter(handle)
    first = next(lines, b"")
    if first.startswith(_UTF16_MARKS):
        raise CommandError(f"{source.name} is UTF-16 text; save it as UTF-8")
    first = first.removeprefix(_UTF8_MARK)
    if b"\n" not in first and b"\r" in first:  # an old Macintosh's line ends, or a program's that still writes them
        yield from (line + b"\r" for line in first.removesuffix(b"\r").split(b"\r"))
    elif first:
        yield first
    yield from lines


def _picture_of(name: str) -> Format | None:
    suffix = Path(name).suffix.lower()
    return "pdf" if suffix == ".pdf" else "image" if suffix in SUFFIXES else None


def _check_picture(name: str, format: Format, takes_pictures: bool) -> None:
    if not takes_pictures:
        raise CommandError(f"{name} is {'an image' if format == 'image' else 'a PDF file'}; here texts are read")
    if name == STDIN:
        raise CommandError("standard input cannot be an image or a PDF file; name a file")


def _format_of(name: str, takes_prose: bool, takes_pictures: bool) -> Format:
    if name == STDIN:
        raise CommandError(f"standard input has no suffix; say what it is with --format {'|'.join(FORMATS)}")
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    if takes_prose and suffixes and suffixes[-1] in _PROSE:
        return "text"
    found = _BY_SUFFIX.get(suffixes[-1]) if suffixes else None
    if found is None:
        pictures = (".pdf", *sorted(SUFFIXES)) if takes_pictures else ()
        known = " ".join((*_BY_SUFFIX, *(_PROSE if takes_prose else ()), *pictures))
        raise CommandError(f"{name}: the suffix does not tell the format ({known}); say it with --format")
    return found


def check_column(source: Input, name: str, columns: Sequence[str]) -> None:
    """Refuse a table that lacks column `name`, or has it twice. Raises: CommandError."""
    if name not in columns:
        raise CommandError(f"{source.name}: no column {name!r}; it has {named(columns)}")
    if list(columns).count(name) > 1:
        raise CommandError(f"{source.name}: {list(columns).count(name)} columns are named {name!r}")


def named(names: Iterable[str], most: int = 8) -> str:
    """The names for a message, the first `most` of them."""
    quoted = [repr(name) for name in names]
    rest = f" and {len(quoted) - most} more" if len(quoted) > most else ""
    return ", ".join(quoted[:most]) + rest if quoted else "none"
