"""What a caller of `Reranker` asks for, checked, in the form that both kinds of scorers take."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args

import numpy as np

from longspan.integers import checked_int
from longspan.text.containers import checked_texts, listed
from longspan.text.tokenizer_config import Side

LongDocuments = Literal["cut", "windows"]
LONG_DOCUMENTS: Final[tuple[LongDocuments, ...]] = get_args(LongDocuments)
OVERLAP_TOKENS: Final = 80  # jina-reranker-v2's

Lists = Sequence[tuple[str, Sequence[str]]]  # queries, each with its documents


@dataclass(frozen=True, slots=True)
class Request:
    """How lists are to be scored; `Reranker.predict` and `rank` say what the parts mean."""

    caller: str  # of what messages speak
    instruction: str  # or prompt; "" for none
    adapter: int  # -1 for none
    max_length: int | None
    max_query_length: int | None
    long_documents: LongDocuments = "cut"
    overlap_tokens: int = OVERLAP_TOKENS
    truncation_side: Side | None = None  # the end of a text that is cut; None for what the tokenizer's settings say
    batch_size: int | None = None
    batch_tokens: int | None = None
    progress: Callable[[int], object] = lambda _documents: None

    def limit(self, name: str, value: int | None, default: int, least: int, most: int) -> int:
        """`value`, or `default` for None; ValueError unless it is from `least` to `most`."""
        if value is None:
            return default
        number = checked_int(f"{self.caller}: {name}", value)
        if not least <= number <= most:
            raise ValueError(f"{self.caller}: {name} must be from {least} to {most}, got {number}")
        return number


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What a scorer made of lists.

    Attributes:
        logits: for each list (documents, labels) f32.
        losses: a sentence on what was cut; None if nothing was.
        vectors: for each list (documents, dim) f32, of models that score by vectors of the documents.
    """

    logits: list[np.ndarray]
    losses: str | None
    vectors: list[np.ndarray] | None = None


class Scorer(Protocol):
    """A loaded model, from lists to logits."""

    @property
    def num_labels(self) -> int:
        """Numbers for a pair."""

    def score(self, lists: Lists, request: Request) -> Scored:
        """All lists in one pass."""


def checked_pairs(pairs: Sequence[Sequence[str]] | Sequence[str]) -> tuple[list[tuple[str, str]], bool]:
    """The pairs as tuples, and whether the caller gave one alone."""
    items = listed("predict: pairs", pairs, of="(query, document)")
    alone = len(items) == 2 and all(isinstance(item, str) for item in items)
    found: list[tuple[str, str]] = []
    for place, item in enumerate([items] if alone else items):
        if isinstance(item, (str, bytes)) or not isinstance(item, Sized) or len(item) != 2:
            raise TypeError(f"predict: pairs[{place}] must be a query and a document, got {type(item).__name__}")
        query, document = checked_texts(f"pairs[{place}]", item, caller="predict")
        found.append((query, document))
    return found, alone


def checked_lists(
    query: str | Sequence[str], documents: Sequence[str] | Sequence[Sequence[str]]
) -> list[tuple[str, list[str]]]:
    """Each query with its documents."""
    if isinstance(query, str):
        [text] = checked_texts("query", [query], caller="rank")
        return [(text, checked_texts("documents", documents, caller="rank"))]
    queries = checked_texts("query", query, caller="rank")
    items = listed("rank: documents", documents, of="str, or of such lists")
    if all(isinstance(item, str) for item in items):
        shared = checked_texts("documents", items, caller="rank")
        return [(text, shared) for text in queries]
    if len(items) != len(queries):
        raise ValueError(
            f"rank: documents must be one list for all queries or {len(queries)} lists, one a query; got {len(items)}"
        )
    return [
        (text, checked_texts(f"documents[{place}]", own, caller="rank"))
        for place, (text, own) in enumerate(zip(queries, items, strict=True))
    ]
