"""A query and documents to scores, the same for every dialect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from longspan.search.late_interaction import score
from longspan.serve.http import Request
from longspan.serve.jobs import Work
from longspan.serve.models import Found
from longspan.serve.runners import TokenRunner
from longspan.serve.service import Service
from longspan.serve.texts import Direction
from longspan.serve.vectors import EmbedCall, check_truncation, count_tokens, token_limit

ScoreKind = Literal["maxsim"]


@dataclass(slots=True)
class RerankCall:
    """What a client asks for."""

    found: Found
    query: str
    documents: Sequence[str]
    max_length: int | None = None  # tokens of a document
    truncate: bool = True
    direction: Direction = "right"
    field: str = "documents"  # where they stood


@dataclass(frozen=True, slots=True)
class Scored:
    """A score a document, in the order of the documents."""

    scores: np.ndarray  # (n,) f32
    tokens: int  # of query and documents
    query_tokens: int
    kind: ScoreKind

    def best_first(self) -> list[int]:
        """Indices of the documents; equal scores by index."""
        return [int(index) for index in np.argsort(-self.scores, kind="stable")]

    @property
    def unit_scores(self) -> np.ndarray:
        """About 0 to 1: MaxSim's sum over the query's tokens as their mean."""
        return self.scores / np.float32(max(1, self.query_tokens))


async def rerank(service: Service, request: Request, call: RerankCall) -> Scored:
    """Scores of the documents. Raises: RequestError."""
    async with service.using(call.found, request, ("multi-vector",)) as model:
        documents = list(call.documents)
        limit = token_limit(model, "document", _bounded(call.max_length, model.token_encoder.max_length))
        counts = await count_tokens(service, request, model, documents, "document", limit)
        as_embed = EmbedCall(call.found, documents, truncate=call.truncate, field=call.field)
        check_truncation(request, as_embed, [max(0, count - limit) for count in counts], counts, limit)
        of_query = token_limit(model, "query", None)
        kept = [min(count, limit) for count in counts]
        service.note(request, model, [of_query, *kept])
        request.notes.items -= 1  # the query is none
        query_works = [Work(call.query, of_query, call.query)]
        works = [Work(text, count, text) for text, count in zip(documents, kept, strict=True)]
        query = await service.compute(request, TokenRunner(model, "query", None, None), query_works)
        vectors = await service.compute(request, TokenRunner(model, "document", None, limit), works)
        scores = await service.in_pool(lambda: score(query, vectors)[0], is_large=len(documents) > 16)
        return Scored(np.asarray(scores, np.float32), of_query + sum(kept), len(query[0]), "maxsim")


def _bounded(max_length: int | None, most: int) -> int | None:
    return None if max_length is None else max(8, min(max_length, most))
