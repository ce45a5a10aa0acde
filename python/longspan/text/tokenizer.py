"""Text to token ids, with the character offsets that lead from a token back to its text.

Wraps `tokenizers.Tokenizer`. What tokenizer.json says of truncation and padding is switched off: `max_length` is ours,
and nothing is padded. Nothing changes after loading, so threads may share one TextTokenizer.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as NormalizerSequence

from longspan.checkpoint.json_object import JsonObject
from longspan.errors import CheckpointError
from longspan.integers import checked_int
from longspan.text import long_texts
from longspan.text.containers import checked_texts
from longspan.text.static_rules import StaticRules
from longspan.text.tokenizer_config import Side, apply_config, padding_token_of, truncation_side_of
from longspan.text.tokenizer_file import blaming, read_tokenizer
from longspan.text.tokenizer_forks import stay_serial_in_forks
from longspan.text.waiting import check_waiting

if TYPE_CHECKING:
    from longspan.checkpoint.checkpoint import Checkpoint
    from longspan.models.spec import StaticSpec

UNCUT: Final = 2**31 - 1  # tokens: no limit

# Characters handed to the library at once. Its own records cost 200 to 700 bytes a character until the call's end.
SLICE_CHARS: Final = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class TokenizedText:
    """The tokens of one text behind its prompt, special tokens included, cut to the tokens that count.

    Attributes:
        ids: (n,) int32.
        offsets: (n, 2) int32, half-open character positions (str indices) in the text without its prompt. (0, 0) for
            special tokens and for the prompt's; a token that straddles prompt and text starts at 0. Tokens that share a
            character (byte-level BPE) all have its offsets; a token of nothing but trimmed white space has none (e, e).
        num_prompt_tokens: tokens that hold nothing of the text, special ones not counted. A token that straddles prompt
            and text is the text's, so that no character of the text loses its token to the prompt.
        truncated: tokens that were cut off; 0 if none.
        unread: characters behind those, which were not tokenized: a long text is read no further than it needs.
        special_mask: (n,) bool, the tokens that the tokenizer's template adds; not a "[SEP]" that the text spells out.
    """

    ids: np.ndarray
    offsets: np.ndarray
    num_prompt_tokens: int
    truncated: int
    special_mask: np.ndarray
    unread: int = 0

    def __repr__(self) -> str:
        first = ", ".join([*map(str, self.ids[:8].tolist()), *(["..."] if len(self.ids) > 8 else [])])
        cut = f", {self.truncated} cut off" if self.truncated else ""
        return f"TokenizedText({len(self.ids)} tokens{cut}: {first})"


class TextTokenizer:
    """A checkpoint's tokenizer, with a limit of `max_length` tokens a text, special tokens included."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        source: Path,
        *,
        max_length: int,
        vocab_size: int,
        truncation_side: Side = "right",
        padding: str | None = None,
        static: StaticRules | None = None,
    ) -> None:
        """Takes over `tokenizer`, read from `source`; use `load` or `from_file`.

        Raises: CheckpointError, an id lies beyond `vocab_size`; ValueError, `max_length` leaves no room for text.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        with blaming(source):
            template_ids = tokenizer.encode("").ids
        largest = max(chain(tokenizer.get_vocab(with_added_tokens=False).values(), template_ids), default=-1)
        if largest >= vocab_size:
            raise CheckpointError(
                f"{source} has token ids up to {largest}, but the model's vocab_size is {vocab_size}: "
                f"tokenizer and weights are of different models"
            )
        # Added tokens that the model has no row for do no harm before a text has one.
        added = tokenizer.get_vocab(with_added_tokens=True)
        self._without_row = {number: token for token, number in added.items() if number >= vocab_size}
        self._tokenizer = tokenizer
        self._source = source
        self.vocab_size = vocab_size
        self.num_special_tokens: int = tokenizer.num_special_tokens_to_add(False)
        self.max_length = self._checked_length(max_length)
        self.truncation_side: Final[Side] = truncation_side
        self._static = static
        self._stand_in = None if padding is None else self.token_id(padding)
        if static is not None:
            self._stand_in = 0  # any token: a text of nothing counts none, and has a vector of zeros
        if self._stand_in is not None and self._stand_in >= vocab_size:
            self._stand_in = None
        stay_serial_in_forks()

    @property
    def backend(self) -> Tokenizer:
        """The library's own, which neither cuts nor pads; to be left as it is."""
        return self._tokenizer

    @property
    def source(self) -> Path:
        """The file that it was read from."""
        return self._source

    @classmethod
    def load(
        cls, checkpoint: Checkpoint, *, max_length: int, vocab_size: int, static: StaticSpec | None = None
    ) -> TextTokenizer:
        """The tokenizer of `checkpoint`, whose files say `max_length`; see `from_file`.

        Raises: CheckpointError, also where they leave no room for text.
        """
        try:
            return cls.from_file(
                checkpoint.tokenizer_file,
                max_length=max_length,
                vocab_size=vocab_size,
                do_lower_case=checkpoint.do_lower_case,
                config=checkpoint.tokenizer_config,
                static=static,
            )
        except CheckpointError:
            raise
        except ValueError as error:
            raise CheckpointError(f"{checkpoint.folder}: the longest input is too short: {error}") from None

    @classmethod
    def from_file(
        cls,
        path: Path | str,
        *,
        max_length: int,
        vocab_size: int,
        do_lower_case: bool = False,
        config: JsonObject | None = None,
        static: StaticSpec | None = None,
    ) -> TextTokenizer:
        """Read a tokenizer.json.

        Args:
            path: the file.
            max_length: tokens a text may have, special tokens included.
            vocab_size: rows of the model's embedding table.
            do_lower_case: lower the text's case first (sentence_bert_config.json). The library does it, and keeps the
                offsets right where a length changes.
            config: tokenizer_config.json, which overrides some of tokenizer.json, as in transformers.
            static: of a static model: no special tokens, and what does not count.
        Raises: CheckpointError, the file is missing or damaged, or its ids reach beyond `vocab_size`.
        """
        path = Path(path)
        tokenizer = read_tokenizer(path)
        if config is not None:
            apply_config(tokenizer, config)
        if do_lower_case:
            first = [Lowercase()] if tokenizer.normalizer is None else [Lowercase(), tokenizer.normalizer]
            tokenizer.normalizer = NormalizerSequence(first)
        settings = JsonObject({}, str(path)) if config is None else config
        return cls(
            tokenizer,
            path,
            max_length=max_length,
            vocab_size=vocab_size,
            truncation_side=truncation_side_of(settings),
            padding=padding_token_of(settings),
            static=None if static is None else StaticRules.of(tokenizer, static),
        )

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt: str | Sequence[str] = "",
        max_length: int | None = None,
        truncation_side: Side | None = None,
    ) -> list[TokenizedText]:
        """Tokenize prompt + text for every text, and cut the end of what is too long; special tokens stay.

        Args:
            texts: any number of str; an empty one gives the special tokens alone.
            prompt: one for all texts, or one for each.
            max_length: overrides the tokenizer's own limit, upwards too.
            truncation_side: which end is cut, "left" or "right"; None for what the checkpoint says.
        Raises: TypeError, something is no str; ValueError, a lone surrogate, a text without any token where no padding
            token can stand for it, or a bad length.
        """
        texts = checked_texts("texts", texts)
        prompts = checked_texts("prompt", [prompt] * len(texts) if isinstance(prompt, str) else prompt)
        if len(prompts) != len(texts):
            raise ValueError(f"encode: prompt must be one str or {len(texts)}, one a text; got {len(prompts)}")
        limit = self.max_length if max_length is None else self._checked_length(max_length)
        results: list[TokenizedText] = []
        side = self.truncation_side if truncation_side is None else truncation_side
        for part in _slices([len(head) + len(text) for head, text in zip(prompts, texts, strict=True)]):
            whole = list(map(operator.add, prompts[part], texts[part]))
            if self._static is not None:
                whole = [self._static.cut(text, limit) for text in whole]
            with blaming(self._source):
                if len(whole) == 1 and self._goes_by_pieces(whole[0]):
                    tokens = [self._by_pieces(whole[0], limit if side == "right" else UNCUT)]
                else:
                    tokens = list(map(_Tokens.of, self._tokenizer.encode_batch(whole)))
            results += (_cut(one, len(head), limit, side) for one, head in zip(tokens, prompts[part], strict=True))
        if self._static is not None:
            results = list(map(self._static.counted, results))
        for index, result in enumerate(results):
            if not len(result.ids):
                results[index] = self._nothing(index)
            self._refuse_tokens_without_row(f"texts[{index}]", result.ids)
        return results

    @functools.cached_property
    def _works_by_words(self) -> bool:
        return long_texts.works_by_words(self._tokenizer)

    def _nothing(self, index: int) -> TokenizedText:
        """What stands for a text without a token, where the tokenizer adds no special ones: its padding token, alone,
        as padded batches of other runtimes have it."""
        if self._stand_in is None:
            raise ValueError(
                f"encode: texts[{index}] gives no token, and this tokenizer adds no special ones and names no padding "
                f"token; leave the text out, or give a prompt"
            )
        ids = np.array([self._stand_in], np.int32)
        return TokenizedText(ids, np.zeros((1, 2), np.int32), 0, 0, np.ones(1, bool))

    def _goes_by_pieces(self, text: str) -> bool:
        if len(text) <= 2 * long_texts.PIECE_CHARS or not self._works_by_words:
            return False
        return long_texts.agrees(self._tokenizer, text)

    def _by_pieces(self, text: str, limit: int) -> _Tokens:
        """As `_Tokens.of` the whole text's encoding, but read no further than `limit` tokens need."""
        found = long_texts.tokens_of(self._tokenizer, text, limit + 1)
        frame = _Tokens.of(self._tokenizer.encode("a"))  # special tokens around a text's own
        own = np.flatnonzero(~frame.special)
        parts = (frame.part(slice(0, own[0])), found, frame.part(slice(own[-1] + 1, None)))
        special = np.repeat([True, False, True], [len(part.ids) for part in parts])
        ids, offsets = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
        return _Tokens(ids, offsets, special, found.unread)

    def bare_ids(self, texts: Sequence[str], name: str = "texts", most: int | None = None) -> list[np.ndarray]:
        """The (tokens,) int32 ids of each text alone: without special tokens, and nothing cut.

        Args:
            name: what messages call the texts.
            most: how many tokens count: of a text far longer than that some more are given, but not all; None for all.
        Raises: as `encode`. A text may give no token.
        """
        wanted = UNCUT if most is None else most + 1
        texts = checked_texts(name, texts)
        encode = getattr(self._tokenizer, "encode_batch_fast", self._tokenizer.encode_batch)  # offsets are not needed
        results: list[np.ndarray] = []
        for part in _slices([*map(len, texts)]):
            with blaming(self._source):
                if part.stop - part.start == 1 and self._goes_by_pieces(texts[part.start]):
                    results.append(np.asarray(long_texts.tokens_of(self._tokenizer, texts[part.start], wanted).ids))
                    continue
                encodings = encode(texts[part], add_special_tokens=False)
            results += (np.array(one.ids, np.int32) for one in encodings)
        for index, ids in enumerate(results):
            self._refuse_tokens_without_row(f"{name}[{index}]", ids)
        return results

    def _refuse_tokens_without_row(self, name: str, ids: np.ndarray) -> None:
        if self._without_row and len(ids) and ids.max() >= self.vocab_size:
            token = self._without_row.get(int(ids.max()), "")
            raise ValueError(
                f"encode: {name} has the token {token!r}, whose id {ids.max()} is beyond the model's vocab_size, "
                f"{self.vocab_size}; the model has no weights for it"
            )

    def token_id(self, token: str) -> int | None:
        """The number of the one token that is spelled so; None if there is none."""
        number: int | None = self._tokenizer.token_to_id(token)
        return number

    def _checked_length(self, max_length: int) -> int:
        """`max_length` as an int that leaves room for a token of text."""
        length = checked_int("max_length", max_length)
        if length <= self.num_special_tokens:
            raise ValueError(
                f"max_length must be at least {self.num_special_tokens + 1} "
                f"({self.num_special_tokens} special tokens and one of text), got {length}"
            )
        return length


