"""What the server is told: the models, how requests are admitted, how it may be reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

TokenIds = Literal["refuse", "model"]
Kind = Literal["auto", "reranker", "sparse"]


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """A model to serve, as `Encoder` takes it."""

    name: str
    device: str | None = None
    dtype: str = "auto"
    num_threads: int | None = None
    revision: str | None = None
    cache_dir: str | None = None
    local_files_only: bool = False
    kind: Kind = "auto"  # or what it is where the files do not say so: decoders that judge pairs look like any other
    served_name: str | None = None  # the name in answers; None: the last part of `name`


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything else. Each field is a flag of `longspan serve`; sizes are in bytes, times in seconds."""

    aliases: Mapping[str, str] = field(default_factory=dict)  # another name -> MODEL or MODEL:ROLE
    any_model: bool = False  # take any name for the one model
    lazy: bool = False  # load a model when it is first asked for
    idle_unload: float = 0.0  # let a model go after so long without a request; 0 never
    warm_up: bool = True
    # batches
    batch_tokens: int | None = None  # None: what the engine runs well with
    max_wait_ms: float = 0.0
    cache_mb: float = 0.0  # of vectors that were computed before
    tokenizer_threads: int = 2
    # bounds
    max_queue_tokens: int = 131_072
    max_queue_requests: int = 4096
    max_request_items: int = 2048
    max_request_tokens: int = 1_048_576
    max_request_pages: int = 100  # of PDF files
    max_drawing_seconds: float = 60.0  # that a request's pages may take to be drawn
    max_request_seconds: float = 1800.0  # of sound, and again of video
    max_request_pixels: int = 5_000_000_000  # of images and frames: 96 s of 1920 x 1080 at 25 a second
    max_item_characters: int = 1_048_576  # the tokenizer takes some hundred bytes for each
    max_body_bytes: int = 32 << 20
    read_timeout: float = 30.0  # for a request's head, and again for its body
    keep_alive: float = 75.0  # of a connection without a request: longer than clients and balancers keep theirs
    timeout: float = 600.0  # of a request that says none itself
    truncate: bool = False  # on routes whose dialect leaves it open
    token_ids: TokenIds = "refuse"  # of /v1/embeddings
    # security
    api_keys: tuple[str, ...] = ()
    open_metrics: bool = False  # /metrics and /info without a key
    cors_origins: tuple[str, ...] = ()
    # watching
    log: Literal["text", "json", "none"] = "text"
    # the end
    drain_delay: float = 0.0  # between "not ready" and refusing requests
    drain_timeout: float = 30.0
