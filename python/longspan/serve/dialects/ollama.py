"""Ollama's `/api/embed`, the older `/api/embeddings`, and what its clients ask before."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any, Final

from longspan.reranker import Reranker
from longspan.serve.encodings import nested_text
from longspan.serve.errors import RequestError
from longspan.serve.fields import Fields
from longspan.serve.http import Request, Response
from longspan.serve.models import EMBEDS, ServedModel
from longspan.serve.routing import Route, plain
from longspan.serve.service import Service
from longspan.serve.vectors import EmbedCall, embed

VERSION: Final = "0.6.0"  # of the API whose answers these are


def ollama_error(error: RequestError, request_id: str) -> Response:
    """Ollama's words for an error."""
    status = 400 if error.status == 422 else error.status
    return plain({"error": error.message}, status, error)


async def embed_route(service: Service, request: Request, fields: Fields) -> Response:
    """`POST /api/embed`: texts to vectors of unit length."""
    started = time.monotonic()
    found = service.models.find(fields.any("model"), EMBEDS)
    value = fields.any("input")
    fields.skip("keep_alive")
    texts = [value] if isinstance(value, str) else value
    if texts is None or texts == []:
        return Response.json({"model": found.model.short_name, "embeddings": []})
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise RequestError("validation", "invalid input type", field="input")
    service.check_items(len(texts), "input")
    call = EmbedCall(
        found,
        texts,
        dimensions=fields.integer("dimensions", least=0) or None,
        truncate=bool(fields.boolean("truncate", default=True)),
        max_length=_num_ctx(fields, found.model),
    )
    rows, tokens = await embed(service, request, call)
    model = fields.string("model") or found.model.short_name
    took = int(1e9 * (time.monotonic() - started))
    head = Response.json({"model": model, "total_duration": took, "load_duration": 0, "prompt_eval_count": sum(tokens)})
    assert isinstance(head.body, bytes)
    matrix = await service.in_pool(lambda: nested_text(rows), is_large=rows.size > 1 << 16)
    return Response([head.body[:-1], b',"embeddings":', matrix, b"}"])


async def embeddings_route(service: Service, request: Request, fields: Fields) -> Response:
    """`POST /api/embeddings`: one text to one vector."""
    found = service.models.find(fields.any("model"), EMBEDS)
    prompt = fields.string("prompt", default="")
    fields.skip("keep_alive")
    call = EmbedCall(found, [prompt or ""], max_length=_num_ctx(fields, found.model), field="prompt")
    rows, _ = await embed(service, request, call)
    return Response.json({"embedding": rows[0]})


async def tags(service: Service, request: Request, fields: Fields) -> Response:
    """`GET /api/tags`: the models."""
    return Response.json({"models": [_listed(model) for model in service.models.all]})


async def show(service: Service, request: Request, fields: Fields) -> Response:
    """`POST /api/show`: one model."""
    model = service.models.find(fields.any("model", "name")).model
    fields.skip("verbose")
    entry = _listed(model)
    about: dict[str, Any] = {}
    if model.is_loaded:
        encoder = model.encoder
        family = encoder.spec.family
        about = {"general.architecture": family, f"{family}.context_length": encoder.max_length}
        if not isinstance(encoder, Reranker):
            about[f"{family}.embedding_length"] = encoder.dim
        about["longspan.fingerprint"] = encoder.fingerprint
    can = ["embedding"] if model.known_kind in (None, *EMBEDS) else []
    body = {"details": entry["details"], "model_info": about, "capabilities": can}
    return Response.json({**body, "modified_at": entry["modified_at"], "license": "", "template": "", "parameters": ""})


async def version(service: Service, request: Request, fields: Fields) -> Response:
    """`GET /api/version`."""
    return Response.json({"version": VERSION})


def _listed(model: ServedModel) -> dict[str, Any]:
    moment = datetime.fromtimestamp(model.created, timezone.utc).isoformat().replace("+00:00", "Z")
    encoder = model.encoder if model.is_loaded else None
    family = "" if encoder is None else encoder.spec.family
    return {
        "name": f"{model.short_name}:latest",
        "model": f"{model.short_name}:latest",
        "modified_at": moment,
        "size": 0,
        "digest": "" if encoder is None else encoder.fingerprint,
        "details": {
            "parent_model": "",
            "format": "safetensors",
            "family": family,
            "families": [family] if family else [],
            "parameter_size": "",
            "quantization_level": "" if encoder is None else encoder.dtype,
        },
    }


def _num_ctx(fields: Fields, model: ServedModel) -> int | None:
    """The limit of `options.num_ctx`, where it is below the model's own."""
    limit = fields.object("options").integer("num_ctx")
    if limit is not None and model.is_loaded and limit >= model.encoder.max_length:
        return None
    return limit


ROUTES: Final = (
    Route("POST", "/api/embed", embed_route, ollama_error, computes=True),
    Route("POST", "/api/embeddings", embeddings_route, ollama_error, computes=True),
    Route("POST", "/api/show", show, ollama_error),
    Route("GET", "/api/tags", tags, ollama_error),
    Route("GET", "/api/version", version, ollama_error),
)
