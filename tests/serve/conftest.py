"""One server for the folder's tests, with a model of each kind."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Literal

import pytest

pytest.importorskip("uvicorn", reason="pip install 'longspan[serve]'")
pytest.importorskip("orjson", reason="pip install 'longspan[serve]'")

from live_server import Live, golden, serving
from longspan.serve import ModelSettings, Settings, create_app

MODELS = {
    "minilm": "bert-minilm",
    "v3": "jina-v3",
    "v5": "jina-v5-text-nano",
    "code": "jina-code",
    "v2": "jina-v2-en",
    "colbert": "jina-colbert-v2",
    "cross": "rerank-bert",
    "listwise": "rerank-jina-v3",
    "judge": "rerank-qwen3",
    "clip": "jina-clip-v2",
    "omni": "jina-v5-omni-nano",
    "splade": "splade-bert",
    "doc": "splade-doc",
}


def _kind(name: str) -> Literal["auto", "reranker"]:
    return "reranker" if name == "judge" else "auto"  # its files look like any decoder's


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """As they were: `longspan serve` sets its loggers up for a process that is its own."""
    kept = [logging.getLogger(name) for name in ("longspan.serve", "longspan.serve.access", "uvicorn")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in kept]
    yield
    for logger, (handlers, propagate, level) in zip(kept, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    models = [ModelSettings(golden(family), served_name=name, kind=_kind(name)) for name, family in MODELS.items()]
    aliases = {"v3-query": "v3:retrieval.query", "text-embedding-3-small": "minilm"}
    with serving(create_app(models, Settings(aliases=aliases, warm_up=False, log="none"))) as running:
        yield running
