"""Documents to spans of characters that make good passages, and from those to spans of tokens.

A chunker's spans cover their text without a gap: their texts, joined, are the text. What separates two belongs to the
one before. Only chunks of tokens overlap, if they are asked to.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Literal, get_args

import numpy as np

from longspan.integers import checked_int
from longspan.late_chunking.structure import CUTS, WHOLE_UNITS, Cut
from longspan.text.sentences import sentence_ends
from longspan.text.tokenizer import UNCUT, TextTokenizer, TokenizedText

Span = tuple[int, int]  # half-open [start, end) characters
ChunkUnit = Literal["sentence", "paragraph", "tokens", "markdown", "code"]
# Positions in text[start:end] after which it may be cut, in order. Takes time linear in the text.
Seam = Callable[[str, int, int], Iterable[int]]


def _after(pattern: str) -> Seam:
    """The seam after each match of what ends a piece of text, the white space after it included."""
    compiled = re.compile(pattern)
    return lambda text, start, end: (match.end() for match in compiled.finditer(text, start, end))


BLANK_LINE: Final = _after(r"(?:\r\n|\r(?!\n)|\n)(?:[^\S\r\n]*(?:\r\n|\r|\n))+")
LINE_END: Final = _after(r"[\r\n]\s*")
WORD_END: Final = _after(r"\s+")


def paragraph_spans(text: str) -> list[Span]:
    """The paragraphs of `text`, which blank lines part; those at the start belong to the first. No text, no spans."""
    return _cut_after(BLANK_LINE, text, (0, len(text)))


def sentence_spans(text: str) -> list[Span]:
    """The sentences of `text`; the end of a paragraph ends one, that of a line does not. No text, no spans."""
    return [sentence for span in paragraph_spans(text) for sentence in _cut_after(sentence_ends, text, span)]


UNITS: Final[dict[str, Callable[[str], list[Span]]]] = {"sentence": sentence_spans, "paragraph": paragraph_spans}
# Where a unit that has too many tokens is cut, the best first.
SEAMS: Final[dict[str, tuple[Seam, ...]]] = {
    "sentence": (LINE_END, WORD_END),
    "paragraph": (sentence_ends, LINE_END, WORD_END),
    "markdown": (sentence_ends, LINE_END, WORD_END),
    "code": (LINE_END, WORD_END),
}


def pack_spans(spans: Sequence[Span], token_counts: Sequence[int], chunk_tokens: int) -> list[Span]:
    """Join neighbours, from the first on, while they have `chunk_tokens` together at most.

    Args:
        spans: in order, each starting where the one before ends.
        token_counts: tokens of each; a span that alone has more than `chunk_tokens` stays alone, one without any joins.
        chunk_tokens: at least 1.
    Raises: TypeError or ValueError, an argument breaks a line above.
    """
    chunk_tokens = checked_int("chunk_tokens", chunk_tokens)
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


def split_document(
    text: str,
    tokenizer: TextTokenizer,
    chunk_tokens: int = 256,
    *,
    unit: ChunkUnit = "paragraph",
    chunk_overlap: int = 0,
) -> list[Span]:
    """Spans of `chunk_tokens` tokens at most, cut at the best seam there is; see `split_tokens`.

    Args:
        text: any str; no text, no spans.
        tokenizer: whose tokens count, special ones not counted.
    Raises: as TextTokenizer.encode and `split_tokens`.
    """
    if text == "":
        return split_tokens(text, [], unit, chunk_tokens, chunk_overlap)
    tokens = tokenizer.encode([text], max_length=UNCUT)[0]
    return split_tokens(text, token_starts(tokens), unit, chunk_tokens, chunk_overlap)


def split_tokens(
    text: str, starts: Sequence[int], unit: ChunkUnit, chunk_tokens: int | None, chunk_overlap: int = 0
) -> list[Span]:
    """Cut a text whose tokens are known.

    "paragraph" and "sentence": a unit that fits stays whole; one that does not is cut at sentence ends (a paragraph),
    then at line ends, between words, between tokens. Then neighbours are joined while they fit. "markdown" and "code":
    along the structure that `structure` finds: what fits stays whole; what does not is cut at the best places in it,
    and neighbours of one level are joined while they fit. "tokens": so many tokens each, wherever that cuts.

    A token counts for the span where it starts. A span's text alone may have a few tokens more or fewer. A span has
    more than `chunk_tokens` only where a single character has.

    Args:
        text: any str; no text, no spans.
        starts: where each token of the text starts, in rising order; see `token_starts`.
        unit: "sentence", "paragraph", "tokens", "markdown" or "code".
        chunk_tokens: at least 1; None leaves each sentence, paragraph, block or definition as it is.
        chunk_overlap: how many of its tokens each chunk of tokens shares with the one before; below `chunk_tokens`.
    Raises: TypeError or ValueError, an argument breaks a line above.
    """
    chunk_tokens = None if chunk_tokens is None else checked_int("chunk_tokens", chunk_tokens)
    chunk_overlap = checked_int("chunk_overlap", chunk_overlap)
    check_chunk_size(unit, chunk_tokens, chunk_overlap)
    if text == "":
        return []
    if unit == "tokens":
        assert chunk_tokens is not None
        return _token_runs(len(text), starts, chunk_tokens, chunk_overlap)
    if unit in CUTS:
        cuts = CUTS[unit](text)
        if chunk_tokens is None:
            return _between([position for position, rank in cuts if rank <= WHOLE_UNITS[unit]], (0, len(text)))
        return _along(text, starts, cuts, chunk_tokens, SEAMS[unit])
    spans = UNITS[unit](text)
    return spans if chunk_tokens is None else _packed(text, starts, spans, chunk_tokens, SEAMS[unit])


def _packed(text: str, starts: Sequence[int], spans: Sequence[Span], limit: int, seams: Sequence[Seam]) -> list[Span]:
    """The spans, cut at seams where they are too long, and joined while they fit."""

    def count(span: Span) -> int:
        return bisect_left(starts, span[1]) - bisect_left(starts, span[0])

    def pieces(span: Span, seams: Sequence[Seam]) -> Iterator[Span]:  # a recursion no deeper than there are seams
        if count(span) <= limit:
            yield span
        elif seams:
            for part in _cut_after(seams[0], text, span):
                yield from pieces(part, seams[1:])
        else:
            yield from _between(starts[bisect_left(starts, span[0]) : bisect_left(starts, span[1])], span)

    parts = [part for span in spans for part in pieces(span, seams)]
    return pack_spans(parts, [count(part) for part in parts], limit)


def _along(text: str, starts: Sequence[int], cuts: Sequence[Cut], limit: int, seams: Sequence[Seam]) -> list[Span]:
    """The text cut at the best of `cuts`, level by level, until each part has `limit` tokens at most."""
    places = [position for position, _ in cuts]

    def count(span: Span) -> int:
        return bisect_left(starts, span[1]) - bisect_left(starts, span[0])

    def parts_of(span: Span) -> list[Span]:  # a recursion no deeper than there are ranks
        if count(span) <= limit:
            return [span]
        first, last = bisect_right(places, span[0]), bisect_left(places, span[1])
        if first == last:
            return _packed(text, starts, [span], limit, seams)
        best = min(rank for _, rank in cuts[first:last])
        found: list[Span] = []
        run: list[Span] = []  # neighbours that fit, each by itself
        for part in _between([position for position, rank in cuts[first:last] if rank == best], span):
            if count(part) <= limit:
                run.append(part)
                continue
            found += [*pack_spans(run, [count(one) for one in run], limit), *parts_of(part)]
            run = []
        return found + pack_spans(run, [count(one) for one in run], limit)

    return parts_of((0, len(text)))


def token_starts(tokens: TokenizedText) -> list[int]:
    """Where the text's own tokens start, in rising order: neither special ones nor the prompt's."""
    offsets = tokens.offsets[~tokens.special_mask][tokens.num_prompt_tokens :]
    # They rise by themselves, but for marks that a normalizer moves.
    starts: list[int] = np.maximum.accumulate(offsets[:, 0]).tolist()
    return starts


def token_spans(text: str, offsets: np.ndarray, spans: Sequence[Span]) -> np.ndarray:
    """The tokens that hold a character of each span, white space not counted: (num_spans, 2) int32, [start, end).

    A token that reaches across the edge of two spans belongs to both. White space at a token's ends, as byte-level
    tokens have, does not count, unless the token is nothing else; a token without offsets, (e, e), is the white space
    before e. A span that no token touches has start == end.

    Args:
        text: the text.
        offsets: (tokens, 2) int32, half-open character positions of its tokens, in order.
        spans: half-open character positions.
    """
    bounds = np.array(spans, np.int64).reshape(-1, 2)
    starts, ends = _without_white_space(text, offsets.astype(np.int64))
    # Offsets rise by themselves, but for marks that a normalizer moves; the extremes from either end rise always, and
    # find the same first and last token.
    first = np.searchsorted(np.maximum.accumulate(ends), bounds[:, 0], side="right")
    last = np.searchsorted(np.minimum.accumulate(starts[::-1])[::-1], bounds[:, 1], side="left")
    return np.stack([first, np.maximum(first, last)], axis=1).astype(np.int32)


def check_chunk_size(unit: str, chunk_tokens: int | None, chunk_overlap: int) -> None:
    """Raises: ValueError, `split_tokens` would not take these."""
    known = get_args(ChunkUnit)
    if unit not in known:
        raise ValueError(f"chunks must be one of {', '.join(map(repr, known))}, got {unit!r}")
    if chunk_tokens is not None:
        _check_chunk_tokens(chunk_tokens)
    elif unit == "tokens":
        raise ValueError("chunk_tokens must be a number for chunks of tokens, got None")
    if unit != "tokens" and chunk_overlap != 0:
        raise ValueError(f"chunk_overlap is for chunks of tokens, got {chunk_overlap} for {unit!r}")
    if chunk_tokens is not None and not 0 <= chunk_overlap < chunk_tokens:
        raise ValueError(f"chunk_overlap must be from 0 to {chunk_tokens - 1}, below chunk_tokens, got {chunk_overlap}")


def _without_white_space(text: str, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of the tokens without white space at either end; as they are where they hold nothing else."""
    has_none = offsets[:, 0] == offsets[:, 1]
    offsets[has_none, 0] = np.maximum(offsets[has_none, 1] - 1, 0)
    offsets[has_none, 1] = offsets[has_none, 0] + 1
    size = len(text)
    solid = ~np.fromiter(map(str.isspace, text), bool, size)
    places = np.arange(size)
    next_solid = np.minimum.accumulate(np.append(np.where(solid, places, size), size)[::-1])[::-1]
    solid_before = np.maximum.accumulate(np.append(0, np.where(solid, places + 1, 0)))
    starts, ends = next_solid[offsets[:, 0]], solid_before[offsets[:, 1]]
    blank = starts >= ends
    return np.where(blank, offsets[:, 0], starts), np.where(blank, offsets[:, 1], ends)


