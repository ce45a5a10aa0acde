"""A query and a document as one row of token ids, by the template that tokenizer.json has for pairs.

Source of the truncation: tokenizers' `longest_first`, in closed form.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan.errors import CheckpointError
from longspan.text.long_texts import PIECE_CHARS
from longspan.text.tokenizer import TextTokenizer
from longspan.text.tokenizer_config import Side

PROBES: Final = ("a", "0", ".", "A a")  # texts, one of which gives a token in any vocabulary


@dataclass(frozen=True, slots=True, eq=False)
class PairRow:
    """A row for the encoder.

    Attributes:
        ids: (tokens,) int32.
        types: (tokens,) int32, the token types; None where the tokenizer makes none.
        lost_query: tokens of the query that were cut off.
        lost_document: tokens of the document that were cut off.
        lost_more: maybe more than these, of a text that was not read to its end.
    """

    ids: np.ndarray
    types: np.ndarray | None
    lost_query: int = 0
    lost_document: int = 0
    lost_more: bool = False


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


def unique_ids(
    tokenizer: TextTokenizer, texts: Iterable[str], name: str, most: int | None = None
) -> dict[str, np.ndarray]:
    """The ids of every text without special tokens, as `bare_ids`; what comes again is tokenized once."""
    once = [*dict.fromkeys(texts)]
    return dict(zip(once, tokenizer.bare_ids(once, name, most), strict=True))


def is_long(text: str) -> bool:
    """Whether a text may not be read to its end, where no more than its first tokens count."""
    return len(text) > 2 * PIECE_CHARS


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
    from_left = (truncation_side or tokenizer.truncation_side) == "left"
    queries, documents, more = _ids_of(tokenizer, pairs, None if from_left else max_length)
    room = max_length - template.num_special
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
        rows.append(PairRow(row.ids, row.types, *lost, more) if any(lost) else row)
    return rows


def _ids_of(
    tokenizer: TextTokenizer, pairs: Sequence[tuple[str, str]], most: int | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], bool]:
    """The ids of the queries and of the documents, and whether some text may have more.

    No more is read of the long ones than `most` tokens need, and than it takes to tell that a text is longer than the
    one that it is paired with, which decides on what is cut first.
    """
    texts = [query for query, _ in pairs], [document for _, document in pairs]
    names = "queries", "documents"
    first = int(any(map(is_long, texts[0])) and not any(map(is_long, texts[1])))  # the side that is read whole
    whole = unique_ids(tokenizer, texts[first], names[first])
    wanted = None if most is None else max([most, *map(len, whole.values())])
    other = unique_ids(tokenizer, texts[1 - first], names[1 - first], wanted)
    more = most is not None and any(map(is_long, texts[1 - first]))
    return (other, whole, more) if first else (whole, other, more)
