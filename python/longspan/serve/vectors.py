"""A request for vectors, the same for every dialect: which model, which items, which task, how long, how wide."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from longspan.serve import tracing
from longspan.serve.errors import RequestError, invalid
from longspan.serve.http import Request
from longspan.serve.inputs import InputItem, Media, TokenIds
from longspan.serve.jobs import Work
from longspan.serve.media import Loaded, MediaLoader, of_pages
from longspan.serve.models import EMBEDS, EMBEDS_TOKENS, Found, ServedModel
from longspan.serve.runners import ChunkPayload, ChunkRunner, MediaRunner, TokenRunner
from longspan.serve.service import INLINE_CHARACTERS, Service
from longspan.serve.tasks import Meaning, meaning
from longspan.serve.texts import Direction, TextPayload, prepare
from longspan.text.task_names import ROLES
from longspan.text.tasks import BASE_TASK, Role

if TYPE_CHECKING:
    from longspan.pipeline.loaded_model import LoadedModel


@dataclass(slots=True)
class EmbedCall:
    """What a client asks for."""

    found: Found
    items: Sequence[InputItem]
    tasks: Sequence[str | None] = (None,)  # one for all, or one an item
    prompt_name: str | None = None
    prompt: str | None = None
    dimensions: int | None = None
    normalize: bool = True
    truncate: bool = True
    direction: Direction | None = None  # the end that is cut; None for what the checkpoint says
    max_length: int | None = None  # tokens of an item; None for the model's own limit
    takes_ids: bool = False  # whether token ids may be the model's own
    field: str = "input"  # where the items stood
    places: Sequence[int] | None = None  # and at which places; None: all of them
    to_cut: str = "truncate: true"  # what the dialect says so that what is too long is cut


async def embed(service: Service, request: Request, call: EmbedCall) -> tuple[np.ndarray, list[int]]:
    """(n, dim) f32 and the tokens of each item. Raises: RequestError."""
    async with service.using(call.found, request, EMBEDS) as model:
        encoder = model.text_encoder
        _check_dimensions(call, encoder.dim)
        if any(isinstance(item, Media) for item in call.items):
            rows, tokens = await _embed_mixed(service, request, model, call)
        else:
            payloads = await prepared(service, request, model, call)
            computed = await service.compute_texts(request, model, payloads, "sentence_embedding")
            rows, tokens = computed.rows, computed.tokens
        return await service.finish(rows, truncate_dim=call.dimensions, normalize=call.normalize), tokens


async def _embed_mixed(
    service: Service, request: Request, model: ServedModel, call: EmbedCall
) -> tuple[list[np.ndarray], list[int]]:
    """Media, and texts beside them."""
    meanings = _meanings(encoder_of(model), call, len(call.items))
    _check_tasks_of_media(model, call, meanings)
    media = await load_media(service, request, model, call, [each.prompt for each in meanings])
    rows: list[np.ndarray] = [np.empty(0, np.float32)] * len(call.items)
    tokens = [0] * len(call.items)
    others = [place for place in range(len(call.items)) if place not in media]
    if others:
        tasks = call.tasks if len(call.tasks) == 1 else [call.tasks[place] for place in others]
        texts = replace(call, items=[call.items[place] for place in others], tasks=tasks, places=others)
        computed = await service.compute_texts(
            request, model, await prepared(service, request, model, texts), "sentence_embedding"
        )
        for place, row, count in zip(others, computed.rows, computed.tokens, strict=True):
            rows[place], tokens[place] = row, count
    for each in dict.fromkeys(meanings[place] for place in media):
        same = [place for place in media if meanings[place] == each]
        works = [_media_work(one) for place in same for one in media[place]]
        service.note(request, model, [sum(one.tokens for one in media[place]) for place in same])
        found = iter(await service.compute(request, MediaRunner(model, each.task, each.prompt), works))
        for place in same:
            rows[place] = of_pages([next(found) for _ in media[place]])
            tokens[place] = sum(one.tokens for one in media[place])
    return rows, tokens


def _check_tasks_of_media(model: ServedModel, call: EmbedCall, meanings: Sequence[Meaning]) -> None:
    """Raises: RequestError, media are asked for without an adapter, and the model's towers are tied to its tasks."""
    encoder = model.text_encoder
    for place, item in enumerate(call.items):
        is_base = meanings[place].task == BASE_TASK and bool(encoder.tasks) and encoder.spec.sequence is not None
        if isinstance(item, Media) and is_base:
            known = ", ".join(map(repr, encoder.tasks))
            message = f"task must be one of {known} for {call.field}[{place}], which has media; got 'base'"
            raise RequestError("validation", message, field="task", value=BASE_TASK, status=400)


