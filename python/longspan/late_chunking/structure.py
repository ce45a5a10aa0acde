"""Where Markdown and source code may be cut, and how well: by headings, blocks, items and rows; by definitions and
blank lines, as indentation tells them in any language.

Only lines are looked at. A cut is the start of a line, with a rank: the lower, the better. What nobody should cut has
none: a heading and what it heads, a table's head and its first row, a definition and the comment above it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

StructuredUnit = Literal["markdown", "code"]
Cut = tuple[int, int]  # a position in the text, and its rank

# Of Markdown: a heading of level n has the rank n - 1.
BLOCK: Final = 6  # a paragraph, table, list or fence of its own
ITEM: Final = 7  # of a list; one within another has 8, one within that 9
INNER: Final = 10  # what follows without a blank line, or goes on an item
FENCED_BLANK, ROW, FENCED_LINE = 11, 12, 13  # a blank line in a fence, a table's row, a line in a fence

_LINE: Final = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_FENCE: Final = re.compile(r"\s*(`{3,}|~{3,})([^\r\n]*)")
_HEADING: Final = re.compile(r" {0,3}(#{1,6})(?:\s|$)")
_UNDERLINE: Final = re.compile(r"([=\-~^\"'`#*+.:])\1{2,}\s*\Z")
_ITEM: Final = re.compile(r"(\s*)(?:[-*+•]|\d{1,9}[.)]|\(?[a-zA-Z][.)])\s+\S")
_SEPARATOR: Final = re.compile(r"[\s|:+=-]*\Z")
_LONGEST: Final = 400  # characters of a line that are looked at


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """Where each line starts, and the line without its end."""
    position = 0
    while position < len(text):
        match = _LINE.match(text, position)
        assert match is not None, "it matches anything"
        yield position, match.group().rstrip("\r\n")
        position = match.end()


def markdown_cuts(text: str) -> list[Cut]:
    """Of Markdown, and of reStructuredText and plain text that looks like it, in order."""
    scan = _Markdown()
    lines = list(lines_of(text))
    for place, (position, line) in enumerate(lines):
        following = lines[place + 1][1] if place + 1 < len(lines) else ""
        rank = scan.rank_of(line[:_LONGEST], following[:_LONGEST])
        if rank is not None and position:
            scan.cuts.append((position, rank))
    return scan.cuts


@dataclass(slots=True)
class _Markdown:
    """What is known of the lines so far."""

    cuts: list[Cut] = field(default_factory=list)
    is_first: bool = True
    is_after_blank: bool = True
    is_headed: bool = False  # only a heading came, and nothing that it heads
    in_list: bool = False
    fence: str = ""  # that is open
    is_fence_new: bool = False  # its first line comes next
    front: bool = False  # in the settings that a page begins with
    table_lines: int = 0  # of the table that is open
    underlines: list[str] = field(default_factory=list)  # of titles, the highest first

    def rank_of(self, line: str, following: str) -> int | None:
        """Of a cut before the line; None where none may be."""
        if self.fence or self.front:
            return self._inside(line)
        if self.is_first and line.rstrip() in ("---", "+++"):
            self.is_first, self.front, self.fence = False, True, line.rstrip()
            self.is_after_blank, self.is_fence_new = False, True
            return None
        self.is_first = False
        if not line.strip():
            self.is_after_blank, self.table_lines = True, 0
            return None
        rank = self._block(line, following)
        self.is_after_blank = False
        return rank

    def _inside(self, line: str) -> int | None:
        """A fence's line, or one of the settings."""
        stripped = line.strip()
        is_end = stripped == self.fence if self.front else (
            stripped.startswith(self.fence) and not stripped.strip(self.fence[0])
        )  # fmt: skip
        if is_end:
            self.fence, self.front, self.is_after_blank = "", False, False
            return None
        rank = None if self.is_fence_new else FENCED_BLANK if self.is_after_blank else FENCED_LINE
        self.is_fence_new = False
        self.is_after_blank = not stripped
        return rank if stripped else None

    def _block(self, line: str, following: str) -> int | None:
        heading = _HEADING.match(line)
        level = len(heading[1]) - 1 if heading else self._title_level(line, following)
        if level is not None:
            was_headed, self.is_headed = self.is_headed, True
            self.in_list, self.table_lines = False, 0
            return None if was_headed else min(level, 5)
        if _UNDERLINE.match(line) and self.is_headed and not self.is_after_blank:
            return None  # a title's
        was_headed, self.is_headed = self.is_headed, False
        rank = self._rank(line, following)
        return None if was_headed else rank

    def _rank(self, line: str, following: str) -> int | None:
        fence = _FENCE.match(line)
        if fence and not (fence[1][0] == "`" and "`" in fence[2]):
            self.fence, self.is_fence_new = fence[1], True
            return BLOCK if self.is_after_blank and not line[0].isspace() else INNER
        if self.table_lines or ("|" in line and _is_separator(following)) or line.lstrip().startswith("+--"):
            return self._row(line)
        item = _ITEM.match(line)
        if item:
            began, self.in_list = not self.in_list, True
            return BLOCK if began and self.is_after_blank else ITEM + min(len(item[1].expandtabs(4)) // 2, 2)
        if not self.is_after_blank:
            return None  # a paragraph goes on
        if line[0].isspace():
            return INNER
        self.in_list = False
        return BLOCK

    def _row(self, line: str) -> int | None:
        """A table's line: none may be cut off before the third, as head and first row belong together."""
        if "|" not in line and not line.lstrip().startswith("+"):
            self.table_lines = 0
            return INNER
        self.table_lines += 1
        if self.table_lines == 1:
            return BLOCK if self.is_after_blank else INNER
        return ROW if self.table_lines > 3 and not _is_separator(line) else None

    def _title_level(self, line: str, following: str) -> int | None:
        """Of a title with a line under it, by the character of that line; None where it is no title."""
        under = _UNDERLINE.match(following)
        words = line.strip()
        is_title = under and self.is_after_blank and not _SEPARATOR.match(words) and not line[0].isspace()
        if not under or not is_title or len(following.strip()) < min(len(words) - 2, 3) or _ITEM.match(line):
            return None
        if under[1] not in self.underlines:
            self.underlines.append(under[1])
        return self.underlines.index(under[1])


def _is_separator(line: str) -> bool:
    """A line such as |---|:-:| or +===+."""
    return "-" in line + line.replace("=", "-") and ("|" in line or "+" in line) and _SEPARATOR.match(line) is not None


# Of code: 3 x depth, + 0 before a definition, + 1 behind a blank line, + 2 before any other line of a block.
MOST_DEPTH: Final = 10
IN_STRING_BLANK, IN_STRING = 40, 41  # lines of a string or a comment over several
_DEFINITION: Final = re.compile(
    r"\s*(?:(?:export|default|public|private|protected|internal|static|final|abstract|virtual|override|inline|constexpr"
    r"|async|unsafe|pub(?:\([^)]*\))?|extern|open|sealed|data|partial|const|local)\s+)*"
    r"(?:def|defp|defn|defmodule|defmacro|class|function|func|fn|fun|struct|union|enum|interface|trait|impl|module|mod"
    r"|namespace|object|record|type|protocol|extension|sub|proc|macro|template|typedef|create\s+\w+|test)\b",
    re.IGNORECASE,
)
_C_FUNCTION: Final = re.compile(r"\s*[A-Za-z_~][\w:<>,~*&\[\] \t]*\([^;]*\{\s*\Z")
_CONTROL: Final = re.compile(r"\s*(?:if|for|while|switch|else|do|try|catch|return|with|match|unless|until|foreach)\b")
# What goes on or ends the block before it, so that nothing is cut off there.
_CLOSER: Final = re.compile(
    r"\s*(?:[})\]{]|(?:end|else|elif|elsif|elseif|except|finally|catch|rescue|ensure|then|fi|done|esac)\b|\#\s*(?:else|elif"
    r"|endif)\b|</)"
)
# What stands above a definition and belongs to it: comments, decorators, attributes.
_LEAD: Final = re.compile(
    r"\s*(?:\#(?!\s*(?:include|define|if|ifdef|ifndef|else|elif|endif|pragma|undef)\b)|//|--|;|%|/\*|\*|@\w|\[\w+"
    r"|template\b)"
)
_QUOTES: Final = re.compile(r'"""|\'\'\'|/\*|\*/')


def code_cuts(text: str) -> list[Cut]:
    """Of source code in any language that is indented, in order."""
    scan = _Code()
    for position, line in lines_of(text):
        scan.take(position, line.expandtabs(4)[:_LONGEST], line)
    return [cut for cut in scan.cuts if cut[0]]


@dataclass(slots=True)
class _Code:
    """What is known of the lines so far."""

    cuts: list[Cut] = field(default_factory=list)
    indents: list[int] = field(default_factory=lambda: [0])
    is_after_blank: bool = True
    quote: str = ""  # that is open: of a string, or of a comment
    lead: int | None = None  # where the comments and decorators start that the next line belongs to
    is_lead_after_blank: bool = False

    def take(self, position: int, line: str, whole: str) -> None:
        """The next line."""
        if not line.strip():
            self.is_after_blank, self.lead = True, None if not self.quote else self.lead
            return
        if self.quote:
            if self.quote != "*/":
                self.lead = None  # a comment that opened the string stands before these lines
                self.cuts.append((position, IN_STRING_BLANK if self.is_after_blank else IN_STRING))
            self._scan_quotes(whole)
        else:
            self._take_code(position, line)
            self._scan_quotes(whole)
        self.is_after_blank = False

    def _take_code(self, position: int, line: str) -> None:
        indent = len(line) - len(line.lstrip())
        if _CLOSER.match(line):
            self.lead = None
            return
        deeper = indent > self.indents[-1]
        while indent < self.indents[-1]:
            self.indents.pop()
        if indent > self.indents[-1]:
            self.indents.append(indent)
        if _LEAD.match(line):
            if self.lead is None:
                self.lead, self.is_lead_after_blank = (None if deeper else position), self.is_after_blank
            return
        start, after_blank = position, self.is_after_blank
        if self.lead is not None:
            start, after_blank, self.lead = self.lead, self.is_lead_after_blank, None
        if deeper:
            return  # what opens the block, a signature perhaps, goes with its first line
        depth = min(len(self.indents) - 1, MOST_DEPTH)
        kind = 0 if _defines(line) else 1 if after_blank else 2
        self.cuts.append((start, 3 * depth + kind))

    def _scan_quotes(self, line: str) -> None:
        """Whether a string or a comment over several lines is open behind the line."""
        for found in _QUOTES.finditer(line):
            if not self.quote:
                self.quote = "" if found[0] == "*/" else "*/" if found[0] == "/*" else found[0]
            elif found[0] == self.quote:
                self.quote = ""


def _defines(line: str) -> bool:
    if _DEFINITION.match(line):
        return True
    return _C_FUNCTION.match(line) is not None and not _CONTROL.match(line)


CUTS: Final[dict[str, Callable[[str], list[Cut]]]] = {"markdown": markdown_cuts, "code": code_cuts}
# Where each unit is cut, if no size is asked for: at the ranks up to this.
WHOLE_UNITS: Final[dict[str, int]] = {"markdown": BLOCK, "code": 1}
