"""Splitting: spans that give the document back, cut at the best seams, within the budget."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenizer_inputs
from longspan.late_chunking.chunking import (
    Span,
    pack_spans,
    paragraph_spans,
    sentence_spans,
    split_document,
    split_tokens,
    token_spans,
    token_starts,
)
from longspan.text.tokenizer import TextTokenizer

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
def test_sentences_give_the_text_back_and_end_with_their_paragraph(text: str) -> None:
    spans = sentence_spans(text)
    assert_covers(text, spans)
    assert {end for _, end in paragraph_spans(text)} <= {end for _, end in spans}


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
        ("I ab. B e.g. c. D", 9, ["I ab. ", "B e.g. c. D"]),  # no sentence starts with a small letter
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


@pytest.mark.parametrize(
    ("unit", "chunk_tokens", "want"),
    [
        ("sentence", 3, ["A b. ", "D c.\n\n", "D e ", "f."]),
        ("sentence", 6, ["A b. D c.\n\n", "D e f."]),
        ("sentence", None, ["A b. ", "D c.\n\n", "D e f."]),
        ("paragraph", 100, ["A b. D c.\n\nD e f."]),
        ("paragraph", None, ["A b. D c.\n\n", "D e f."]),
        ("tokens", 4, ["A b. D ", "c.\n\nD e ", "f."]),
    ],
)
def test_units(tokenizer: TextTokenizer, unit: str, chunk_tokens: int | None, want: list[str]) -> None:
    text = "A b. D c.\n\nD e f."
    starts = token_starts(tokenizer.encode([text], max_length=100)[0])
    assert texts_of(text, split_tokens(text, starts, unit, chunk_tokens)) == want


@given(text=TEXTS, chunk_tokens=st.integers(1, 12))
def test_sentences_keep_the_budget(tokenizer: TextTokenizer, text: str, chunk_tokens: int) -> None:
    spans = split_document(text, tokenizer, chunk_tokens, unit="sentence")
    assert_covers(text, spans)
    starts = np.array(token_starts(tokenizer.encode([text], max_length=10**6)[0]), int)
    for start, end in spans:
        assert np.count_nonzero((start <= starts) & (starts < end)) <= chunk_tokens


# chunks of tokens


@given(text=TEXTS, chunk_tokens=st.integers(1, 12), chunk_overlap=st.integers(0, 11))
def test_token_chunks(tokenizer: TextTokenizer, text: str, chunk_tokens: int, chunk_overlap: int) -> None:
    chunk_overlap = min(chunk_overlap, chunk_tokens - 1)
    spans = split_document(text, tokenizer, chunk_tokens, unit="tokens", chunk_overlap=chunk_overlap)
    starts = token_starts(tokenizer.encode([text], max_length=10**6)[0])
    if len(starts) == len(set(starts)):  # else some lie in one character, and stay together
        held = [[place for place, at in enumerate(starts) if start <= at < end] for start, end in spans]
        assert all(len(places) == chunk_tokens for places in held[:-1])
        for before, after in pairwise(held):
            assert after[:chunk_overlap] == before[chunk_tokens - chunk_overlap :]
        assert not starts or held[-1][-1] == len(starts) - 1
    assert "".join(text[start:end] for start, end in disjoint(spans)) == text


def disjoint(spans: list[Span]) -> list[Span]:
    """Without what each shares with the one before."""
    reached, parts = 0, []
    for start, end in spans:
        assert start <= reached < end
        parts.append((reached, end))
        reached = end
    return parts


def test_token_chunks_do_not_cut_characters(byte_tokenizer: TextTokenizer) -> None:
    assert texts_of("👩👩a", split_document("👩👩a", byte_tokenizer, 3, unit="tokens")) == ["👩", "👩a"]
    assert texts_of("abcde", split_document("abcde", byte_tokenizer, 3, unit="tokens", chunk_overlap=2)) == [
        "abc",
        "bcd",
        "cde",
    ]


# from characters to tokens


@given(text=TEXTS, cuts=st.lists(st.integers(0, 80), max_size=6))
@pytest.mark.parametrize("kind", ["tokenizer", "byte_tokenizer"])
def test_token_spans_hold_the_tokens_of_their_characters(
    request: pytest.FixtureRequest, kind: str, text: str, cuts: list[int]
) -> None:
    tokens = request.getfixturevalue(kind).encode([text], max_length=10**6)[0] if text else None
    if tokens is None:
        return
    offsets = tokens.offsets[~tokens.special_mask]
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    spans = [*pairwise(edges), (0, len(text))]
    held = [set(range(left, right)) for left, right in offsets.tolist()]
    solid = [{place for place in places if not text[place].isspace()} or places for places in held]
    for (start, end), (first, last) in zip(spans, token_spans(text, offsets, spans).tolist()):
        touching = [place for place, places in enumerate(solid) if places & set(range(start, end))]
        assert list(range(first, last)) == (list(range(touching[0], touching[-1] + 1)) if touching else [])


def test_token_spans_by_hand() -> None:
    text = "ab cd \n👩e\u0301 x"
    offsets = np.array([[0, 2], [2, 5], [6, 7], [7, 8], [7, 8], [8, 9], [9, 10], [11, 12]], np.int32)
    spans = [(0, 2), (0, 3), (2, 3), (1, 4), (5, 6), (6, 7), (5, 9), (7, 8), (8, 10), (8, 12), (10, 11), (0, 12)]
    want = [[0, 1], [0, 1], [1, 1], [0, 2], [2, 2], [2, 3], [2, 6], [3, 5], [5, 7], [5, 8], [7, 7], [0, 8]]
    assert token_spans(text, offsets, spans).tolist() == want
    assert token_spans(text, offsets, []).shape == (0, 2)
    blank = np.array([[1, 1], [1, 2], [4, 4], [4, 6], [7, 7]], np.int32)  # " a  bc ", trimmed
    assert token_spans(" a  bc ", blank, [(0, 1), (0, 2), (2, 4), (4, 6), (6, 7), (0, 7)]).tolist() == [
        *([0, 1], [0, 2], [2, 3], [3, 4], [4, 5], [0, 5]),
    ]
    assert token_spans(" ", np.empty((0, 2), np.int32), [(0, 1)]).tolist() == [[0, 0]]


def test_token_starts_leave_out_the_prompt(tokenizer: TextTokenizer) -> None:
    with_prompt = tokenizer.encode(["A bc"], prompt="query: ", max_length=100)[0]
    assert token_starts(with_prompt) == token_starts(tokenizer.encode(["A bc"], max_length=100)[0])


@pytest.mark.timeout(30)  # what is not linear takes hours
@pytest.mark.parametrize("unit", [".", "\n", "\r\n", " \n", ". ", ".'", "a ", "\n a", "。", "!?)"], ids=repr)
def test_half_a_megabyte_of_anything_takes_linear_time(byte_tokenizer: TextTokenizer, unit: str) -> None:
    text = unit * (500_000 // len(unit))
    spans = split_document(text, byte_tokenizer, 100)
    assert spans[-1][1] == len(text)
    assert len(spans) >= len(text) // 100
    assert paragraph_spans(text)[-1][1] == len(text)
    assert sentence_spans(text)[-1][1] == len(text)


def test_bad_documents_are_refused(tokenizer: TextTokenizer) -> None:
    with pytest.raises(ValueError, match="chunk_tokens must be at least 1, got 0"):
        split_document("", tokenizer, 0)
    with pytest.raises(TypeError, match=r"texts\[0\] must be a str, got NoneType"):
        split_document(None, tokenizer)
    with pytest.raises(
        ValueError, match="chunks must be one of 'sentence', 'paragraph', 'tokens', 'markdown', 'code', got 'word'"
    ):
        split_document("", tokenizer, unit="word")
    with pytest.raises(ValueError, match="chunk_overlap is for chunks of tokens, got 3 for 'sentence'"):
        split_document("", tokenizer, unit="sentence", chunk_overlap=3)
    with pytest.raises(ValueError, match="chunk_overlap must be from 0 to 4, below chunk_tokens, got 5"):
        split_document("", tokenizer, 5, unit="tokens", chunk_overlap=5)
    with pytest.raises(ValueError, match="chunk_tokens must be a number for chunks of tokens, got None"):
        split_tokens("a", [0], "tokens", None)