def _media_work(loaded: Loaded) -> Work:
    return Work(loaded.item, loaded.tokens, loaded.identity)


async def load_media(
    service: Service, request: Request, model: ServedModel, call: EmbedCall, prompts: Sequence[str]
) -> dict[int, list[Loaded]]:
    """The media by their places, each of one vector, or of one for each page. Raises: RequestError, the model reads no
    such, or one is damaged or, where that is not allowed, cut."""
    loader = MediaLoader(model, service.settings, service.page_processes)

    def work() -> dict[int, list[Loaded]]:
        return {
            place: loader.load(f"{call.field}[{place}]", item, prompts[place])
            for place, item in enumerate(call.items)
            if isinstance(item, Media)
        }

    started = time.monotonic()
    media = await service.decoded(work)
    request.notes.tokenize += time.monotonic() - started
    cut = [place for place, loaded in media.items() if any(one.is_cut for one in loaded)]
    if cut and not call.truncate:
        message = (
            f"{call.field}[{cut[0]}] has a sound that is longer than what the model hears; shorten it, or send "
            f"{call.to_cut}"
        )
        raise RequestError("too_long", message, field=call.field)
    request.notes.truncated += cut
    return media


async def embed_chunks(service: Service, request: Request, call: EmbedCall) -> tuple[np.ndarray, list[int]]:
    """Late chunking: the items are one text, cut where they meet; a vector each. No limit of length."""
    async with service.using(call.found, request, EMBEDS) as model:
        encoder = model.text_encoder
        _check_dimensions(call, encoder.dim)
        texts = _only_texts(call, "late_chunking")
        service.check_texts(texts, call.field)
        if len(call.tasks) > 1:
            raise invalid("task", "must be one string with late_chunking", None)
        [each] = _meanings(encoder_of(model), call, 1, role="document")
        ends = np.cumsum([len(text) for text in texts])
        spans = tuple((int(end) - len(text), int(end)) for end, text in zip(ends, texts, strict=True))
        document = "".join(texts)

        def count() -> list[int]:
            backend = encoder.tokenizer.backend
            around = len(encoder.tokenizer.encode([""], prompt=each.prompt)[0].ids)
            tokens = [len(piece.ids) for piece in backend.encode_batch(texts, add_special_tokens=False)]
            return [tokens[0] + around, *tokens[1:]]

        started = time.monotonic()
        tokens = await service.in_pool(count, is_large=len(document) > INLINE_CHARACTERS)
        request.notes.tokenize = time.monotonic() - started
        if empty := [place for place, (start, end) in enumerate(spans) if start == end]:
            message = f"{call.field}[{empty[0]}] is empty; a chunk of late_chunking must have text"
            raise RequestError("validation", message, field=call.field, status=400)
        service.note(request, model, tokens)
        payload = ChunkPayload(document, spans)
        runner = ChunkRunner(model, each.task, each.prompt)
        [rows] = await service.compute(request, runner, [Work(payload, sum(tokens), payload)])
        return await service.finish(list(rows), truncate_dim=call.dimensions, normalize=call.normalize), tokens


