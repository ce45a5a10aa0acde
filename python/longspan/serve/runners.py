"""What the computing thread does with a batch: one class for each kind of output. Equal runners share batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from longspan.pipeline.options import OutputValue
from longspan.serve.jobs import ComputeError, SchedulerError
from longspan.serve.texts import Direction, TextPayload
from longspan.text.tasks import Role
from longspan.vectors.sparse import SparseVectors

if TYPE_CHECKING:
    from longspan.reranker import RerankOptions
    from longspan.serve.models import ServedModel

NOT_FINITE: Final = ComputeError("the model gave a vector that is not finite")
Rows = list[np.ndarray | SchedulerError]


class BadInputError(SchedulerError):
    """An item breaks a rule that shows only when it is computed."""


@dataclass(frozen=True)
class VectorRunner:
    """Token ids to vectors (dim,), neither cut nor brought to length; or, of every token, to (tokens, dim).

    Texts of all tasks, prompts, dimensions and requests share a batch: cutting and length are each request's own.
    """

    model: ServedModel
    output: OutputValue = "sentence_embedding"

    def __call__(self, payloads: Sequence[TextPayload]) -> Rows:
        """See `jobs.Runner`."""
        masks = None
        if any(text.pooled is not None for text in payloads):
            masks = [np.ones(len(text.ids), bool) if text.pooled is None else text.pooled for text in payloads]
        rows = self.model.text_encoder.encode_ids(
            [text.ids for text in payloads],
            task=[text.task for text in payloads],
            output_value=self.output,
            normalize_embeddings=False,
            pooled=masks,
        )
        return _finite(list(rows))


@dataclass(frozen=True)
class ChunkPayload:
    """A document and where its chunks are."""

    text: str
    spans: tuple[tuple[int, int], ...]  # characters


@dataclass(frozen=True)
class ChunkRunner:
    """Documents to a vector a chunk, (chunks, dim), each in the light of its document: late chunking."""

    model: ServedModel
    task: str | None
    prompt: str

    def __call__(self, payloads: Sequence[ChunkPayload]) -> Rows:
        """See `jobs.Runner`."""
        try:
            found = self.model.text_encoder.encode_chunks(
                [document.text for document in payloads],
                chunks=[list(document.spans) for document in payloads],
                task=self.task,
                prompt=self.prompt,
                normalize_embeddings=False,
                show_progress_bar=False,
            )
            assert isinstance(found, list), "a list of documents gives a list"
        except ValueError as error:
            if len(payloads) > 1:
                raise  # the scheduler tries them one by one
            return [BadInputError(str(error))]
        return _finite([chunks.embeddings for chunks in found])


@dataclass(frozen=True)
class MediaRunner:
    """Images, and inputs of several parts, to vectors (dim,), neither cut nor brought to length."""

    model: ServedModel
    task: str | None
    prompt: str

    def __call__(self, payloads: Sequence[Any]) -> Rows:
        """See `jobs.Runner`."""
        try:
            rows = self.model.text_encoder.encode(
                list(payloads),
                task=self.task,
                prompt=self.prompt,
                normalize_embeddings=False,
                on_truncate="ignore",
                show_progress_bar=False,
            )
        except ValueError as error:
            if len(payloads) > 1:
                raise  # the scheduler tries them one by one
            return [BadInputError(str(error))]
        return _finite(list(np.asarray(rows)))


@dataclass(frozen=True)
class TokenRunner:
    """Texts and images to token vectors (tokens, dim) by late interaction's rules."""

    model: ServedModel
    role: Role
    dim: int | None
    max_length: int | None

    def __call__(self, payloads: Sequence[str | np.ndarray]) -> Rows:
        """See `jobs.Runner`."""
        encoder = self.model.token_encoder
        encode = encoder.encode_queries if self.role == "query" else encoder.encode_documents
        limit = self.max_length
        found = encode(list(payloads), dim=self.dim, max_length=limit, on_truncate="ignore", show_progress_bar=False)
        return _finite(list(found))


@dataclass(frozen=True)
class SparseRunner:
    """Token ids to a sparse vector each, as `SparseVectors` of one row."""

    model: ServedModel

    def __call__(self, payloads: Sequence[TextPayload]) -> Sequence[SparseVectors | SchedulerError]:
        """See `jobs.Runner`."""
        tasks = [text.task for text in payloads]
        found = self.model.sparse_encoder.encode_ids([text.ids for text in payloads], task=tasks)
        return [row if np.isfinite(row.values).all() else NOT_FINITE for row in found]


@dataclass(frozen=True)
class PairRunner:
    """(query, document) to a logit each, by a cross-encoder; of a listwise one (query, documents) to (documents, 1 +
    dim): the score of each, and its vector."""

    model: ServedModel
    max_length: int | None
    direction: Direction | None = None  # the end of a text that is cut

    def __call__(self, payloads: Sequence[tuple[str, Any]]) -> Rows:
        """See `jobs.Runner`."""
        options: RerankOptions = {
            "activation_fn": "identity",
            "max_length": self.max_length,
            "truncation_side": self.direction,
            "on_truncate": "ignore",
            "show_progress_bar": False,
        }
        reranker = self.model.reranker
        if not reranker.is_listwise:
            return _finite(list(np.asarray(reranker.predict(list(payloads), **options)).reshape(len(payloads), 1)))
        queries, lists = [query for query, _ in payloads], [list(texts) for _, texts in payloads]
        rankings = reranker.rank(queries, lists, return_embeddings=True, **options)
        rows = []
        for ranking in rankings:
            entries = sorted(ranking, key=lambda entry: entry["corpus_id"])
            rows.append(np.stack([np.append(np.float32(entry["score"]), entry["embedding"]) for entry in entries]))
        return _finite(rows)


def _finite(rows: Sequence[np.ndarray]) -> Rows:
    """The rows; in the place of one that is not finite, why it is none."""
    found: Rows = list(rows)
    for place, row in enumerate(rows):
        if not np.isfinite(row).all():
            found[place] = NOT_FINITE
    return found
