"""Long texts through a tokenizer in pieces: bounded memory, no more of a text than its tokens need, the same tokens.

A text is cut at a space or a line end between two letters or digits. Each piece is tokenized behind the word before it,
whose tokens are dropped, so that a tokenizer which treats the start of a text in its own way never sees a piece as one.
That gives the tokens of the whole text where the tokenizer works word by word; `works_by_words` knows which do, and
`agrees` tries it on the text at hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer

PIECE_CHARS: Final = 1 << 16
LONGEST_WORD: Final = 256  # characters of the word before a piece
TRIAL_CHARS: Final = 1 << 14
# What splits a text at every space, in a tokenizer.json's pre_tokenizer; Split's patterns are held against a trial.
BY_WORDS: Final = frozenset(
    {"BertPreTokenizer", "ByteLevel", "Metaspace", "Split", "Whitespace", "WhitespaceSplit", "Digits", "Punctuation"}
)


class Pieces(NamedTuple):
    """Tokens of a text, without special ones."""

    ids: np.ndarray  # (n,) int32
    offsets: np.ndarray  # (n, 2) int32, characters of the whole text
    unread: int  # characters behind them, of which nothing is known


def works_by_words(tokenizer: Tokenizer) -> bool:
    """Whether the tokens of one word never depend on another: by the kind of its pre-tokenizer, and as long as no added
    token has white space in it."""
    described = json.loads(tokenizer.to_str())["pre_tokenizer"]
    steps = described.get("pretokenizers", [described]) if isinstance(described, dict) else []
    known = [step.get("type") in BY_WORDS for step in steps]
    splits = [step for step in steps if step.get("split", True) and step.get("use_regex", True)]
    added = tokenizer.get_added_tokens_decoder().values()
    return bool(steps) and all(known) and bool(splits) and not any(len(one.content.split()) > 1 for one in added)


def agrees(tokenizer: Tokenizer, text: str) -> bool:
    """Whether the beginning of `text` has the same tokens in one piece and in several."""
    sample = text[:TRIAL_CHARS]
    whole = tokenizer.encode(sample, add_special_tokens=False)
    pieces = [*_encodings(tokenizer, sample, TRIAL_CHARS // 4)]
    if len(pieces) < 2:
        return False
    ids, offsets = (np.concatenate([piece[place] for piece in pieces]) for place in (0, 1))
    return np.array_equal(ids, whole.ids) and np.array_equal(offsets, _offsets_of(whole))


def tokens_of(tokenizer: Tokenizer, text: str, wanted: int) -> Pieces:
    """At least the first `wanted` tokens of a text, or all if there are fewer."""
    ids: list[np.ndarray] = [np.empty(0, np.int32)]
    offsets: list[np.ndarray] = [np.empty((0, 2), np.int32)]
    found, unread = 0, len(text)
    for own, places, end in _encodings(tokenizer, text, PIECE_CHARS):
        ids.append(own)
        offsets.append(places)
        found, unread = found + len(own), len(text) - end
        if found >= wanted:
            break
    return Pieces(np.concatenate(ids), np.concatenate(offsets), unread)


def _encodings(tokenizer: Tokenizer, text: str, size: int) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """The ids and offsets of one piece after the other, and where it ends."""
    start = word = 0  # where the piece begins, and the word before it
    while start < len(text):
        end, next_word = _seam(text, start + size)
        encoding = tokenizer.encode(text[word:end], add_special_tokens=False)
        ids, offsets = np.array(encoding.ids, np.int32), _offsets_of(encoding) + np.int32(word)
        own = offsets[:, 1] > start if word < start else np.ones(len(ids), bool)
        yield ids[own], offsets[own], end
        start, word = end, next_word


def _seam(text: str, after: int) -> tuple[int, int]:
    """The first place from `after` on where a piece may end, and where the word before it begins; the text's end if
    there is none."""
    place = after
    while place < len(text) - 1:
        place = min((at for at in (text.find(" ", place), text.find("\n", place)) if at >= 0), default=len(text))
        if place >= len(text) - 1:
            break
        word = 1 + max(text.rfind(" ", 0, place), text.rfind("\n", 0, place))
        if word < place and place - word <= LONGEST_WORD and text[place - 1].isalnum() and text[place + 1].isalnum():
            return place, word
        place += 1
    return len(text), len(text)


def _offsets_of(encoding: Encoding) -> np.ndarray:
    return np.array(encoding.offsets, np.int32).reshape(-1, 2)
