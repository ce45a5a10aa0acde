"""The HTTP server beside `Encoder` itself: what a request adds, throughput, overload, fairness, hang-ups, the end.

    python -m bench.serve.bench_serve [--model FOLDER] [--full] [--cases REGEX] [--json FILE]

Generator and server share the machine's cores. Every figure has a limit, which is the server's promise; less is better
in all of them. `--full` runs each load longer and adds what the short form leaves out and `--cases` names alone: the
soak, of ten minutes or LONGSPAN_BENCH_SOAK seconds, with each failure told on stderr; and sentence-transformers behind
an ASGI app, if it is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from ..case import OURS, Setting
from ..command import new_report, run_command
from ..models.bench_startup import figure
from ..models.encoding import load_ours, model_folder
from ..models.texts import SEED, Lengths, draw_texts
from ..results import Entry, Report, Result
from ..table import result_text
from ..watch import Watch
from .client import Connection
from .loads import (
    Outcome,
    arrivals,
    body_of,
    closed_loop,
    hang_ups,
    left_in_queue,
    metric,
    searches_under_bulk,
    until_it_ends,
    vectors_of,
)
from .process import ServerProcess, our_server, running

if TYPE_CHECKING:
    from longspan import Encoder

BUDGET: Final = 28  # seconds of the short form, about
PEER: Final = "sentence-transformers"
MAX_ADDED: Final = 1e-3  # seconds that a query may take beside `encode`, p50
MIN_BASE64, MIN_FLOAT = 0.85, 0.70  # of the encoder's tokens/s
MAX_BATCHES: Final = 3.0  # that a search may take under a bulk job, p99
MAX_GROWTH: Final = 1.05  # of the memory from the first fifth of a soak to its last
PASSAGES: Final = Lengths(384, 90, 200, None)
TEXTS: Final = 32  # a request of the closed loop
WITHIN: Final = 0.25  # seconds, the p99 at which servers are compared
QUEUE_TOKENS: Final = 16_384  # of the overloaded server: its queue bounds what is admitted


Figures: TypeAlias = "Sequence[tuple[str, tuple[Entry, ...]]]"  # what each is, and who reached what


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements share."""

    setting: Setting
    model: str
    encoder: Encoder
    texts: list[str]

    def seconds(self, short: float, full: float) -> float:
        """How long a load runs."""
        return short if self.setting.is_short else full

    @property
    def passages(self) -> list[bytes]:
        """Bodies of TEXTS texts each, in base64."""
        return [body_of(self.texts[start : start + TEXTS]) for start in range(0, len(self.texts) - TEXTS + 1, TEXTS)]

    def different(self, count: int, texts: int) -> list[bytes]:
        """Bodies of so many texts each, no text of one in another: equal texts in flight would be computed once, and
        load nobody."""
        starts = [number * texts % (len(self.texts) - texts + 1) for number in range(count)]
        return [
            body_of([f"{number} {text}" for text in self.texts[start : start + texts]])
            for number, start in enumerate(starts)
        ]


def added_latency(bench: Bench, server: ServerProcess) -> Figures:
    """Of one short query, asked again and again: the server's p50 less that of `encode`, in turns."""
    query = "which birds swim in cold water"
    body, rounds = body_of(query), 3 if bench.setting.is_short else 15
    served, alone = list[float](), list[float]()

    async def ask(port: int) -> float:
        outcome, connection = Outcome(), Connection(port)
        for _ in range(100):
            started = time.perf_counter()
            answer = await connection.ask("/v1/embeddings", body)
            outcome.note(answer, time.perf_counter() - started)
        connection.close()
        return outcome.quantile(0.5)

    def encode() -> float:
        took = []
        for _ in range(100):
            started = time.perf_counter()
            bench.encoder.encode([query], normalize_embeddings=True, on_truncate="ignore")
            took.append(time.perf_counter() - started)
        return float(np.median(took))

    for _ in range(rounds):
        alone.append(encode())
        served.append(asyncio.run(ask(server.port)))
    added = [each - own for each, own in zip(served, alone, strict=True)]
    whole = (figure(OURS, served, "s"), figure("Encoder.encode", alone, "s"))
    return [("a query, p50", whole), ("what the server adds", (figure(OURS, added, "s", MAX_ADDED),))]


