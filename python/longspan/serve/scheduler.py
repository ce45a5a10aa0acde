"""The scheduler: jobs of many callers in, batches to one computing thread, results back. It knows no HTTP and no model.

One batch runs at a time; of a lone small job in its caller's thread, if the caller asks for that.

A job is admitted whole or not at all. Its items wait in two lanes (`lanes`); whenever the computing thread is free it
takes what has gathered, without waiting for more. Items of different jobs share a batch if one `Runner` computes them;
equal items are computed once. A job that nobody waits for any more, or whose deadline has passed, leaves the queue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from longspan.serve.cache import ResultCache
from longspan.serve.jobs import (
    ClosedError,
    ComputeError,
    DeadlineError,
    Item,
    Job,
    LaneName,
    QueueFullError,
    Runner,
    SchedulerError,
    TooLargeError,
    Work,
    fail,
    settle,
)
from longspan.serve.lanes import Lanes

INTERACTIVE_TOKENS: Final = 1024  # of a request, up to which it takes the fast lane
FIRST_RATE: Final = 5000.0  # tokens/s that are assumed before any batch has run
OUT_OF_MEMORY_BUDGET: Final = 0.7  # what is left of the budget after a batch for which memory did not suffice


@dataclass(frozen=True, slots=True)
class Limits:
    """What the queue may hold, and how large batches are."""

    batch_tokens: int = 2048  # of a batch, unless one item alone has more
    queue_tokens: int = 131_072  # waiting, unless one job alone has more
    queue_jobs: int = 4096  # waiting or running
    max_wait: float = 0.0  # seconds that a batch which is not full waits for more


class Watcher(Protocol):
    """Told of every batch, from the computing thread."""

    def batch(self, runner: Runner, items: int, tokens: int, seconds: float) -> None:
        """A batch is done."""


class Scheduler:
    """One computing thread and what waits for it.

    Args:
        limits: of the queue and of batches.
        cache: results to keep, or None.
        watcher: told of every batch, or None.
    """

    def __init__(
        self, limits: Limits = Limits(), cache: ResultCache | None = None, watcher: Watcher | None = None
    ) -> None:
        self._limits = limits
        self._budget = limits.batch_tokens
        self._cache = cache
        self._watcher = watcher
        self._lanes = Lanes()
        self._flying: dict[tuple[Runner, object], Item] = {}  # queued or running, by what they compute
        self._jobs: set[Job] = set()
        self._queued_tokens = self._queued_items = 0
        self._rate = FIRST_RATE  # tokens/s, of recent batches
        self._busy_seconds = 0.0
        self._is_computing = False  # a batch was taken and is not handed out yet
        self._state: Literal["open", "draining", "closed"] = "open"
        lock = threading.RLock()
        self._changed = threading.Condition(lock)  # there may be something to compute
        self._idle = threading.Condition(lock)  # no job is left
        self._thread = threading.Thread(target=self._work, name="longspan-compute", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether what is submitted will be computed."""
        return self._thread.is_alive() and self._state == "open"

    @property
    def queued_tokens(self) -> int:
        """Of items that have not begun."""
        return self._queued_tokens

    @property
    def queued_items(self) -> int:
        """Items that have not begun."""
        return self._queued_items

    @property
    def num_jobs(self) -> int:
        """Jobs that wait or run."""
        return len(self._jobs)

    @property
    def busy_seconds(self) -> float:
        """For how long the computing thread has computed."""
        return self._busy_seconds

    @property
    def batch_tokens(self) -> int:
        """Of a batch, unless one item alone has more."""
        return self._budget

    def widen(self, batch_tokens: int) -> None:
        """Let batches have so many tokens, if they have less now."""
        with self._changed:
            self._budget = max(self._budget, batch_tokens)

    @property
    def rate(self) -> float:
        """Tokens a second, of recent batches."""
        return self._rate

    def submit(
        self,
        runner: Runner,
        works: Sequence[Work],
        *,
        deadline: float | None = None,
        lane: LaneName | None = None,
        here: bool = False,
    ) -> Job:
        """Queue a job.

        Args:
            runner: what computes its items.
            works: the items.
            deadline: of time.monotonic(); items that have not begun by then are never computed. None for none.
            lane: None takes it from the job's tokens.
            here: compute it in the caller's thread, if nothing else waits or is computed: a thread that is woken for
                it, and wakes the caller's, costs a lone small job more than a tenth of its time.
        Raises: QueueFullError or ClosedError; nothing is queued then.
        """
        tokens = sum(work.tokens for work in works)
        lane = lane or ("interactive" if tokens <= INTERACTIVE_TOKENS else "bulk")
        job = Job(len(works), tokens, lane, deadline, self.drop)
        with self._changed:
            self._admit(tokens)
            is_first = not self._jobs and not self._is_computing
            for place, work in enumerate(works):
                self._add(job, place, runner, work)
            is_done = not job.open  # to be asked here: without the lock the computing thread may be done with it
            batch: list[Item] = []
            if not is_done:
                self._jobs.add(job)
                in_time = deadline is None or deadline > job.submitted
                if here and is_first and in_time and not self._limits.max_wait:
                    batch = self._take_batch()
                else:
                    self._changed.notify()
        if is_done:
            job.future.set_result(job.results)
        try:
            self._run(batch)
        except BaseException:
            self._give_up(batch)
            raise
        return job

    def drop(self, job: Job, reason: SchedulerError) -> None:
        """End a job without results; of its items those that nobody else waits for leave the queue."""
        with self._changed:
            self._drop(job)
        fail(job, reason)

    def forget(self) -> None:
        """Drop the results that are kept."""
        with self._changed:
            if self._cache is not None:
                self._cache.clear()

    def drain(self, timeout: float) -> bool:
        """Take no more jobs, and wait until those that are here are done. Returns: whether all are."""
        with self._changed:
            self._state = "draining"
            return self._idle.wait_for(lambda: not self._jobs or not self._thread.is_alive(), timeout)

    def close(self) -> None:
        """End now: what has not begun fails with ClosedError."""
        with self._changed:
            self._state = "closed"
            left = list(self._jobs)
            for job in left:
                self._drop(job)
            self._changed.notify_all()
        for job in left:
            fail(job, ClosedError("the server was stopped"))

    def _admit(self, tokens: int) -> None:
        limits = self._limits
        if self._state != "open":
            raise ClosedError("the server is stopping")
        if not self._thread.is_alive():
            raise ClosedError("the computing thread has died; restart the server")
        is_full = self._queued_tokens and self._queued_tokens + tokens > limits.queue_tokens
        if is_full or len(self._jobs) >= limits.queue_jobs:
            raise QueueFullError(max(1.0, self._queued_tokens / self._rate))

    def _add(self, job: Job, place: int, runner: Runner, work: Work) -> None:
        key = (runner, work.identity)
        if work.identity is not None:
            if self._cache is not None and (found := self._cache.get(key)) is not None:
                job.results[place] = found
                job.open -= 1
                return
            flying = self._flying.get(key)
            # A small request does not wait behind a bulk job for what both want.
            if flying is not None and (flying.is_running or flying.lane in (job.lane, "interactive")):
                flying.waiters.append((job, place))
                job.items.append(flying)
                return
        item = Item(runner, work.payload, work.tokens, work.identity, job.lane, [(job, place)])
        if work.identity is not None:
            self._flying[key] = item
        job.items.append(item)
        self._lanes.push(item)
        self._queued_tokens += item.tokens
        self._queued_items += 1

    def _drop(self, job: Job) -> None:
        """Under the lock."""
        if job not in self._jobs:
            return
        self._jobs.discard(job)
        for item in {id(item): item for item in job.items}.values():
            before = len(item.waiters)
            item.waiters = [waiter for waiter in item.waiters if waiter[0] is not job]
            if before and not item.waiters and not item.is_running:
                self._left_queue(item)
                self._land(item)
        if not self._jobs:
            self._idle.notify_all()

    def _left_queue(self, item: Item) -> None:
        self._queued_tokens -= item.tokens
        self._queued_items -= 1

    def _land(self, item: Item) -> None:
        key = (item.runner, item.identity)
        if self._flying.get(key) is item:
            del self._flying[key]

    def _work(self) -> None:
        """The computing thread."""
        try:
            while (batch := self._next_batch()) is not None:
                self._run(batch)
        finally:
            with self._changed:
                left = list(self._jobs)
                self._jobs.clear()
                self._queued_tokens = self._queued_items = 0
                self._idle.notify_all()
            for job in left:
                fail(job, ClosedError("the computing thread has died; restart the server"))

    def _next_batch(self) -> list[Item] | None:
        """Wait for items and take them; None at the end."""
        with self._changed:
            while True:
                if self._state == "closed":
                    return None
                late = self._expired()
                batch = [] if self._is_computing or self._is_worth_waiting() else self._take_batch()
                if late:
                    break
                if batch:
                    return batch
                may_fill = self._queued_items and not self._is_computing
                self._changed.wait(self._limits.max_wait / 4 if may_fill else None)
        for job in late:  # outside of the lock: somebody is told
            fail(job, DeadlineError("the deadline passed while the request was waiting"))
        return batch if batch else []

    def _take_batch(self) -> list[Item]:
        """The next batch, which is running from now on; under the lock."""
        batch = self._lanes.next_batch(self._budget)
        now = time.monotonic()
        for item in batch:
            item.is_running = True
            self._left_queue(item)
            for job, _ in item.waiters:
                if job.first_start == job.submitted:
                    job.first_start = now
        self._is_computing = bool(batch)
        return batch

    def _expired(self) -> list[Job]:
        now = time.monotonic()
        late = [job for job in self._jobs if job.deadline is not None and job.deadline <= now and self._waits(job)]
        for job in late:
            self._drop(job)
        return late

    @staticmethod
    def _waits(job: Job) -> bool:
        return any(not item.is_running for item in job.items)

    def _is_worth_waiting(self) -> bool:
        """Whether a batch that is not full may wait for more."""
        if not self._limits.max_wait or not self._queued_items or self._queued_tokens >= self._budget:
            return False
        oldest = min((job.submitted for job in self._jobs if self._waits(job)), default=0.0)
        return self._state == "open" and time.monotonic() - oldest < self._limits.max_wait

    def _run(self, batch: list[Item]) -> None:
        if not batch:
            return
        started = time.monotonic()
        results = self._computed(batch)
        ended = time.monotonic()
        tokens, seconds = sum(item.tokens for item in batch), max(ended - started, 1e-6)
        self._busy_seconds += seconds
        self._rate += min(1.0, seconds) * (tokens / seconds - self._rate)  # of about the last second
        if self._watcher is not None:
            self._watcher.batch(batch[0].runner, len(batch), tokens, seconds)
        with self._changed:
            done, failed = self._hand_out(batch, results, ended)
            self._end_batch()
            if not self._jobs:
                self._idle.notify_all()
        for job in done:
            settle(job.future.set_result, job.results)
        for job, error in failed.items():
            fail(job, error)

    def _end_batch(self) -> None:
        """Let the next one run; under the lock."""
        self._is_computing = False
        if self._queued_items:  # the computing thread may be waiting for a batch that ran elsewhere
            self._changed.notify()

    def _give_up(self, batch: Sequence[Item]) -> None:
        """Whoever waits for a batch that was broken off is told."""
        with self._changed:
            jobs = {job for item in batch for job, _ in item.waiters}
            self._end_batch()
        for job in jobs:
            self.drop(job, ComputeError("computing was broken off"))

    def _hand_out(
        self, batch: Sequence[Item], results: Sequence[Any], ended: float
    ) -> tuple[list[Job], dict[Job, SchedulerError]]:
        """Give each job its results, under the lock. Returns: the jobs that are done, and those that failed."""
        done: list[Job] = []
        failed: dict[Job, SchedulerError] = {}
        for item, result in zip(batch, results, strict=True):
            self._land(item)
            if isinstance(result, SchedulerError):
                failed |= {job: result for job, _ in item.waiters}
                continue
            if self._cache is not None and item.identity is not None:
                self._cache.put((item.runner, item.identity), result)
            for job, place in item.waiters:
                job.results[place] = result
                job.open -= 1
                job.last_end = ended
                if not job.open:
                    self._jobs.discard(job)
                    job.items.clear()
                    done.append(job)
        for job in failed:
            self._drop(job)
        return done, failed

    def _computed(self, batch: Sequence[Item]) -> list[Any]:
        """For each item its result, or why there is none. A batch that fails is tried in halves: one bad item takes no
        other with it, and where memory did not suffice it may for half of it."""
        try:
            return list(batch[0].runner([item.payload for item in batch]))
        except Exception as error:
            if len(batch) == 1:
                return [_failure(batch[0], error)]
            if is_out_of_memory(error):
                with self._changed:
                    self._budget = max(1, int(OUT_OF_MEMORY_BUDGET * min(self._budget, sum(i.tokens for i in batch))))
        half = len(batch) // 2
        return [*self._computed(batch[:half]), *self._computed(batch[half:])]


def is_out_of_memory(error: Exception) -> bool:
    """Whether fewer items at once may help: Python's own error, or torch's, which is not imported here."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _failure(item: Item, error: Exception) -> SchedulerError:
    failure: SchedulerError
    if is_out_of_memory(error):
        failure = TooLargeError(f"memory does not suffice for {item.tokens} tokens at once")
    else:
        failure = ComputeError(f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
