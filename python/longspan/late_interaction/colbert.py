"""From texts to token ids, as late-interaction models want them: markers, query expansion, and the tokens of a document
that get no vector.

A marker stands second, behind the tokenizer's first special token. Queries are filled up with mask tokens, whose
vectors count as the text's own do ("query augmentation"). Source: ColBERT, arXiv:2004.12832.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from longspan.errors import CheckpointError
from longspan.late_interaction.colbert_rules import ColbertRules, SkipRule
from longspan.text.tokenizer import TextTokenizer


@dataclass(frozen=True, slots=True, eq=False)
class TokenRow:
    """One text's tokens."""

    ids: np.ndarray  # (n,) int32
    offsets: np.ndarray  # (n, 2) int32, characters of the text, (0, 0) of what is none of its
    truncated: int  # tokens of the text that were cut off


class ColbertTokenizer:
    """Texts to token ids by a checkpoint's rules."""

    def __init__(self, tokenizer: TextTokenizer, rules: ColbertRules, source: Path) -> None:
        """Raises: CheckpointError, naming `source`, if the tokenizer lacks a marker or the expansion token."""
        self.rules: Final = rules
        self._tokenizer = tokenizer
        self._source = source
        self._query_marker = self._required("query marker", rules.query_marker)
        self._doc_marker = self._required("document marker", rules.doc_marker)
        self.expansion_id: Final = self._required("expansion token", rules.expansion_token)
        self._pad_id = None if rules.pad_token is None else tokenizer.token_id(rules.pad_token)
        self._skipped: dict[SkipRule, np.ndarray] = {}

    @property
    def shortest(self) -> int:
        """The least that a length may be: the special tokens, a marker and one token of text."""
        has_marker = self._query_marker is not None or self._doc_marker is not None
        return self._tokenizer.num_special_tokens + has_marker + 1

    def queries(self, texts: Sequence[str], max_length: int, prompts: str | Sequence[str] = "") -> list[TokenRow]:
        """The ids of each prompt and query, cut to `max_length`, and filled up to it, or to the shorter length that the
        rules name, if queries are expanded."""
        rows = self._rows(texts, max_length, prompts, self._query_marker)
        if self.expansion_id is None:
            return rows
        filled = min(max_length, self.rules.expansion_length or max_length)
        added = [max(0, filled - len(row.ids)) for row in rows]
        return [
            TokenRow(
                self._expanded(row.ids, len(row.ids) + count, self.expansion_id),
                np.concatenate([row.offsets, np.zeros((count, 2), np.int32)]),
                row.truncated,
            )
            for row, count in zip(rows, added, strict=True)
        ]

    def documents(self, texts: Sequence[str], max_length: int, prompts: str | Sequence[str] = "") -> list[TokenRow]:
        """The ids of each prompt and document, cut to `max_length`."""
        return self._rows(texts, max_length, prompts, self._doc_marker)

    def check_ends(self) -> None:
        """CheckpointError, if queries end with the very token that fills them up: none can tell where one ends."""
        if self._tokenizer.encode(["a"])[0].ids[-1] == self.expansion_id:
            raise CheckpointError(
                f"{self._source}: queries end with the token {self.rules.expansion_token!r} that fills them up; such a "
                f"model is supported with attend_to_mask_tokens=True only"
            )

    def kept(self, ids: np.ndarray, rule: SkipRule | None) -> np.ndarray:
        """(n,) bool: the tokens of a document that get a vector. Where that leaves none, all do: none has no score."""
        if rule is None:
            return np.ones(len(ids), bool)
        keep = ~np.isin(ids, self.skipped_ids(rule))
        if rule == "colbert" and self._pad_id is not None:
            keep &= ids != self._pad_id
        return keep if keep.any() else ~keep

    def skipped_ids(self, rule: SkipRule) -> np.ndarray:
        """(n,) int32, rising: the ids that the rule leaves out.

        "colbert" takes the first token of each punctuation mark as a text of its own; of a SentencePiece tokenizer that
        is often the bare word start, which goes, while the mark itself stays. "pylate" takes the tokens that are
        spelled like the marks. Each is what the tool of that name does.
        """
        if rule not in self._skipped:
            spelled = map(self._tokenizer.token_id, self.rules.skip_words)
            found = self._first_tokens() if rule == "colbert" else [number for number in spelled if number is not None]
            self._skipped[rule] = np.unique(np.array(found, np.int32))
        return self._skipped[rule]

    def _first_tokens(self) -> list[int]:
        texts = self._tokenizer.encode(list(string.punctuation))
        contents = [text.ids[~text.special_mask] for text in texts]
        return [int(ids[0]) for ids in contents if len(ids)]

    def _rows(
        self, texts: Sequence[str], max_length: int, prompts: str | Sequence[str], marker: int | None
    ) -> list[TokenRow]:
        if marker is None:
            encoded = self._tokenizer.encode(texts, prompt=prompts, max_length=max_length)
            return [TokenRow(text.ids, text.offsets, text.truncated) for text in encoded]
        encoded = self._tokenizer.encode(texts, prompt=prompts, max_length=max_length - 1)
        return [
            TokenRow(np.insert(text.ids, 1, marker), np.insert(text.offsets, 1, 0, axis=0), text.truncated)
            for text in encoded
        ]

    def _expanded(self, ids: np.ndarray, length: int, filler: int) -> np.ndarray:
        filled = np.full(length, filler, np.int32)
        filled[: len(ids)] = ids if self._pad_id is None else np.where(ids == self._pad_id, filler, ids)
        return filled

    def _required(self, part: str, token: str | None) -> int | None:
        if token is None:
            return None
        number = self._tokenizer.token_id(token)
        if number is None:
            raise CheckpointError(f"{self._source} has no token {token!r}, which is to be the {part}")
        return number
