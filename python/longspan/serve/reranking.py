"""A query and documents to scores, the same for every dialect."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from longspan.reranking.activation import activated
from longspan.reranking.listwise import MAX_DOCUMENT_LENGTH, MAX_QUERY_LENGTH
from longspan.search.late_interaction import score
from longspan.serve.errors import RequestError
from longspan.serve.http import Request
from longspan.serve.jobs import Work
from longspan.serve.models import RANKS, Found, ServedModel
from longspan.serve.runners import PairRunner, TokenRunner
from longspan.serve.service import INLINE_CHARACTERS, Service
from longspan.serve.texts import Direction
from longspan.serve.vectors import EmbedCall, check_truncation, count_tokens, token_limit

ScoreKind = Literal["maxsim", "sigmoid", "identity"]


@dataclass(slots=True)
class RerankCall:
    """What a client asks for."""

    found: Found
    query: str
    documents: Sequence[str]
    max_length: int | None = None  # tokens of a document
    truncate: bool = True
    direction: Direction | None = None
    with_vectors: bool = False  # whether the documents' vectors are asked for
    field: str = "documents"  # where they stood


@dataclass(frozen=True, slots=True)
class Scored:
    """A score a document, in the order of the documents."""

    logits: np.ndarray  # (n,) f32: what orders them
    scores: np.ndarray  # (n,) f32: by the model's own activation; of MaxSim the sum over the query's tokens
    unit_scores: np.ndarray  # (n,) f32: on a scale of about 0 to 1: sigmoid of a pair's logit, whatever the model's own
    # activation is; of MaxSim the mean over the query's tokens; of a listwise model its own, which are cosines
    tokens: int  # of queries and documents
    kind: ScoreKind
    vectors: np.ndarray | None = None  # (n, dim) f32 that the documents were scored by, of a listwise model

    def best_first(self) -> list[int]:
        """Indices of the documents; equal ones by index."""
        return [int(index) for index in np.argsort(-self.logits, kind="stable")]


async def rerank(service: Service, request: Request, call: RerankCall) -> Scored:
    """Scores of the documents. Raises: RequestError."""
    async with service.using(call.found, request, RANKS) as model:
        service.check_texts([call.query], "query")
        service.check_texts(call.documents, call.field)
        if model.kind == "reranker":
            return await _by_pairs(service, request, model, call)
        return await _by_maxsim(service, request, model, call)


async def _by_maxsim(service: Service, request: Request, model: ServedModel, call: RerankCall) -> Scored:
    """Late interaction: the query and each document by themselves, then MaxSim."""
    if call.direction == "left":
        raise _only_right(model)
    if call.with_vectors:
        raise _no_vectors(model, "has a vector a token and none a document; POST /v1/multi-vector answers those")
    documents = list(call.documents)
    limit = token_limit(model, "document", _bounded(call.max_length, model.token_encoder.max_length))
    counts = await count_tokens(service, request, model, documents, "document", limit)
    _check_cut(request, call, counts, limit)
    of_query = token_limit(model, "query", None)
    [query_tokens] = await count_tokens(service, request, model, [call.query], "query", of_query)
    _check_query(request, call, query_tokens, of_query)
    kept = [min(count, limit) for count in counts]
    service.note(request, model, [of_query, *kept])
    request.notes.items -= 1  # the query is none
    query_works = [Work(call.query, of_query, call.query)]
    works = [Work(text, count, text) for text, count in zip(documents, kept, strict=True)]
    query = await service.compute(request, TokenRunner(model, "query", None, None), query_works)
    vectors = await service.compute(request, TokenRunner(model, "document", None, limit), works)
    scores = await service.in_pool(lambda: score(query, vectors)[0], is_large=len(documents) > 16)
    logits = np.asarray(scores, np.float32)
    unit = logits / np.float32(len(query[0]))
    return Scored(logits, logits, unit, of_query + sum(kept), "maxsim")


async def _by_pairs(service: Service, request: Request, model: ServedModel, call: RerankCall) -> Scored:
    """A cross-encoder: the query with each document; with all of them at once, if it is a listwise one."""
    reranker = model.reranker
    if reranker.num_labels != 1:
        message = f"{model.short_name} has {reranker.num_labels} labels, and a ranking needs 1"
        raise RequestError("model_type", message, field="model")
    backend = reranker.tokenizer.backend
    texts = [call.query, *call.documents]

    def count() -> tuple[int, list[int]]:
        own = [len(text.ids) for text in backend.encode_batch(texts, add_special_tokens=False)]
        return reranker.beside_document(call.query), own

    started = time.monotonic()
    around, (of_query, *counts) = await service.in_pool(count, is_large=sum(map(len, texts)) > INLINE_CHARACTERS)
    request.notes.tokenize = time.monotonic() - started
    request.notes.characters += sum(map(len, texts))
    if call.direction == "left" and not reranker.cuts_left:
        raise _only_right(model)
    if call.with_vectors and not reranker.is_listwise:
        raise _no_vectors(model, "reads a query and a document at once and makes no vector of a document")
    if reranker.is_listwise:
        max_length = limit = min(call.max_length or MAX_DOCUMENT_LENGTH, reranker.max_length)
        _check_query(request, call, of_query, MAX_QUERY_LENGTH)
        _check_cut(request, call, counts, limit)
        kept = [min(of_query, MAX_QUERY_LENGTH), *(min(count, limit) for count in counts)]
        whole = (call.query, tuple(call.documents))
        works = [Work(whole, sum(kept), whole)]
    else:
        max_length = reranker.max_length
        if call.max_length is not None:
            max_length = min(max_length, around + call.max_length)
        if around >= max_length:  # nothing of a document has room, and the pair is cut all the same
            _check_query(request, call, around, max_length - 1)
        _check_cut(request, call, counts, max(0, max_length - around))
        kept = [min(around + count, max_length) for count in counts]
        pairs = [(call.query, text) for text in call.documents]
        works = [Work(pair, size, pair) for pair, size in zip(pairs, kept, strict=True)]
    service.note(request, model, kept)
    request.notes.items -= len(kept) - len(counts)  # the query is none
    rows = await service.compute(request, PairRunner(model, max_length, call.direction), works)
    vectors = None
    if reranker.is_listwise:
        [table] = rows
        logits, vectors = table[:, 0], table[:, 1:]
    else:
        logits = np.concatenate(rows)
    scores = activated(logits[:, None], reranker.default_activation)[:, 0]
    unit = scores if reranker.is_listwise else activated(logits[:, None], "sigmoid")[:, 0]
    return Scored(logits, scores, unit, sum(kept), reranker.default_activation, vectors)


def _check_query(request: Request, call: RerankCall, tokens: int, limit: int) -> None:
    """Note that the query is cut. Raises: RequestError, it would be, and that is not allowed."""
    if tokens <= limit:
        return
    if not call.truncate:
        message = f"query has {tokens} tokens, and the limit is {limit}; shorten it, or send truncate: true"
        raise RequestError("too_long", message, field="query")
    request.notes.query_is_cut = True


def _no_vectors(model: ServedModel, why: str) -> RequestError:
    message = f"return_embeddings must be false or absent: {model.short_name} {why}"
    return RequestError("model_type", message, field="return_embeddings")


def _only_right(model: ServedModel) -> RequestError:
    message = f'{model.short_name} cuts texts at their end alone; send truncation_direction: "Right"'
    return RequestError("validation", message, field="truncation_direction", status=400)


def _check_cut(request: Request, call: RerankCall, counts: list[int], limit: int) -> None:
    """Note which documents are cut. Raises: RequestError, one would be, and that is not allowed."""
    as_embed = EmbedCall(call.found, call.documents, truncate=call.truncate, field=call.field)
    check_truncation(request, as_embed, [max(0, count - limit) for count in counts], counts, limit)


def _bounded(max_length: int | None, most: int) -> int | None:
    return None if max_length is None else max(8, min(max_length, most))
