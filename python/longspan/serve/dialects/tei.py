"""The routes of Hugging Face's text-embeddings-inference (TEI)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from longspan import __version__
from longspan.serve.encodings import nested_text, row_texts
from longspan.serve.errors import Kind, RequestError, invalid
from longspan.serve.fields import Fields, is_ids, shown, text_list
from longspan.serve.http import Request, Response
from longspan.serve.inputs import InputItem, TokenIds
from longspan.serve.models import EMBEDS, EMBEDS_SPARSELY, KIND_NAMES, RANKS, Found, ServedModel
from longspan.serve.models import Kind as ModelKind
from longspan.serve.reranking import RerankCall, rerank
from longspan.serve.routing import Route, plain
from longspan.serve.service import Service
from longspan.serve.sparse import sparse_vectors
from longspan.serve.tasks import check_prompt_name
from longspan.serve.texts import Direction
from longspan.serve.vectors import EmbedCall, embed, prepared
from longspan.text.task_names import spellings

DIRECTIONS: Final[dict[str, Direction]] = {"Right": "right", "right": "right", "Left": "left", "left": "left"}
ERRORS: Final[dict[Kind, tuple[int, str]]] = {
    "validation": (422, "Validation"),
    "too_long": (422, "Validation"),
    "batch_size": (422, "Validation"),
    "model_not_found": (404, "Validation"),
    "tokenization": (422, "Tokenizer"),
    "empty": (400, "Empty"),
    "model_type": (424, "Backend"),
    "inference": (424, "Backend"),
    "overloaded": (429, "Overloaded"),
    "unhealthy": (503, "Unhealthy"),
}


def tei_error(error: RequestError, request_id: str) -> Response:
    """TEI's words for an error."""
    status, kind = ERRORS.get(error.kind, (error.status, "Validation"))
    if error.status in (408, 413):
        status = error.status
    if error.kind == "auth":
        return Response(b"", 401)
    return plain({"error": error.message, "error_type": kind}, status, error)


async def embed_route(service: Service, request: Request, fields: Fields) -> Response:
    """`POST /embed`, `/` and `/invocations`: a vector an input.

    The root also takes what huggingface_hub's `sentence_similarity` sends there.
    """
    if request.path == "/" and isinstance(fields.any("inputs"), dict):
        return await similarity(service, request, fields)
    call = _call(service, fields)
    call.dimensions = fields.integer("dimensions")
    call.normalize = bool(fields.boolean("normalize", default=True))
    written = fields.choice(["encoding_format"], ("float", "base64"), "float")
    rows, _ = await embed(service, request, call)

    def answer() -> Response:
        if written == "base64":
            return Response([b"[", b",".join(row_texts(rows, "base64")), b"]"])
        return Response(nested_text(rows))

    return await service.in_pool(answer, is_large=rows.size > 1 << 16)


async def embed_all(service: Service, request: Request, fields: Fields) -> Response:
    """`POST /embed_all`: a vector a token, special ones included, as they leave the encoder."""
    call = _call(service, fields)
    async with service.using(call.found, request, EMBEDS) as model:
        payloads = await prepared(service, request, model, call)
        computed = await service.compute_texts(request, model, payloads, "token_embeddings")

        def answer() -> Response:
            parts = [b","] * (2 * len(computed.rows) - 1)
            parts[::2] = [nested_text(matrix) for matrix in computed.rows]
            return Response([b"[", *parts, b"]"])

        return await service.in_pool(answer, is_large=sum(row.size for row in computed.rows) > 1 << 16)


async def similarity(service: Service, request: Request, fields: Fields) -> Response:
    """`POST /similarity`: cosine of one sentence with others."""
    inputs, parameters = fields.object("inputs"), fields.object("parameters")
    source = inputs.string("source_sentence")
    if source is None:
        raise invalid("source_sentence", "is missing", None)
    sentences = text_list("sentences", inputs.required("sentences"))
    if not sentences:
        raise RequestError("empty", "sentences must not be empty", field="sentences")
    service.check_items(len(sentences) + 1, "sentences")
    call = EmbedCall(
        service.models.find(fields.any("model"), EMBEDS),
        [source, *sentences],
        prompt_name=parameters.string("prompt_name"),
        truncate=bool(parameters.boolean("truncate", default=True)),
        direction=_direction(parameters),
        field="sentences",
    )
    rows, _ = await embed(service, request, call)
    return Response.json([float(value) for value in rows[1:] @ rows[0]])


