"""What operators and orchestrators ask: which models, is it alive, is it ready, how is it doing."""

from __future__ import annotations

from typing import Any, Final

from longspan.serve.dialects import tei
from longspan.serve.dialects.shared import union_error
from longspan.serve.errors import RequestError
from longspan.serve.fields import Fields
from longspan.serve.http import Request, Response
from longspan.serve.metrics import CONTENT_TYPE
from longspan.serve.models import OWNER, ServedModel
from longspan.serve.routing import Route
from longspan.serve.service import Service


async def models(service: Service, request: Request, fields: Fields) -> Response:
    """`GET /v1/models`."""
    return Response.json({"object": "list", "data": [_entry(service, model) for model in service.models.all]})


async def live(service: Service, request: Request, fields: Fields) -> Response:
    """`GET /live`: the process answers."""
    return Response(b"")


async def ready(service: Service, request: Request, fields: Fields) -> Response:
    """`GET /ready`, `/health`, `/ping`, `/`: every model has run a pass, and what comes will be computed."""
    if service.is_ready:
        return Response(b"")
    why = service.why or "the computing thread has died; restart the server"
    raise RequestError("unhealthy", why, retry_after=1.0)


async def metrics(service: Service, request: Request, fields: Fields) -> Response:
    """`GET /metrics`: Prometheus' text."""
    service.set_gauges()
    return Response(service.metrics.text(), type=CONTENT_TYPE)


def _entry(service: Service, model: ServedModel) -> dict[str, Any]:
    return {
        **tei.describe(model),
        "id": model.short_name,
        "object": "model",
        "created": model.created,
        "owned_by": OWNER,
        "root": model.name,
        "aliases": service.models.aliases_of(model),
    }


ROUTES: Final = (
    Route("GET", "/v1/models", models, union_error),
    Route("GET", "/models", models, union_error),
    Route("GET", "/live", live, union_error, is_open=True),
    *(Route("GET", path, ready, tei.tei_error, is_open=True) for path in ("/ready", "/health", "/ping", "/")),
    Route("GET", "/metrics", metrics, union_error),
)
