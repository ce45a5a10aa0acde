"""The text of HTML pages: what one reads of them, in any shape that pages come in."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longspan.cli.files.html_text import encoding_of, text_of_html


@pytest.mark.parametrize(
    "page, text",
    [
        ("<p>Hello   <b>wo</b>rld<br>next</p><p>two", "Hello world\nnext\n\ntwo\n"),
        ("<h1>Top</h1>text<h2>Sub</h2><p>more", "# Top\n\ntext\n\n## Sub\n\nmore\n"),
        ("<ul><li>one<li>two<ul><li>deep</ul><li>three</ul>after", "- one\n- two\n\n  - deep\n\n- three\n\nafter\n"),
        ("<ul><li><p>in a paragraph</p></li></ul>", "- in a paragraph\n"),
        ("<table><tr><th>a<th>b<tr><td>1<td>2</table>", "a | b\n1 | 2\n"),
        ("a<script>if (a < b) { x('</p>') }</script>b<style>p { }</style>c", "abc\n"),
        ("<pre>  keep\n    this</pre>and", "```\n  keep\n    this\n```\n\nand\n"),
        ("&lt;tag&gt; &eacute; &#x1F600; &unknown; &amp", "<tag> é \U0001f600 &unknown; &\n"),
        ("<template>no</template><noscript>no</noscript><svg><text>no</text></svg>yes", "yes\n"),
        ("<p>a<img alt='a cat' src=x>b", "a a cat b\n"),
        ("<dl><dt>term<dd>meaning</dl>", "term\nmeaning\n"),
        ("<!-- no --><!doctype html><title>T</title><body>words", "T\n\nwords\n"),
        ("<h2></h2><ul><li></li></ul>x", "x\n"),
        ("", ""),
        ("<div><div/><p>a</div>b", "a\n\nb\n"),
        ("plain words < and > more", "plain words < and > more\n"),
    ],
)
def test_text(page: str, text: str) -> None:
    assert text_of_html(page.encode()) == text


@pytest.mark.parametrize(
    "data, encoding",
    [
        (b"<meta charset=latin1>", "cp1252"),
        (b'<meta http-equiv="Content-Type" content="text/html; charset=windows-1251">', "cp1251"),
        (b"<meta charset=klingon>", "utf-8"),
        (b"<meta charset=base64>", "utf-8"),
        (b"<meta charset=utf-16>", "utf-8"),
        (b"\xff\xfe<\x00", "utf-16"),
        (b"\xef\xbb\xbf<meta charset=latin1>", "utf-8-sig"),
        (b"words", "utf-8"),
    ],
)
def test_encodings(data: bytes, encoding: str) -> None:
    assert encoding_of(data) == encoding


def test_the_encoding_is_used() -> None:
    assert text_of_html("<meta charset=iso-8859-1><p>café\u0093".encode("latin-1")) == "café\u201c\n"
    assert text_of_html(b"caf\xe9", "latin-1") == "café\n"
    with pytest.raises(UnicodeDecodeError):
        text_of_html(b"caf\xe9")


TAGS = ["<p>", "</p>", "<ul>", "<li>", "</ul>", "<pre>", "</pre>", "<script>", "</script>", "<table>", "<tr>", "<td>"]
TAGS += [
    "</table>",
    "<h1>",
    "</h1>",
    "<br/>",
    "<svg>",
    "</svg>",
    "<!--",
    "-->",
    "words ",
    "\n",
    "&amp;",
    "<",
    "<![CDATA[",
]
TAGS += ["]]>", "<?x"]


@given(st.lists(st.sampled_from(TAGS), max_size=30))
def test_any_page_has_a_text(pieces: list[str]) -> None:
    text = text_of_html("".join(pieces).encode())
    assert not text or (text.endswith("\n") and text.strip())


def test_deep_and_long_pages() -> None:
    started = time.perf_counter()
    assert text_of_html(b"<div>" * 30_000 + b"deep" + b"</div>" * 30_000) == "deep\n"
    assert text_of_html(b"<b>" * 20_000 + b"deep") == "deep\n"
    assert len(text_of_html(b"<p>word</p>" * 50_000)) == 300_000 - 1
    assert time.perf_counter() - started < 10
