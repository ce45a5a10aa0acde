"""From token ids to finished vectors: pack, run the encoder, pool, finish, and back in the caller's order."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np

from longspan import _core
from longspan.models.encoder import TextEncoder
from longspan.models.engines.engine import Fetch, OpsEngine
from longspan.models.engines.workspace import Workspace
from longspan.models.parts import EncoderWeights
from longspan.packing.batch import PackedBatch, pack
from longspan.packing.media import MediaRow
from longspan.packing.selection import Selection, select_tokens
from longspan.pipeline.head import HeadLayer, finish
from longspan.pipeline.pooling import Pooling, num_parts, pool, select_pooled
from longspan.text.tasks import NO_ADAPTER

# What becomes of a batch's hidden states: (hidden, batch, selection) -> (num_results, dim) in new memory, all of it
# where the engine computes. Tails that are equal compute the same: they are frozen dataclasses.
Tail: TypeAlias = Callable[[np.ndarray, PackedBatch, Selection], np.ndarray]
Select: TypeAlias = Callable[[PackedBatch], Selection]
Attach: TypeAlias = Callable[[PackedBatch], PackedBatch]


@dataclass(frozen=True, slots=True)
class Finish:
    """What becomes of the hidden states."""

    tokens: bool  # token vectors, as they leave the encoder, instead of one vector a text
    truncate_dim: int | None
    normalize: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """A tail: each row pooled (each token, where tokens are wanted), through the head, truncated, brought to length."""

    pooling: Pooling
    head: tuple[HeadLayer, ...]
    wanted: Finish
    engine: OpsEngine

    def __call__(self, hidden: np.ndarray, batch: PackedBatch, selection: Selection) -> np.ndarray:
        wanted, head = self.wanted, self.head
        if wanted.tokens:
            head = ()
        else:
            hidden = pool(hidden, batch, selection, self.pooling, self.engine)
        return finish(hidden, head, self.engine, truncate_dim=wanted.truncate_dim, normalize=wanted.normalize)


@dataclass(frozen=True, slots=True)
class EncoderPass:
    """A `Pass`: the encoder, whose weights stay what they are now, then a tail."""

    encoder: TextEncoder
    tail: Tail

    @property
    def key(self) -> Hashable:
        """See `Pass`."""
        return type(self.encoder), self.encoder.weights, self.tail

    @property
    def weights(self) -> EncoderWeights:
        """See `Pass`."""
        return self.encoder.weights

    def with_weights(self, weights: EncoderWeights) -> EncoderPass:
        """See `Pass`."""
        encoder = copy.copy(self.encoder)
        encoder.weights = weights
        return replace(self, encoder=encoder)

    def run(self, batch: PackedBatch, selection: Selection, workspace: Workspace) -> np.ndarray:
        """See `Pass`."""
        if selection.by_row is not None and self.encoder.needs_one_token(batch, selection.by_row):
            hidden = self.encoder.compute(batch, workspace, selection.tokens)
            return self.tail(hidden, batch, replace(selection, tokens=None))
        return self.tail(self.encoder.compute(batch, workspace), batch, selection)


class Pipeline:
    """Everything after the tokenizer. Threads may share one: each call works in a workspace of its own."""

    def __init__(
        self, encoder: TextEncoder, head: tuple[HeadLayer, ...], pooling: Pooling, num_threads: int | None
    ) -> None:
        self._encoder = encoder
        self._head = head
        self._pooling = pooling
        self.engine: Final = encoder.engine
        self._num_threads = num_threads
        self._adapter = NO_ADAPTER
        self._idle_workspaces: list[Workspace] = []

    @property
    def dim(self) -> int:
        """Values of a text's vector, before truncation."""
        width = self._encoder.spec.hidden_size * num_parts(self._pooling)
        for layer in self._head:
            width = layer.width(width)
        return width

    @property
    def token_dim(self) -> int:
        """Values of a token's vector, before truncation."""
        return self._encoder.spec.hidden_size

    def explain(self) -> str:
        """Which kernels run, in one line."""
        threads = self._num_threads or _core.num_threads()
        slow = ""
        if self.engine.computes_on_host and self.engine.dtype == "bfloat16" and not _core.multiplies_bf16():
            slow = "; no faster than float32 here, whose instructions multiply no bfloat16"
        return f"{self.engine.describe(self._encoder.weights)}, {threads} thread{'s' if threads > 1 else ''}{slow}"

    def run(
        self,
        ids: Sequence[np.ndarray],
        wanted: Finish,
        *,
        pooled: Sequence[np.ndarray] | None = None,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        lora_ids: Sequence[int] | None = None,
        attach: Attach = lambda batch: batch,
        progress: Callable[[int], object] = lambda _texts: None,
        places: Sequence[int] | None = None,
        noun: str = "texts",
    ) -> list[np.ndarray]:
        """One (dim,) f32 a text, or one (tokens, dim) f32 with `wanted.tokens`, in the order of `ids`.

        Args:
            ids: one (tokens,) array of integers a text, each below the vocabulary's size; none is empty.
            wanted: what becomes of the hidden states.
            pooled: for each text the (tokens,) bool of the tokens that a mean counts; None for all.
            batch_size: texts in a batch at most; None for any number.
            batch_tokens: tokens in a batch at most; None for the engine's own number.
            lora_ids, attach: as `results`.
            progress: called with the number of texts of each batch when it is done.
            places, noun: as `results`, which may raise.
        """
        rows: list[np.ndarray] = [np.empty(0, np.float32)] * len(ids)

        def select(batch: PackedBatch) -> Selection:
            if wanted.tokens:
                return select_tokens(batch)
            keep = None if pooled is None else np.concatenate([pooled[index] for index in batch.indices])
            return select_pooled(batch, self._pooling, keep)

        tail = Finished(self._pooling, self._head, wanted, self.engine)
        sizes = {"batch_size": batch_size, "batch_tokens": batch_tokens}
        given = self.results(ids, tail, select, lora_ids=lora_ids, attach=attach, places=places, noun=noun, **sizes)  # type: ignore[arg-type]
        with closing(given) as results:
            for batch, values in results:
                parts = np.split(values, batch.cu_seqlens[1:-1]) if wanted.tokens else values
                for index, row in zip(batch.indices, parts, strict=True):
                    rows[index] = row
                progress(len(batch.indices))
        return rows

    def results(
        self,
        ids: Sequence[np.ndarray],
        tail: Tail,
        select: Select,
        *,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        lora_ids: Sequence[int] | None = None,
        types: Sequence[np.ndarray] | None = None,
        attach: Attach = lambda batch: batch,
        places: Sequence[int] | None = None,
        noun: str = "texts",
        per: int = 1,
    ) -> Generator[tuple[PackedBatch, np.ndarray], None, None]:
        """Each batch and what `tail` makes of its hidden states, on the host: (num_results, dim) f32.

        It holds a workspace and the thread limit: close it, where an exception may leave it unfinished.

        Args: as `run`; lora_ids: the adapter of each text, -1 for none; None for that of `for_adapter`, or none.
            select: called once a batch, for the tokens that `tail` is to read.
            types: for each text the types of its tokens, as `pack`; None for type 0.
            attach: gives a batch what it has beside ids, by its `indices`; `select` and the caller see it with that.
            places: each text's place in the caller's list, for messages; None where `ids` are that list.
            noun, per: what messages call a text, and how many of its tokens a result is of, where they are several.
        Raises: ValueError, naming the text, if a result of it is NaN or infinite.
        """
        if lora_ids is None:
            lora_ids = [self._adapter] * len(ids)
        if not any(number != NO_ADAPTER for number in lora_ids):
            lora_ids = None
        # A copy: `load_adapter` may give the encoder new weights meanwhile.
        work = EncoderPass(copy.copy(self._encoder), tail)
        behind: deque[tuple[PackedBatch, Fetch]] = deque()  # under way on the engine, not yet fetched
        with self._workspace() as workspace, _thread_limit(self._num_threads):
            budget = self.engine.batch_tokens if batch_tokens is None else batch_tokens
            packed = pack(ids, batch_tokens=budget, batch_size=batch_size, lora_ids=lora_ids, types=types)
            for batch in map(attach, packed):
                started = self.engine.start(work, work.encoder.prepare(batch), select(batch), workspace)
                behind.append((batch, started))
                if len(behind) > self.engine.batches_ahead:
                    yield self._fetched(*behind.popleft(), places, noun, per)
            while behind:
                yield self._fetched(*behind.popleft(), places, noun, per)

    def _fetched(
        self, batch: PackedBatch, fetch: Fetch, places: Sequence[int] | None, noun: str, per: int
    ) -> tuple[PackedBatch, np.ndarray]:
        values = fetch()
        if not np.isfinite(values).all():
            wrong = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            if len(values) != len(batch.indices):  # a row a token, of some tokens or of all
                ends = np.cumsum(np.diff(batch.cu_seqlens) // per)
                wrong = int(np.searchsorted(ends, wrong, side="right"))
            index = int(batch.indices[wrong])
            name = f"{noun}[{index if places is None else places[index]}]"
            raise ValueError(
                f"{name} gives a vector that is not finite: what lies between the model's layers is out of the range "
                f"of {self.engine.dtype}"
            )
        return batch, values

    def with_media(self, media: Sequence[MediaRow | None]) -> Attach:
        """For `results` of rows of which some are no ids alone; None for those that are."""
        if not any(row is not None for row in media):
            return lambda batch: batch
        return lambda batch: self._encoder.attach(batch, [media[index] for index in batch.indices])

    def for_adapter(self, number: int) -> Pipeline:
        """The same pipeline, where the adapter `number` (-1: none) is for every text of a call that names none."""
        pipeline = copy.copy(self)
        pipeline._adapter = number
        return pipeline

    def finish(self, vectors: np.ndarray, wanted: Finish) -> np.ndarray:
        """Pooled vectors (n, token_dim) f32 through the head, truncation and normalisation; (n, dim) f32."""
        engine, how = self.engine, {"truncate_dim": wanted.truncate_dim, "normalize": wanted.normalize}
        with engine.computing():
            return engine.to_host(finish(engine.place(vectors), self._head, engine, **how))  # type: ignore[arg-type]

    @contextmanager
    def _workspace(self) -> Iterator[Workspace]:
        """A workspace that no other call uses meanwhile."""
        try:
            workspace = self._idle_workspaces.pop()
            self.engine.adopt(workspace)
        except IndexError:
            workspace = Workspace(self.engine.empty)
        yield workspace
        self._idle_workspaces.append(workspace)  # not after an exception: a device may still be at work in it


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