def throughput(bench: Bench, server: ServerProcess) -> Figures:
    """Closed loop of four clients with 32 passages a request: how many times as long as `encode` a token takes."""
    rounds, seconds = 3 if bench.setting.is_short else 7, bench.seconds(1.5, 10)
    texts = bench.texts[:96]
    floats = [body.replace(b'"base64"', b'"float"') for body in bench.passages]
    tokens = sum(len(text.ids) for text in bench.encoder.tokenize(texts))
    ratios: dict[str, list[float]] = {"base64": [], "float": []}
    work: dict[str, list[float]] = {"base64": [], "float": []}  # the same in processor time, whoever else computes
    for _ in range(rounds):
        started, busy = time.perf_counter(), time.process_time()
        bench.encoder.encode(texts, normalize_embeddings=True, on_truncate="ignore")
        own, own_busy = time.perf_counter() - started, time.process_time() - busy
        for name, bodies in (("base64", bench.passages), ("float", floats)):
            busy = time.process_time() + server.processor_seconds
            outcome = asyncio.run(closed_loop(server.port, bodies, 4, seconds))
            share = tokens / max(1, outcome.tokens)
            ratios[name].append(outcome.wall / own * share)
            work[name].append((time.process_time() + server.processor_seconds - busy) / own_busy * share)
    limits = {"base64": 1 / MIN_BASE64, "float": 1 / MIN_FLOAT}
    walls = [
        (f"time of a token in {name}, of encode's", (figure(OURS, values, "x", limits[name]),))
        for name, values in ratios.items()
    ]
    works = [
        (f"processor time of a token in {name}, the client's with it", (figure(OURS, values, "x", limits[name]),))
        for name, values in work.items()
    ]
    return [*walls, *works]


def constant_arrival(bench: Bench, server: ServerProcess) -> Figures:
    """Fifty requests a second of one text of 400 words: failures, and the p99."""
    body = body_of(" ".join(" ".join(bench.texts).split()[:400]))
    outcome = asyncio.run(arrivals(server.port, [body], 50, bench.seconds(3, 30)))
    _tell(outcome, server)
    failed = figure(OURS, [float(outcome.failures)], "failures", 0.0)
    return [("50 a second of 400 words", (failed,)), ("their p99", (figure(OURS, [outcome.quantile(0.99)], "s"),))]


def overload(bench: Bench, server: ServerProcess) -> Figures:
    """Twice what the server can do, or more if others left it the machine meanwhile, until some are refused: p99 of
    what is admitted, against the time of a full queue; and other failures."""
    bodies = bench.different(200, 8)
    calm = asyncio.run(closed_loop(server.port, bodies[:100], 4, bench.seconds(1.5, 10)))
    rate = len(calm.seconds) / calm.wall
    bound = (QUEUE_TOKENS + 4 * 2048) / (calm.tokens / calm.wall)
    for times in (2, 4, 8):
        outcome = asyncio.run(arrivals(server.port, bodies[100:], times * rate, bench.seconds(4, 30)))
        _tell(outcome, server)
        if outcome.statuses[429]:
            break
    refused, other = outcome.statuses[429], outcome.failures - outcome.statuses[429]
    note = f"{refused} of {sum(outcome.statuses.values())} refused"
    p99 = figure(OURS, [outcome.quantile(0.99)], "s", 1.5 * bound)
    failed = figure(OURS, [float(other)], "failures", 0.0)
    return [(f"{times} times the load, p99 of the admitted ({note})", (p99,)), ("failures but 429", (failed,))]


def fairness(bench: Bench, server: ServerProcess) -> Figures:
    """Searches while two clients send 192 passages a request: their p99 in batches of the bulk job."""
    bulk = [body_of(bench.texts[:192]), body_of(bench.texts[192:])]  # one a client: equal texts would be computed once
    queries = [body_of(f"which birds swim in water number {number}") for number in range(64)]
    searches, heavy = asyncio.run(searches_under_bulk(server.port, queries, bulk, bench.seconds(4, 30)))
    batch = 2048 / (heavy.tokens / heavy.wall)
    ratio = searches.quantile(0.99) / batch
    return [("searches under bulk, p99 in batches", (figure(OURS, [ratio], "x", MAX_BATCHES),))]