async def embed_tokens(service: Service, request: Request, call: EmbedCall) -> tuple[list[np.ndarray], list[int]]:
    """A vector a token: (tokens, dim) f32 of each item, of unit length, and the tokens of each item."""
    async with service.using(call.found, request, EMBEDS_TOKENS) as model:
        encoder = model.token_encoder
        _check_dimensions(call, encoder.dim)
        role = token_role(call)
        limit = token_limit(model, role, call.max_length)
        has_media = any(isinstance(item, Media) for item in call.items)
        media = await load_media(service, request, model, call, [""] * len(call.items)) if has_media else {}
        others = [place for place in range(len(call.items)) if place not in media]
        texts = _only_texts(replace(call, items=[call.items[place] for place in others]), "multi-vector")
        counts = await count_tokens(service, request, model, texts, role, limit)
        placed = replace(call, places=others)
        check_truncation(request, placed, [max(0, count - limit) for count in counts], counts, limit)
        is_filled = role == "query" and encoder.rules.expansion_token
        works: list[list[Work]] = [[]] * len(call.items)
        for place, text, count in zip(others, texts, counts, strict=True):
            works[place] = [Work(text, limit if is_filled else min(count, limit), text)]
        for place, pages in media.items():
            works[place] = [_media_work(page) for page in pages]
        tokens = [sum(work.tokens for work in own) for own in works]
        service.note(request, model, tokens)
        runner = TokenRunner(model, role, call.dimensions, call.max_length)
        found = iter(await service.compute(request, runner, [work for own in works for work in own]))
        return [np.concatenate([next(found) for _ in own]) for own in works], tokens


def token_role(call: EmbedCall) -> Role:
    """Query or document, as the task says; document without one."""
    spelled = call.found.role or call.tasks[0]
    if spelled is None:
        return "document"
    if spelled not in ROLES:
        raise invalid("input_type", f"must be 'query' or 'document', got {spelled!r}", spelled)
    return ROLES[spelled]


def token_limit(model: ServedModel, role: Role, max_length: int | None) -> int:
    """Tokens that an item may have."""
    encoder = model.token_encoder
    return max_length or (encoder.query_maxlen if role == "query" else encoder.doc_maxlen)


async def count_tokens(
    service: Service, request: Request, model: ServedModel, texts: Sequence[str], role: Role, limit: int
) -> list[int]:
    """Tokens of each text by late interaction's rules, its marker included, before it is cut."""
    service.check_texts(texts, "input")
    encoder = model.token_encoder
    marker = encoder.rules.query_marker if role == "query" else encoder.rules.doc_marker

    def count() -> list[int]:
        found = encoder.tokenizer.encode(texts, max_length=1 << 30)
        return [len(text.ids) + bool(marker) for text in found]

    started = time.monotonic()
    tokens = await service.in_pool(count, is_large=sum(map(len, texts)) > INLINE_CHARACTERS)
    request.notes.tokenize += time.monotonic() - started
    request.notes.characters += sum(map(len, texts))
    return tokens


async def prepared(service: Service, request: Request, model: ServedModel, call: EmbedCall) -> list[TextPayload]:
    """The items as token ids, cut where that is allowed. Raises: RequestError."""
    encoder = model.text_encoder
    limit = call.max_length or encoder.max_length
    least = encoder.tokenizer.num_special_tokens + 1
    limit = min(max(limit, least), encoder.max_length if call.max_length is None else encoder.spec.max_tokens)
    meanings = _meanings(encoder_of(model), call, len(call.items))
    texts = [item for item in call.items if isinstance(item, str)]
    if len(texts) < len(call.items):
        return payloads_of_ids(encoder, call, meanings, limit, request)
    service.check_texts(texts, call.field)
    characters = sum(map(len, texts))
    request.notes.characters += characters

    def work() -> list[TextPayload]:
        return prepare(encoder, texts, meanings, max_length=limit, direction=call.direction)

    started = time.monotonic()
    payloads = await service.in_pool(work, is_large=characters > INLINE_CHARACTERS)
    request.notes.tokenize += time.monotonic() - started
    tracing.stage("tokenize", request, started, time.monotonic())
    cut = [max(text.truncated, int(text.is_partly_read)) for text in payloads]
    if any(cut):
        lengths = [len(text.ids) + text.truncated for text in payloads]
        check_truncation(request, call, cut, lengths, limit)
    return payloads


