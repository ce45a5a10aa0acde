"""`longspan serve`: models behind HTTP, for clients of OpenAI, Jina, Cohere, Ollama and text-embeddings-inference."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from longspan.cli.console.failures import CommandError
from longspan.cli.embedding.options import add_model_options, not_negative, positive
from longspan.serve.settings import Kind, ModelSettings, Settings

if TYPE_CHECKING:
    from longspan.serve.server import Bind

DESCRIPTION = """\
Serve models over HTTP. The port opens at once; GET /ready answers 200 when every model has run a first pass.

POST /v1/embeddings speaks OpenAI's and Jina's API, /embed that of text-embeddings-inference, /api/embed Ollama's,
/v2/embed Cohere's. /v1/rerank is for rerankers and late-interaction models, /v1/multi-vector for the latter,
/embed_sparse for sparse ones. Guide: longspan/serve/README.md.
"""
EPILOG = """\
examples:
  longspan serve sentence-transformers/all-MiniLM-L6-v2
  longspan serve intfloat/e5-small-v2 jinaai/jina-colbert-v2 --alias e5-query=e5-small-v2:query --port 9000
  longspan serve BAAI/bge-small-en-v1.5 BAAI/bge-reranker-base
  curl localhost:8080/v1/embeddings -d '{"input": "a text"}'

keys: a line each in --api-key-file, or in LONGSPAN_API_KEY, separated by commas. Without any, everybody is answered.

signals: the first SIGTERM or Ctrl-C finishes what is queued and exits with 0; the second ends at once.
"""


MAX_PORT = 65535


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `serve`; their defaults are `Settings`' own."""
    default = Settings()
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.usage = "longspan serve MODEL [MODEL ...] [--rerank MODEL] [--sparse MODEL] [--port PORT] [option ...]"
    parser.add_argument("models", metavar="MODEL", nargs="*", help="a folder, or org/name on the Hugging Face hub")
    parser.add_argument(
        "--model",
        dest="more_models",
        metavar="MODEL",
        action="append",
        default=[],
        help="serve it too, as the other commands name a model",
    )
    parser.add_argument(
        "--rerank",
        metavar="MODEL",
        action="append",
        default=[],
        help="serve it as a reranker: needed of decoders that judge pairs (Qwen3, mxbai), as their files do not say so",
    )
    parser.add_argument(
        "--sparse",
        metavar="MODEL",
        action="append",
        default=[],
        help="serve its sparse vectors: needed of models whose files do not say that they are sparse (bge-m3, gte)",
    )
    names = parser.add_argument_group("names")
    names.add_argument(
        "--alias",
        metavar="NAME=MODEL[:TASK]",
        action="append",
        default=[],
        help="another name for a model; with :query, :document or another task, which that name then stands for",
    )
    names.add_argument("--served-name", metavar="NAME", help="the name in answers (one model; default: its last part)")
    names.add_argument("--any-model", action="store_true", help="take any name for the one model")
    add_model_options(parser)
    loading = parser.add_argument_group("loading")
    loading.add_argument("--lazy", action="store_true", help="load a model when it is first asked for")
    loading.add_argument(
        "--idle-unload", type=seconds, default=0.0, metavar="S", help="let a model go after S s without a request"
    )
    loading.add_argument("--no-warm-up", action="store_true", help="be ready before a first pass has run")
    _add_binding(parser)
    _add_batching(parser, default)
    _add_bounds(parser, default)
    _add_operations(parser, default)


def _add_binding(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("address")
    group.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s, this machine only)")
    group.add_argument("--port", type=port, default=8080, help="0 takes a free one (default: %(default)s)")
    group.add_argument("--uds", metavar="PATH", help="listen at a Unix socket instead")
    group.add_argument("--tls-cert", metavar="FILE", help="serve https with this certificate chain")
    group.add_argument("--tls-key", metavar="FILE", help="and this key")
    group.add_argument(
        "--workers", type=positive, default=1, metavar="N", help="processes at the port (default: %(default)s)"
    )


def _add_batching(parser: argparse.ArgumentParser, default: Settings) -> None:
    group = parser.add_argument_group("batches")
    group.add_argument("--batch-tokens", type=positive, metavar="N", help="tokens of a batch (2048; on a GPU 16384)")
    group.add_argument(
        "--max-wait-ms",
        type=seconds,
        default=default.max_wait_ms,
        metavar="MS",
        help="how long a batch that is not full waits for more (default: 0; it takes what has gathered meanwhile)",
    )
    group.add_argument(
        "--cache-mb", type=seconds, default=default.cache_mb, metavar="MB", help="keep vectors (default: none)"
    )
    group.add_argument(
        "--tokenizer-threads",
        type=positive,
        default=default.tokenizer_threads,
        metavar="N",
        help="for texts, and as many for media, beside the computing thread (default: %(default)s)",
    )


