"""What `longspan search query` answers, for machines and for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np

from longspan.cli.console.terminal import excerpt, json_line, one_line, style
from longspan.documents.folder import Document

if TYPE_CHECKING:
    from longspan.images.pages import PdfPage

_SHOWN_LINES = 3  # of a document
_FIELDS_WIDTH = 60  # characters


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that answers a question."""

    rank: int  # from 1
    score: float  # higher is better; without rescoring minus the number of bits that differ; a reranker's own
    document: Document
    found_at: int | None = None  # its rank before a reranker's
    best: tuple[int, int] | None = None  # characters of its text: the sentence that answers best


@dataclass(frozen=True, slots=True)
class Answer:
    """A question and what it found, best first."""

    query: str  # its words; of a picture, a sound or a video where it lies
    hits: list[Hit]
    vectors: np.ndarray | None = None  # the question's: (dim,), or (tokens, dim)
    medium: Path | PdfPage | None = None  # that was asked with


def as_json(answer: Answer) -> str:
    """One object a line: the query, and its hits with all that is known of each."""
    hits = []
    for hit in answer.hits:
        before = {} if hit.found_at is None else {"found_at": hit.found_at}
        best = {} if hit.best is None else {"best": {"start": hit.best[0], "end": hit.best[1]}}
        hits.append({"rank": hit.rank, "score": hit.score, **before, **asdict(hit.document), **best})
    return json_line({"query": answer.query, "hits": hits})


def as_text(answer: Answer, *, is_full: bool, shows_query: bool) -> str:
    """For a person: a line on where it is, then the sentence that answers best and what follows, or its beginning."""
    lines = [style(answer.query, "bold", "cyan")] if shows_query else []
    for hit in answer.hits:
        document = hit.document
        name = one_line(document.source)
        place = name if document.start is None else f"{name} [{document.start}:{document.end}]"
        fields = shorten(" ".join(f"{name}={value}" for name, value in document.fields.items()), _FIELDS_WIDTH)
        parts = (f"{hit.rank:>3}", style(f"{hit.score:.3f}", "green"), style(place, "bold"), style(fields, "dim"))
        lines.append("  ".join(part for part in parts if part))
        if document.text is not None:
            shown_lines = 1_000_000 if is_full else _SHOWN_LINES
            lines.append(excerpt(document.text, indent=5, lines=shown_lines, best=hit.best))
    return "\n".join(line for line in lines if line) if answer.hits else "\n".join([*lines, "  nothing was found"])
