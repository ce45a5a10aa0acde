"""Loads on a server: constant arrival, closed loop, overload, searches under a bulk job, hang-ups. All on one port."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from .client import Answer, Connection

PATH: Final = "/v1/embeddings"
MOST_STORIES: Final = 20  # of failures, that an outcome keeps
HANG_UPS_AT_ONCE: Final = 64
QUEUE_PATIENCE: Final = 30.0  # seconds for what is left in a queue to go


def body_of(texts: Sequence[str] | str, **options: object) -> bytes:
    """A request's body."""
    return json.dumps({"input": texts, "encoding_format": "base64", "truncate": True, **options}).encode()


def vectors_of(answer: Answer) -> np.ndarray:
    """(n, dim) f32 of an answer in base64."""
    rows = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in json.loads(answer.body)["data"]]
    return np.stack(rows)


@dataclass(slots=True)
class Outcome:
    """What became of a load."""

    statuses: Counter[int] = field(default_factory=Counter)  # 0: the connection ended
    seconds: list[float] = field(default_factory=list)  # of each request that was answered with 200
    tokens: int = 0
    wall: float = 0.0
    resent: int = 0  # requests that met an idle connection as it was closed, and were answered on another
    stories: list[str] = field(default_factory=list)  # of the first failures, each with what is known of it

    def note(self, answer: Answer, seconds: float) -> None:
        """Count an answer."""
        self.statuses[answer.status] += 1
        if answer.status == 200:
            self.seconds.append(seconds)
            self.tokens += int(answer.headers.get("x-compute-tokens", "0"))
        elif answer.status != 429:
            self._tell(f"status {answer.status} after {seconds:.2f} s: {answer.body[:200]!r}")

    def note_end(self, error: Exception, seconds: float, story: str) -> None:
        """Count a connection that ended before its answer was whole."""
        self.statuses[0] += 1
        self._tell(f"{type(error).__name__}: {error}, after {seconds:.2f} s; {story}")

    def _tell(self, story: str) -> None:
        if len(self.stories) < MOST_STORIES:
            self.stories.append(story)

    def quantile(self, share: float) -> float:
        """Of the answered requests' seconds; infinite where none was."""
        return float(np.quantile(self.seconds, share)) if self.seconds else float("inf")

    @property
    def failures(self) -> int:
        """Requests that were not answered with 200."""
        return sum(count for status, count in self.statuses.items() if status != 200)


async def timed(connection: Connection, body: bytes, outcome: Outcome) -> None:
    """One request."""
    started, before = time.perf_counter(), connection.resent
    try:
        answer = await connection.ask(PATH, body)
    except (OSError, asyncio.IncompleteReadError) as error:
        outcome.note_end(error, time.perf_counter() - started, connection.story)
        connection.close()
    else:
        outcome.note(answer, time.perf_counter() - started)
    outcome.resent += connection.resent - before


async def arrivals(port: int, bodies: Sequence[bytes], per_second: float, seconds: float) -> Outcome:
    """Open loop: a request every 1 / per_second s, whatever became of those before; connections are kept in a pool."""
    outcome, idle, tasks = Outcome(), list[Connection](), set[asyncio.Task[None]]()
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one(body: bytes) -> None:
        connection = idle.pop() if idle else Connection(port)
        await timed(connection, body, outcome)
        idle.append(connection)

    for number in range(int(per_second * seconds)):
        await asyncio.sleep(max(0.0, began + number / per_second - loop.time()))
        task = asyncio.create_task(one(bodies[number % len(bodies)]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    outcome.wall = loop.time() - began
    for connection in idle:
        connection.close()
    return outcome


async def closed_loop(port: int, bodies: Sequence[bytes], clients: int, seconds: float) -> Outcome:
    """Each of some clients asks again as soon as it is answered."""
    outcome = Outcome()
    began = time.perf_counter()

    async def client(number: int) -> None:
        connection, turn = Connection(port), number
        while time.perf_counter() - began < seconds:
            await timed(connection, bodies[turn % len(bodies)], outcome)
            turn += clients
        connection.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    outcome.wall = time.perf_counter() - began
    return outcome


async def until_it_ends(port: int, bodies: Sequence[bytes], clients: int) -> tuple[int, int]:
    """Closed loop on a connection a request, until the server listens no more.

    Returns: the requests that were answered, and those whose connection was accepted and closed without an answer. One
        that was refused or reset had not been accepted.
    """
    answered = lost = 0

    async def client(number: int) -> None:
        nonlocal answered, lost
        turn = number
        while True:
            connection = Connection(port)
            try:
                await connection.ask(PATH, bodies[turn % len(bodies)], "connection: close\r\n")
                answered += 1
            except asyncio.IncompleteReadError:
                lost += 1
            except OSError:
                return
            finally:
                connection.close()
            turn += clients

    await asyncio.gather(*(client(number) for number in range(clients)))
    return answered, lost


async def searches_under_bulk(
    port: int, queries: Sequence[bytes], bulk: Sequence[bytes], seconds: float
) -> tuple[Outcome, Outcome]:
    """One client's small requests, a tenth of a second apart, while two others send large ones without a pause."""
    searches = Outcome()

    async def search() -> None:
        connection, turn = Connection(port), 0
        end = time.perf_counter() + seconds
        await asyncio.sleep(0.5)
        while time.perf_counter() < end:
            await timed(connection, queries[turn % len(queries)], searches)
            turn += 1
            await asyncio.sleep(0.1)
        connection.close()

    heavy, _ = await asyncio.gather(closed_loop(port, bulk, 2, seconds), search())
    return searches, heavy


async def hang_ups(port: int, bodies: Sequence[bytes], count: int) -> None:
    """Clients that send a request and close the connection, without a look at the answer."""

    async def one(number: int) -> None:
        connection = Connection(port)
        await connection.send(PATH, bodies[number % len(bodies)])
        connection.close()

    for first in range(0, count, HANG_UPS_AT_ONCE):
        await asyncio.gather(*(one(number) for number in range(first, min(first + HANG_UPS_AT_ONCE, count))))


async def metric(port: int, name: str) -> float:
    """A value of /metrics, the sum over its labels; nan where there is none."""
    connection = Connection(port)
    text = (await connection.ask("/metrics")).body.decode()
    connection.close()
    values = [float(line.split()[-1]) for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(values) if values else float("nan")


async def left_in_queue(port: int, requests: int) -> float:
    """Tokens and requests that are there when the server has seen so many requests; what they are at the end of the
    time, if they do not go."""
    end = time.perf_counter() + QUEUE_PATIENCE
    while True:
        seen = await metric(port, "te_request_count")
        left = await metric(port, "longspan_queue_tokens") + await metric(port, "longspan_requests_in_flight")
        if (seen >= requests and left == 0) or time.perf_counter() > end:
            return left if seen >= requests else float("nan")
        await asyncio.sleep(0.05)
