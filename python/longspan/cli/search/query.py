"""The work of `longspan search query`: questions, of which each finds documents."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, cast

import numpy as np

from longspan.cli.console.failures import CommandError
from longspan.cli.console.streams import standard_input
from longspan.cli.console.terminal import excerpt, is_terminal, json_line, style
from longspan.cli.embedding.options import ModelOptions
from longspan.cli.embedding.stream import Tally, good_records, media_read
from longspan.cli.files.inputs import find_inputs
from longspan.cli.files.readers import read_records
from longspan.cli.files.records import Record, Selection
from longspan.cli.files.stage import Vectors
from longspan.cli.search.best import Encode, with_best
from longspan.cli.search.hybrid import CANDIDATES, Fusion, fused
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
from longspan.documents.folder import Document, Documents, Settings, load_index, read_settings
from longspan.documents.kinds import MEDIA, NOUNS, PLURALS, Format
from longspan.documents.sparse import load_sparse
from longspan.vectors.origin import check_asked

if TYPE_CHECKING:
    from longspan.cli.search.tokens import AnyEncoder
    from longspan.documents.folder import SearchIndex
    from longspan.images.pages import PdfPage
    from longspan.reranker import Reranker
    from longspan.search import BinaryIndex, MultiVectorStore, SparseIndex
    from longspan.sparse_encoder import SparseEncoder

_AT_A_TIME = 256  # questions of a file
_SHOWN_LINES = 3  # of a document
_FIELDS_WIDTH = 60  # characters
_PROMPT = "? "


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


def query(request: QueryRequest, options: ModelOptions, sources: Sources | None = None) -> Iterator[Answer]:
    """The answers, in the order of the questions, as they come; `sources` is told what they are made from.

    Raises: CommandError, FileNotFoundError, IndexFileError: what is wrong with the request or the index.
    """
    if sum(map(bool, (request.words, request.file, request.vectors))) > 1:
        raise CommandError("ask by words, by --file or by --vectors, not by two of them")
    if request.words and not " ".join(request.words).strip():
        raise CommandError("the question is empty; ask in words")
    folder = Path(os.path.realpath(request.index))
    settings, run = read_settings(folder)
    index = load_index(folder)
    if index is None:
        raise CommandError(f"{request.index} holds nothing yet; its first run was stopped, and goes on with --resume")
    if not run.is_done:
        warnings.warn(f"the last run on {request.index} was stopped; --resume goes on with it", stacklevel=2)
    if request.rerank and request.vectors:
        raise CommandError("--rerank reads questions, which --vectors has none of; ask by words or by --file")
    reranker = options.open_reranker(request.rerank) if request.rerank else None
    sources = Sources() if sources is None else sources
    sources.index = index
    sources.sparse = _sparse(request, options, settings, folder)
    blocks = _given_vectors(request.vectors) if request.vectors else _asked(request, options, settings, sources)
    with closing(Documents(folder)) as documents:
        for questions in blocks:
            wide = request
            if reranker is not None:
                wide = replace(request, top_k=max(request.top_k, request.candidates))
            answers = list(_found(wide, sources, documents, questions))
            if reranker is not None:
                answers = list(_reranked(request, reranker, answers))
            if request.best and sources.encoder is not None:
                encode = _sentence_encoder(sources.encoder, settings)
                yield from (with_best(answer, encode) for answer in answers)
            else:
                yield from answers


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
        place = document.source if document.start is None else f"{document.source} [{document.start}:{document.end}]"
        fields = shorten(" ".join(f"{name}={value}" for name, value in document.fields.items()), _FIELDS_WIDTH)
        parts = (f"{hit.rank:>3}", style(f"{hit.score:.3f}", "green"), style(place, "bold"), style(fields, "dim"))
        lines.append("  ".join(part for part in parts if part))
        if document.text is not None:
            shown_lines = 1_000_000 if is_full else _SHOWN_LINES
            lines.append(excerpt(document.text, indent=5, lines=shown_lines, best=hit.best))
    return "\n".join(line for line in lines if line) if answer.hits else "\n".join([*lines, "  nothing was found"])


def _asked(request: QueryRequest, options: ModelOptions, settings: Settings, sources: Sources) -> Iterator[Questions]:
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


def _sentence_encoder(encoder: AnyEncoder, settings: Settings) -> Encode:
    """Sentences to vectors, as the index's documents became them."""
    encoding = Encoding("document", settings.truncate_dim, settings.normalize, on_truncate="ignore")
    encode = encode_either(encoder, encoding)
    return lambda sentences: encode([*sentences])


def _in_words(request: QueryRequest) -> Iterator[list[str]]:
    if request.words:
        yield [" ".join(request.words)]
    else:
        yield from ([line] for line in _typed())


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
    records = good_records(rows, Tally(), keep=(), skip_bad=False)
    for is_text, some in groupby(records, lambda record: record.medium is None):
        if not is_text and request.rerank:
            raise CommandError(f"--rerank reads questions in words, and {file} is none")
        if not is_text and request.fusion not in (None, "dense"):
            raise CommandError(f"--fusion {request.fusion} reads questions in words, and {file} is none")
        asked = (record for record in some if record.medium is not None or record.text.strip())
        while block := list(islice(asked, _AT_A_TIME)):
            yield block