def _token_runs(size: int, starts: Sequence[int], chunk_tokens: int, chunk_overlap: int) -> list[Span]:
    """Spans of `chunk_tokens` tokens, the last of fewer; the first and the last reach to the text's ends."""
    runs: list[Span] = []
    for first in range(0, max(1, len(starts) - chunk_overlap), chunk_tokens - chunk_overlap):
        after = first + chunk_tokens
        start, end = starts[first] if first else 0, starts[after] if after < len(starts) else size
        if start < end:  # all of them tokens of one character otherwise, which stay together
            runs.append((start, end))
    return runs


def _cut_after(seam: Seam, text: str, span: Span) -> list[Span]:
    """`span` cut after each end that `seam` finds; white space at its start and end is no part of its own."""
    part = text[slice(*span)]
    first, last = span[1] - len(part.lstrip()), span[0] + len(part.rstrip())
    return _between([cut for cut in seam(text, first, span[1]) if cut < last], span)


def _between(cuts: Sequence[int], span: Span) -> list[Span]:
    """The parts of `span` between rising `cuts`; no part is empty."""
    start, end = span
    edges = sorted({start, end, *(cut for cut in cuts if start < cut < end)})
    return list(itertools.pairwise(edges))


def _check_chunk_tokens(chunk_tokens: int) -> None:
    if chunk_tokens < 1:
        raise ValueError(f"chunk_tokens must be at least 1, got {chunk_tokens}")
