"""A query and a document as one row of token ids, by the template that tokenizer.json has for pairs.

Source of the truncation: tokenizers' `longest_first`, in closed form.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan.errors import CheckpointError
from longspan.text.tokenizer import Side, TextTokenizer

PROBES: Final = ("a", "0", ".", "A a")  # texts, one of which gives a token in any vocabulary


@dataclass(frozen=True, slots=True, eq=False)
class PairRow:
    """A row for the encoder.

    Attributes:
        ids: (tokens,) int32.
        types: (tokens,) int32, the token types; None where the tokenizer makes none.
        lost_query: tokens of the query that were cut off.
        lost_document: tokens of the document that were cut off.
    """

    ids: np.ndarray
    types: np.ndarray | None
    lost_query: int = 0
    lost_document: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class PairTemplate:
    """What stands before, between and behind the two texts, and the token type of each part.

    Attributes:
        before, between, behind: (n,) int32 ids of special tokens.
        types: of `before` (n,) int32, of the query one, of `between` (n,), of the document one, of `behind` (n,).
    """

    before: np.ndarray
    between: np.ndarray
    behind: np.ndarray
    types: tuple[np.ndarray, int, np.ndarray, int, np.ndarray]

    @classmethod
    def of(cls, tokenizer: TextTokenizer) -> PairTemplate:
        """Read off a probe, which shows the template of any kind of post-processor.

        Raises: CheckpointError, the tokenizer does not put the query before the document, each in one piece.
        """
        backend = tokenizer.backend
        sizes = {text: len(ids) for text, ids in zip(PROBES, tokenizer.bare_ids(PROBES), strict=True) if len(ids)}
        if not sizes:
            raise CheckpointError(f"{tokenizer.source}: the tokenizer gives no token for {PROBES[0]!r}")
        probe, size = next(iter(sizes.items()))
        pair = backend.encode(probe, probe)
        owners: list[int | None] = pair.sequence_ids
        ids, types = np.array(pair.ids, np.int32), np.array(pair.type_ids, np.int32)
        first = owners.index(0) if 0 in owners else 0
        second = owners.index(1) if 1 in owners else 0
        wanted: list[int | None] = [None] * first + [0] * size + [None] * (second - first - size) + [1] * size
        if owners[: second + size] != wanted or any(owner is not None for owner in owners[second + size :]):
            raise CheckpointError(
                f"{tokenizer.source}: the template for pairs must have the first text, then the second"
            )
        end = second + size
        return cls(
            ids[:first],
            ids[first + size : second],
            ids[end:],
            (types[:first], int(types[first]), types[first + size : second], int(types[second]), types[end:]),
        )

    @property
    def num_special(self) -> int:
        """Special tokens of a pair."""
        return len(self.before) + len(self.between) + len(self.behind)

    @property
    def num_types(self) -> int:
        """Rows that a table of token types must have."""
        before, query, between, document, behind = self.types
        return 1 + max(query, document, *(int(part.max(initial=0)) for part in (before, between, behind)))

    def row(self, query: np.ndarray, document: np.ndarray, *, with_types: bool) -> PairRow:
        """The row of a query and a document, (n,) int32 each, as they are."""
        ids = np.concatenate([self.before, query, self.between, document, self.behind])
        if not with_types:
            return PairRow(ids, None)
        before, of_query, between, of_document, behind = self.types
        own = np.full(len(query), of_query, np.int32), np.full(len(document), of_document, np.int32)
        return PairRow(ids, np.concatenate([before, own[0], between, own[1], behind]))


def kept(query: int, document: int, room: int, max_query: int | None = None) -> tuple[int, int]:
    """Tokens of a query and of a document that stay, so that both have at most `room`.

    Args:
        query, document: tokens of each.
        max_query: with it a query keeps at most so many, and the rest comes off the document (FlagEmbedding's rule);
            None cuts the longer one first (sentence-transformers' rule, `longest_first`).
    """
    if max_query is not None:
        query = min(query, max_query, room)
        return query, min(document, room - query)
    if query + document <= room:
        return query, document
    short, long = sorted((query, document))
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short, long = room // 2, room - room // 2
    return (short, long) if query <= document else (long, short)


def unique_ids(tokenizer: TextTokenizer, texts: Iterable[str], name: str) -> dict[str, np.ndarray]:
    """The ids of every text without special tokens; what comes again is tokenized once."""
    once = [*dict.fromkeys(texts)]
    return dict(zip(once, tokenizer.bare_ids(once, name), strict=True))


def pair_rows(
    tokenizer: TextTokenizer,
    template: PairTemplate,
    pairs: Sequence[tuple[str, str]],
    *,
    max_length: int,
    max_query_length: int | None = None,
    truncation_side: Side | None = None,
    with_types: bool,
) -> list[PairRow]:
    """One row a pair of a query and a document, cut to `max_length` tokens, special ones included, at `truncation_side`
    or else at the end that the tokenizer's own settings name."""
    queries = unique_ids(tokenizer, (query for query, _ in pairs), "queries")
    documents = unique_ids(tokenizer, (document for _, document in pairs), "documents")
    room = max_length - template.num_special
    from_left = (truncation_side or tokenizer.truncation_side) == "left"
    rows: list[PairRow] = []
    for query_text, document_text in pairs:
        query, document = queries[query_text], documents[document_text]
        keep_query, keep_document = kept(len(query), len(document), room, max_query_length)
        own = (
            part[-size:] if from_left and size else part[:size]
            for part, size in ((query, keep_query), (document, keep_document))
        )
        row = template.row(*own, with_types=with_types)
        lost = len(query) - keep_query, len(document) - keep_document
        rows.append(PairRow(row.ids, row.types, *lost) if any(lost) else row)
    return rows
