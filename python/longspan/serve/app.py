"""The ASGI app: routes, keys, bounds, and what every answer carries. Any ASGI server runs it."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from longspan.serve.company import Company
from longspan.serve.dialects import cohere, embeddings, ollama, operations, rerank, tei
from longspan.serve.dialects.shared import union_error
from longspan.serve.errors import RequestError
from longspan.serve.fields import Fields
from longspan.serve.http import (
    Receive,
    Request,
    Response,
    Scope,
    Send,
    check_coding,
    parse_object,
    read_body,
    send_response,
)
from longspan.serve.interruption import Interruption
from longspan.serve.models import Models, ServedModel
from longspan.serve.routing import ErrorAnswer, Route
from longspan.serve.service import Service
from longspan.serve.settings import ModelSettings, Settings

if TYPE_CHECKING:
    from longspan.serve.models import AnyModel

log = logging.getLogger("longspan.serve")
access = logging.getLogger("longspan.serve.access")

ROUTES: Final[tuple[Route, ...]] = (
    *embeddings.ROUTES,
    *rerank.ROUTES,
    *operations.ROUTES,
    *tei.ROUTES,
    *cohere.ROUTES,
    *ollama.ROUTES,
)
POOL_BODY_BYTES: Final = 256 << 10  # from which a body is parsed in the pool
AUTHORITY: Final = re.compile(r"^https?://[^/]*", re.IGNORECASE)  # of a request to a proxy, RFC 9112 section 3.2.2
MOST_INDICES: Final = 32  # of cut items that a header names
DEFAULTS: Final = Settings()
Source: TypeAlias = "str | ModelSettings | AnyModel"
LOCAL_OPEN: Final = ("/metrics", "/info")  # open with Settings.open_metrics


def create_app(models: Source | Sequence[Source], settings: Settings = DEFAULTS) -> App:
    """An ASGI app that serves models, for `uvicorn`, `granian`, Ray Serve and others.

        app = create_app("sentence-transformers/all-MiniLM-L6-v2")

    Args:
        models: what to serve: names or folders, `ModelSettings`, or encoders that are there already; one or several.
        settings: bounds, keys and the rest.
    Raises: ValueError, a name stands for two models, or an alias for none; ImportError, without longspan[serve].
    """
    given = cast("list[Source]", list(models) if isinstance(models, (list, tuple)) else [models])
    served = [ServedModel(ModelSettings(model) if isinstance(model, str) else model) for model in given]
    return App(Models(served, settings.aliases, any_model=settings.any_model), settings)


class App:
    """See `create_app`. `service` is what it stands on; it begins and ends with the server's lifespan."""

    def __init__(self, models: Models, settings: Settings) -> None:
        self.settings = settings
        self.service = Service(models, settings)
        self._routes: dict[str, dict[str, Route]] = {}
        for route in ROUTES:
            self._routes.setdefault(route.path, {})[route.method] = route
        self._company = Company()
        self._keys = [key.encode() for key in settings.api_keys]
        self._asgi = self._answer
        if settings.cors_origins:
            from starlette.middleware.cors import CORSMiddleware

            self._asgi = CORSMiddleware(
                self._answer,
                allow_origins=list(settings.cors_origins),
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["*"],
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._asgi(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.service.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.service.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        request.is_alone = self._company.enter(scope)
        try:
            await self._answer_to(request, scope, receive, send)
        finally:
            self._company.leave()

    async def _answer_to(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = request.method == "HEAD"
        route: Route | None = None
        error_answer: ErrorAnswer = union_error
        response: Response | None
        try:
            route = self._route(request)
            error_answer = route.error
            self._check_key(request, route)
            response = await self._handled(route, request, receive)
        except RequestError as error:
            request.notes.error = error.kind
            response = None if error.kind == "dropped" else self._error(error_answer, error, request)
        except Exception as error:  # ours: the client gets a sentence, the log all of it
            log.exception("request %s failed", request.id)
            request.notes.error = "inference"
            ours = RequestError("inference", f"{type(error).__name__}: {error}")
            response = self._error(error_answer, ours, request)
        seconds = time.monotonic() - request.started
        if response is not None:
            response.headers += self._headers(request, seconds)
            if self.service.state == "draining" and scope.get("http_version", "").startswith("1"):
                response.headers.append(("connection", "close"))  # so that the client's next request goes elsewhere
            try:
                await send_response(send, response, head_only=is_head)
            except OSError:  # the client hung up while it was answered
                request.notes.error = "dropped"
        if route is not None and route.computes:
            self.service.metrics.answered(request.notes, seconds)
        self._log(request, 499 if response is None else response.status, seconds)

    @staticmethod
    def _error(answer: ErrorAnswer, error: RequestError, request: Request) -> Response:
        response = (tei.tei_error if request.speaks_tei else answer)(error, request.id)
        if response.status == 204:
            response.body = b""
        return response

    def _route(self, request: Request) -> Route:
        path = re.sub("/{2,}", "/", AUTHORITY.sub("", request.path)).rstrip("/") or "/"
        methods = self._routes.get(path)
        if methods is None:
            routes = ", ".join(sorted(self._routes))
            raise RequestError("not_found", f"there is no {request.path[:200]} here; the routes are {routes}")
        method = "GET" if request.method == "HEAD" else request.method
        if method not in methods:
            allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])
            status = 204 if method == "OPTIONS" else 405
            error = RequestError("method", f"{path} takes {allowed}, not {request.method}", status=status)
            error.headers.append(("allow", allowed))
            raise error
        return methods[method]

    def _check_key(self, request: Request, route: Route) -> None:
        is_open = route.is_open or (self.settings.open_metrics and route.path in LOCAL_OPEN)
        if not self._keys or is_open:
            return
        given = request.headers.get("authorization", "") or request.headers.get("x-api-key", "")
        scheme, _, key = given.rpartition(" ")
        if not given:
            message, code = "an API key is needed: send Authorization: Bearer KEY", "AUTH_MISSING_API_KEY"
        elif scheme and scheme.lower() != "bearer":
            message, code = "Authorization must be Bearer and the API key", "AUTH_INVALID_FORMAT"
        elif sum(hmac.compare_digest(key.encode("utf-8", "replace"), known) for known in self._keys):
            return
        else:
            message, code = "the API key is not one of this server's", "AUTH_INVALID_API_KEY"
        raise RequestError("auth", message, code=code)

    async def _handled(self, route: Route, request: Request, receive: Receive) -> Response:
        service, fields = self.service, Fields({})
        if route.method == "POST":
            check_coding(request)
            limit, timeout = self.settings.max_body_bytes, self.settings.read_timeout
            await read_body(request, receive, limit=limit, timeout=timeout)
            large = len(request.body) > POOL_BODY_BYTES
            body, surrogates = await service.in_pool(lambda: parse_object(request.body), is_large=large)
            request.body = b""
            if surrogates:
                request.notes.surrogates = surrogates
                service.metrics.surrogates.inc(surrogates)
            fields = Fields(body)
        if route.computes and service.state in ("starting", "failed"):
            raise RequestError("unhealthy", service.why, retry_after=1.0)
        response = await _unless_hung_up(route.handler(service, request, fields), receive, is_watched=route.computes)
        for name in fields.ignored:
            service.metrics.ignored(name)
        return response

    def _headers(self, request: Request, seconds: float) -> list[tuple[str, str]]:
        notes = request.notes
        headers = [("x-request-id", request.id)]
        if notes.tokens:
            for name, value in (
                ("x-total-time", seconds),
                ("x-tokenization-time", notes.tokenize),
                ("x-queue-time", notes.queue),
                ("x-inference-time", notes.compute),
                ("x-compute-time", notes.tokenize + notes.compute),
            ):
                headers.append((name, str(int(1000 * value))))
            headers += [
                ("x-compute-tokens", str(notes.tokens)),
                ("x-compute-characters", str(notes.characters)),
                ("x-compute-type", notes.device),
            ]
        if notes.fingerprint:
            headers.append(("x-longspan-fingerprint", notes.fingerprint))
        cut = [*(["query"] if notes.query_is_cut else []), *map(str, notes.truncated)]
        if cut:
            headers.append(("x-longspan-truncated", f"{len(cut)}; first={','.join(cut[:MOST_INDICES])}"))
        if notes.surrogates:
            headers.append(("x-longspan-replaced-surrogates", str(notes.surrogates)))
        return headers

    def _log(self, request: Request, status: int, seconds: float) -> None:
        if self.settings.log == "none" or not access.isEnabledFor(logging.INFO):
            return
        notes = request.notes
        facts: Mapping[str, Any] = {
            "id": request.id,
            "method": request.method,
            "path": request.path,
            "status": status,
            "model": notes.model,
            "items": notes.items,
            "tokens": notes.tokens,
            "ms": round(1000 * seconds, 1),
            "tokenize_ms": round(1000 * notes.tokenize, 1),
            "queue_ms": round(1000 * notes.queue, 1),
            "compute_ms": round(1000 * notes.compute, 1),
            "encode_ms": round(1000 * notes.encode, 1),
            "truncated": notes.num_cut,
            "error": notes.error,
            "trace": request.trace_id or "",
        }
        if self.settings.log == "json":
            access.info("%s", json.dumps(facts))
        else:
            access.info(
                "%s", " ".join(f"{name}={_word(value)}" for name, value in facts.items() if value not in ("", 0))
            )


def _word(value: object) -> str:
    """A value of a log line: nothing that a client sent breaks the line."""
    text = str(value)
    return text if text.isprintable() and " " not in text and len(text) < 200 else json.dumps(text[:200])


async def _unless_hung_up(work: Awaitable[Response], receive: Receive, *, is_watched: bool) -> Response:
    """The answer, unless the client hangs up before: then the work is given up. Raises: RequestError."""
    if not is_watched:
        return await work
    gone = asyncio.ensure_future(_hung_up(receive))
    try:
        with Interruption(RequestError("dropped", "the client hung up")) as interrupt:
            gone.add_done_callback(interrupt)
            return await work
    finally:
        gone.cancel()


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
