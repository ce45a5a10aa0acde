"""The guide names every flag, metric, header, field and route, and no other; its curl lines are answered."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

import longspan.serve
from live_server import Live
from longspan.cli import serve as command
from longspan.serve.app import ROUTES

FOLDER = Path(longspan.serve.__file__).parent
GUIDE = (FOLDER / "README.md").read_text("utf-8")
STANDS_FOR = {
    "jina-embeddings-v3": "v3",
    "jina-colbert-v2": "colbert",
    "jina-reranker-v2": "cross",
    "all-MiniLM-L6-v2": "minilm",
}
CURLS = re.findall(r"^curl localhost:8080(/\S+) +-d '(.*)'$", GUIDE, re.MULTILINE)


def test_flags() -> None:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    flags = {flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")} - {"--help"}
    table = GUIDE.partition("## Flags")[2].partition("##")[0]
    assert set(re.findall(r"`(--[a-z-]+)", table)) >= flags
    assert set(re.findall(r"(--[a-z][a-z-]+)", table)) <= flags


def test_metrics(live: Live) -> None:
    text = live.get("/metrics").body.decode()
    names = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    names = {name for name in names if not name.endswith("_created")}
    told = set(re.findall(r"`((?:te|longspan)_\w+)", GUIDE.partition("`/metrics` is")[2]))
    assert told == names


def test_headers() -> None:
    sources = "".join(path.read_text("utf-8") for path in FOLDER.rglob("*.py"))
    answered = set(re.findall(r'\("(x-[a-z-]+|retry-after(?:-ms)?)"', sources))
    answered |= {f"x-{name}" for name in ("total-time", "compute-time")}
    for name in answered:
        assert f"`{name}" in GUIDE.lower() or f"`{name.title()}" in GUIDE, name


def test_routes() -> None:
    table = GUIDE.partition("## Clients")[2].partition("```")[0]
    told = set(re.findall(r"(/[a-z0-9/_-]*)", " ".join(re.findall(r"`[^`]*`", table.replace("http://", "")))))
    unsaid = {"/predict", "/embed_sparse", "/invocations", "/ping", "/live", "/ready", "/metrics", "/"}
    short = {"/embeddings", "/multi-vector", "/models"}
    assert {route.path for route in ROUTES} - told <= unsaid | short


@pytest.mark.parametrize("path, body", CURLS, ids=[path for path, _ in CURLS])
def test_curl_lines(live: Live, path: str, body: str) -> None:
    for name, ours in STANDS_FOR.items():
        body = body.replace(f'"{name}"', f'"{ours}"')
    if '"model"' not in body:
        body = body.replace("{", '{"model": "minilm", ', 1)
    body = body.replace('"dimensions": 256', '"dimensions": 16')
    answer = live.post(path, body.encode())
    assert answer.status == 200, answer.body


def test_there_are_curl_lines() -> None:
    assert len(CURLS) >= 7 and all(shlex.split(body) for _, body in CURLS)
