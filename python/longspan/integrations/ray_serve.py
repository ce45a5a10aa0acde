"""longspan under Ray Serve: a deployment whose replicas each hold the whole server, with its batcher inside.

    from ray import serve
    from longspan.integrations.ray_serve import application

    serve.run(application("sentence-transformers/all-MiniLM-L6-v2", min_replicas=1, max_replicas=8))

Clients ask it as they ask `longspan serve`. Ray spreads requests over replicas, starts one again that dies, and has as
many as the tokens that wait call for; batches are made inside of a replica, by tokens (`serve.batch` counts requests).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from longspan.integrations import missing

try:
    from ray import serve
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
    from starlette.requests import Request as HTTPRequest
    from starlette.responses import Response as HTTPResponse
except ImportError as error:
    raise missing("ray-serve", error) from error

from longspan.serve.app import Source, create_app
from longspan.serve.errors import RequestError
from longspan.serve.http import Message, Request
from longspan.serve.models import EMBEDS
from longspan.serve.settings import Settings
from longspan.serve.vectors import EmbedCall, embed

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext
    from ray.serve.handle import Application

TOKENS_A_REPLICA: Final = 16_384  # that may wait for each, before another is started
QUEUED_TOKENS: Final = "queued_tokens"  # the name of what replicas report


class LongspanServer:
    """A replica: the app of `longspan.serve`, its models loaded and warm before the first request comes.

    Args:
        models: as `create_app`; names or `ModelSettings`, which every node must see.
        settings: as `create_app`.
    Raises: what `Encoder` raises, where a model cannot be loaded.
    """

    def __init__(self, models: Source | Sequence[Source], settings: Settings) -> None:
        self.app = create_app(models, settings)
        self.app.service.load_now()

    async def __call__(self, request: HTTPRequest) -> HTTPResponse:
        """Answer an HTTP request, whatever its dialect."""
        waiting: list[Message] = [{"type": "http.request", "body": await request.body(), "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            if waiting:
                return waiting.pop()
            await asyncio.Event().wait()  # Ray cancels the whole call where the client hangs up
            raise AssertionError("an event that nobody sets")

        async def send(message: Message) -> None:
            sent.append(message)

        await self.app(request.scope, receive, send)
        response = HTTPResponse(b"".join(message["body"] for message in sent[1:]), sent[0]["status"])
        response.raw_headers = list(sent[0]["headers"])
        return response

    async def embed(self, texts: Sequence[str], model: str | None = None, task: str | None = None) -> np.ndarray:
        """Vectors of unit length, (n, dim) f32, for callers inside Ray: `await handle.embed.remote(texts)`.

        Raises: ValueError, the model, the task or a text is refused; RuntimeError, there is no room, or no answer.
        """
        service = self.app.service
        request = Request({"type": "http", "method": "POST", "path": "/embed", "headers": []})
        try:
            found = service.models.find(model, EMBEDS)
            vectors, _ = await embed(service, request, EmbedCall(found, list(texts), [task]))
        except RequestError as error:
            kind = ValueError if error.status < 429 else RuntimeError
            raise kind(error.message) from None
        return vectors

    def record_autoscaling_stats(self) -> Mapping[str, float]:
        """What `scale_by_queued_tokens` reads; Ray asks each replica."""
        return {QUEUED_TOKENS: float(self.app.service.scheduler.queued_tokens)}

    def check_health(self) -> None:
        """Ray asks now and then, and starts the replica again where it raises. Raises: RuntimeError."""
        if not self.app.service.is_ready:
            raise RuntimeError("the computing thread has died")

    def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Ray hands `user_config` here; there is nothing that changes while a replica lives."""

    def __del__(self) -> None:
        """Ray has seen to it that no request is under way."""
        if hasattr(self, "app"):
            self.app.service.scheduler.close()


class ScaleByQueuedTokens:
    """An autoscaling policy: replicas for the tokens that wait, `tokens_a_replica` each.

    Tokens tell how long the queue is; requests do not, as one may hold a word or a thousand pages, and processors are
    full whenever a replica computes at all.
    """

    def __init__(self, tokens_a_replica: int = TOKENS_A_REPLICA) -> None:
        self._tokens = tokens_a_replica

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """The number of replicas to have, and nothing to remember."""
        reported = (context.aggregated_metrics or {}).get(QUEUED_TOKENS, {})
        wanted = replicas_for(sum(reported.values()), self._tokens, context.current_num_replicas)
        least, most = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        return max(least, min(most, wanted)), {}


def replicas_for(queued_tokens: float, tokens_a_replica: int, now: int) -> int:
    """How many replicas these tokens call for. While any wait, one at most is let go at a time."""
    wanted = math.ceil(queued_tokens / tokens_a_replica)
    return max(wanted, now - 1) if queued_tokens else max(1, wanted)


def application(
    models: Source | Sequence[Source],
    settings: Settings | None = None,
    *,
    min_replicas: int = 1,
    max_replicas: int = 1,
    tokens_a_replica: int = TOKENS_A_REPLICA,
    ray_actor_options: Mapping[str, Any] | None = None,
    name: str = "longspan",
) -> Application:
    """An application for `serve.run`.

    Args:
        models, settings: as `LongspanServer`. Ray's proxy is the door: keys and TLS can be had at either.
        min_replicas, max_replicas: of the deployment; equal numbers switch autoscaling off.
        tokens_a_replica: tokens that may wait for each replica before another is started.
        ray_actor_options: as Ray's, such as {"num_cpus": 4} or {"num_gpus": 1} (then with device="cuda").
        name: of the deployment.
    Raises: ValueError, the numbers of replicas contradict each other.
    """
    if not 1 <= min_replicas <= max_replicas:
        raise ValueError(
            f"application: min_replicas must be from 1 to max_replicas, got {min_replicas} and {max_replicas}"
        )
    settings = settings or Settings()
    scaling: dict[str, Any] = {"num_replicas": min_replicas}
    if min_replicas < max_replicas:
        policy = AutoscalingPolicy(
            policy_function=f"{__name__}:{ScaleByQueuedTokens.__name__}",
            policy_kwargs={"tokens_a_replica": tokens_a_replica},
        )
        scaling = {
            "autoscaling_config": AutoscalingConfig(min_replicas=min_replicas, max_replicas=max_replicas, policy=policy)
        }
    deployment = serve.deployment(
        name=name,
        max_ongoing_requests=settings.max_queue_requests,  # the replica's own queue bounds what waits, and says 429
        ray_actor_options=dict(ray_actor_options or {}),
        **scaling,
    )(LongspanServer)
    return deployment.bind(models, settings)
