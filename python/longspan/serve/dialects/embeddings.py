"""`POST /v1/embeddings`: Jina's and OpenAI's embeddings API in one, a union of fields."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import orjson

from longspan.serve import tracing
from longspan.serve.dialects.shared import union_error
from longspan.serve.encodings import NUMBERS, Numbers, Written, as_numbers, npy_bytes, raw_bytes, row_texts
from longspan.serve.errors import invalid
from longspan.serve.fields import Fields, is_ids, shown
from longspan.serve.http import Request, Response
from longspan.serve.inputs import InputItem, TokenIds, item_of
from longspan.serve.models import EMBEDS, EMBEDS_TOKENS, Found
from longspan.serve.routing import Route
from longspan.serve.service import Service
from longspan.serve.vectors import EmbedCall, embed, embed_chunks, embed_tokens

Form = Literal["json", "bytes", "npy"]
TASK_NAMES: Final = ("task", "task_type", "input_type")
NPY: Final = "application/x-npy"


@dataclass(frozen=True, slots=True)
class Format:
    """How vectors are answered."""

    numbers: Numbers
    written: Written
    form: Form
    dtype: str = "float32"  # of the form "bytes"
    endianness: str = "little"


async def embeddings(service: Service, request: Request, fields: Fields) -> Response:
    """The route's handler."""
    wants_tokens = bool(fields.boolean("return_multivector", default=False))
    found = service.models.find(fields.any("model"), EMBEDS_TOKENS if wants_tokens else EMBEDS)
    items = read_input(fields)
    service.check_items(len(items), "input")
    output = read_format(request, fields)
    call = read_call(service, request, fields, found, items)
    if wants_tokens and call.dimensions is not None:
        raise invalid("dimensions", "must be absent with return_multivector", call.dimensions)
    echoes = bool(fields.boolean("return_tokenized_input", default=False))
    if echoes and not wants_tokens:
        raise invalid("return_tokenized_input", "needs return_multivector", echoes)
    is_late = bool(fields.boolean("late_chunking", default=False))
    fields.skip("user", "priority", "embed_dtype", "endianness", "output_dtype")
    if wants_tokens:
        vectors, tokens = await embed_tokens(service, request, call)
        backend = found.model.encoder.tokenizer.backend
        echoed = [backend.encode(text).tokens for text in items if isinstance(text, str)] if echoes else None
        return multi_answer(request, vectors, tokens, output, echoed)
    if is_late:
        rows, tokens = await embed_chunks(service, request, call)
    else:
        rows, tokens = await embed(service, request, call)
    started = time.monotonic()
    response = await service.in_pool(lambda: answer(request, rows, tokens, output), is_large=rows.size > 1 << 16)
    request.notes.encode = time.monotonic() - started
    tracing.stage("encode", request, started, time.monotonic())
    return response


def read_input(fields: Fields) -> list[InputItem]:
    """The items: texts, token ids, or objects that hold a text, an image or a page."""
    names = ("input", "content", "texts")
    value = fields.required(*names)
    if is_ids(value):
        return [TokenIds(value)]
    values = value if isinstance(value, list) else [value]
    if not values:
        raise invalid("input", "must not be empty", value)
    items = [_item(item, place if isinstance(value, list) else None) for place, item in enumerate(values)]
    if len({isinstance(item, TokenIds) for item in items}) > 1:
        raise invalid("input", "must hold texts or token ids, not both", None)
    return items


def _item(value: Any, place: int | None) -> InputItem:
    if isinstance(value, str):
        return value
    name = "input" if place is None else f"input[{place}]"
    if is_ids(value):
        return TokenIds(value)
    return item_of(name, value)


def read_format(request: Request, fields: Fields) -> Format:
    """`embedding_type` and its aliases, `output_dtype`, and what the Accept header asks for."""
    name, value = fields.named("embedding_type", "encoding_format", "encoding_type")
    if isinstance(value, list):
        if len(value) != 1:
            rule = "must be one type; POST /v2/embed answers several at once"
            raise invalid(name, rule, value)
        value = value[0]
    known = ("float", "base64", "binary", "ubinary", "int8", "uint8", "bytes", "bytes_only")
    if value is not None and value not in known:
        raise invalid(name, f"must be one of {', '.join(map(repr, known))}, got {shown(value)}", value)
    numbers: Numbers = fields.choice(["output_dtype"], NUMBERS, "float")
    if value in ("int8", "uint8", "binary", "ubinary"):
        numbers = value
    dtype = fields.choice(["embed_dtype"], ("float32", "float16"), "float32")
    endianness = fields.choice(["endianness"], {"little": "little", "big": "big", "native": "little"}, "little")
    form: Form = "bytes" if value in ("bytes", "bytes_only") else "json"
    if NPY in request.headers.get("accept", ""):
        form = "npy"
    return Format(numbers, "base64" if value == "base64" else "list", form, dtype, endianness)