class _Tokens(NamedTuple):
    """All tokens of one text."""

    ids: np.ndarray
    offsets: np.ndarray
    special: np.ndarray  # unset at a special token that the text spells out
    unread: int = 0  # characters behind them

    @classmethod
    def of(cls, encoding: Encoding) -> _Tokens:
        num_tokens = len(encoding)
        offsets = np.fromiter(chain.from_iterable(encoding.offsets), np.int32, 2 * num_tokens).reshape(num_tokens, 2)
        return cls(np.array(encoding.ids, np.int32), offsets, np.array(encoding.special_tokens_mask, bool))

    def part(self, which: slice) -> _Tokens:
        return _Tokens(self.ids[which], self.offsets[which], self.special[which])


def _cut(tokens: _Tokens, prompt_chars: int, max_length: int, side: Side) -> TokenizedText:
    """`tokens` without the last of the text's own, or the first, so that `max_length` stay."""
    ids, offsets, special, unread = tokens
    truncated = max(0, len(ids) - max_length)
    if truncated:
        kept = np.ones(len(ids), bool)
        own = np.flatnonzero(~special)
        kept[own[-truncated:] if side == "right" else own[:truncated]] = False
        ids, offsets, special = ids[kept], offsets[kept], special[kept]
    num_prompt_tokens = 0
    if prompt_chars:
        num_prompt_tokens = int(np.count_nonzero(~special & (offsets[:, 1] <= prompt_chars)))
        offsets = np.maximum(offsets - np.int32(prompt_chars), 0)
    return TokenizedText(ids, offsets, num_prompt_tokens, truncated, special, unread)


def _slices(lengths: Sequence[int]) -> Iterator[slice]:
    """Neighbouring ranges of `lengths` that each sum to SLICE_CHARS at most, or hold one text."""
    start = total = 0
    for index, length in enumerate(lengths):
        if index > start and total + length > SLICE_CHARS:
            check_waiting()  # a slice takes a quarter of a second, a call may have thousands
            yield slice(start, index)
            start, total = index, 0
        total += length
    if lengths:
        yield slice(start, len(lengths))