async def rerank_texts(service: Service, request: Request, fields: Fields) -> Response:
    """`POST /rerank` with `texts`."""
    query = fields.string("query")
    if query is None:
        raise invalid("query", "is missing", None)
    texts = text_list("texts", fields.required("texts"))
    if not texts:
        raise RequestError("empty", "texts must not be empty", field="texts")
    service.check_items(len(texts), "texts")
    raw = bool(fields.boolean("raw_scores", default=False))
    returns = bool(fields.boolean("return_text", default=False))
    call = RerankCall(
        service.models.find(fields.any("model"), RANKS),
        query,
        texts,
        truncate=bool(fields.boolean("truncate", default=True)),
        direction=_direction(fields),
        field="texts",
    )
    scored = await rerank(service, request, call)
    scores = scored.logits if raw else scored.unit_scores
    results: list[dict[str, Any]] = []
    for index in scored.best_first():
        text = {"text": texts[index]} if returns else {}
        results.append({"index": index, **text, "score": float(scores[index])})
    return Response.json(results)


async def tokenize(service: Service, request: Request, fields: Fields) -> Response:
    """`POST /tokenize`: the tokens of each input, with their places in it."""
    texts = text_list("inputs", fields.required("inputs"))
    if not texts:
        raise RequestError("empty", "inputs must not be empty", field="inputs")
    service.check_items(len(texts), "inputs")
    service.check_texts(texts, "inputs")
    adds = bool(fields.boolean("add_special_tokens", default=True))
    prompt_name = fields.string("prompt_name")
    found = service.models.find(fields.any("model"), EMBEDS)
    async with service.using(found, request, tuple(KIND_NAMES)) as model:
        backend = model.encoder.tokenizer.backend
        before = ""
        if prompt_name is not None:
            check_prompt_name(prompt_name, model.encoder.prompts)
            before = model.encoder.prompts[prompt_name]

        def work() -> Response:
            encodings = backend.encode_batch([before + text for text in texts], add_special_tokens=adds)
            answer = []
            for encoding in encodings:
                tokens = zip(encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True)
                answer.append([_token(*token) for token in tokens])
            return Response.json(answer)

        return await service.in_pool(work, is_large=sum(map(len, texts)) > 4096)


def _token(number: int, text: str, is_special: int, offsets: tuple[int, int]) -> dict[str, Any]:
    start, stop = (None, None) if is_special else offsets
    return {"id": number, "text": text, "special": bool(is_special), "start": start, "stop": stop}


async def decode(service: Service, request: Request, fields: Fields) -> Response:
    """`POST /decode`: token ids back to texts."""
    ids = fields.required("ids")
    lists = [ids] if is_ids(ids) else ids
    if not isinstance(lists, list) or not all(is_ids(each) for each in lists):
        raise invalid("ids", f"must be a list of token ids, or a list of such lists, got {shown(ids)}", ids)
    skips = bool(fields.boolean("skip_special_tokens", default=True))
    service.check_items(len(lists), "ids")
    found = service.models.find(fields.any("model"), EMBEDS)
    async with service.using(found, request, tuple(KIND_NAMES)) as model:
        size, backend = model.encoder.spec.vocab_size, model.encoder.tokenizer.backend
        if any(not 0 <= number < size for each in lists for number in each):
            raise invalid("ids", f"must be from 0 to {size - 1}", None)
        return Response.json([backend.decode(each, skip_special_tokens=skips) for each in lists])


async def embed_sparse(service: Service, request: Request, fields: Fields) -> Response:
    """`POST /embed_sparse`: of each input the dimensions that are not zero, with their values."""
    rows = await sparse_vectors(service, request, _call(service, fields, EMBEDS_SPARSELY))

    def answer() -> Response:
        pairs = (zip(row.indices.tolist(), row.values.tolist(), strict=True) for row in rows)
        return Response.json([[{"index": index, "value": value} for index, value in row] for row in pairs])

    return await service.in_pool(answer, is_large=sum(len(row.indices) for row in rows) > 4096)


async def unsupported(service: Service, request: Request, fields: Fields) -> Response:
    """`POST /predict`: what no model here does."""
    raise RequestError("model_type", f"no model that is served here answers {request.path}")


