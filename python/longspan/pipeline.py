"""From token ids to finished vectors: pack, run the encoder, pool, finish, and back in the caller's order."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
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
from longspan.tasks import NO_ADAPTER


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
        self.engine: Final = encoder.engine
        self._num_threads = num_threads
        self._adapter = NO_ADAPTER
        self._idle_workspaces: list[Workspace] = []

    @property
    def dim(self) -> int:
        """Values of a text's vector, before truncation."""
        return self._dense[-1].product.weight.out_features if self._dense else self._encoder.spec.hidden_size

    @property
    def token_dim(self) -> int:
        """Values of a token's vector, before truncation."""
        return self._encoder.spec.hidden_size

    def explain(self) -> str:
        """Which kernels run, in one line."""
        threads = self._num_threads or _core.num_threads()
        return f"{self.engine.describe(self._encoder.weights)}, {threads} thread{'s' if threads > 1 else ''}"

    def run(
        self,
        ids: Sequence[np.ndarray],
        wanted: Finish,
        *,
        pooled: Sequence[np.ndarray] | None = None,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        lora_ids: Sequence[int] | None = None,
        progress: Callable[[int], object] = lambda _texts: None,
    ) -> list[np.ndarray]:
        """One (dim,) f32 a text, or one (tokens, dim) f32 with `wanted.tokens`, in the order of `ids`.

        Args:
            ids: one (tokens,) array of integers a text, each below the vocabulary's size; none is empty.
            wanted: what becomes of the hidden states.
            pooled: for each text the (tokens,) bool of the tokens that a mean counts; None for all.
            batch_size: texts in a batch at most; None for any number.
            batch_tokens: tokens in a batch at most; None for the engine's own number.
            lora_ids: as `hidden_states`.
            progress: called with the number of texts of each batch when it is done.
        """
        rows: list[np.ndarray] = [np.empty(0, np.float32)] * len(ids)
        behind: deque[tuple[PackedBatch, np.ndarray]] = deque()  # finished on the engine, not yet fetched

        def fetch() -> None:
            batch, vectors = behind.popleft()
            values = self.engine.to_host(vectors)
            for index, row in zip(batch.indices, np.split(values, batch.cu_seqlens[1:-1]) if wanted.tokens else values):
                rows[index] = row
            progress(len(batch.indices))

        states = self.hidden_states(ids, batch_size=batch_size, batch_tokens=batch_tokens, lora_ids=lora_ids)
        with closing(states) as batches:
            for batch, hidden in batches:
                keep = None if pooled is None else np.concatenate([pooled[index] for index in batch.indices])
                behind.append((batch, self._finish(hidden, batch, wanted, keep)))
                if len(behind) > self.engine.batches_ahead:
                    fetch()
            while behind:
                fetch()
        return rows

    def hidden_states(
        self,
        ids: Sequence[np.ndarray],
        *,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        lora_ids: Sequence[int] | None = None,
    ) -> Generator[tuple[PackedBatch, np.ndarray], None, None]:
        """Each batch and its last hidden state, (total_tokens, dim) f32, which is good until the next is asked for.

        It holds a workspace and the thread limit: close it, where an exception may leave it unfinished.

        Args: as `run`; lora_ids: the adapter of each text, -1 for none; None for that of `for_adapter`, or none.
        """
        if lora_ids is None:
            lora_ids = [self._adapter] * len(ids)
        if not any(number != NO_ADAPTER for number in lora_ids):
            lora_ids = None
        with self._workspace() as workspace, _thread_limit(self._num_threads):
            budget = self.engine.batch_tokens if batch_tokens is None else batch_tokens
            for batch in pack(ids, batch_tokens=budget, batch_size=batch_size, lora_ids=lora_ids):
                yield batch, self._encoder.forward(batch, workspace)

    def for_adapter(self, number: int) -> Pipeline:
        """The same pipeline, where the adapter `number` (-1: none) is for every text of a call that names none."""
        pipeline = copy.copy(self)
        pipeline._adapter = number
        return pipeline

    def finish(self, vectors: np.ndarray, wanted: Finish) -> np.ndarray:
        """Pooled vectors (n, token_dim) f32 through the head, truncation and normalisation; (n, dim) f32."""
        return self.engine.to_host(self._head(self.engine.place(vectors), wanted))

    def _head(self, vectors: np.ndarray, wanted: Finish) -> np.ndarray:
        """`finish`, where the engine computes."""
        return finish(vectors, self._dense, self.engine, truncate_dim=wanted.truncate_dim, normalize=wanted.normalize)

    def _finish(self, hidden: np.ndarray, batch: PackedBatch, wanted: Finish, keep: np.ndarray | None) -> np.ndarray:
        """A vector for each of the batch's rows, or with `wanted.tokens` for each token; no memory of the workspace."""
        if wanted.tokens:
            return finish(hidden, (), self.engine, truncate_dim=wanted.truncate_dim, normalize=wanted.normalize)
        return self._head(pool(hidden, batch.cu_seqlens, self._pooling, self.engine, keep), wanted)

    @contextmanager
    def _workspace(self) -> Iterator[Workspace]:
        """A workspace that no other call uses meanwhile."""
        try:
            workspace = self._idle_workspaces.pop()
        except IndexError:
            workspace = Workspace(self.engine.empty)
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
