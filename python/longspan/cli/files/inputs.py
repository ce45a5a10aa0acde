"""The files that a command reads: those that the user names, and those of folders; their kind by name."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from longspan.cli.console.failures import CommandError
from longspan.cli.files.lines import check_encoding, opened
from longspan.cli.files.passed_over import PassedOver, unknown
from longspan.cli.files.walk import Choice, shown_name, walk
from longspan.documents.kinds import FORMATS, KINDS, MEDIA, NOUNS, PLURALS, PROSE, Format, is_zipped, kind_of

STDIN = "-"
FILE: Final = "file"  # fields that every row has: what it lies in, and which line or row of it
LINE: Final = "line"
PLACE: Final = frozenset({FILE, LINE})
_SNIFFED: Final = 8192  # bytes of a file whose name does not tell what it is


@dataclass(frozen=True, slots=True)
class Input:
    """One file to read.

    Attributes:
        name: as the user wrote it, for messages; never with half characters.
        path: None for standard input.
        format: what it is.
        is_found: a folder holds it, nobody has named it; then nothing in it stops a run.
        encoding: of its text; None for UTF-8, or what a byte order mark says.
        delimiter: between the fields of a .csv file.
    """

    name: str
    path: Path | None
    format: Format
    is_found: bool = False
    encoding: str | None = None
    delimiter: str = ","

    @property
    def is_zipped(self) -> bool:
        return self.path is not None and is_zipped(self.path.name)

    @property
    def size(self) -> int | None:
        """Bytes that reading will yield; None where that is not known before the end (zipped, pipes, not UTF-8)."""
        if self.path is None or self.is_zipped or self.encoding is not None or not self.path.is_file():
            return None
        return self.path.stat().st_size


@dataclass(frozen=True, slots=True)
class Reading:
    """How inputs are read.

    Attributes:
        format: what they are; None for what their names say.
        encoding, delimiter: as of `Input`.
        choice: which files of a folder.
    """

    format: Format | None = None
    encoding: str | None = None
    delimiter: str | None = None
    choice: Choice = field(default_factory=Choice)


def find_inputs(
    names: Sequence[str],
    *,
    format: Format | None = None,
    reading: Reading | None = None,
    whole_file: bool = False,
    takes_media: bool = False,
    passed: PassedOver | None = None,
) -> list[Input]:
    """Check that every input can be read, before any slow work.

    Args:
        names: files, folders, or `-` for standard input.
        format: as that of `reading`, which it stands for.
        whole_file: every file but MEDIA is one text, whatever its name says.
        takes_media: images, sounds and videos are taken; else they are refused, or passed over in a folder.
        passed: told what a folder holds that cannot be used; None where folders are refused.
    Raises: FileNotFoundError, no such file; CommandError, an input named twice, or a kind that neither the name nor
        `format` tells, an encoding or a delimiter that is none.
    """
    reading = Reading(format) if reading is None else reading
    check_encoding(reading.encoding)
    finder = _Finder(reading, whole_file, takes_media, passed)
    return [source for name in names for source in finder.named(name)]


class _Finder:
    def __init__(self, reading: Reading, whole_file: bool, takes_media: bool, passed: PassedOver | None) -> None:
        self._reading, self._whole_file, self._takes_media = reading, whole_file, takes_media
        self._passed = passed
        self._delimiter = checked_delimiter(reading.delimiter)
        self._seen: set[str] = set()

    def named(self, name: str) -> Iterator[Input]:
        """What the user's word stands for."""
        path, shown = None if name == STDIN else Path(name), shown_name(name)
        if not self._is_new(STDIN if path is None else os.path.realpath(path)):
            raise CommandError(f"{shown} is given twice; its texts would be embedded twice")
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{shown}: no such file")
        if path is not None and path.is_dir():
            yield from self._below(name, shown)
            return
        found = self._kind_of(name)
        if found is None:
            raise CommandError(_unknown(shown))
        if found in MEDIA:
            self._check_medium(shown, found)
        yield self._input(shown, path, found, is_found=False)

    def _below(self, name: str, shown: str) -> Iterator[Input]:
        passed = self._passed
        if passed is None:
            raise CommandError(f"{shown} is a folder; name the files in it, for example {shown.rstrip('/')}/*.txt")
        for path in walk(name, self._reading.choice, passed):
            if not self._is_new(os.path.realpath(path)):
                continue  # named by itself, or linked to twice
            below, found = shown_name(path), self._kind_of_found(path)
            if found is None:
                passed.add(below, unknown(below))
            elif found in MEDIA and not self._takes_media and found != "pdf":
                passed.add(below, f"{PLURALS[found]}, and this command reads texts")
            else:
                yield self._input(below, Path(path), found, is_found=True)

    def _is_new(self, identity: str) -> bool:
        is_new = identity not in self._seen
        self._seen.add(identity)
        return is_new

    def _kind_of(self, name: str) -> Format | None:
        """None where nothing tells."""
        by_name = None if name == STDIN else kind_of(name)
        found = self._reading.format or by_name
        if self._whole_file and by_name not in MEDIA:
            return by_name if by_name in PROSE else "text"
        return found

    def _kind_of_found(self, path: str) -> Format | None:
        """A name without a suffix tells nothing, but such files are texts more often than not."""
        is_known = kind_of(path) is not None or self._reading.format is not None
        if is_known or not _holds_text(path):
            return (kind_of(path) and self._kind_of(path)) or self._reading.format
        name = os.path.basename(path)
        stem = os.path.splitext(name)[0] if is_zipped(name) else name
        return "markdown" if self._whole_file or "." not in stem else None

    def _check_medium(self, name: str, format: Format) -> None:
        if not self._takes_media and format != "pdf":
            raise CommandError(f"{name} is {NOUNS[format]}; here texts are read")
        if name == STDIN:
            raise CommandError(f"standard input cannot be {NOUNS[format]}; name a file")

    def _input(self, name: str, path: Path | None, format: Format, *, is_found: bool) -> Input:
        return Input(name, path, format, is_found, self._reading.encoding, self._delimiter)