def gone_clients(bench: Bench, server: ServerProcess) -> Figures:
    """Clients that hang up: what is left in the queue afterwards."""
    count = int(bench.seconds(300, 10_000))
    bodies = [body_of(f"{number} which birds swim in cold water") for number in range(997)]

    async def run(port: int) -> float:
        before = await metric(port, "te_request_count")
        await hang_ups(port, bodies, count)
        return await left_in_queue(port, count + int(np.nan_to_num(before)))

    left = asyncio.run(run(server.port))
    return [(f"left in the queue after {count} hang-ups", (figure(OURS, [left], "tokens", 0.0),))]


def sameness(bench: Bench, server: ServerProcess) -> Figures:
    """Vectors under load: how many differ from `encode` in any bit."""
    texts = bench.texts[:64]
    truth = np.asarray(bench.encoder.encode(texts, normalize_embeddings=True, on_truncate="ignore"))

    async def run(port: int) -> int:
        load = asyncio.create_task(closed_loop(port, bench.passages, 3, bench.seconds(1.5, 20)))
        connection, wrong, turn = Connection(port), 0, 0
        while not load.done():
            part = slice(turn % 48, turn % 48 + 1 + turn % 16)
            found = vectors_of(await connection.ask("/v1/embeddings", body_of(texts[part])))
            wrong += int((found != truth[part]).any(axis=1).sum())
            turn += 1
        connection.close()
        return wrong

    wrong = asyncio.run(run(server.port))
    return [("vectors under load that encode gives otherwise", (figure(OURS, [float(wrong)], "vectors", 0.0),))]


def the_end(bench: Bench, server: ServerProcess) -> Figures:
    """SIGTERM under load: requests that were sent whole and not answered, and the exit code."""

    async def run(server: ServerProcess) -> tuple[int, int]:
        load = asyncio.create_task(until_it_ends(server.port, bench.passages, 8))
        await asyncio.sleep(1.0)
        server.popen.send_signal(signal.SIGTERM)
        return await load

    answered, lost = asyncio.run(run(server))
    code = server.popen.wait(60)
    return [
        (f"requests lost at SIGTERM, of {answered}", (figure(OURS, [float(lost)], "requests", 0.0),)),
        ("exit code", (figure(OURS, [float(abs(code))], "", 0.0),)),
    ]


