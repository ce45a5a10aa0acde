"""What the scheduler is given and gives back: items of work, jobs, and why a job has no results."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

LaneName = Literal["interactive", "bulk"]


class Runner(Hashable, Protocol):
    """What computes items: equal runners may compute each other's in one call."""

    def __call__(self, payloads: Sequence[Any]) -> Sequence[Any]:
        """One result a payload, or a SchedulerError in its place.

        Raises: MemoryError, or torch's, there are too many of them; anything else, one of them cannot be computed.
        """


class SchedulerError(Exception):
    """Why a job has no results."""


class QueueFullError(SchedulerError):
    """There is no room for the job now."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the queue is full; try again in {math.ceil(retry_after)} s")
        self.retry_after = retry_after  # seconds


class ClosedError(SchedulerError):
    """The scheduler takes no jobs any more."""


class DeadlineError(SchedulerError):
    """The job's deadline passed before all of it had begun."""


class TooLargeError(SchedulerError):
    """Memory does not suffice for one item alone."""


class DroppedError(SchedulerError):
    """The job was cancelled by its owner."""


class ComputeError(SchedulerError):
    """The runner failed; `__cause__` says how."""


@dataclass(frozen=True, slots=True)
class Work:
    """An item as a caller brings it."""

    payload: object
    tokens: int  # what it costs
    identity: Hashable | None = None  # equal runners and identities give equal results; None: never shared


@dataclass(slots=True, eq=False)
class Item:
    """One text, image or pair: what is computed once, for everybody who waits for it."""

    runner: Runner
    payload: object
    tokens: int
    identity: object  # equal runners and identities give equal results; None: never shared
    lane: LaneName
    waiters: list[tuple[Job, int]] = field(default_factory=list)  # and the place among the job's items
    is_running: bool = False
    number: int = 0  # rises with every item that is queued


class Job:
    """A caller's items. `future` gives their results in order, or the SchedulerError."""

    __slots__ = (
        "_drop",
        "deadline",
        "first_start",
        "future",
        "items",
        "lane",
        "last_end",
        "open",
        "results",
        "submitted",
        "tokens",
    )

    def __init__(
        self,
        size: int,
        tokens: int,
        lane: LaneName,
        deadline: float | None,
        drop: Callable[[Job, SchedulerError], None],
    ) -> None:
        self._drop = drop
        self.tokens = tokens
        self.lane: LaneName = lane
        self.deadline = deadline  # by time.monotonic
        self.items: list[Item] = []
        self.results: list[Any] = [None] * size
        self.open = size  # items without a result
        self.future: Future[list[Any]] = Future()
        self.submitted = time.monotonic()
        self.first_start = self.last_end = self.submitted

    @property
    def queue_seconds(self) -> float:
        """Until its first item began."""
        return self.first_start - self.submitted

    @property
    def compute_seconds(self) -> float:
        """From then to its last item's end, others' batches between them included."""
        return self.last_end - self.first_start

    def cancel(self) -> None:
        """Nobody waits for it any more: what has not begun is never computed."""
        self._drop(self, DroppedError("the client is gone"))


def fail(job: Job, error: SchedulerError) -> None:
    """End a job without results."""
    settle(job.future.set_exception, error)


def settle(how: Callable[[Any], None], value: object) -> None:
    """Once: whoever comes second is too late."""
    with contextlib.suppress(InvalidStateError):
        how(value)
