"""A request for sparse vectors: from texts or token ids to work, and static queries, which need no model."""

from __future__ import annotations

import time
from collections.abc import Sequence

from longspan.serve.errors import RequestError
from longspan.serve.http import Request
from longspan.serve.inputs import TokenIds
from longspan.serve.jobs import Work
from longspan.serve.models import EMBEDS_SPARSELY, ServedModel
from longspan.serve.runners import SparseRunner
from longspan.serve.service import INLINE_CHARACTERS, Service
from longspan.serve.tasks import Meaning, meaning
from longspan.serve.texts import TextPayload
from longspan.serve.vectors import EmbedCall, check_truncation, payloads_of_ids
from longspan.text.task_names import ROLES
from longspan.vectors.sparse import SparseVectors


async def sparse_vectors(service: Service, request: Request, call: EmbedCall) -> Sequence[SparseVectors]:
    """A vector of each item, as `SparseVectors` of one row. Raises: RequestError.

    A model whose queries have fixed weights gives those where the name asks for the role: `MODEL:query`.
    """
    async with service.using(call.found, request, EMBEDS_SPARSELY) as model:
        encoder = model.sparse_encoder
        each = meaning(encoder, call.found.role, prompt_name=call.prompt_name)
        if encoder.has_static_queries and ROLES.get(call.found.role or "") == "query":
            return await _static_queries(service, request, model, call, each)
        if any(isinstance(item, TokenIds) for item in call.items):
            payloads = payloads_of_ids(encoder, call, [each] * len(call.items), encoder.max_length, request)
        else:
            payloads = await _tokenized(service, request, model, call, each)
        works = [Work(text, len(text.ids), text.identity) for text in payloads]
        service.note(request, model, [work.tokens for work in works])
        return await service.compute(request, SparseRunner(model), works)


async def _tokenized(
    service: Service, request: Request, model: ServedModel, call: EmbedCall, each: Meaning
) -> list[TextPayload]:
    encoder, texts = model.sparse_encoder, _texts(service, request, call)
    limit = encoder.max_length

    def work() -> list[TextPayload]:
        found = encoder.tokenizer.encode(texts, prompt=each.prompt, max_length=limit, truncation_side=call.direction)
        return [TextPayload(text.ids, each.task, None, text.truncated, text.unread > 0) for text in found]

    started = time.monotonic()
    payloads = await service.in_pool(work, is_large=sum(map(len, texts)) > INLINE_CHARACTERS)
    request.notes.tokenize += time.monotonic() - started
    cut = [max(text.truncated, int(text.is_partly_read)) for text in payloads]
    check_truncation(request, call, cut, [len(text.ids) + text.truncated for text in payloads], limit)
    return payloads


async def _static_queries(
    service: Service, request: Request, model: ServedModel, call: EmbedCall, each: Meaning
) -> Sequence[SparseVectors]:
    """Nothing is computed, so nothing waits in the queue."""
    encoder, texts = model.sparse_encoder, _texts(service, request, call)

    def work() -> SparseVectors:
        return encoder.encode_query(texts, prompt=each.prompt, on_truncate="ignore", show_progress_bar=False)

    rows = await service.in_pool(work, is_large=sum(map(len, texts)) > INLINE_CHARACTERS)
    service.note(request, model, [len(row.indices) for row in rows])
    return list(rows)


def _texts(service: Service, request: Request, call: EmbedCall) -> list[str]:
    """The items, which must be texts here."""
    texts = [item for item in call.items if isinstance(item, str)]
    if len(texts) < len(call.items):
        raise RequestError("validation", f"{call.field}: queries are texts here, not token ids", field=call.field)
    service.check_texts(texts, call.field)
    request.notes.characters += sum(map(len, texts))
    return texts
