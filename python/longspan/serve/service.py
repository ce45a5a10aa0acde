"""What all dialects ask for: texts to vectors, through pools of threads and the scheduler. It knows no dialect."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import numpy as np

from longspan.images.page_process import PageProcesses
from longspan.pipeline.options import OutputValue
from longspan.serve import tracing
from longspan.serve.cache import ResultCache
from longspan.serve.errors import Kind as ErrorKind
from longspan.serve.errors import RequestError
from longspan.serve.http import Request
from longspan.serve.jobs import (
    ClosedError,
    DeadlineError,
    DroppedError,
    Job,
    LaneName,
    QueueFullError,
    Runner,
    SchedulerError,
    TooLargeError,
    Work,
)
from longspan.serve.metrics import Metrics
from longspan.serve.models import KIND_NAMES, KIND_ROUTES, Found, Kind, Models, ServedModel
from longspan.serve.runners import BadInputError, MediaRunner, PairRunner, SparseRunner, TokenRunner, VectorRunner
from longspan.serve.scheduler import Limits, Scheduler
from longspan.serve.settings import Settings
from longspan.serve.tasks import meaning
from longspan.serve.texts import TextPayload, prepare
from longspan.vectors.unit_length import unit_length

T = TypeVar("T")
log = logging.getLogger("longspan.serve")

INLINE_CHARACTERS: Final = 4096  # of a request, up to which it is tokenized without a change of threads
INLINE_VALUES: Final = 1 << 16  # of an answer, up to which vectors are finished without one
HERE_SECONDS: Final = 0.01  # for which the loop may compute a lone request itself
HERE_RUNNERS: Final = (VectorRunner, SparseRunner, PairRunner)  # of texts, whose time goes with their tokens
WARM_UP_TEXTS: Final = tuple("word " * count for count in (1, 16, 64, 256))
# Flags for models whose files do not say that they are of another kind than embedding.
OTHER_KINDS: Final[tuple[tuple[Kind, str], ...]] = (("reranker", "--rerank"), ("sparse", "--sparse"))
WARM_UP_IMAGE: Final = np.zeros((64, 64, 3), np.uint8)
# What a job's failure is to a client, and the status where it is not the kind's own.
FAULTS: Final[Mapping[type[SchedulerError], tuple[ErrorKind, int | None]]] = {
    QueueFullError: ("overloaded", None),
    ClosedError: ("unhealthy", None),
    DeadlineError: ("deadline", None),
    TooLargeError: ("batch_size", 413),
    BadInputError: ("validation", 400),
    DroppedError: ("dropped", None),
}
State = Literal["starting", "ready", "draining", "failed"]


@dataclass(frozen=True, slots=True)
class Computed:
    """Results of a request, in the order of its items."""

    rows: list[np.ndarray]
    tokens: list[int]  # of each item, special ones included, after truncation


class Service:
    """The models, the scheduler and the pool; begun by `start`, ended by `stop`."""

    def __init__(self, models: Models, settings: Settings) -> None:
        self.models = models
        self.settings = settings
        self.metrics = Metrics()
        self.state: State = "starting"
        self.why = "the models are being loaded"
        self.failure = ""  # why the models that were to be loaded at the start are not there
        self.when_failed: Callable[[], object] = lambda: None  # told of it
        self.pool = ThreadPoolExecutor(settings.tokenizer_threads, "longspan-tokenize")
        self.page_processes = PageProcesses()
        self._media_pool = ThreadPoolExecutor(settings.tokenizer_threads, "longspan-decode")
        self._loader = ThreadPoolExecutor(1, "longspan-load")
        self.limits = Limits(
            batch_tokens=settings.batch_tokens or 2048,
            queue_tokens=settings.max_queue_tokens,
            queue_jobs=settings.max_queue_requests,
            max_wait=settings.max_wait_ms / 1000,
        )
        self.cache = ResultCache(int(settings.cache_mb * 2**20)) if settings.cache_mb else None
        self.scheduler = Scheduler(self.limits, self.cache, self.metrics)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_ready(self) -> bool:
        """Whether every model has run, and what comes will be computed."""
        return self.state == "ready" and self.scheduler.is_alive

    async def start(self) -> None:
        """Load the models and run each once, beside the serving."""
        self._tasks.add(asyncio.create_task(self._load_all()))
        if self.settings.idle_unload:
            self._tasks.add(asyncio.create_task(self._unload_idle()))

    def retire(self) -> None:
        """Be not ready any more, so that no new work is sent here; what comes all the same is done."""
        self.state, self.why = "draining", "the server is stopping"

    def load_now(self) -> None:
        """Load the models and run each once, in the caller's thread: for those who begin without a loop.

        Raises: what `Encoder` raises; SchedulerError, a first pass failed.
        """
        for model in self.models.all:
            model.load()
            self._widen(model)
            for runner, works in warm_up_work(model, WARM_UP_TEXTS):
                self.scheduler.submit(runner, works).future.result()
            model.is_warm = True
        self.state, self.why = "ready", ""

    async def stop(self) -> None:
        """Refuse what comes, finish what is here within the drain timeout, and end."""
        self.retire()
        for task in self._tasks:
            task.cancel()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.scheduler.drain, self.settings.drain_timeout)
        self.scheduler.close()
        self.pool.shutdown(wait=False, cancel_futures=True)
        self._media_pool.shutdown(wait=False, cancel_futures=True)
        self.page_processes.close()
        self._loader.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def using(self, found: Found, request: Request, kinds: Sequence[Kind]) -> AsyncIterator[ServedModel]:
        """The model, loaded and kept while it is used.

        Raises: RequestError, it cannot be loaded, or is of another kind.
        """
        model = found.model
        model.acquire()
        try:
            if not model.is_loaded:
                await self._load(model)
                self._widen(model)
            if model.kind not in kinds:
                wanted = " or ".join(KIND_NAMES[kind] for kind in kinds)
                message = f"{model.short_name} makes {KIND_NAMES[model.kind]}, not {wanted}; "
                message += f"POST {KIND_ROUTES[model.kind]}, or ask another model"
                if model.kind == "embedding":
                    message += "".join(f", or serve it with {flag}" for kind, flag in OTHER_KINDS if kind in kinds)
                raise RequestError("model_type", message, field="model", value=model.short_name)
            request.notes.model = model.short_name
            request.notes.fingerprint = model.encoder.fingerprint
            request.notes.device = model.encoder.device
            yield model
        finally:
            model.release()

    async def in_pool(self, work: Callable[[], T], *, is_large: bool) -> T:
        """Do it in the pool, if it is large."""
        if not is_large:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)

    async def decoded(self, work: Callable[[], T]) -> T:
        """Do it in the pool for media, so that no text waits while a video is decoded."""
        return await asyncio.get_running_loop().run_in_executor(self._media_pool, work)

    def check_items(self, count: int, field: str) -> None:
        """Raises: RequestError, there are too many items in a request."""
        most = self.settings.max_request_items
        if count > most:
            message = f"{field} must have at most {most} items, got {count}; send several requests"
            raise RequestError("batch_size", message, field=field)

    def check_texts(self, texts: Sequence[str], field: str) -> None:
        """Raises: RequestError, a text is too long to be tokenized."""
        most = self.settings.max_item_characters
        for place, text in enumerate(texts):
            if len(text) > most:
                message = f"{field}[{place}] has {len(text)} characters, and may have {most}; send it in parts"
                raise RequestError("too_long", message, field=field)

    async def compute(self, request: Request, runner: Runner, works: Sequence[Work]) -> list[Any]:
        """The results of the works, in order. Raises: RequestError, there are none, and why."""
        total = sum(work.tokens for work in works)
        most = self.settings.max_request_tokens
        if total > most:
            message = f"the request has {total} tokens, and may have {most}; send several requests"
            raise RequestError("batch_size", message)
        job = self._submit(request, runner, works, here=self._may_run_here(request, runner, total))
        try:
            results = job.future.result() if job.future.done() else await asyncio.wrap_future(job.future)
        except asyncio.CancelledError:
            job.cancel()
            raise
        except SchedulerError as error:
            raise self._translated(error) from error
        finally:
            self.set_gauges()
        if isinstance(runner, HERE_RUNNERS) and job.compute_seconds:
            runner.model.recent_rate = total / job.compute_seconds
        notes = request.notes
        notes.queue += job.queue_seconds
        notes.compute += job.compute_seconds
        tracing.stage("queue", request, job.submitted, job.first_start)
        tracing.stage("compute", request, job.first_start, job.last_end)
        return results

    async def compute_texts(
        self, request: Request, model: ServedModel, payloads: Sequence[TextPayload], output: OutputValue
    ) -> Computed:
        """Vectors of prepared texts, as the model gives them: neither cut nor brought to length."""
        works = [Work(text, len(text.ids), text.identity) for text in payloads]
        tokens = [len(text.ids) for text in payloads]
        self.note(request, model, tokens)
        return Computed(await self.compute(request, VectorRunner(model, output), works), tokens)

    def note(self, request: Request, model: ServedModel, tokens: list[int]) -> None:
        """Count the items of a request."""
        request.notes.items += len(tokens)
        request.notes.tokens += sum(tokens)
        self.metrics.lengths(model.short_name, tokens)

    async def finish(self, rows: Sequence[np.ndarray], *, truncate_dim: int | None, normalize: bool) -> np.ndarray:
        """(n, dim) f32: stacked, cut, brought to length, as `encode` does it."""

        def work() -> np.ndarray:
            vectors = np.stack(rows)[:, :truncate_dim] if len(rows) else np.zeros((0, truncate_dim or 0), np.float32)
            return unit_length(vectors) if normalize else np.ascontiguousarray(vectors)

        return await self.in_pool(work, is_large=sum(row.size for row in rows) > INLINE_VALUES)

    def _may_run_here(self, request: Request, runner: Runner, tokens: int) -> bool:
        """Whether the loop may compute it: nobody else is here whom that keeps waiting, and it takes no longer than
        HERE_SECONDS, as far as the model's request before it tells."""
        if not request.is_alone or request.notes.device != "cpu" or not isinstance(runner, HERE_RUNNERS):
            return False
        return tokens <= HERE_SECONDS * runner.model.recent_rate

    def _submit(self, request: Request, runner: Runner, works: Sequence[Work], *, here: bool) -> Job:
        seconds = self.settings.timeout
        of_client = request.number("x-request-timeout-ms")
        if of_client is not None:
            seconds = min(seconds, of_client / 1000)
        of_sdk = request.number("x-stainless-read-timeout")
        if of_sdk:
            seconds = min(seconds, of_sdk)
        lane: LaneName | None = "bulk" if request.headers.get("x-priority", "").lower() == "bulk" else None
        try:
            job = self.scheduler.submit(runner, works, deadline=request.started + seconds, lane=lane, here=here)
        except SchedulerError as error:
            raise self._translated(error) from error
        if not job.future.done():
            self.set_gauges()
        return job

    def _translated(self, error: SchedulerError) -> RequestError:
        kind, status = FAULTS.get(type(error), ("inference", None))
        if kind == "inference":
            log.error("a batch failed: %s", error, exc_info=error.__cause__)
        retry_after = error.retry_after if isinstance(error, QueueFullError) else None
        if kind == "unhealthy":
            retry_after = 1.0
        answer = RequestError(kind, str(error), status=status, retry_after=retry_after)
        if kind == "overloaded":
            scheduler, limits = self.scheduler, self.limits
            tokens = max(0, limits.queue_tokens - scheduler.queued_tokens)
            answer.headers.append(("x-ratelimit-remaining-tokens", str(tokens)))
            requests = max(0, limits.queue_jobs - scheduler.num_jobs)
            answer.headers.append(("x-ratelimit-remaining-requests", str(requests)))
        return answer

    def set_gauges(self) -> None:
        """Bring the metrics of the queue up to now."""
        scheduler, metrics = self.scheduler, self.metrics
        metrics.queue_size.set(scheduler.queued_items)
        metrics.queue_tokens.set(scheduler.queued_tokens)
        metrics.jobs.set(scheduler.num_jobs)
        if self.cache is not None:
            metrics.cache_hits.set(self.cache.hits)

    async def _load(self, model: ServedModel) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._loader, model.load)
        except Exception as error:
            if self.state != "starting":  # the command says it at the start
                log.error("%s cannot be loaded: %s", model.name, error)
            message = f"{model.name} cannot be loaded: {error}"
            raise RequestError("unhealthy", message, field="model", retry_after=10.0) from error

    def _widen(self, model: ServedModel) -> None:
        """Let batches be what the model's engine runs well with, unless a size was asked for."""
        if self.settings.batch_tokens is None:
            self.scheduler.widen(model.encoder.batch_tokens)

    async def _load_all(self) -> None:
        try:
            for model in self.models.all:
                if self.settings.lazy and not model.is_loaded:
                    continue
                started = time.monotonic()
                await self._load(model)
                self._widen(model)
                if self.settings.warm_up:
                    await self._warm_up(model)
                log.info("%s is ready after %.1f s", model.name, time.monotonic() - started)
        except RequestError as error:
            self.failure = error.message
        except Exception as error:
            log.exception("the first pass failed")
            self.failure = f"the first pass failed: {error}"
        if self.failure:
            self.state, self.why = "failed", self.failure
            self.when_failed()
        elif self.state == "starting":
            self.state, self.why = "ready", ""

    async def _warm_up(self, model: ServedModel) -> None:
        """A real pass over texts from short to long, and over an image where the model reads them."""
        for runner, works in warm_up_work(model, WARM_UP_TEXTS):
            await asyncio.wrap_future(self.scheduler.submit(runner, works).future)
        model.is_warm = True

    async def _unload_idle(self) -> None:
        seconds = self.settings.idle_unload
        while True:
            await asyncio.sleep(min(1.0, seconds / 4))
            for model in self.models.all:
                if model.unload_if_idle(seconds):
                    if self.cache is not None:
                        self.scheduler.forget()
                    log.info("%s was idle for %g s, and is let go", model.name, seconds)


def warm_up_work(model: ServedModel, texts: Sequence[str]) -> list[tuple[Runner, list[Work]]]:
    """Jobs that run every stage of a model."""
    images = [Work(WARM_UP_IMAGE, 1)] if "image" in model.encoder.modalities else []
    if model.kind == "multi-vector":
        works = [Work(text, len(text) // 4) for text in texts]
        return [(TokenRunner(model, "document", None, None), works + images)]
    if model.kind == "sparse":
        ids = [text.ids for text in model.sparse_encoder.tokenize(texts)]
        return [(SparseRunner(model), [Work(TextPayload(row, None, None), len(row)) for row in ids])]
    if model.kind == "reranker":
        lists = [("word", (text,) if model.reranker.is_listwise else text) for text in texts]
        return [(PairRunner(model, None), [Work(each, 64) for each in lists])]
    encoder = model.text_encoder
    plain = meaning(encoder, None)
    prepared = prepare(encoder, texts, [plain] * len(texts), max_length=encoder.max_length)
    jobs: list[tuple[Runner, list[Work]]] = [(VectorRunner(model), [Work(text, len(text.ids)) for text in prepared])]
    return [*jobs, (MediaRunner(model, plain.task, plain.prompt), images)] if images else jobs
