"""`POST /v1/rerank`: Jina's rerank API. `/rerank` is TEI's as well: a body with `texts` is answered as TEI does."""

from __future__ import annotations

from typing import Any, Final

from longspan.serve.dialects import tei
from longspan.serve.dialects.shared import union_error
from longspan.serve.errors import invalid
from longspan.serve.fields import Fields, shown, text_of
from longspan.serve.http import Request, Response
from longspan.serve.models import RANKS
from longspan.serve.reranking import RerankCall, rerank
from longspan.serve.routing import Route
from longspan.serve.service import Service

PLACES: Final = 8  # to which scores are rounded
LONGEST: Final = 8192  # that max_doc_length may ask for


async def jina_rerank(service: Service, request: Request, fields: Fields) -> Response:
    """The route's handler."""
    if fields.has("texts") and not fields.has("documents"):
        request.speaks_tei = True
        return await tei.rerank_texts(service, request, fields)
    found = service.models.find(fields.any("model"), RANKS)
    query = text_of("query", fields.required("query"))
    given = fields.required("documents")
    if not isinstance(given, list):
        raise invalid("documents", f"must be a list, got {shown(given)}", given)
    if not given:
        raise invalid("documents", "must not be empty", given)
    service.check_items(len(given), "documents")
    documents = [text_of(f"documents[{place}]", document) for place, document in enumerate(given)]
    top_n = fields.integer("top_n", "top_k")
    returns = bool(fields.boolean("return_documents", default=True))
    call = RerankCall(
        found,
        query,
        documents,
        max_length=fields.integer("max_doc_length", "max_tokens_per_doc", most=LONGEST),
        truncate=bool(fields.boolean("truncate", "truncation", default=True)),
        with_vectors=bool(fields.boolean("return_embeddings", default=False)),
    )
    scored = await rerank(service, request, call)
    results: list[dict[str, Any]] = []
    for index in scored.best_first()[:top_n]:
        result: dict[str, Any] = {"index": index, "relevance_score": round(float(scored.scores[index]), PLACES)}
        if returns:
            document = given[index]
            result["document"] = document if isinstance(document, dict) else {"text": document}
        if call.with_vectors and scored.vectors is not None:
            result["embedding"] = scored.vectors[index]
        results.append(result)
    usage = {"total_tokens": scored.tokens}
    return Response.json({"model": request.notes.model, "object": "list", "usage": usage, "results": results})


ROUTES: Final = (
    Route("POST", "/v1/rerank", jina_rerank, union_error, computes=True),
    Route("POST", "/rerank", jina_rerank, union_error, computes=True),
)
