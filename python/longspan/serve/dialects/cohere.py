"""Cohere's `POST /v2/embed` and `/v2/rerank`."""

from __future__ import annotations

from typing import Any, Final

import orjson

from longspan.serve.encodings import NUMBERS, Numbers, Written, as_numbers, row_texts
from longspan.serve.errors import RequestError, invalid
from longspan.serve.fields import Fields, shown, text_list, text_of
from longspan.serve.http import Request, Response
from longspan.serve.inputs import InputItem, Media, MediaPart, item_of
from longspan.serve.models import EMBEDS, RANKS
from longspan.serve.reranking import RerankCall, rerank
from longspan.serve.routing import Route, plain
from longspan.serve.service import Service
from longspan.serve.texts import Direction
from longspan.serve.vectors import EmbedCall, embed

TRUNCATE: Final = ("NONE", "START", "END")
INPUT_TYPES: Final = ("search_document", "search_query", "classification", "clustering", "image")
CUT: Final[dict[str, Direction]] = {"START": "left", "END": "right"}


def cohere_error(error: RequestError, request_id: str) -> Response:
    """Cohere's words for an error."""
    status = 400 if error.status == 422 else error.status
    return plain({"message": error.message, "id": request_id}, status, error)


async def embed_route(service: Service, request: Request, fields: Fields) -> Response:
    """`POST /v2/embed`."""
    found = service.models.find(fields.any("model"), EMBEDS)
    input_type = fields.string("input_type")
    if input_type not in INPUT_TYPES:
        rule = f"must be one of {', '.join(map(repr, INPUT_TYPES))}, got {shown(input_type)}"
        raise invalid("input_type", rule, input_type)
    items, texts = _items(fields)
    service.check_items(len(items), "texts")
    types = _types(fields.any("embedding_types"))
    mode = fields.choice(["truncate"], TRUNCATE, "END")
    fields.skip("priority")
    call = EmbedCall(
        found,
        items,
        tasks=[None if input_type == "image" else input_type],
        dimensions=fields.integer("output_dimension"),
        truncate=mode != "NONE",
        direction=CUT.get(mode) if fields.has("truncate") else None,
        max_length=fields.integer("max_tokens"),
        field="texts",
        to_cut='truncate: "END"',
    )
    rows, tokens = await embed(service, request, call)

    def answer() -> Response:
        parts = [b'{"id":', orjson.dumps(request.id), b',"embeddings":{']
        for place, name in enumerate(types):
            numbers: Numbers = "float" if name == "base64" else name  # type: ignore[assignment]
            written: Written = "base64" if name == "base64" else "list"
            vectors = b",".join(row_texts(as_numbers(rows, numbers), written))
            parts += [b"," if place else b"", orjson.dumps(name), b":[", vectors, b"]"]
        meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": sum(tokens)}}
        parts += [b'},"texts":', orjson.dumps(texts), b',"images":[],"meta":', orjson.dumps(meta)]
        parts.append(b',"response_type":"embeddings_by_type"}')
        return Response(parts)

    return await service.in_pool(answer, is_large=rows.size > 1 << 16)


async def rerank_route(service: Service, request: Request, fields: Fields) -> Response:
    """`POST /v2/rerank`."""
    found = service.models.find(fields.any("model"), RANKS)
    query = fields.string("query")
    if query is None:
        raise invalid("query", "is missing", None)
    given = fields.required("documents")
    if not isinstance(given, list):
        raise invalid("documents", f"must be a list, got {shown(given)}", given)
    documents = [text_of(f"documents[{place}]", document) for place, document in enumerate(given)]
    if not documents:
        raise invalid("documents", "must not be empty", None)
    service.check_items(len(documents), "documents")
    top_n = fields.integer("top_n")
    fields.skip("priority")
    call = RerankCall(found, query, documents, max_length=fields.integer("max_tokens_per_doc"))
    scored = await rerank(service, request, call)
    scores = scored.unit_scores
    results = [{"index": index, "relevance_score": float(scores[index])} for index in scored.best_first()[:top_n]]
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    return Response.json({"id": request.id, "results": results, "meta": meta})


def _items(fields: Fields) -> tuple[list[InputItem], list[str]]:
    """The items and, to be echoed, the texts among them."""
    sources = [name for name in ("texts", "images", "inputs") if fields.has(name)]
    if len(sources) != 1:
        raise invalid("texts", "must be there, or images or inputs, and only one of them", None)
    [source] = sources
    value = fields.any(source)
    items: list[InputItem]
    if source == "inputs":
        items = _contents(value)
    else:
        given = text_list(source, value)
        items = [Media((MediaPart("image", item),)) for item in given] if source == "images" else [*given]
    if not items:
        raise invalid(source, "must not be empty", value)
    return items, [item for item in items if isinstance(item, str)]


def _contents(value: Any) -> list[InputItem]:
    """`inputs`: each {"content": [part]}, where a part is {"text": ...}, {"image_url": {"url": ...}} or another that
    `/v1/embeddings` takes; several parts become one vector, of models that join them."""
    if not isinstance(value, list):
        raise invalid("inputs", f"must be a list, got {shown(value)}", value)
    items: list[InputItem] = []
    for place, entry in enumerate(value):
        content = entry.get("content") if isinstance(entry, dict) else None
        if not isinstance(content, list) or not content:
            raise invalid(f"inputs[{place}].content", f"must be a list of parts, got {shown(content)}", content)
        items.append(item_of(f"inputs[{place}]", {"content": content}))
    return items


def _types(value: Any) -> list[str]:
    known = (*NUMBERS, "base64")
    if value is None:
        return ["float"]
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name in known for name in value):
        raise invalid("embedding_types", f"must be a list of {', '.join(known)}, got {shown(value)}", value)
    return list(dict.fromkeys(value))


ROUTES: Final = (
    Route("POST", "/v2/embed", embed_route, cohere_error, computes=True),
    Route("POST", "/v2/rerank", rerank_route, cohere_error, computes=True),
)
