"""What is wrong with a request or with us. A dialect says it in the words that its clients read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Literal

Kind = Literal[
    "validation",  # a field breaks a rule
    "empty",  # there is nothing to embed
    "tokenization",
    "too_long",  # a text has too many tokens
    "batch_size",  # too many items or tokens
    "body_size",
    "model_type",  # the model cannot do this
    "model_not_found",
    "not_found",
    "method",
    "auth",
    "overloaded",
    "unhealthy",  # starting, draining, or broken
    "deadline",
    "inference",
    "dropped",  # the client hung up
]

STATUS: Final[Mapping[Kind, int]] = {
    "validation": 422,
    "empty": 422,
    "tokenization": 422,
    "too_long": 400,
    "batch_size": 400,
    "body_size": 413,
    "model_type": 400,
    "model_not_found": 404,
    "not_found": 404,
    "method": 405,
    "auth": 401,
    "overloaded": 429,
    "unhealthy": 503,
    "deadline": 504,
    "inference": 500,
    "dropped": 499,
}


class RequestError(Exception):
    """A request cannot be answered.

    Args:
        kind: what sort of fault; it gives the HTTP status, unless `status` does.
        message: one sentence: what came, the rule, what to do.
        field: the field at fault, as the client spelled it.
        value: what it held.
        retry_after: seconds after which it may be tried again.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        field: str | None = None,
        value: object = None,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind: Kind = kind
        self.message = message
        self.field = field
        self.value = value
        self.status = STATUS[kind] if status is None else status
        self.code = code
        self.retry_after = retry_after
        self.headers: list[tuple[str, str]] = []
        if retry_after is not None:
            self.headers.append(("retry-after", str(max(1, math.ceil(retry_after)))))
            self.headers.append(("retry-after-ms", str(max(1, math.ceil(1000 * retry_after)))))
        if kind == "deadline":
            self.headers.append(("x-should-retry", "false"))


def invalid(field: str, rule: str, value: object) -> RequestError:
    """A field that breaks a rule."""
    return RequestError("validation", f"{field} {rule}", field=field, value=value)
