"""From token ids to finished vectors: pack, run the encoder, pool, finish, and back in the caller's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan import _core
from longspan.batch import PackedBatch, pack
from longspan.head import Dense, finish
from longspan.models.encoder import TextEncoder
from longspan.models.spec import PoolingMode
from longspan.models.workspace import Workspace
from longspan.pooling import pool

# Enough rows for the products to run at their full rate; with more, the activations only leave the cache.
BATCH_TOKENS: Final = 2048


@dataclass(frozen=True, slots=True)
class Finish:
    """What becomes of the hidden states."""

    tokens: bool  # token vectors, as they leave the encoder, instead of one vector a text
    truncate_dim: int | None
    normalize: bool


class Pipeline:
    """Everything after the tokenizer. Threads may share one: each call works in a workspace of its own."""

    def __init__(
        self, encoder: TextEncoder, dense: tuple[Dense, ...], pooling: PoolingMode, num_threads: int | None
    ) -> None:
        self._encoder = encoder
        self._dense = dense
        self._pooling = pooling
        self._num_threads = num_threads
        self._idle_workspaces: list[Workspace] = []

    @property
    def dim(self) -> int:
        """Values of a text's vector, before truncation."""
        return self._dense[-1].weight.out_features if self._dense else self._encoder.spec.hidden_size

    @property
    def token_dim(self) -> int:
        """Values of a token's vector, before truncation."""
        return self._encoder.spec.hidden_size

    def run(
        self,
        ids: Sequence[np.ndarray],
        wanted: Finish,
        *,
        pooled: Sequence[np.ndarray] | None = None,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        progress: Callable[[int], object] = lambda _texts: None,
    ) -> list[np.ndarray]:
        """One (dim,) f32 a text, or one (tokens, dim) f32 with `wanted.tokens`, in the order of `ids`.

        Args:
            ids: one (tokens,) array of integers a text, each below the vocabulary's size; none is empty.
            wanted: what becomes of the hidden states.
            pooled: for each text the (tokens,) bool of the tokens that a mean counts; None for all.
            batch_size: texts in a batch at most; None for any number.
            batch_tokens: tokens in a batch at most; None for BATCH_TOKENS.
            progress: called with the number of texts of each batch when it is done.
        """
        rows: list[np.ndarray] = [np.empty(0, np.float32)] * len(ids)
        with self._workspace() as workspace, _thread_limit(self._num_threads):
            for batch in pack(ids, batch_tokens=batch_tokens or BATCH_TOKENS, batch_size=batch_size):
                hidden = self._encoder.forward(batch, workspace)
                keep = None if pooled is None else np.concatenate([pooled[index] for index in batch.indices])
                for index, row in zip(batch.indices, self._finish(hidden, batch, wanted, keep)):
                    rows[index] = row
                progress(len(batch.indices))
        return rows

    def _finish(
        self, hidden: np.ndarray, batch: PackedBatch, wanted: Finish, keep: np.ndarray | None
    ) -> Sequence[np.ndarray]:
        """The batch's rows, in the batch's order; none of them is memory of the workspace."""
        if wanted.tokens:
            vectors = finish(hidden.copy(), (), truncate_dim=wanted.truncate_dim, normalize=wanted.normalize)
            return np.split(vectors, batch.cu_seqlens[1:-1])
        vectors = pool(hidden, batch.cu_seqlens, self._pooling, keep)
        return list(finish(vectors, self._dense, truncate_dim=wanted.truncate_dim, normalize=wanted.normalize))

    @contextmanager
    def _workspace(self) -> Iterator[Workspace]:
        """A workspace that no other call uses meanwhile."""
        try:
            workspace = self._idle_workspaces.pop()
        except IndexError:
            workspace = Workspace()
        try:
            yield workspace
        finally:
            self._idle_workspaces.append(workspace)


@contextmanager
def _thread_limit(num_threads: int | None) -> Iterator[None]:
    """Limit the kernels that this thread calls; None leaves the limit that is in force."""
    if num_threads is None:
        yield
        return
    before = _core.set_num_threads(num_threads)
    try:
        yield
    finally:
        _core.set_num_threads(before)
