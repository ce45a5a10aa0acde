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
from bench.serve.loads import arrivals, body_of, closed_loop, hang_ups, left_in_queue, metric, until_it_ends, vectors_of
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
            from bench.serve.client import Connection

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


def test_the_bench_writes_figures(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(Setting(1, model=str(golden / "bert-minilm"), only="hang-ups"))
    [result] = report.results
    assert result.entries[0].value is not None and result.entries[0].value.median == 0
    assert "left in the queue after 300 hang-ups" in capsys.readouterr().out