async def info(service: Service, request: Request, fields: Fields) -> Response:
    """`GET /info`: the first model, in TEI's words, and more of ours."""
    settings, model = service.settings, service.models.all[0]
    limits = service.limits
    body: dict[str, Any] = {
        "model_id": model.name,
        "model_sha": model.encoder.fingerprint if model.is_loaded else None,
        "model_dtype": model.encoder.dtype if model.is_loaded else None,
        "served_model_name": model.short_name,
        "model_type": _model_type(model),
        "max_concurrent_requests": limits.queue_jobs,
        "max_input_length": model.encoder.max_length if model.is_loaded else None,
        "max_batch_tokens": service.scheduler.batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": settings.max_request_items,
        "auto_truncate": True,
        "tokenization_workers": settings.tokenizer_threads,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        "models": [describe(each) for each in service.models.all],
    }
    return Response.json({**body, **describe(model)})


def _model_type(model: ServedModel) -> dict[str, Any]:
    if not model.is_loaded:
        return {}
    if model.kind == "sparse":
        return {"embedding": {"pooling": "splade"}}
    if model.kind != "embedding":
        return {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}}
    return {"embedding": {"pooling": model.text_encoder.pooling}}


def describe(model: ServedModel) -> dict[str, Any]:
    """What a model is, beyond TEI's fields."""
    known: dict[str, Any] = {"id": model.name, "loaded": model.is_loaded}
    if not model.is_loaded:
        return known
    encoder = model.encoder
    known |= {
        "kind": model.kind,
        "max_tokens": encoder.max_length,
        "precision": encoder.dtype,
        "prompts": encoder.prompts,
        "tasks": list(encoder.tasks),
        "fingerprint": encoder.fingerprint,
    }
    if model.kind == "embedding":
        known["dimensions"] = model.text_encoder.dim
        known["tasks"] = list(spellings(model.text_encoder))
    elif model.kind == "sparse":
        known["dimensions"] = model.sparse_encoder.dim
    elif model.kind == "multi-vector":
        known["dimensions"] = model.token_encoder.dim
        known["score"] = "maxsim"
    else:
        known["score"] = model.reranker.default_activation
        known["listwise"] = model.reranker.is_listwise
    return known


def _call(service: Service, fields: Fields, kinds: Sequence[ModelKind] = EMBEDS) -> EmbedCall:
    """What `/embed`, `/embed_all` and `/embed_sparse` share."""
    items = _inputs(fields.required("inputs"))
    service.check_items(len(items), "inputs")
    found: Found = service.models.find(fields.any("model"), kinds)
    return EmbedCall(
        found,
        items,
        prompt_name=fields.string("prompt_name"),
        truncate=bool(fields.boolean("truncate", default=True)),
        direction=_direction(fields),
        takes_ids=True,
        field="inputs",
    )


def _direction(fields: Fields) -> Direction | None:
    """The end that is cut; None for what the checkpoint says."""
    if not fields.has("truncation_direction"):
        return None
    return fields.choice(["truncation_direction"], DIRECTIONS, "right")


def _inputs(value: Any) -> list[InputItem]:
    """A string, token ids, or a list of either."""
    if isinstance(value, str):
        return [value]
    if is_ids(value):
        return [TokenIds(value)]
    if not isinstance(value, list):
        raise invalid("inputs", f"must be a string, token ids, or a list of either, got {shown(value)}", value)
    if not value:
        raise RequestError("empty", "inputs must not be empty", field="inputs")
    items: list[InputItem] = []
    for place, item in enumerate(value):
        if not isinstance(item, str) and not is_ids(item):
            raise invalid(f"inputs[{place}]", f"must be a string or token ids, got {shown(item)}", item)
        items.append(item if isinstance(item, str) else TokenIds(item))
    if len({isinstance(item, TokenIds) for item in items}) > 1:
        raise invalid("inputs", "must hold texts or token ids, not both", None)
    return items


ROUTES: Final = (
    *(Route("POST", path, embed_route, tei_error, computes=True) for path in ("/embed", "/", "/invocations")),
    Route("POST", "/embed_all", embed_all, tei_error, computes=True),
    Route("POST", "/similarity", similarity, tei_error, computes=True),
    Route("POST", "/tokenize", tokenize, tei_error),
    Route("POST", "/decode", decode, tei_error),
    Route("POST", "/predict", unsupported, tei_error, computes=True),
    Route("POST", "/embed_sparse", embed_sparse, tei_error, computes=True),
    Route("GET", "/info", info, tei_error),
)
