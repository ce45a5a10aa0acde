"""What a person sees: colour where it is wanted, wrapped text, names and values in columns."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TextIO

_MOST_LINES = 1000  # that an excerpt has; more is the whole text
_BEGIN, _END = "\ue000", "\ue001"  # of what is bold, while lines are made; for private use, so that texts have none
_NO_MARKS = {ord(_BEGIN): None, ord(_END): None}
_RULES = "*=~^-+|# \t"  # what a line is made of that holds no word
_CODES = {"bold": "1", "dim": "2", "green": "32", "cyan": "36"}


# What a text may do to a terminal that shows it: controls but tab and line end, and marks that turn its direction.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def shown(text: str) -> str:
    """A text of somebody else's, such as a document or a file's name, as a terminal may have it: its control characters
    are spelled out. What a command prints for a person goes through here, by `style`, `excerpt`, `table` or `tell`."""
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(name: str) -> str:
    """`shown`, of a name, which has no lines of its own."""
    return shown(name).replace("\n", "\\n").replace("\t", "\\t")


def json_line(value: object) -> str:
    """JSON on one line, which a terminal may be shown too: control characters are escaped, other scripts are not."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_terminal(stream: TextIO) -> bool:
    """Whether a person reads the stream as it is written."""
    return stream.isatty()


def style(text: str, *names: str) -> str:
    """`text` in the named styles on a terminal that takes colour; NO_COLOR (no-color.org) and pipes leave it plain."""
    text = shown(text)
    wanted = is_terminal(sys.stdout) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    if not wanted or not text:
        return text
    return f"\x1b[{';'.join(_CODES[name] for name in names)}m{text}\x1b[0m"


def width() -> int:
    """Columns to write in: the terminal's, within what reads well."""
    return min(max(shutil.get_terminal_size((88, 24)).columns, 40), 100)


def excerpt(text: str, *, indent: int, lines: int, best: tuple[int, int] | None = None) -> str:
    """The first `lines` lines of `text`, its own line ends kept, as code needs them; blank and ruled lines left out.

    `best`: characters that are shown in bold, and from which the lines are told, unless they stand near the beginning.
    """
    text = _marked(text, best, is_whole=lines > _MOST_LINES) if best is not None else text
    parts: list[str] = []
    for line in textwrap.dedent(shown(text.replace("\r\n", "\n")).expandtabs().strip("\n")).splitlines():
        if line.strip(_RULES):
            hanging = " " * (len(line) - len(line.lstrip()))
            parts += textwrap.wrap(line, width() - indent, subsequent_indent=hanging)
    if len(parts) > lines:
        parts[lines - 1 :] = [textwrap.wrap(parts[lines - 1], width() - indent - 4)[0] + " ..."]
    return textwrap.indent("\n".join(_bold(parts)), " " * indent)


def _marked(text: str, best: tuple[int, int], *, is_whole: bool) -> str:
    """The text from the line of `best` on, or from the beginning where that is near, with marks around it."""
    start, end = best
    before, within, after = (part.translate(_NO_MARKS) for part in (text[:start], text[start:end], text[end:]))
    if not is_whole and len(before.strip()) > width():
        line = before.rpartition("\n")[2]
        before = line if not line.strip() else "... "
    return f"{before}{_BEGIN}{within}{_END}{after}"


def _bold(lines: Iterable[str]) -> Iterator[str]:
    """Lines with what stands between the marks in bold, over line ends."""
    is_bold = False
    for line in lines:
        told = []
        for piece in re.split(f"([{_BEGIN}{_END}])", line):
            if piece in (_BEGIN, _END) and piece:
                is_bold = piece == _BEGIN
            else:
                told.append(style(piece, "bold") if is_bold and piece.strip() else piece)
        yield "".join(told)


def tell(summary: Mapping[str, object], sentence: str, *, as_json: bool) -> None:
    """What a command did: JSON on stdout if asked, a sentence on stderr for a person, nothing in a pipe."""
    if as_json:
        print(json.dumps(summary))
    elif is_terminal(sys.stderr):
        print(shown(sentence), file=sys.stderr)


def count(number: int, noun: str) -> str:
    """`1 text`, `1,234 texts`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def rate(amount: int, seconds: float) -> float:
    """Amount a second, 0 where no time passed."""
    return amount / seconds if seconds > 0 else 0.0


def table(rows: Iterable[tuple[str, str]], *, indent: int = 2) -> str:
    """Names in a column, values beside them; a long value goes on under its beginning."""
    pairs = list(rows)
    name_width = max((len(name) for name, _ in pairs), default=0)
    hanging = " " * (indent + name_width + 2)
    lines: list[str] = []
    for name, value in pairs:
        head = f"{' ' * indent}{style(name, 'dim')}{' ' * (name_width - len(name) + 2)}"
        body = textwrap.wrap(shown(value), max(width() - len(hanging), 20)) or [""]
        lines += [head + body[0], *(hanging + line for line in body[1:])]
    return "\n".join(lines)
