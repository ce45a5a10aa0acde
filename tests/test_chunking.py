"""Splitting: spans that give the document back, cut at the best seams, within the budget."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenizer_inputs
from longspan.chunking import Span, pack_spans, paragraph_spans, split_document
from longspan.tokenizer import TextTokenizer

PIECES = st.sampled_from(
    [
        *("word", "a", "xyz" * 9, "İ", "\0", "東京", "e\N{COMBINING ACUTE ACCENT}"),
        *(".", "! ", "? B", "。", "」", "…", " ", "\t", "\n", "\r\n", "\r", "\n\n", "\r\n \r\n", "\N{LINE SEPARATOR}"),
        "👩\N{ZERO WIDTH JOINER}👩\N{ZERO WIDTH JOINER}👧",
    ]
)
TEXTS = st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=80)


@pytest.fixture(scope="module")
def tokenizer(golden: Path) -> TextTokenizer:
    return TextTokenizer.from_file(golden / "bert-minilm" / "tokenizer.json", max_length=8, vocab_size=900)


@pytest.fixture(scope="module")
def byte_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    """One token a byte, no special tokens."""
    path = tokenizer_inputs.byte_level(tmp_path_factory.mktemp("bytes"))
    return TextTokenizer.from_file(path, max_length=8, vocab_size=256)


def texts_of(text: str, spans: list[Span]) -> list[str]:
    return [text[start:end] for start, end in spans]


def assert_covers(text: str, spans: list[Span]) -> None:
    assert "".join(texts_of(text, spans)) == text
    assert all(start < end for start, end in spans)
    assert all(before[1] == after[0] for before, after in pairwise(spans))


# paragraphs


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", []),
        ("one", ["one"]),
        ("one\ntwo", ["one\ntwo"]),
        ("one\n\ntwo", ["one\n\n", "two"]),
        ("one\r\ntwo\r\n\r\nthree", ["one\r\ntwo\r\n\r\n", "three"]),
        ("one\r\rtwo", ["one\r\r", "two"]),
        ("one\n \t\n\n  two\n\n", ["one\n \t\n\n", "  two\n\n"]),
        ("\n\n \n\none\n\ntwo", ["\n\n \n\none\n\n", "two"]),
        ("one\n\n \N{LINE SEPARATOR}", ["one\n\n \N{LINE SEPARATOR}"]),
        (" \n\n\t", [" \n\n\t"]),
    ],
)
def test_paragraphs_end_with_their_blank_lines(text: str, want: list[str]) -> None:
    assert texts_of(text, paragraph_spans(text)) == want


@given(TEXTS)
def test_paragraphs_give_the_text_back(text: str) -> None:
    assert_covers(text, paragraph_spans(text))


@given(TEXTS)
def test_every_paragraph_says_something_if_the_text_does(text: str) -> None:
    parts = texts_of(text, paragraph_spans(text))
    assert not text.strip() or all(part.strip() for part in parts)


# packing


@pytest.mark.parametrize(
    ("counts", "want"),
    [
        ([], []),
        ([3, 3, 4], [(0, 3)]),
        ([3, 3, 5], [(0, 2), (2, 3)]),
        ([11, 1], [(0, 1), (1, 2)]),
        ([1, 11, 0, 0, 10], [(0, 1), (1, 4), (4, 5)]),
        ([0, 0, 10, 0], [(0, 4)]),
    ],
)
def test_neighbours_join_while_they_fit(counts: list[int], want: list[Span]) -> None:
    spans = [(index, index + 1) for index in range(len(counts))]
    assert pack_spans(spans, counts, 10) == want


@given(st.lists(st.integers(0, 12), max_size=30), st.integers(1, 20))
def test_packed_spans_keep_the_budget_and_are_full(counts: list[int], chunk_tokens: int) -> None:
    packed = pack_spans([(index, index + 1) for index in range(len(counts))], counts, chunk_tokens)
    assert [index for start, end in packed for index in range(start, end)] == list(range(len(counts)))
    for start, end in packed:
        assert sum(counts[start:end]) <= max(chunk_tokens, counts[start])
    for before, after in pairwise(packed):
        assert sum(counts[before[0] : before[1]]) + counts[after[0]] > chunk_tokens


def test_bad_packings_are_refused() -> None:
    with pytest.raises(ValueError, match="chunk_tokens must be at least 1, got 0"):
        pack_spans([(0, 1)], [1], 0)
    with pytest.raises(ValueError, match="token_counts must have one number for each of 2 spans, got 1"):
        pack_spans([(0, 1), (1, 2)], [1], 5)


# documents


@given(text=TEXTS, chunk_tokens=st.integers(1, 12))
def test_documents_give_their_text_back(tokenizer: TextTokenizer, text: str, chunk_tokens: int) -> None:
    spans = split_document(text, tokenizer, chunk_tokens)
    assert_covers(text, spans)
    tokens = tokenizer.encode([text], max_length=10**6)[0]
    starts = tokens.offsets[~tokens.special_mask, 0]
    for start, end in spans:  # a character has one token here, so that nothing excuses a longer span
        assert np.count_nonzero((start <= starts) & (starts < end)) <= chunk_tokens


@given(text=TEXTS, chunk_tokens=st.integers(1, 12))
def test_documents_of_bytes_give_their_text_back(byte_tokenizer: TextTokenizer, text: str, chunk_tokens: int) -> None:
    spans = split_document(text, byte_tokenizer, chunk_tokens)
    assert_covers(text, spans)
    for part in texts_of(text, spans):
        assert len(part.encode()) <= chunk_tokens or len(part) == 1


@pytest.mark.parametrize(
    ("text", "chunk_tokens", "want"),
    [
        ("a b\n\nc\nd\n\ne f", 3, ["a b\n\n", "c\nd\n\n", "e f"]),  # paragraphs stay whole
        ("A b. C d. E f.", 7, ["A b. C d. ", "E f."]),  # sentences
        ('A "b." C d.) E f.', 6, ['A "b." ', "C d.) ", "E f."]),  # with what closes them
        ("A. B e.g. c. D", 8, ["A. ", "B e.g. c. D"]),  # no sentence starts with a small letter
        ("a b\nc d\r\ne f", 5, ["a b\nc d\r\n", "e f"]),  # lines
        ("café café", 4, ["café ", "café"]),  # words
        ("東京。京東。東京", 7, ["東京。京東。", "東京"]),  # no white space
        ("....", 3, ["...", "."]),  # tokens
        (" \n\n a", 1, [" \n\n a"]),
        (" \n ", 1, [" \n "]),
        ("", 1, []),
    ],
)
def test_documents_are_cut_at_the_best_seam(
    tokenizer: TextTokenizer, text: str, chunk_tokens: int, want: list[str]
) -> None:
    assert texts_of(text, split_document(text, tokenizer, chunk_tokens)) == want


def test_a_character_of_many_tokens_is_not_cut(byte_tokenizer: TextTokenizer) -> None:
    assert texts_of("👩👩", split_document("👩👩", byte_tokenizer, 3)) == ["👩", "👩"]


@pytest.mark.timeout(30)  # what is not linear takes hours
@pytest.mark.parametrize("unit", [".", "\n", "\r\n", " \n", ". ", ".'", "a ", "\n a", "。", "!?)"], ids=repr)
def test_half_a_megabyte_of_anything_takes_linear_time(byte_tokenizer: TextTokenizer, unit: str) -> None:
    text = unit * (500_000 // len(unit))
    spans = split_document(text, byte_tokenizer, 100)
    assert spans[-1][1] == len(text)
    assert len(spans) >= len(text) // 100
    assert paragraph_spans(text)[-1][1] == len(text)


def test_bad_documents_are_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(ValueError, match="chunk_tokens must be at least 1, got 0"):
        split_document("", tokenizer, 0)
    with pytest.raises(TypeError, match=r"texts\[0\] must be a str, got NoneType"):
        split_document(None, tokenizer)
