"""Markdown and code are cut along their structure: never in a row, between a heading and its text, off a signature."""

from __future__ import annotations

import re
import sys
import time
from bisect import bisect_left
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longspan.late_chunking import structure
from longspan.late_chunking.chunking import split_tokens

MARKDOWN = """\
---
title: The whole
---

# One

Before the table.

| name | value |
| --- | --- |
| a | 1 |
| b | 2 |
| c | 3 |

## Two

```python
def first():
    return "# no heading"

def second():
    pass
```

1. item one
   which goes on

   with a paragraph of its own
2. item two
   - within
3. item three

Three
-----

A last paragraph. Of two sentences.
"""

CODE = '''\
"""A module."""

import os
import sys


# Says what it is.
@decorated
def first(a, b):
    """Doc."""
    if a:
        return b
    else:
        return a


class Second:
    """Doc.

def not_code(): it is in a string
    """

    field = 1

    def method(self):
        return [
            1,
            2,
        ]

    # Of the other.
    def other(self):
        pass
'''


def words(text: str) -> list[int]:
    return [match.start() for match in re.finditer(r"\w+|[^\w\s]", text)]


def split(text: str, unit: structure.StructuredUnit, size: int | None) -> list[str]:
    return [text[start:end] for start, end in split_tokens(text, words(text), unit, size)]


def test_markdown_is_cut_along_its_structure() -> None:
    cut_at = {MARKDOWN[place:].partition("\n")[0]: rank for place, rank in structure.markdown_cuts(MARKDOWN)}
    assert cut_at == {
        "# One": 0,
        "| name | value |": structure.BLOCK,
        "| b | 2 |": structure.ROW,
        "| c | 3 |": structure.ROW,
        "## Two": 1,
        '    return "# no heading"': structure.FENCED_LINE,
        "def second():": structure.FENCED_BLANK,
        "    pass": structure.FENCED_LINE,
        "1. item one": structure.BLOCK,
        "   with a paragraph of its own": structure.INNER,
        "2. item two": structure.ITEM,
        "   - within": structure.ITEM + 1,
        "3. item three": structure.ITEM,
        "Three": 0,
    }


@pytest.mark.parametrize("size", [1, 8, 20, 30, 60, 1000])
def test_passages_of_markdown(size: int) -> None:
    parts = split(MARKDOWN, "markdown", size)
    assert "".join(parts) == MARKDOWN
    assert all(len(words(part)) <= size for part in parts)
    if size >= 30:
        assert not [part for part in parts if part.rstrip().split("\n")[-1].startswith("#")], "a heading stands alone"
        assert not [part for part in parts if part.startswith("| --- |")]
        fences = [part.count("```") % 2 for part in parts]
        assert not any(fences), "a fence that fits is whole"


def test_units_without_a_size() -> None:
    assert [part.split("\n")[0] for part in split(MARKDOWN, "markdown", None)] == [
        "---", "# One", "| name | value |", "## Two", "1. item one", "Three"
    ]  # fmt: skip
    assert [part.split("\n")[0] for part in split(CODE, "code", None)] == [
        '"""A module."""', "import os", "# Says what it is.", "class Second:"
    ]  # fmt: skip


def test_code_is_cut_between_definitions() -> None:
    parts = split(CODE, "code", 34)
    assert "".join(parts) == CODE
    heads = [part.split("\n")[0].strip() for part in parts]
    assert heads == ['"""A module."""', "# Says what it is.", "class Second:", "def method(self):"]
    assert "# Of the other.\n    def other" in parts[-1]


@pytest.mark.parametrize(
    "text, heads, size",
    [
        (
            "int add(int a) {\n  return a;\n}\n\n// Of sub.\nint sub(int a)\n{\n  return a;\n}\n",
            ["int add", "// Of sub"],
            16,
        ),
        ("function f() {\n  a();\n}\nfunction g() {\n  b();\n}\n", ["function f", "function g"], 12),
        ("pub fn a() {\n    x();\n}\n\n#[test]\nfn b() {\n    y();\n}\n", ["pub fn a", "#[test]"], 14),
        ("def a\n  1\nend\n\ndef b\n  2\nend\n", ["def a", "def b"], 6),
    ],
)
def test_other_languages(text: str, heads: list[str], size: int) -> None:
    parts = split(text, "code", size)
    assert [part[: len(head)] for part, head in zip(parts, heads, strict=True)] == heads


def test_titles_of_restructured_text() -> None:
    text = "Top\n===\n\nWords here.\n\nPart\n----\n\nMore words.\n\nDeep\n~~~~\n\nWords.\n\nOther\n-----\n\nEnd.\n"
    ranks = [(text[place:].partition("\n")[0], rank) for place, rank in structure.markdown_cuts(text)]
    assert ranks == [("Part", 1), ("Deep", 2), ("Other", 1)]


LINES = [
    "# H",
    "## H",
    "```",
    "~~~",
    "|a|b|",
    "|-|-|",
    "- x",
    "  - y",
    "1. z",
    "",
    "  ",
    "\t",
    "text. More text",
    "---",
]
LINES += [
    "===",
    "def f():",
    "    x = 1",
    '"""',
    "/*",
    "*/",
    "}",
    "class A {",
    "@d",
    "// c",
    "\u2028",
    "\r",
    "é" * 9,
    '# c """',
    "// d /*",
]
PIECES = st.lists(st.sampled_from(LINES), max_size=40)


@given(PIECES, st.sampled_from(["\n", "\r\n", "\r"]), st.integers(1, 30), st.sampled_from(["markdown", "code"]))
def test_any_text_is_covered(lines: list[str], end: str, size: int, unit: structure.StructuredUnit) -> None:
    text = end.join(lines)
    places = [place for place, _ in structure.CUTS[unit](text)]
    assert places == sorted(set(places)) and all(0 < place < len(text) for place in places)
    spans = split_tokens(text, words(text), unit, size)
    assert "".join(text[start:stop] for start, stop in spans) == text and all(start < stop for start, stop in spans)
    starts = words(text)
    assert all(bisect_left(starts, stop) - bisect_left(starts, start) <= size for start, stop in spans)
    whole = split_tokens(text, starts, unit, None)
    assert "".join(text[start:stop] for start, stop in whole) == text


def test_this_very_interpreter() -> None:
    """Every definition of a real module that fits stays whole."""
    text = Path(sys.modules["argparse"].__file__).read_text()  # type: ignore[arg-type]
    parts = split(text, "code", 300)
    assert "".join(parts) == text
    starts = words(text)
    for match in re.finditer(r"^def \w+.*?(?=^\S)", text, re.MULTILINE | re.DOTALL):
        if bisect_left(starts, match.end()) - bisect_left(starts, match.start()) <= 250:
            assert any(match.group().strip() in part for part in parts), match.group()[:60]


@pytest.mark.parametrize("unit", ["markdown", "code"])
def test_time_is_linear(unit: structure.StructuredUnit) -> None:
    for text in ("| a " * 50_000, "(" * 200_000, "\n".join(["x" * 50] * 20_000), "    " * 100_000, "def " * 50_000):
        started = time.perf_counter()
        structure.CUTS[unit](text)
        assert time.perf_counter() - started < 3


def test_a_comment_that_opens_a_string() -> None:
    text = '# says """ here\nx = 1\n\ny = 2\n"""\nz = 3\n' * 40
    places = [place for place, _ in structure.code_cuts(text)]
    assert places == sorted(set(places))
    assert "".join(split(text, "code", 8)) == text
