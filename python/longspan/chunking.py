"""Documents to spans of characters that make good passages: paragraphs first, then sentences, lines, words, tokens.

Spans cover their text without a gap: their texts, joined, are the text. What separates two belongs to the one before.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from longspan.tokenizer import TextTokenizer

Span = tuple[int, int]  # half-open [start, end) characters

# Each matches what ends a piece of text, the white space after it included, and takes time linear in the text.
BLANK_LINE: Final = re.compile(r"(?:\r\n|\r(?!\n)|\n)(?:[^\S\r\n]*(?:\r\n|\r|\n))+")
SENTENCE_END: Final = re.compile(r"""[.!?…][)\]"'”’»]*\s+(?![a-z\s])|[。！？｡]+[」』）”’]*\s*""")  # noqa: RUF001
LINE_END: Final = re.compile(r"[\r\n]\s*")
WORD_END: Final = re.compile(r"\s+")
SEAMS: Final = (BLANK_LINE, SENTENCE_END, LINE_END, WORD_END)

UNCUT: Final = int(np.iinfo(np.int32).max)


def paragraph_spans(text: str) -> list[Span]:
    """The paragraphs of `text`, which blank lines part; those at the start belong to the first. No text, no spans."""
    return _cut_after(BLANK_LINE, text, (0, len(text)))


def pack_spans(spans: Sequence[Span], token_counts: Sequence[int], chunk_tokens: int) -> list[Span]:
    """Join neighbours, from the first on, while they have `chunk_tokens` together at most.

    Args:
        spans: in order, each starting where the one before ends.
        token_counts: tokens of each; a span that alone has more than `chunk_tokens` stays alone, one without any joins.
        chunk_tokens: at least 1.
    Raises: ValueError, an argument breaks a line above.
    """
    _check_chunk_tokens(chunk_tokens)
    if len(spans) != len(token_counts):
        raise ValueError(f"token_counts must have one number for each of {len(spans)} spans, got {len(token_counts)}")
    packed: list[Span] = []
    room = 0
    for (start, end), count in zip(spans, token_counts, strict=True):
        if packed and count <= max(room, 0):
            packed[-1] = (packed[-1][0], end)
            room -= count
        else:
            packed.append((start, end))
            room = chunk_tokens - count
    return packed


def split_document(text: str, tokenizer: TextTokenizer, chunk_tokens: int = 256) -> list[Span]:
    """Spans of `chunk_tokens` tokens at most, cut at the best seam there is.

    A paragraph that fits stays whole; one that does not is cut at sentence ends, a sentence that does not at line ends,
    a line between words, a word between tokens. Then neighbours are joined while they fit.

    Tokens are those of the whole text, special ones not counted, each in the span where it starts. A span's text alone
    may have a few more or fewer. A span has more than `chunk_tokens` only where a single character has.

    Args:
        text: any str; no text, no spans.
        tokenizer: whose tokens count.
        chunk_tokens: at least 1.
    Raises: as TextTokenizer.encode; ValueError, `chunk_tokens` is below 1.
    """
    _check_chunk_tokens(chunk_tokens)
    if text == "":
        return []
    tokens = tokenizer.encode([text], max_length=UNCUT)[0]
    # Starts rise by themselves, but for marks that a normalizer moves; bisect needs them sorted in any case.
    starts: list[int] = np.maximum.accumulate(tokens.offsets[~tokens.special_mask, 0]).tolist()

    def count(span: Span) -> int:
        return bisect_left(starts, span[1]) - bisect_left(starts, span[0])

    def pieces(span: Span, seams: Sequence[re.Pattern[str]]) -> Iterator[Span]:
        if count(span) <= chunk_tokens:
            yield span
        elif seams:
            for part in _cut_after(seams[0], text, span):
                yield from pieces(part, seams[1:])
        else:
            yield from _between(starts[bisect_left(starts, span[0]) : bisect_left(starts, span[1])], span)

    spans = list(pieces((0, len(text)), SEAMS))
    return pack_spans(spans, [count(span) for span in spans], chunk_tokens)


def _cut_after(seam: re.Pattern[str], text: str, span: Span) -> list[Span]:
    """`span` cut after each match of `seam`; white space at its start and end is no part of its own."""
    part = text[slice(*span)]
    first, last = span[1] - len(part.lstrip()), span[0] + len(part.rstrip())
    return _between([match.end() for match in seam.finditer(text, first, span[1]) if match.end() < last], span)


def _between(cuts: list[int], span: Span) -> list[Span]:
    """The parts of `span` between rising `cuts`; no part is empty."""
    start, end = span
    edges = sorted({start, end, *(cut for cut in cuts if start < cut < end)})
    return list(itertools.pairwise(edges))


def _check_chunk_tokens(chunk_tokens: int) -> None:
    if chunk_tokens < 1:
        raise ValueError(f"chunk_tokens must be at least 1, got {chunk_tokens}")
