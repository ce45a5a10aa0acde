"""Ray Serve: replicas of the server on a local Ray; one is killed under load, and others are started as tokens wait."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray.serve", reason="needs longspan[ray-serve]")

from longspan import Encoder
from longspan.integrations.ray_serve import QUEUED_TOKENS, LongspanServer, application, replicas_for
from longspan.serve import Settings

PORT = 18_700 + os.getpid() % 200
TEXTS = [f"text number {i} " + "with more words " * (i % 7) for i in range(24)]


@pytest.fixture(scope="module")
def folder(golden: Path) -> str:
    return str(golden / "bert-minilm")


@pytest.fixture(scope="module")
def serve() -> Iterator[Any]:
    """A local Ray with a proxy; its CPUs are numbers."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    import ray
    from ray import serve

    path = os.pathsep.join(os.path.abspath(one) for one in sys.path if one)
    ray.init(
        num_cpus=6,
        include_dashboard=False,
        object_store_memory=100_000_000,
        logging_level="ERROR",
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    yield serve
    serve.shutdown()
    ray.shutdown()


def ask(path: str, body: Any = None, timeout: float = 30) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=timeout)
    try:
        connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.filterwarnings("default")
def test_two_replicas_of_which_one_is_killed_under_load(serve: Any, folder: str) -> None:
    app = application(folder, Settings(log="none"), min_replicas=2, max_replicas=2, ray_actor_options={"num_cpus": 1})
    handle = serve.run(app, name="pair", route_prefix="/")
    truth = np.asarray(Encoder(folder).encode(TEXTS, normalize_embeddings=True))
    status, body = ask("/v1/embeddings", {"input": TEXTS})
    found = np.array([item["embedding"] for item in json.loads(body)["data"]], np.float32)
    assert status == 200 and np.array_equal(found, truth)
    assert ask("/health")[0] == 200 and ask("/embed", {"inputs": []})[0] == 400
    assert np.array_equal(handle.embed.remote(TEXTS).result(), truth)

    statuses: Counter[int] = Counter()
    wrong: list[int] = []
    stop = threading.Event()

    def client(number: int) -> None:
        while not stop.is_set():
            try:
                status, body = ask("/v1/embeddings", {"input": TEXTS[number : number + 4]})
            except OSError:
                status, body = 0, b""
            statuses[status] += 1
            if status == 200:
                rows = np.array([item["embedding"] for item in json.loads(body)["data"]], np.float32)
                if not np.array_equal(rows, truth[number : number + 4]):
                    wrong.append(number)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    replicas = replica_processes()
    assert len(replicas) == 2
    os.kill(replicas[0], signal.SIGKILL)
    time.sleep(5)
    before = statuses[200]
    time.sleep(3)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert not wrong and statuses[200] > before > 0  # the other one went on
    assert sum(count for status, count in statuses.items() if status != 200) <= 40  # what the dead one held
    for _ in range(120):  # Ray starts it again
        now = replica_processes()
        if len(now) == 2 and replicas[0] not in now:
            break
        time.sleep(0.5)
    assert len(now) == 2 and replicas[0] not in now
    serve.delete("pair")


def replica_processes() -> list[int]:
    """Ray names its workers' processes."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(b"ray::ServeReplica:pair:longspan"):
            found.append(int(folder.name))
    return sorted(found)


def test_a_replica_reports_what_waits(folder: str) -> None:
    server = LongspanServer(folder, Settings(log="none"))
    assert server.record_autoscaling_stats() == {QUEUED_TOKENS: 0.0}
    server.check_health()
    server.app.service.scheduler.close()
    with pytest.raises(RuntimeError, match="has died"):
        server.check_health()


def test_replicas_for_tokens() -> None:
    assert [replicas_for(tokens, 1000, 1) for tokens in (0, 1, 1000, 1001, 9500)] == [1, 1, 1, 2, 10]
    assert replicas_for(500, 1000, 4) == 3 and replicas_for(0, 1000, 4) == 1


def test_bad_numbers(folder: str) -> None:
    with pytest.raises(ValueError, match="min_replicas must be from 1"):
        application(folder, min_replicas=3, max_replicas=2)


@pytest.mark.filterwarnings("default")
def test_replicas_follow_the_queue(serve: Any, folder: str) -> None:
    app = application(
        folder,
        Settings(log="none", batch_tokens=16),
        min_replicas=1,
        max_replicas=2,
        tokens_a_replica=50,
        ray_actor_options={"num_cpus": 1},
        name="scaled",
    )
    config = app._bound_deployment._deployment_config.autoscaling_config
    config.upscale_delay_s = config.metrics_interval_s = 1.0
    config.look_back_period_s = 2.0
    serve.run(app, name="scaled", route_prefix="/")
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            try:
                ask(
                    "/v1/embeddings", {"input": [f"{time.monotonic()} {text} " * 8 for text in TEXTS], "truncate": True}
                )
            except OSError:
                continue

    threads = [threading.Thread(target=client) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(90):
            states = serve.status().applications["scaled"].deployments["scaled"].replica_states
            if states.get("RUNNING", 0) == 2:
                break
            time.sleep(0.5)
        assert states.get("RUNNING", 0) == 2
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
        serve.delete("scaled")