def _add_bounds(parser: argparse.ArgumentParser, default: Settings) -> None:
    group = parser.add_argument_group("bounds")
    counts = {
        "max_queue_tokens": "tokens that may wait; beyond, 429 with Retry-After",
        "max_queue_requests": "requests that may wait or run",
        "max_request_items": "items of a request",
        "max_request_tokens": "tokens of a request",
        "max_request_pages": "pages of PDF files in a request",
        "max_request_pixels": "pixels of images and of videos' frames in a request",
        "max_item_characters": "characters of one text, before it is cut",
        "max_body_bytes": "bytes of a body; beyond, 413",
    }
    for name, text in counts.items():
        flag = f"--{name.replace('_', '-')}"
        group.add_argument(
            flag, type=positive, default=getattr(default, name), metavar="N", help=f"{text} (default: %(default)s)"
        )
    times = {
        "max_request_seconds": "of sound in a request, and again of video",
        "max_drawing_seconds": "that the pages of PDF files in a request may take to be drawn",
        "read_timeout": "for a request's head, and again for its body",
        "keep_alive": "close a connection that has had no request for so long; clients and balancers are to close "
        "theirs before",
        "timeout": "what has not begun by then is answered with 504; a client may say less",
    }
    for name, text in times.items():
        flag = f"--{name.replace('_', '-')}"
        group.add_argument(
            flag, type=seconds, default=getattr(default, name), metavar="S", help=f"{text} (default: %(default)g)"
        )
    group.add_argument(
        "--truncate", action="store_true", help="cut texts that are too long, where a request does not say (else: 400)"
    )
    group.add_argument(
        "--token-ids",
        choices=("refuse", "model"),
        default=default.token_ids,
        help="lists of numbers in /v1/embeddings: refuse them, or take them as the model's own ids (default: refuse)",
    )


def _add_operations(parser: argparse.ArgumentParser, default: Settings) -> None:
    group = parser.add_argument_group("operation")
    group.add_argument("--api-key-file", metavar="FILE", help="keys that are taken, one a line")
    group.add_argument("--open-metrics", action="store_true", help="/metrics and /info need no key")
    group.add_argument(
        "--cors-origin", metavar="ORIGIN", action="append", default=[], help="allow a page to call; or *"
    )
    log = group.add_mutually_exclusive_group()
    log.add_argument("--log-json", action="store_true", help="one JSON object a request on stderr")
    log.add_argument("--no-log", action="store_true", help="no line a request")
    group.add_argument(
        "--drain-delay",
        type=seconds,
        default=default.drain_delay,
        metavar="S",
        help="after SIGTERM, how long to go on taking requests while /ready says 503 (default: 0)",
    )
    group.add_argument(
        "--drain-timeout",
        type=seconds,
        default=default.drain_timeout,
        metavar="S",
        help="and how long to finish what is queued (default: %(default)g)",
    )


def port(text: str) -> int:
    """A port's number, as an argparse type."""
    if (number := not_negative(text)) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"must be a port from 0 to {MAX_PORT}, got {text!r}")
    return number


