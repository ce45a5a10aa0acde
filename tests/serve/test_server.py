"""`longspan serve` as a process: start, sockets, TLS, workers, slow clients, and the end that loses nothing."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live_server import golden
from longspan.cli import main

MINILM = golden("bert-minilm")
BODY = json.dumps({"input": ["a text", "another"]}).encode()


class Process:
    """A server of its own, and where it listens."""

    def __init__(self, *words: str, env: dict[str, str] | None = None) -> None:
        line = [sys.executable, "-m", "longspan", "serve", *words]
        environment = {**os.environ, **(env or {})}
        self.popen = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
        self.lines: list[str] = []
        self.port = 0
        assert self.popen.stderr is not None
        for line_said in self.popen.stderr:
            self.lines.append(line_said)
            if found := re.search(r"serving .* at (?:https?://[^:]+:(\d+)|unix:)", line_said):
                self.port = int(found[1] or 0)
                break
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stderr is not None
        self.lines.extend(self.popen.stderr)

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            response.data = response.read()  # type: ignore[attr-defined]
            return response

    def wait_until_ready(self) -> None:
        for _ in range(400):
            with contextlib.suppress(OSError):
                if self.ask("GET", "/ready").status == 200:
                    return
            assert self.popen.poll() is None, self.lines
            time.sleep(0.05)
        raise AssertionError("not ready")

    def end(self, sig: signal.Signals = signal.SIGTERM) -> int:
        self.popen.send_signal(sig)
        code = self.popen.wait(40)
        self._reader.join(5)
        return code


@contextlib.contextmanager
def process(*words: str, env: dict[str, str] | None = None) -> Iterator[Process]:
    made = Process(*words, env=env)
    try:
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):  # workers too, which hold the other end of stderr
            os.killpg(made.popen.pid, signal.SIGKILL)
        made.popen.wait(10)
        assert made.popen.stderr is not None
        made._reader.join(5)
        made.popen.stderr.close()


def test_sigterm_under_load_loses_no_admitted_request() -> None:
    with process(MINILM, "--port", "0", "--no-log", "--batch-tokens", "64") as server:
        server.wait_until_ready()
        statuses: list[int | str] = []
        stop = threading.Event()

        def ask(number: int) -> None:
            turn = 0
            while not stop.is_set():
                body = json.dumps({"input": [f"text {number} {turn} {i} with some words" for i in range(40)]}).encode()
                turn += 1
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
                try:
                    connection.connect()
                except OSError:
                    return  # it does not listen any more: nothing was admitted
                try:
                    connection.request("POST", "/v1/embeddings", body)
                    response = connection.getresponse()
                    answer = json.loads(response.read())
                    statuses.append(response.status)
                    assert response.status == 503 or len(answer["data"]) == 40
                except ConnectionResetError:
                    return  # it had not been accepted
                except Exception as error:
                    statuses.append(f"{type(error).__name__}: {error}")
                    return
                finally:
                    connection.close()

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        code = server.end()
        stop.set()
        for thread in threads:
            thread.join(30)
        assert code == 0, server.lines
        answered = [status for status in statuses if status == 200]
        assert len(answered) >= 8 and set(statuses) <= {200, 503}


def test_readiness_goes_first_and_a_second_signal_ends_at_once() -> None:
    with process(MINILM, "--port", "0", "--no-log", "--drain-delay", "30") as server:
        server.wait_until_ready()
        server.popen.send_signal(signal.SIGTERM)
        for _ in range(100):
            if server.ask("GET", "/ready").status == 503:
                break
            time.sleep(0.02)
        assert server.ask("GET", "/ready").status == 503 and server.ask("GET", "/live").status == 200
        answer = server.ask("POST", "/v1/embeddings", BODY)
        assert answer.status == 200  # until the delay is over
        assert answer.getheader("connection") == "close"  # and the client's next request goes elsewhere
        started = time.monotonic()
        server.end()
        assert time.monotonic() - started < 10


def test_slow_heads_and_bodies_are_cut_off() -> None:
    with process(MINILM, "--port", "0", "--no-log", "--read-timeout", "0.5") as server:
        server.wait_until_ready()
        started = time.monotonic()
        for sent in (b"", b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nx-slow: "):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
                client.sendall(sent) if sent else None
                assert client.recv(1000) == b""  # closed by the server
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            client.sendall(b'POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"input": ')
            assert client.recv(10_000).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - started < 10
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        for _ in range(2):  # a connection that rests between requests stays
            connection.request("POST", "/v1/embeddings", BODY)
            assert connection.getresponse().read()
            time.sleep(0.8)
        connection.close()


def test_idle_connections_are_closed() -> None:
    with process(MINILM, "--port", "0", "--no-log", "--keep-alive", "0.6") as server:
        server.wait_until_ready()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.connect()
        first = connection.sock
        for pause in (0.2, 0.0):  # it outlives a pause that is shorter
            connection.request("POST", "/v1/embeddings", BODY)
            assert connection.getresponse().read()
            time.sleep(pause)
        idle = time.monotonic()
        assert connection.sock is first and first.recv(1) == b""  # closed by the server
        assert 0.4 < time.monotonic() - idle < 15
        connection.close()


def test_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with process(MINILM, "--uds", path, "--no-log", "--api-key-file", _keys(tmp_path)) as server:
        for number in range(200):
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            head = b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\nauthorization: Bearer two\r\n"
            client.sendall(head + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY)
            answer = b"".join(iter(lambda c=client: c.recv(1 << 16), b""))  # type: ignore[misc]
            client.close()
            if answer.startswith(b"HTTP/1.1 200"):
                break
            assert answer.startswith(b"HTTP/1.1 503") and number < 199
            time.sleep(0.05)
        assert server.end(signal.SIGINT) == 0


def _keys(folder: Path) -> str:
    (folder / "keys").write_text("# ours\none\n\ntwo\n")
    return str(folder / "keys")


def test_tls(tmp_path: Path) -> None:
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    try:
        subprocess.run([*line, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    words = (MINILM, "--port", "0", "--no-log", "--no-warm-up", "--tls-cert", certificate, "--tls-key", key)
    with process(*words) as server:
        context = ssl.create_default_context(cafile=certificate)
        context.check_hostname = False
        for _ in range(100):
            connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=30, context=context)
            with contextlib.closing(connection):
                connection.request("GET", "/ready")
                if connection.getresponse().status == 200:
                    break
            time.sleep(0.05)
        else:
            raise AssertionError("not ready")
        assert server.end() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="SO_REUSEPORT deals connections out on Linux")
def test_workers() -> None:
    with process(MINILM, "--port", "0", "--workers", "2", "--log-json", "--drain-timeout", "5") as server:
        server.wait_until_ready()
        _wait_for_all(server)
        answers = [server.ask("POST", "/v1/embeddings", BODY) for _ in range(30)]
        assert {answer.status for answer in answers} == {200} and len({answer.data for answer in answers}) == 1
        metrics = server.ask("GET", "/metrics").data.decode()
        assert 'te_request_count{method="batch",model="bert-minilm"} 30.0' in metrics  # of both
        assert "te_queue_size 0.0" in metrics
        children = _children(server.popen.pid)
        assert len(children) == 2
        os.kill(children[0], signal.SIGKILL)  # is started again
        for _ in range(200):
            now = _children(server.popen.pid)
            if len(now) == 2 and children[0] not in now:
                break
            time.sleep(0.05)
        _wait_for_all(server)
        assert {server.ask("POST", "/v1/embeddings", BODY).status for _ in range(20)} == {200}
        assert server.end() == 0, server.lines


def _wait_for_all(server: Process) -> None:
    """Until whichever worker a connection comes to is ready."""
    for _ in range(400):
        with contextlib.suppress(OSError):
            if {server.ask("GET", "/ready").status for _ in range(16)} == {200}:
                return
        time.sleep(0.05)
    raise AssertionError("not all are ready")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "no model to serve"),
        ([MINILM, "--alias", "x"], "--alias must be NAME=MODEL"),
        ([MINILM, "--alias", "x=y"], "none of the models"),
        ([MINILM, "--tls-cert", "x"], "belong together"),
        ([MINILM, MINILM, "--any-model"], "one model"),
        ([MINILM, MINILM], "two models are called"),
        ([MINILM, "--uds", "/tmp", "--workers", "2"], "one process"),
        ([MINILM, "--api-key-file", os.devnull], "holds no key"),
        ([MINILM, "--host", "203.0.113.1", "--port", "0"], "cannot listen at 203.0.113.1"),
        ([MINILM, "--uds", "/"], "cannot listen at /"),
    ],
    ids=str,
)
def test_bad_options(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *words]) == 1
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", MINILM, "--port", str(taken.getsockname()[1])]) == 1
    assert "cannot listen at 127.0.0.1" in capsys.readouterr().err


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", MINILM]) == 1
    assert "pip install 'longspan[serve]'" in capsys.readouterr().err


def test_a_model_that_cannot_be_loaded_ends_the_server(tmp_path: Path) -> None:
    with process(str(tmp_path), "--port", "0", "--no-log") as server:
        assert server.popen.wait(30) == 1
        server._reader.join(5)
        assert any("cannot be loaded" in line and line.startswith("longspan: error: ") for line in server.lines)
        assert not any("Traceback" in line for line in server.lines)


def test_an_open_door_is_said_aloud() -> None:
    with process(MINILM, "--port", "0", "--host", "0.0.0.0", "--lazy", "--no-log") as server:
        server.wait_until_ready()
        server.end()
        assert any("0.0.0.0 is reachable from other machines WITHOUT a key" in line for line in server.lines)