def _typed() -> Iterator[str]:
    """Lines of standard input as they come, blank ones left out; a person is prompted."""
    lines = _prompted() if is_terminal(standard_input()) else iter(standard_input().readline, "")
    return (line.strip() for line in lines if line.strip())


def _prompted() -> Iterator[str]:
    while True:
        try:
            yield input(_PROMPT)
        except EOFError:
            print()
            return


def _given_vectors(name: str) -> Iterator[Questions]:
    vectors = open_vectors(name)
    for first in range(0, len(vectors), _AT_A_TIME):
        block = np.ascontiguousarray(vectors[first : first + _AT_A_TIME])
        yield Questions([f"{name}: row {number}" for number in range(first + 1, first + 1 + len(block))], block)


def _sparse(
    request: QueryRequest, options: ModelOptions, settings: Settings, folder: Path
) -> tuple[SparseIndex, SparseEncoder] | None:
    """The sparse index and its model, where the questions are to be asked of it."""
    if request.fusion == "dense" or (request.vectors and request.fusion is None):
        return None
    if request.vectors:
        raise CommandError(f"--fusion {request.fusion} reads questions, which --vectors has none of")
    index = load_sparse(folder)
    if index is None or settings.sparse is None:
        if request.fusion is not None or request.weights is not None:
            raise CommandError(f"{request.index} has no sparse model beside it; build it with --append --sparse MODEL")
        return None
    return index, options.open_sparse(settings.sparse)


def _found(request: QueryRequest, sources: Sources, documents: Documents, questions: Questions) -> Iterator[Answer]:
    index, texts, vectors = sources.index, questions.texts, questions.vectors
    has_words = questions.media is None
    check_kind(request.index, index, isinstance(vectors, list))
    wide = request
    if sources.sparse is not None and has_words:
        wide = replace(request, top_k=max(request.top_k, CANDIDATES))
    ids, scores = _by_tokens(wide, index, vectors) if isinstance(vectors, list) else _by_vectors(wide, index, vectors)
    if sources.sparse is not None and has_words:
        sparse_index, encoder = sources.sparse
        asked = encoder.encode_query(texts, on_truncate="ignore", show_progress_bar=False)
        # A run that was stopped may have left what the dense index holds no longer.
        is_ahead = len(np.setdiff1d(sparse_index.ids, index.ids)) > 0
        live = index.ids if is_ahead else None
        found = sparse_index.search(asked, wide.top_k, filter=live, origin=encoder.origin)
        fusion, dense = request.fusion or "ranks", (ids, scores)
        ids, scores = fused(dense, (found.ids, found.scores), request.top_k, fusion, request.weights)
    for number, (text, row, values) in enumerate(zip(texts, ids.tolist(), scores.tolist(), strict=True)):
        pairs = ((id, score) for id, score in zip(row, values) if id >= 0)
        hits = [Hit(rank, float(score), documents.get(id)) for rank, (id, score) in enumerate(pairs, 1)]
        yield Answer(text, hits, vectors[number], questions.media[number] if questions.media else None)


def _reranked(request: QueryRequest, reranker: Reranker, answers: list[Answer]) -> Iterator[Answer]:
    """The best of the candidates as the reranker orders them, all answers' in one pass."""
    texts: list[list[str]] = []
    for answer in answers:
        texts.append([hit.document.text for hit in answer.hits if hit.document.text is not None])
        if len(texts[-1]) < len(answer.hits):
            raise CommandError(f"{request.index} holds vectors without texts, and --rerank reads texts")
    rankings = reranker.rank([answer.query for answer in answers], texts, request.top_k)
    for answer, ranking in zip(answers, rankings, strict=True):
        hits = [
            Hit(rank, entry["score"], answer.hits[entry["corpus_id"]].document, entry["corpus_id"] + 1)
            for rank, entry in enumerate(ranking, 1)
        ]
        yield Answer(answer.query, hits, answer.vectors)


def _by_tokens(request: QueryRequest, index: SearchIndex, vectors: TokenRows) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores (n, k), by MaxSim with every document."""
    if not request.rescore:
        raise CommandError("--no-rescore is for models of one vector a text; token vectors are scored as they are")
    result = cast("MultiVectorStore", index).search(vectors, request.top_k)
    return result.ids, result.scores


def _by_vectors(request: QueryRequest, index: SearchIndex, vectors: Vectors) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores (n, k), by the codes and what candidates are scored with again."""
    index = cast("BinaryIndex", index)
    is_coded = vectors.dtype == np.uint8
    dim = vectors.shape[1] * (8 if is_coded else 1)
    if dim != index.dim:
        raise CommandError(
            f"the queries have {dim} dimensions, but {request.index} has {index.dim}; take the model it was built with"
        )
    result = index.search(
        vectors, request.top_k, rescore=request.rescore and not is_coded, oversample=request.oversample
    )
    return result.ids, -result.distances if result.scores is None else result.scores
