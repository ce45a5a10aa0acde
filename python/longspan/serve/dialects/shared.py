"""What Jina's and OpenAI's routes share: an error that both kinds of client can read."""

from __future__ import annotations

from typing import Any, Final

from longspan.serve.errors import Kind, RequestError
from longspan.serve.fields import shown
from longspan.serve.http import Response
from longspan.serve.routing import plain

JINA_CODES: Final[dict[Kind, str]] = {
    "too_long": "INPUT_TOKEN_LIMIT_EXCEEDED",
    "model_not_found": "INPUT_MODEL_NOT_FOUND",
    "not_found": "RESOURCE_NOT_FOUND",
    "auth": "AUTH_INVALID_API_KEY",
    "overloaded": "RATE_LIMIT_EXCEEDED",
}
OPENAI_CODES: Final[dict[Kind, str]] = {
    "auth": "invalid_api_key",
    "model_not_found": "model_not_found",
    "overloaded": "rate_limit_exceeded",
    "too_long": "context_length_exceeded",
}


def union_error(error: RequestError, request_id: str) -> Response:
    """One body that OpenAI's clients read at `error`, Jina's at `detail` (and `errors`), TEI's at `message`."""
    code = OPENAI_CODES.get(error.kind)
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    body: dict[str, Any] = {
        "error": {"message": error.message, "type": kind, "param": error.field, "code": code},
        "message": error.message,
        "type": kind,
        "request_id": request_id,
    }
    jina = error.code or JINA_CODES.get(error.kind)
    if error.status == 422:
        body["detail"] = error.message
        field = {"field": f"body -> {error.field or ''}", "message": error.message, "type": _pydantic_type(error)}
        body["errors"] = [{**field, "input": shown(error.value)}]
    elif error.status == 400:
        body["detail"] = {"message": error.message, "request_id": request_id, "code": jina}
    else:
        body["detail"], body["code"] = error.message, jina
    return plain(body, error.status, error)


def _pydantic_type(error: RequestError) -> str:
    """The word that the hosted service has for the rule that was broken."""
    message = error.message
    for words, name in (
        ("is missing", "missing"),
        ("must be at most", "less_than_equal"),
        ("must be at least", "greater_than_equal"),
        ("must be one of", "literal_error"),
        ("must be a string", "string_type"),
        ("must be true or false", "bool_type"),
        ("must be a whole number", "int_type"),
        ("must not be empty", "too_short"),
    ):
        if words in message:
            return name
    return "value_error"