def read_call(
    service: Service, request: Request, fields: Fields, found: Found, items: Sequence[InputItem]
) -> EmbedCall:
    """Which vectors of the items."""
    name, tasks = fields.named(*TASK_NAMES)
    if isinstance(tasks, list):
        if len(tasks) != len(items):
            raise invalid(name, f"must be one string or {len(items)}, one an item of input; got {len(tasks)}", None)
    else:
        tasks = [tasks]
    for task in tasks:
        if task is not None and not isinstance(task, str):
            raise invalid(name, f"must be a string, got {shown(task)}", task)
    return EmbedCall(
        found=found,
        items=items,
        tasks=tasks,
        prompt_name=fields.string("prompt_name"),
        prompt=fields.string("prompt"),
        dimensions=fields.integer("dimensions", "output_dimension", "output_dimensionality"),
        normalize=bool(fields.boolean("normalized", "normalize", default=True)),
        truncate=bool(fields.boolean("truncate", "truncation", default=service.settings.truncate)),
        takes_ids=service.settings.token_ids == "model",
    )


def answer(request: Request, rows: np.ndarray, tokens: Sequence[int], output: Format) -> Response:
    """One vector an item."""
    values = as_numbers(rows, output.numbers)
    if output.form == "npy":
        return Response(npy_bytes(values), type=NPY)
    if output.form == "bytes":
        response = Response(type="application/octet-stream")
        dtype = output.dtype if output.numbers == "float" else str(values.dtype)
        response.body = raw_bytes(values, dtype, output.endianness)
        response.headers = [
            ("x-longspan-shape", f"{values.shape[0]},{values.shape[1]}"),
            ("x-longspan-dtype", dtype),
        ]
        return response
    parts = [head(request, sum(tokens))]
    for index, text in enumerate(row_texts(values, output.written)):
        comma = b"," if index else b""
        parts.append(b'%b{"object":"embedding","index":%d,"embedding":%b}' % (comma, index, text))
    parts.append(b"]}")
    return Response(parts)


def multi_answer(
    request: Request, rows: Sequence[np.ndarray], tokens: Sequence[int], output: Format, echoed: list[list[str]] | None
) -> Response:
    """Many vectors an item."""
    parts = [head(request, sum(tokens))]
    for index, matrix in enumerate(rows):
        texts = b",".join(row_texts(as_numbers(matrix, output.numbers), output.written))
        comma = b"," if index else b""
        tail = b""
        if echoed is not None:
            tail = b',"tokenized_input":' + orjson.dumps(echoed[index])
        parts.append(b'%b{"object":"embeddings","index":%d,"embeddings":[%b]%b}' % (comma, index, texts, tail))
    parts.append(b"]}")
    return Response(parts)


def head(request: Request, tokens: int) -> bytes:
    """The answer up to its data."""
    model = orjson.dumps(request.notes.model)
    usage = b'{"total_tokens":%d,"prompt_tokens":%d}' % (tokens, tokens)
    return b'{"model":%b,"object":"list","usage":%b,"data":[' % (model, usage)


async def multi_vector(service: Service, request: Request, fields: Fields) -> Response:
    """`POST /v1/multi-vector`: a vector a token, by late interaction's rules."""
    found = service.models.find(fields.any("model"), EMBEDS_TOKENS)
    items = read_input(fields)
    service.check_items(len(items), "input")
    output = read_format(request, fields)
    if output.form != "json":
        raise invalid("embedding_type", "must be float, base64, binary or ubinary here", None)
    call = read_call(service, request, fields, found, items)
    vectors, tokens = await embed_tokens(service, request, call)
    large = sum(matrix.size for matrix in vectors) > 1 << 16
    return await service.in_pool(lambda: multi_answer(request, vectors, tokens, output, None), is_large=large)


ROUTES: Final = tuple(
    Route("POST", path, handler, union_error, computes=True)
    for path, handler in (
        ("/v1/embeddings", embeddings),
        ("/embeddings", embeddings),
        ("/v1/multi-vector", multi_vector),
        ("/multi-vector", multi_vector),
    )
)
