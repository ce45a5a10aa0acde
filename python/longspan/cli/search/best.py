"""Which sentence of a hit answers the question: the one whose own vector is nearest to the question's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from longspan.documents.kinds import kind_of, unit_of
from longspan.late_chunking.chunking import sentence_spans
from longspan.late_chunking.structure import CUTS

if TYPE_CHECKING:
    from longspan.cli.search.answers import Answer, Hit

MOST_SENTENCES: Final = 64  # of a hit that are looked at
_LEAST_LETTERS: Final = 3  # of a sentence: less is a rule or a number

# Texts to a vector each, (dim,), or to token vectors, (tokens, dim).
Encode = Callable[[Sequence[str]], Iterable[np.ndarray]]


def with_best(answer: Answer, encode: Encode) -> Answer:
    """The answer, each hit with the span of its best sentence; of a hit of one sentence nothing is computed."""
    query = answer.vectors
    if query is None:
        return answer
    spans = [_sentences(hit) for hit in answer.hits]
    texts = [
        (hit.document.text or "")[start:end]
        for hit, found in zip(answer.hits, spans, strict=True)
        if len(found) > 1
        for start, end in found
    ]
    vectors = iter(encode(texts) if texts else ())
    hits = []
    for hit, found in zip(answer.hits, spans, strict=True):
        scores = [_score(query, next(vectors)) for _ in found] if len(found) > 1 else [0.0]
        hits.append(replace(hit, best=found[int(np.argmax(scores))] if found else None))
    return replace(answer, hits=hits)


def sentences_of(text: str, name: str) -> list[tuple[int, int]]:
    """Spans of what is shown as one: sentences, and headings, items and rows; of code statements. White space around
    them is left out, as is what holds no word.

    Args:
        text: the passage.
        name: of its file, which tells what it is.
    """
    unit = unit_of(kind_of(name)) or "markdown"
    edges = {position for position, _ in CUTS[unit](text)}
    if unit != "code":
        edges |= {start for start, _ in sentence_spans(text)}
    places = sorted({0, len(text), *edges})
    found = []
    for start, end in itertools.pairwise(places):
        part = text[start:end]
        first = start + len(part) - len(part.lstrip())
        if sum(character.isalnum() for character in part) >= _LEAST_LETTERS:
            found.append((first, first + len(part.strip())))
    return found[:MOST_SENTENCES]


def _sentences(hit: Hit) -> list[tuple[int, int]]:
    document = hit.document
    if document.text is None or document.file is not None:
        return []
    name = document.source if document.start is not None else ""  # a row stands in a file of another kind
    return sentences_of(document.text, name.partition(": page ")[0])


def _score(query: np.ndarray, sentence: np.ndarray) -> float:
    """The dot product, or MaxSim."""
    if query.ndim == 1:
        return float(query @ sentence)
    return float((query @ sentence.T).max(1).sum())