def checked_delimiter(given: str | None) -> str:
    """One character, a comma for None. Raises: CommandError, it can be none."""
    named = {None: ",", "tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
    delimiter = named.get(given, given or "")
    if len(delimiter) != 1 or delimiter in '"\r\n\x00':
        raise CommandError(f"--delimiter must be one character, or tab, and no quote or line end, got {given!r}")
    return delimiter


def _holds_text(path: str) -> bool:
    """Whether a file looks like UTF-8 text by its beginning."""
    try:
        with opened(Input(path, Path(path), "text")) as file:
            head = file.read(_SNIFFED)
    except (OSError, ValueError, EOFError, zlib.error):  # damaged, or not to be read
        return False
    return b"\x00" not in head and _is_utf8(head)


def _is_utf8(head: bytes) -> bool:
    for cut in range(4):  # the last character may go on behind the piece
        try:
            head[: len(head) - cut].decode()
        except UnicodeDecodeError:
            continue
        return True
    return False


def _unknown(name: str) -> str:
    if name == STDIN:
        return f"standard input has no suffix; say what it is with --format {'|'.join(FORMATS)}"
    known = ".txt .md .rst .html .py .jsonl .json .csv .tsv .parquet .pdf"
    return f"{name}: the suffix does not tell the format ({known} and {len(KINDS) - 11} more); say it with --format"


def of_file(source: Input, row: dict[str, object], number: int) -> dict[str, object]:
    """The row, which has the fields `file` and `line` too, unless it has some of its own; `number`: of its first line,
    or of the row where the format knows no lines, from 1."""
    return {FILE: source.name, LINE: number, **row}


def check_column(source: Input, name: str, columns: Sequence[str]) -> None:
    """Refuse a table that lacks column `name`, or has it twice. Raises: CommandError."""
    if name not in columns:
        other = next((mark for mark in ";\t|" if len(columns) == 1 and mark in columns[0]), None)
        mark = "tab" if other == "\t" else f"'{other}'"
        hint = "" if other is None else f"; --delimiter {mark} would cut it into more"
        raise CommandError(f"{source.name}: no column {name!r}; it has {named(columns)}{hint}")
    if list(columns).count(name) > 1:
        raise CommandError(f"{source.name}: {list(columns).count(name)} columns are named {name!r}")


def named(names: Iterable[str], most: int = 8) -> str:
    """The names for a message, the first `most` of them."""
    quoted = [repr(name) for name in names]
    rest = f" and {len(quoted) - most} more" if len(quoted) > most else ""
    return ", ".join(quoted[:most]) + rest if quoted else "none"
