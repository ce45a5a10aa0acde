"""The text of an HTML page, as one reads it: without scripts and styles, headings and lists marked as in Markdown."""

from __future__ import annotations

import codecs
import re
from html.parser import HTMLParser
from typing import Final

_TAGS: Final = {
    # What is no text of the page, with all that lies within.
    "unseen": "script style template noscript svg math object iframe canvas audio video select",
    "block": "address article aside blockquote body caption center dd details dialog div dl dt fieldset figcaption "
    "figure footer form h1 h2 h3 h4 h5 h6 head header hgroup hr html legend li main menu nav ol p pre search section "
    "summary table tbody tfoot thead title tr ul",
    "void": "area base br col embed hr img input link meta source track wbr",
}
_UNSEEN, _BLOCKS, _VOID = (frozenset(_TAGS[kind].split()) for kind in ("unseen", "block", "void"))
# An element that such a tag begins ends one that is open: end tags of these may be left out.
_ENDS: Final = {"li": ("li",), "dt": ("dt", "dd"), "dd": ("dt", "dd"), "tr": ("tr", "td", "th"), "td": ("td", "th"),
                "th": ("td", "th"), "option": ("option",)}  # fmt: skip
_TIGHT: Final = ("li", "tr", "dt", "dd")  # a line, with none between it and the next
_HEADING: Final = re.compile(r"h[1-6]")
_CHARSET: Final = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_SNIFFED: Final = 2048  # bytes in which a page says its encoding
_WEB_NAMES: Final = {"iso8859-1": "cp1252", "ascii": "cp1252"}  # what browsers take these for
_MARKS: Final = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_DEEPEST: Final = 500  # elements within each other that are told apart


def text_of_html(data: bytes, encoding: str | None = None) -> str:
    """The page's text.

    Args:
        data: the page.
        encoding: None for what a byte order mark or the page says, or else UTF-8.
    Raises: UnicodeDecodeError, it is not of that encoding.
    """
    page = _Page()
    page.feed(data.decode(encoding or encoding_of(data)))
    page.close()
    return page.text()


def encoding_of(data: bytes) -> str:
    """What a byte order mark says, or else a <meta> of the page, or else UTF-8."""
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    found = _CHARSET.search(data[:_SNIFFED])
    if marked is not None or found is None:
        return marked or "utf-8"
    try:
        name = codecs.lookup(found[1].decode("ascii", "replace")).name
        "a".encode(name)  # there are codecs that are not of text
    except (LookupError, ValueError, TypeError):
        return "utf-8"
    return "utf-8" if name.startswith("utf-16") else _WEB_NAMES.get(name, name)  # it was read as bytes until here


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[str] = []
        self._unseen = self._pre = 0  # how many of such elements are open
        self._lines: list[str] = []
        self._line: list[str] = []
        self._is_blank = True  # the next words begin a paragraph

    def text(self) -> str:
        """Paragraphs with a blank line between them."""
        self._end_line()
        return "\n".join(self._lines).strip("\n") + "\n" if self._lines else ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._close_open(tag)
        if tag in _BLOCKS:
            self._end_paragraph(is_tight=tag in _TIGHT)
        if tag in _VOID:
            if tag == "br" and not self._unseen:
                self._end_line()
            elif tag == "img" and not self._unseen:
                self._line.append(f" {dict(attrs).get('alt') or ''} ")
        elif len(self._open) < _DEEPEST:
            self._begin(tag)
            self._open.append(tag)

    def _begin(self, tag: str) -> None:
        """What the element's text is marked with."""
        if tag in _UNSEEN:
            self._unseen += 1
        elif tag == "pre" and not self._unseen:
            self._pre += 1
            self._add_line("```")
        elif _HEADING.fullmatch(tag):
            self._line.append("#" * int(tag[1]) + " ")
        elif tag == "li":
            depth = sum(name in ("ul", "ol", "menu") for name in self._open)
            self._line.append("  " * (min(max(depth, 1), 8) - 1) + "- ")
        elif tag in ("td", "th") and "".join(self._line).strip():
            self._line.append(" | ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)  # a browser takes <div/> for <div>

    def handle_endtag(self, tag: str) -> None:
        if tag not in self._open:
            if tag == "p":
                self._end_paragraph()
            return
        while self._open:
            name = self._open.pop()
            self._ended(name)
            if name == tag:
                return

    def handle_data(self, data: str) -> None:
        if self._unseen:
            return
        if not self._pre:
            self._line.append(data)
            return
        *lines, last = data.split("\n")
        for line in lines:
            self._add_line("".join(self._line) + line)
            self._line.clear()
        self._line.append(last)

    def _ended(self, name: str) -> None:
        if name in _UNSEEN:
            self._unseen -= 1
        elif name == "pre" and self._pre:
            self._end_pre()
        elif name in _BLOCKS:
            if not "".join(self._line).strip("-#| "):
                self._line.clear()  # the mark of an empty item or heading
            self._end_paragraph(is_tight=name in _TIGHT)

    def _close_open(self, tag: str) -> None:
        """What ends where this one begins, though nobody says so."""
        if tag in _BLOCKS and self._open and self._open[-1] == "p":
            self.handle_endtag("p")
        closes = _ENDS.get(tag, ())
        while self._open and self._open[-1] in closes:
            self.handle_endtag(self._open[-1])

    def _end_pre(self) -> None:
        self._pre -= 1
        if "".join(self._line).strip():
            self._add_line("".join(self._line).rstrip())
        self._line.clear()
        self._add_line("```")
        self._is_blank = False
        self._end_paragraph()

    def _end_paragraph(self, *, is_tight: bool = False) -> None:
        if self._unseen:
            return
        self._end_line()
        if not self._is_blank and not is_tight and not self._pre:
            self._lines.append("")
            self._is_blank = True

    def _end_line(self) -> None:
        """The words of a line, white space as HTML has it."""
        line = "".join(self._line)
        self._line.clear()
        if self._pre:
            if line:
                self._add_line(line)
            return
        indent = len(line) - len(line.lstrip(" ")) if line.lstrip(" ").startswith("- ") else 0
        words = " ".join(line.split())
        if words.strip("-#| "):
            self._add_line(" " * indent + words)
        elif words == "-":
            self._line.append(" " * indent + "- ")  # an item whose words are in an element of their own

    def _add_line(self, line: str) -> None:
        self._lines.append(line)
        self._is_blank = False