def soak(bench: Bench, server: ServerProcess) -> Figures:
    """Minutes of mixed load: the memory of the last fifth beside the first's, start left aside."""
    seconds = float(os.environ.get("LONGSPAN_BENCH_SOAK", "600"))
    mixed = [*bench.passages, *(body_of(f"query {number}") for number in range(50))]
    seen: list[float] = []

    async def run(server: ServerProcess) -> Outcome:
        load = asyncio.create_task(closed_loop(server.port, mixed, 4, seconds))
        while not load.done():
            await asyncio.sleep(seconds / 200)
            seen.append(server.resident_mb)
        return await load

    outcome = asyncio.run(run(server))
    _tell(outcome, server)
    fifth = len(seen) // 5
    growth = float(np.median(seen[-fifth:]) / np.median(seen[fifth // 2 : fifth + fifth // 2]))
    return [
        (f"memory after {seconds:.0f} s, of the beginning's", (figure(OURS, [growth], "x", MAX_GROWTH),)),
        ("failures meanwhile", (figure(OURS, [float(outcome.failures)], "failures", 0.0),)),
        ("requests that met a closed connection, sent again", (figure(OURS, [float(outcome.resent)], "requests"),)),
        ("memory at the end", (figure(OURS, [seen[-1]], "MB"),)),
    ]


def _tell(outcome: Outcome, server: ServerProcess) -> None:
    """Say on stderr what is known of the failures, 429 apart, and what the server said last."""
    for story in outcome.stories:
        print(f"serve: a request failed: {story}", file=sys.stderr, flush=True)
    if outcome.stories and server.lines:
        print("serve: the server said last: " + "".join(server.lines[-5:]).rstrip(), file=sys.stderr, flush=True)


def beside_peer(bench: Bench) -> Figures:
    """One text a request, passages and queries: the load of arrivals that each server answers within the same p99, in
    turns."""
    if importlib.util.find_spec("sentence_transformers") is None:
        return []
    queries = [f"which birds swim in water number {number}" for number in range(64)]
    loads = {"a passage": bench.texts[:64], "a query": queries}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ours = [sys.executable, "-m", "longspan", "serve", bench.model, "--port", "0", "--no-log"]
    theirs = [sys.executable, "-m", f"{__package__}.peer", bench.model, str(port)]
    starts: dict[str, Callable[[], ServerProcess]] = {
        OURS: lambda: ServerProcess(ours),
        PEER: lambda: ServerProcess(theirs, port),
    }
    answers: dict[str, list[Entry]] = {what: [] for what in loads}
    rounds = 1 if bench.setting.is_short else 3
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(running(start())) for name, start in starts.items()}
        for what, texts in loads.items():
            bodies = [body_of(text) for text in texts]
            took: dict[str, list[float]] = {name: [] for name in servers}
            for _ in range(rounds):  # in turns, each while the other rests
                for name, server in servers.items():
                    took[name].append(1 / _most_within(server.port, bodies, WITHIN, bench.seconds(2, 4)))
            answers[what] = [figure(name, seconds, "s") for name, seconds in took.items()]
    label = f"at the highest load whose p99 is {1000 * WITHIN:.0f} ms"
    return [(f"{what} a request {label}", tuple(entries)) for what, entries in answers.items()]


def _most_within(port: int, bodies: list[bytes], within: float, seconds: float) -> float:
    """The highest load, in requests a second, that is answered within the p99: sought in halves between what a closed
    loop of eight clients reaches and a tenth of it, to seven in a hundred. A load that fails is tried once more, as
    anything may have held the machine up for a moment."""

    def is_answered(rate: float) -> bool:
        outcome = asyncio.run(arrivals(port, bodies, rate, seconds))
        return not outcome.failures and outcome.quantile(0.99) <= within

    closed = asyncio.run(closed_loop(port, bodies, 8, seconds))
    high = max(1, len(closed.seconds)) / closed.wall
    low = high / 10
    for _ in range(5):
        middle = float(np.sqrt(low * high))
        if is_answered(middle) or is_answered(middle):
            low = middle
        else:
            high = middle
    return low


Part: TypeAlias = Callable[[Bench, ServerProcess], Figures]
# Each group on one server, with these options of its own.
GROUPS: Final[tuple[tuple[tuple[str, ...], dict[str, Part]], ...]] = (
    (
        (),
        {
            "latency": added_latency,
            "throughput": throughput,
            "arrival": constant_arrival,
            "fairness": fairness,
            "hang-ups": gone_clients,
            "sameness": sameness,
            "soak": soak,
            "end": the_end,
        },
    ),
    (("--max-queue-tokens", str(QUEUE_TOKENS)), {"overload": overload}),
)
LONG: Final = ("soak", "peer")  # parts that the short form leaves out, unless --cases names them


def run(setting: Setting) -> Report:
    """The parts in turn. Raises: OSError, a server fails."""
    watch = Watch.now()
    model = str(model_folder(setting.model))
    encoder = load_ours(setting.model, "float32", setting.threads)
    bench = Bench(setting, model, encoder, draw_texts(PASSAGES, [SEED]))
    results: list[Result] = []

    def wants(name: str) -> bool:
        return bool(re.search(setting.only, name)) if setting.only else name not in LONG or not setting.is_short

    def note(found: Figures) -> None:
        for what, entries in found:
            results.append(Result("serve", {"figure": what}, entries))
            print(result_text(results[-1]), flush=True)

    for options, parts in GROUPS:
        wanted = [part for name, part in parts.items() if wants(name)]
        if wanted:
            with our_server(model, setting.threads, *options) as server:
                for part in wanted:
                    note(part(bench, server))
    if wants("peer") and (setting.peers is None or PEER in setting.peers):
        note(beside_peer(bench))
    return new_report(tuple(results), setting, watch)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that no server outlives a run that is stopped
    sys.exit(run_command("bench.serve.bench_serve", __doc__, run))