def seconds(text: str) -> float:
    """A number of 0 or more, as an argparse type."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"must be a number of 0 or more, got {text!r}")
    return value


def run(args: argparse.Namespace) -> None:
    """Serve until a signal."""
    try:
        import orjson  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise CommandError(f"the server is an extra: pip install 'longspan[serve]' ({error})") from error
    args.models = [*args.models, *args.more_models]
    settings, models = settings_from(args), models_from(args)
    _set_up_logging()
    if args.workers > 1:
        _run_workers(args, settings, models)
        return
    from longspan.serve.app import create_app
    from longspan.serve.server import announce, listen, serve

    bind = _bind(args)
    with listen(bind) as socket:
        if bind.uds is None:
            bind = replace(bind, port=socket.getsockname()[1])
        app = create_app(models, settings)
        announce(bind, [model.name for model in models], has_keys=bool(settings.api_keys))
        try:
            serve(app, bind, [socket])
        except RuntimeError as error:
            raise CommandError(str(error)) from error


def _run_workers(args: argparse.Namespace, settings: Settings, models: list[ModelSettings]) -> None:
    """Load once, then part."""
    from longspan.serve.workers import MetricsFolder, Supervisor

    if args.uds:
        raise CommandError("--workers share a port; with --uds there is one process")
    with MetricsFolder():
        from longspan.serve.app import create_app
        from longspan.serve.models import open_model
        from longspan.serve.server import announce, listen, serve

        bind = _bind(args)
        sockets = [listen(bind, shared=True)]
        bind = replace(bind, port=sockets[0].getsockname()[1])
        sockets += [listen(bind, shared=True) for _ in range(args.workers - 1)]
        on_gpu = args.device is not None and args.device.startswith("cuda")
        models = [replace(model, num_threads=_threads(args)) for model in models]
        loaded = None if on_gpu or args.lazy else [open_model(model) for model in models]
        for encoder in loaded or []:
            encoder.fingerprint  # noqa: B018  (once, for all of them)
        announce(bind, [model.name for model in models], has_keys=bool(settings.api_keys), workers=args.workers)

        def work(number: int) -> None:
            own = models
            if args.device == "cuda":
                own = [replace(model, device=f"cuda:{number}") for model in models]
            app = create_app(loaded or own, settings)
            serve(app, bind, [sockets[number]])

        grace = settings.drain_delay + settings.drain_timeout + 10
        if Supervisor(args.workers, work, grace).run():
            raise CommandError("a worker did not end well; its lines above say why")


def _threads(args: argparse.Namespace) -> int:
    """That each process computes with."""
    from longspan import _core

    own: int | None = args.threads
    return own or max(1, _core.num_threads() // args.workers)


def settings_from(args: argparse.Namespace) -> Settings:
    """The options as `Settings`. Raises: CommandError, they contradict each other."""
    names = {field.name for field in fields(Settings)}
    values = {name: value for name, value in vars(args).items() if name in names}
    aliases = {}
    for entry in args.alias:
        name, _, target = entry.partition("=")
        if not name or not target:
            raise CommandError(f"--alias must be NAME=MODEL or NAME=MODEL:TASK, got {entry!r}")
        aliases[name] = target
    count = len(args.models) + len(args.rerank) + len(args.sparse)
    if args.served_name and count > 1:
        raise CommandError("--served-name is for one model; --alias gives names to several")
    if args.any_model and count > 1:
        raise CommandError("--any-model is for one model")
    if bool(args.tls_cert) != bool(args.tls_key):
        raise CommandError("--tls-cert and --tls-key belong together")
    values |= {
        "aliases": aliases,
        "api_keys": read_keys(args.api_key_file),
        "cors_origins": tuple(args.cors_origin),
        "warm_up": not args.no_warm_up,
        "log": "json" if args.log_json else "none" if args.no_log else "text",
    }
    return Settings(**values)


def read_keys(path: str | None) -> tuple[str, ...]:
    """The keys of the file and of LONGSPAN_API_KEY. Raises: CommandError, the file holds none."""
    keys = [key.strip() for key in os.environ.get("LONGSPAN_API_KEY", "").split(",") if key.strip()]
    if path is not None:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        in_file = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not in_file:
            raise CommandError(f"--api-key-file: {path} holds no key; write one a line")
        keys += in_file
    return tuple(dict.fromkeys(keys))


def models_from(args: argparse.Namespace) -> list[ModelSettings]:
    """The models as they are to be loaded."""
    kinds: list[tuple[str, Kind]] = [(name, "auto") for name in args.models]
    kinds += [(name, "reranker") for name in args.rerank]
    kinds += [(name, "sparse") for name in args.sparse]
    if not kinds:
        raise CommandError("there is no model to serve; name one")
    return [
        ModelSettings(
            name,
            kind=kind,
            device=args.device,
            dtype=args.dtype,
            num_threads=args.threads,
            revision=args.revision,
            cache_dir=args.cache_dir,
            local_files_only=args.local_files_only,
            served_name=args.served_name,
        )
        for name, kind in kinds
    ]


def _bind(args: argparse.Namespace) -> Bind:
    from longspan.serve.server import Bind

    return Bind(args.host, args.port, args.uds, args.tls_cert, args.tls_key)


def _set_up_logging() -> None:
    """A line each on stderr; the line of a request as it is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("longspan: %(levelname)s: %(message)s"))
    access = logging.StreamHandler(sys.stderr)
    access.setFormatter(logging.Formatter("%(message)s"))
    for name, each in (("longspan.serve", handler), ("longspan.serve.access", access), ("uvicorn", handler)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [each], False
        logger.setLevel(logging.INFO)
