"""The work of `longspan search query`: what each question finds."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from longspan.cli.console.failures import CommandError
from longspan.cli.embedding.options import ModelOptions
from longspan.cli.files.stage import Vectors
from longspan.cli.search.answers import Answer, Hit
from longspan.cli.search.best import Encode, with_best
from longspan.cli.search.hybrid import CANDIDATES, fused
from longspan.cli.search.plan import Encoding
from longspan.cli.search.questions import QueryRequest, Questions, Sources, asked, given_vectors
from longspan.cli.search.tokens import TokenRows, check_kind, encode_either
from longspan.documents.folder import Documents, Settings, load_index, read_settings
from longspan.documents.sparse import load_sparse

if TYPE_CHECKING:
    from longspan.cli.search.tokens import AnyEncoder
    from longspan.documents.folder import SearchIndex
    from longspan.reranker import Reranker
    from longspan.search import BinaryIndex, MultiVectorStore, SparseIndex
    from longspan.sparse_encoder import SparseEncoder


def query(request: QueryRequest, options: ModelOptions, sources: Sources | None = None) -> Iterator[Answer]:
    """The answers, in the order of the questions, as they come; `sources` is told what they are made from.

    Raises: CommandError, FileNotFoundError, IndexFileError: what is wrong with the request or the index.
    """
    if sum(map(bool, (request.words, request.file, request.vectors))) > 1:
        raise CommandError("ask by words, by --file or by --vectors, not by two of them")
    if request.words and not " ".join(request.words).strip():
        raise CommandError("the question is empty; ask in words")
    if request.weights is not None and request.fusion in ("dense", "sparse"):
        raise CommandError(f"--weights is for two lists, and --fusion {request.fusion} asks one; leave one of them out")
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
    blocks = given_vectors(request.vectors) if request.vectors else asked(request, options, settings, sources)
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


def _sentence_encoder(encoder: AnyEncoder, settings: Settings) -> Encode:
    """Sentences to vectors, as the index's documents became them."""
    encoding = Encoding("document", settings.truncate_dim, settings.normalize, on_truncate="ignore")
    encode = encode_either(encoder, encoding)
    return lambda sentences: encode([*sentences])


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
