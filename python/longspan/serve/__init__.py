"""The HTTP server: `longspan serve`, and `create_app` for those who bring their own ASGI server.

settings   what the server is told            app        routes, and what every request meets
models     names, loading, what a text costs  dialects/  one file a dialect: parse, check, answer
scheduler  jobs to batches; knows no HTTP     encodings  vectors to JSON, base64, bytes
server     uvicorn, workers, signals          metrics, log
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longspan.serve.app import create_app
    from longspan.serve.settings import ModelSettings, Settings

__all__ = ["ModelSettings", "Settings", "create_app"]


def __getattr__(name: str) -> object:
    if name == "create_app":
        from longspan.serve.app import create_app

        return create_app
    if name in ("ModelSettings", "Settings"):
        from longspan.serve import settings

        return getattr(settings, name)
    raise AttributeError(f"module 'longspan.serve' has no attribute {name!r}")