def check_truncation(request: Request, call: EmbedCall, cut: Sequence[int], tokens: Sequence[int], limit: int) -> None:
    """Note which items are cut. Raises: RequestError, one would be, and that is not allowed."""
    at_fault = [place for place, number in enumerate(cut) if number > 0]
    indices = at_fault if call.places is None else [call.places[place] for place in at_fault]
    if indices and not call.truncate:
        first = indices[0]
        which = call.field if len(call.items) == 1 else f"{call.field}[{first}]"
        more = f" (and {len(indices) - 1} more)" if len(indices) > 1 else ""
        has = f"{which} has {tokens[at_fault[0]]} tokens, and the limit is {limit}{more}"
        message = f"{has}; shorten it, or send {call.to_cut}"
        raise RequestError("too_long", message, field=call.field)
    request.notes.truncated += indices


def encoder_of(model: ServedModel) -> object:
    """For `tasks.meaning`."""
    return model.text_encoder


def _meanings(encoder: object, call: EmbedCall, count: int, role: Role | None = None) -> list[Meaning]:
    """Adapter and prompt of each item."""
    tasks = [call.found.role] if call.found.role is not None else call.tasks
    options = {"prompt_name": call.prompt_name, "prompt": call.prompt, "role": role}
    known = {task: meaning(encoder, task, **options) for task in dict.fromkeys(tasks)}  # type: ignore[arg-type]
    return [known[task] for task in tasks] if len(tasks) > 1 else [known[tasks[0]]] * count


def payloads_of_ids(
    encoder: LoadedModel, call: EmbedCall, meanings: Sequence[Meaning], limit: int, request: Request
) -> list[TextPayload]:
    """Token ids as they are. Raises: RequestError, they are refused here, or none of the model's vocabulary."""
    if not call.takes_ids:
        message = (
            f"{call.field} holds token ids, and they would be of another tokenizer than the model's: send the texts "
            f"(langchain-openai: check_embedding_ctx_length=False), or start the server with --token-ids model"
        )
        raise RequestError("validation", message, field=call.field, status=400)
    size = encoder.spec.vocab_size
    payloads, lengths = [], []
    for place, (item, each) in enumerate(zip(call.items, meanings, strict=True)):
        assert isinstance(item, TokenIds)
        if not all(0 <= number < size for number in item.ids):
            wrong = next(number for number in item.ids if not 0 <= number < size)
            message = f"{call.field}[{place}] has the token id {wrong}; the model's go from 0 to {size - 1}"
            raise RequestError("validation", message, field=call.field, status=400)
        ids = item.ids[-limit:] if call.direction == "left" else item.ids[:limit]
        payloads.append(TextPayload(np.array(ids, np.int32), each.task, None, max(0, len(item.ids) - limit)))
        lengths.append(len(item.ids))
    check_truncation(request, call, [text.truncated for text in payloads], lengths, limit)
    return payloads


def _only_texts(call: EmbedCall, what: str) -> list[str]:
    texts = [item for item in call.items if isinstance(item, str)]
    if len(texts) < len(call.items):
        raise RequestError("validation", f"{call.field}: {what} takes texts only", field=call.field, status=400)
    return texts


def _check_dimensions(call: EmbedCall, dim: int) -> None:
    if call.dimensions is not None and call.dimensions > dim:
        message = f"dimensions must be at most {dim}, got {call.dimensions}"
        raise RequestError("validation", message, field="dimensions", value=call.dimensions)
