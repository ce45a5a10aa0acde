"""longspan under Ray Data: a callable class for `map_batches`, one model an actor.

    dataset = ray.data.read_parquet("texts/").map_batches(
        EncodeBatches,
        fn_constructor_kwargs={"model": "sentence-transformers/all-MiniLM-L6-v2", "column": "text"},
        compute=ray.data.ActorPoolStrategy(size=2), num_cpus=1, batch_size=1024,
    )
    dataset.write_parquet("vectors/")

Ray distributes, restarts and retries; nothing of that is done here. `longspan.integrations.ray_example` is a program.
Actors hold their CPUs: leave one free, or nobody reads and writes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np

from longspan.encoder import Encoder
from longspan.pipeline.options import OnTruncate
from longspan.vectors.quantize import Precision

Kind = Literal["document", "query", "text"]
METHODS: Final[Mapping[Kind, str]] = {"document": "encode_document", "query": "encode_query", "text": "encode"}


class EncodeBatches:
    """Adds the vectors of a batch's texts to it.

    Args:
        model: a folder or a name, as `Encoder` takes it; every node must see it.
        column: where the texts are.
        output: the column for the vectors.
        kind: "document" and "query" take the model's own prompts and adapters for them; "text" its default ones.
        task, truncate_dim, normalize_embeddings, precision, on_truncate: as `Encoder.encode`. int8 and uint8 would take
            their ranges from each batch for itself, and are refused.
        device, dtype: as `Encoder`; an actor with `num_gpus=1` sees one GPU, its own, which is "cuda".
        num_threads: None for as many as the actor has CPUs (`num_cpus` of map_batches), or all outside of Ray.
    Raises: ValueError, an argument breaks a line above; what `Encoder` raises.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        column: str = "text",
        output: str = "embedding",
        *,
        kind: Kind = "document",
        task: str | None = None,
        truncate_dim: int | None = None,
        normalize_embeddings: bool | None = None,
        precision: Precision = "float32",
        on_truncate: OnTruncate = "ignore",
        device: str | None = None,
        dtype: str = "auto",
        num_threads: int | None = None,
    ) -> None:
        self._arguments = {name: value for name, value in locals().items() if name != "self"}
        if precision in ("int8", "uint8"):
            raise ValueError(
                f"EncodeBatches: precision {precision!r} takes its ranges from all vectors, and a batch is only some; "
                f"write float32 and quantise afterwards, or take float16, binary or ubinary"
            )
        if kind not in METHODS:
            raise ValueError(f"EncodeBatches: kind must be one of {', '.join(METHODS)}, got {kind!r}")
        threads = _assigned_cpus() if num_threads is None else num_threads
        self._encoder = Encoder(model, device, dtype, num_threads=threads)
        self._encode = getattr(self._encoder, METHODS[kind])
        self._column = column
        self._output = output
        self._options: dict[str, Any] = {
            "task": task,
            "truncate_dim": truncate_dim,
            "normalize_embeddings": normalize_embeddings,
            "precision": precision,
            "on_truncate": on_truncate,
            "show_progress_bar": False,
        }

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`batch`, its columns as arrays, with one more: (n, dim), in the precision asked for.

        Raises: TypeError, the batch is in another format, or a text is none; ValueError, the column is not there.
        """
        if not isinstance(batch, Mapping):
            raise TypeError(
                f"EncodeBatches: a batch must be a dict of arrays (batch_format='numpy'), got {type(batch).__name__}"
            )
        if self._column not in batch:
            raise ValueError(f"EncodeBatches: no column {self._column!r} in the batch, which has {', '.join(batch)}")
        texts = list(batch[self._column])
        return {**batch, self._output: np.asarray(self._encode(texts, **self._options))}

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen, (self._arguments,)


def _reopen(arguments: dict[str, Any]) -> EncodeBatches:
    """In another process the model is read from its files again."""
    return EncodeBatches(**arguments)


def _assigned_cpus() -> int | None:
    """The CPUs that Ray has given this actor; None outside of an actor, or if it has less than one."""
    try:
        import ray
    except ImportError:
        return None
    if not ray.is_initialized() or ray.get_runtime_context().get_actor_id() is None:
        return None
    return int(ray.get_runtime_context().get_assigned_resources().get("CPU", 0)) or None
