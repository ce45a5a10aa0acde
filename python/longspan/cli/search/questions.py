"""What `longspan search query` is asked: in words, by a file or by vectors, and as what the index compares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from longspan.cli.console.failures import CommandError
from longspan.cli.console.streams import typed_lines
from longspan.cli.embedding.options import ModelOptions
from longspan.cli.embedding.stream import Tally, good_records, media_read
from longspan.cli.files.inputs import find_inputs
from longspan.cli.files.readers import read_records
from longspan.cli.files.records import Record, Selection
from longspan.cli.files.stage import Vectors
from longspan.cli.search.hybrid import Fusion
from longspan.cli.search.plan import Encoding
from longspan.cli.search.sources import open_vectors
from longspan.cli.search.tokens import (
    TokenRows,
    check_kind,
    check_prompts,
    encode_either,
    has_tokens,
    is_late_interaction,
)
from longspan.documents.folder import Settings
from longspan.documents.kinds import MEDIA, NOUNS, PLURALS, Format
from longspan.vectors.origin import check_asked

if TYPE_CHECKING:
    from longspan.cli.search.tokens import AnyEncoder
    from longspan.documents.folder import SearchIndex
    from longspan.images.pages import PdfPage
    from longspan.search import SparseIndex
    from longspan.sparse_encoder import SparseEncoder

_AT_A_TIME = 256  # questions of a file


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """What `longspan search query` was asked for; each field is an option of that name."""

    index: str
    words: tuple[str, ...]
    file: str | None
    vectors: str | None
    format: Format | None
    field: str
    model: str | None
    top_k: int
    oversample: int
    rescore: bool
    task: str | None
    prompt_name: str | None
    prompt: str | None
    rerank: str | None
    candidates: int
    fusion: Fusion | None
    weights: tuple[float, float] | None
    full: bool
    show: str | None
    best: bool | None


@dataclass(frozen=True, slots=True)
class Questions:
    """Some questions of one kind: in words, by media, or by vectors that nothing is known of.

    Attributes:
        texts: the words, or what the questions are called.
        vectors: their own.
        media: what was asked with in place of words.
    """

    texts: list[str]
    vectors: Vectors | TokenRows
    media: list[Path | PdfPage | None] | None = None


class Sources:
    """What `query` opened to answer; a page shows more of it than the answers."""

    index: SearchIndex
    encoder: AnyEncoder | None = None
    sparse: tuple[SparseIndex, SparseEncoder] | None = None  # where a sparse model stands beside it


def asked(request: QueryRequest, options: ModelOptions, settings: Settings, sources: Sources) -> Iterator[Questions]:
    """Questions and their vectors. The model is loaded before the first question is asked for."""
    index = sources.index
    model = request.model or settings.model
    if model is None:
        raise CommandError(f"{request.index} was built from vectors, and no model is known; give --model or --vectors")
    encoding = Encoding(
        role="query",
        truncate_dim=settings.truncate_dim,
        normalize=settings.normalize,
        task=request.task,
        prompt_name=request.prompt_name,
        prompt=request.prompt,
    )
    options = options.with_revision(settings.revision) if request.model is None else options
    encoder = options.open_either(model, prefers_tokens=has_tokens(index))
    sources.encoder = encoder
    check_kind(request.index, index, is_late_interaction(encoder))
    if index.origin is not None:
        check_asked(request.index, index.origin, encoder.origin)
    if is_late_interaction(encoder):
        check_prompts(request.prompt_name, request.prompt)
    encode = encode_either(encoder, encoding)
    if request.words or not request.file:
        for texts in _in_words(request):
            yield Questions(texts, encode(texts))
        return
    for records in _of_file(request, request.file, media_read(encoder)):
        vectors = encode([record.input for record in records])
        if records[0].medium is None:
            yield Questions([record.text for record in records], vectors)
        else:
            yield Questions([record.place for record in records], vectors, [record.medium for record in records])


def _in_words(request: QueryRequest) -> Iterator[list[str]]:
    if request.words:
        yield [" ".join(request.words)]
    else:
        yield from ([line] for line in typed_lines())


def _of_file(request: QueryRequest, file: str, reads: frozenset[str]) -> Iterator[list[Record]]:
    """The questions in a file, or the picture, the sound, the video or the pages that it is, some at a time."""
    sources = find_inputs([file], format=request.format, takes_media=True)
    for source in sources:
        kind = "image" if source.format == "pdf" else source.format
        if source.format in MEDIA and source.format != "pdf" and kind not in reads:
            others = " and ".join(["texts", *(PLURALS[each] for each in sorted(MEDIA) if each in reads)])
            raise CommandError(
                f"{source.name} is {NOUNS[source.format]}, but the model of {request.index} reads {others}"
            )
    rows = read_records(sources, Selection(request.field, reads=reads))
    records = good_records(rows, Tally(), keep=(), skip_bad=None)
    for is_text, some in groupby(records, lambda record: record.medium is None):
        if not is_text and request.rerank:
            raise CommandError(f"--rerank reads questions in words, and {file} is none")
        if not is_text and request.fusion not in (None, "dense"):
            raise CommandError(f"--fusion {request.fusion} reads questions in words, and {file} is none")
        asked = (record for record in some if record.medium is not None or record.text.strip())
        while block := list(islice(asked, _AT_A_TIME)):
            yield block


def given_vectors(name: str) -> Iterator[Questions]:
    vectors = open_vectors(name)
    for first in range(0, len(vectors), _AT_A_TIME):
        block = np.ascontiguousarray(vectors[first : first + _AT_A_TIME])
        yield Questions([f"{name}: row {number}" for number in range(first + 1, first + 1 + len(block))], block)
