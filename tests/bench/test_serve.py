"""The server's loads: each in miniature, on a small model and a server of its own."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="pip install 'longspan[serve]'")

from bench.case import Setting
from bench.serve.bench_serve import run
from bench.serve.client import Connection
from bench.serve.loads import (
    Outcome,
    arrivals,
    body_of,
    closed_loop,
    hang_ups,
    left_in_queue,
    metric,
    timed,
    until_it_ends,
    vectors_of,
)
from bench.serve.process import our_server
from longspan import Encoder


def test_loads(golden: Path) -> None:
    folder = str(golden / "bert-minilm")
    texts = [f"text {number} of some words" for number in range(8)]
    bodies = [body_of([text]) for text in texts]
    with our_server(folder, 1, "--max-queue-tokens", "4096") as server:
        open_loop = asyncio.run(arrivals(server.port, bodies, 100, 0.3))
        assert open_loop.failures == 0 and len(open_loop.seconds) == 30 and open_loop.quantile(0.99) < 5
        closed = asyncio.run(closed_loop(server.port, bodies, 2, 0.3))
        assert closed.failures == 0 and closed.tokens > 10 and server.resident_mb > 10
        seen = int(asyncio.run(metric(server.port, "te_request_count")))
        asyncio.run(hang_ups(server.port, bodies, 20))
        assert asyncio.run(left_in_queue(server.port, seen + 20)) == 0
        assert np.isnan(asyncio.run(metric(server.port, "no_such_metric")))

        async def ask() -> np.ndarray:
            connection = Connection(server.port)
            answer = await connection.ask("/v1/embeddings", body_of(texts))
            connection.close()
            assert json.loads(answer.body)["usage"]["total_tokens"] > 10
            return vectors_of(answer)

        assert np.array_equal(asyncio.run(ask()), Encoder(folder).encode(texts, normalize_embeddings=True))

        async def end() -> tuple[int, int]:
            load = asyncio.create_task(until_it_ends(server.port, bodies, 2))
            await asyncio.sleep(0.3)
            server.popen.terminate()
            return await load

        answered, lost = asyncio.run(end())
        assert answered > 0 and lost == 0 and server.popen.wait(20) == 0


def test_a_connection_that_the_server_closed_meanwhile(golden: Path) -> None:
    outcome = Outcome()

    async def idle(port: int) -> None:
        connection = Connection(port)
        for _ in range(3):
            await timed(connection, body_of("a text"), outcome)
        assert outcome.resent == 0
        await asyncio.sleep(0.6)
        await timed(connection, body_of("a text"), outcome)
        connection.close()

    with our_server(str(golden / "bert-minilm"), 1, "--keep-alive", "0.2") as server:
        asyncio.run(idle(server.port))
    assert outcome.statuses == {200: 4} and outcome.resent == 1 and outcome.failures == 0 and not outcome.stories


@pytest.mark.parametrize(
    "answers, resent, stories",
    [
        ([b""], 0, ["IncompleteReadError", "0 answers before", "no bytes"]),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"HTTP/1"], 0, ["1 answers before", "some bytes"]),
        ([b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy"], 0, ["status 503", "busy"]),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"", b""], 1, ["IncompleteReadError"]),
    ],
    ids=["fresh", "halfway", "status", "twice"],
)
def test_other_ends_are_failures(answers: list[bytes], resent: int, stories: list[str]) -> None:
    """A server that answers with these in turn, and closes the connection behind each that is not whole."""
    outcome, left = Outcome(), list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
            said = left.pop(0)
            writer.write(said)
            if b"\r\n\r\n" not in said:
                break
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        connection = Connection(server.sockets[0].getsockname()[1])
        while left:
            await timed(connection, body_of("a text"), outcome)
        connection.close()
        server.close()

    asyncio.run(run())
    assert outcome.failures == 1 and outcome.resent == resent
    [story] = outcome.stories
    assert all(part in story for part in stories), story


def test_the_bench_writes_figures(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(Setting(1, model=str(golden / "bert-minilm"), only="hang-ups"))
    [result] = report.results
    assert result.entries[0].value is not None and result.entries[0].value.median == 0
    assert "left in the queue after 300 hang-ups" in capsys.readouterr().out
