"""`SparseEncoder`: a text as weights of vocabulary entries (SPLADE), with queries that need no encoder, and bge-m3."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypedDict

import numpy as np

from longspan.arguments import names_arguments
from longspan.integers import checked_int
from longspan.models.weights import read_adapters
from longspan.pipeline.loaded_model import LoadedModel, LoadOptions, OpenedModel, open_model
from longspan.pipeline.options import ON_TRUNCATE, OnTruncate, check_choice
from longspan.pipeline.pipeline import Pipeline
from longspan.sparse.open_head import digest, has_first_token_vectors, open_head, own_active_dims
from longspan.sparse.outputs import ModelOutputs
from longspan.sparse.running import SparseJob, SparseTail, run_ids, run_texts, say_cut
from longspan.sparse.static_queries import load_static_queries
from longspan.sparse.token_weights import COLBERT, TokenOutputs
from longspan.text.containers import checked_texts
from longspan.text.task_names import role_tasks_and_prompts, tasks_and_prompts
from longspan.text.tasks import Role, Task, adapter_numbers
from longspan.text.tokenizer import TextTokenizer, TokenizedText
from longspan.vectors.arrays import FloatArray
from longspan.vectors.results import stack
from longspan.vectors.sparse import SparseInput, SparseVectors, dot

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SparseOptions(TypedDict, total=False):
    """How texts are run: the options that the methods share, as `Encoder.encode` says what they mean."""

    batch_size: int | None
    batch_tokens: int | None
    show_progress_bar: bool | None
    max_length: int | None
    on_truncate: OnTruncate


@names_arguments
class SparseEncoder(LoadedModel):
    """A sparse model: SPLADE of BERT, DistilBERT, RoBERTa, MPNet, ModernBERT and others, by their masked-language-model
    head; the inference-free models of opensearch; bge-m3; gte-multilingual-base, by the weights of its token
    classifier.

    Args:
        name_or_path, device, dtype, revision, token, cache_dir, local_files_only, num_threads,
            cuda_graphs: as `Encoder`.
        max_active_dims: entries of a vector at most, unless a call says otherwise: the largest; None for what the
            model's files say, which mostly is all.
    Raises: FileNotFoundError, no such folder or model; CheckpointError, its files are damaged, not supported, or of no
        sparse model; ValueError, an argument breaks a line above.
    """

    def __init__(
        self,
        name_or_path: str | os.PathLike[str],
        device: str | None = None,
        dtype: str = "auto",
        *,
        max_active_dims: int | None = None,
        **options: Unpack[LoadOptions],
    ) -> None:
        opened: OpenedModel = open_model("SparseEncoder", name_or_path, device, dtype, **options)
        checkpoint, spec = opened.checkpoint, opened.spec
        own_dims = own_active_dims(checkpoint)
        self.max_active_dims: Final = _checked_count("SparseEncoder: max_active_dims", max_active_dims) or own_dims
        self.max_length: Final = min(checkpoint.max_seq_length or spec.max_tokens, spec.max_tokens)
        self.default_prompt_name: Final = (checkpoint if checkpoint.prompts else spec).default_prompt_name
        self.tokenizer: Final = TextTokenizer.load(checkpoint, max_length=self.max_length, vocab_size=spec.vocab_size)
        self._queries: Final = load_static_queries(checkpoint, spec.vocab_size)
        names = opened.names  # by which weights are read: the head's tensors are other tasks' for the family
        opened, head, facts = open_head(opened, self.tokenizer)
        facts |= {"default prompt": self.default_prompt_name, "max length": self.max_length}
        if own_dims is not None:
            facts["max active dims"] = own_dims
        if self._queries is not None:
            facts["query weights"] = digest(self._queries.weight)
        super().__init__(opened, names, read_adapters(names), facts)
        self._again["max_active_dims"] = max_active_dims
        self._tail: Final[SparseTail] = head
        self._has_dense: Final = has_first_token_vectors(checkpoint)
        self._pipeline: Final = Pipeline(self._encoder, (), "cls", self.num_threads)

    @property
    def dim(self) -> int:
        """Dimensions: rows of the vocabulary."""
        return self.spec.vocab_size

    @property
    def has_static_queries(self) -> bool:
        """Whether queries need no encoder."""
        return self._queries is not None

    def encode(
        self,
        texts: str | Iterable[str],
        *,
        task: Task = None,
        prompt_name: str | None = None,
        prompt: str | Sequence[str] | None = None,
        max_active_dims: int | None = None,
        **options: Unpack[SparseOptions],
    ) -> SparseVectors:
        """Texts to sparse vectors, as documents where the model tells them from queries. A text's vector does not
        depend on the others, on the CPU bit for bit.

        SPLADE: v = max over the text's tokens, special ones included, of log(1 + max(u, 0)), u the logits of the
        masked-language-model head; or as the checkpoint's SpladePooling says: the sum in the maximum's place, log(1 +
        log(1 + max(u, 0))). bge-m3, gte: for each token that occurs its largest weight, special tokens left out.
        No more than 64 MB of a batch's weights are in memory before zeros are left out, whatever the vocabulary.

        Args:
            texts: any number of str, or one.
            task: an adapter of `tasks`; "base" for none; or a list, one a text.
            prompt_name, prompt: as `Encoder.encode`.
            max_active_dims: keep this many largest values of a vector, of equal ones those of lower token ids; None for
                the model's `max_active_dims`.
            options: batch_size, batch_tokens, show_progress_bar, max_length, on_truncate, as `Encoder.encode`.
        Returns: `SparseVectors`, one row a text (one row for one str): its entries are above 0, token ids rise.
        Raises: TypeError or ValueError, an argument breaks a line above, or `on_truncate="error"` and a text is cut.
        Source: SPLADE, arXiv:2107.05720, arXiv:2109.10086; bge-m3, arXiv:2402.03216.
        """
        items = checked_texts("texts", [texts] if isinstance(texts, str) else texts)
        kept = _checked_count("encode: max_active_dims", max_active_dims) or self.max_active_dims
        job = self._job(items, task, prompt_name, prompt, options)
        found = run_texts(items, job, self.tokenizer, self._pipeline, self._tail)
        vectors = SparseVectors.joined([one.sparse for one in found], self.dim)
        return vectors if kept is None else vectors.top(kept)

    def encode_ids(
        self,
        ids: Sequence[Sequence[int] | np.ndarray],
        *,
        task: Task = None,
        max_active_dims: int | None = None,
    ) -> SparseVectors:
        """`encode` for lists of token ids as they are: no prompt, no special tokens, nothing cut.

        Args:
            ids: for each text its ids, at least one, each from 0 to the vocabulary's size, at most `spec.max_tokens`.
            task, max_active_dims: as `encode`.
        Raises: ValueError, naming the text, if one breaks the line above.
        """
        kept = _checked_count("encode_ids: max_active_dims", max_active_dims) or self.max_active_dims
        rows = [self._checked_ids(place, text) for place, text in enumerate(ids)]
        lora_ids = adapter_numbers(task, len(rows), self.tasks, self.spec.tasks)
        job = SparseJob([""] * len(rows), lora_ids, None, None, False, self.max_length, "ignore")
        found = run_ids(rows, job, self._pipeline, self._tail)
        vectors = SparseVectors.joined([one.sparse for one in found], self.dim)
        return vectors if kept is None else vectors.top(kept)

    def encode_document(
        self,
        texts: str | Iterable[str],
        *,
        task: Task = None,
        prompt: str | Sequence[str] | None = None,
        max_active_dims: int | None = None,
        **options: Unpack[SparseOptions],
    ) -> SparseVectors:
        """`encode` with the model's prompt and task for documents, if it has them. Same arguments and result."""
        items, task, prompt = self._role(texts, "document", task, prompt)
        return self.encode(items, task=task, prompt=prompt, max_active_dims=max_active_dims, **options)

    def encode_query(
        self,
        texts: str | Iterable[str],
        *,
        task: Task = None,
        prompt: str | Sequence[str] | None = None,
        max_active_dims: int | None = None,
        **options: Unpack[SparseOptions],
    ) -> SparseVectors:
        """`encode` with the model's prompt and task for queries, if it has them. Same arguments and result.

        An inference-free model (`has_static_queries`) does not run: v[id] = weight[id] of each token id that occurs,
        without special tokens; `max_length` counts those alone there, and `task` means nothing.
        """
        items, task, prompt = self._role(texts, "query", task, prompt)
        if self._queries is None:
            return self.encode(items, task=task, prompt=prompt, max_active_dims=max_active_dims, **options)
        kept = _checked_count("encode: max_active_dims", max_active_dims) or self.max_active_dims
        limit = _checked_count("encode: max_length", options.get("max_length")) or self._queries.max_length
        _checked_count("encode: batch_size", options.get("batch_size"))  # no matter to a table, and no less wrong
        _checked_count("encode: batch_tokens", options.get("batch_tokens"))
        on_truncate = _on_truncate(options)
        prompts = [prompt] * len(items) if isinstance(prompt, str) else list(prompt)
        rows, lost = self._queries.encode(items, prompts, limit)
        say_cut(lost, limit, len(items), on_truncate)
        vectors = SparseVectors.joined(rows, self.dim)
        return vectors if kept is None else vectors.top(kept)

    def encode_outputs(
        self,
        texts: str | Iterable[str],
        *,
        dense: bool = True,
        sparse: bool = True,
        multi_vector: bool = True,
        task: Task = None,
        prompt: str | Sequence[str] | None = None,
        **options: Unpack[SparseOptions],
    ) -> ModelOutputs:
        """bge-m3's outputs, all of one pass: the dense vectors, the sparse ones, and a vector for each token but `<s>`.

        Args: as `encode`; dense, sparse, multi_vector: which outputs are wanted.
        Returns: `ModelOutputs`, with one entry a text (one for one str).
        Raises: ValueError, the model has no such heads; and as `encode`.
        """
        tail = self._tail
        if not isinstance(tail, TokenOutputs):
            raise ValueError("encode_outputs: this model has sparse vectors alone; encode gives them")
        if multi_vector and not tail.heads.vector_dim:
            raise ValueError(f"encode_outputs: the model has no {COLBERT}; pass multi_vector=False")
        if dense and not self._has_dense:
            raise ValueError(
                "encode_outputs: the model's files make its dense vector of more than the first token; pass "
                "dense=False, and take longspan.Encoder for it"
            )
        items = checked_texts("texts", [texts] if isinstance(texts, str) else texts)
        job = self._job(items, task, None, prompt, options)
        wanted = replace(tail, with_hidden=dense)
        found = run_texts(items, job, self.tokenizer, self._pipeline, wanted, vectors=multi_vector)
        return ModelOutputs(
            stack([one.dense for one in found if one.dense is not None], self.spec.hidden_size) if dense else None,
            SparseVectors.joined([one.sparse for one in found], self.dim) if sparse else None,
            [one.vectors for one in found if one.vectors is not None] if multi_vector else None,
        )

    def decode(self, vectors: SparseInput, top_k: int | None = None) -> list[dict[str, float]]:
        """For each row token -> weight, the largest first, of equal ones the lower id; `top_k` of them, None for all.

        A dimension that no token has (a padded row of the vocabulary) is spelled "[id]".
        """
        if isinstance(vectors, SparseVectors) and vectors.dim != self.dim:
            raise ValueError(f"decode: vectors must have {self.dim} dimensions, got {vectors.dim}")
        rows = SparseVectors.of(vectors, self.dim)
        if top_k is not None:
            rows = rows.top(top_k)
        spelled = self.tokenizer.backend.id_to_token
        decoded = []
        for row in rows:
            order = np.lexsort((row.indices, -row.values))
            pairs = zip(row.indices[order].tolist(), row.values[order].tolist(), strict=True)
            decoded.append({spelled(index) or f"[{index}]": value for index, value in pairs})
        return decoded

    def similarity(self, a: SparseInput, b: SparseInput) -> FloatArray:
        """(len(a), len(b)) f32 dot products; higher is closer."""
        return dot(SparseVectors.of(a, self.dim), SparseVectors.of(b, self.dim))

    def tokenize(self, texts: Sequence[str], *, prompt: str = "", max_length: int | None = None) -> list[TokenizedText]:
        """Ids and character offsets of each text, as `encode` would use them."""
        return self.tokenizer.encode(texts, prompt=prompt, max_length=self._limit(max_length))

    def explain(self) -> str:
        """Which kernels run, in one line."""
        return self._pipeline.explain()

    def __repr__(self) -> str:
        return f"SparseEncoder({self.name!r}, {self.spec.family}, dim={self.dim}, max_length={self.max_length})"

    def _role(
        self, texts: str | Iterable[str], role: Role, task: Task, prompt: str | Sequence[str] | None
    ) -> tuple[list[str], Task, str | Sequence[str]]:
        items = checked_texts("texts", [texts] if isinstance(texts, str) else texts)
        task, own = role_tasks_and_prompts(task, len(items), self, role)
        return items, task, own if prompt is None else prompt

    def _job(
        self,
        texts: list[str],
        task: Task,
        prompt_name: str | None,
        prompt: str | Sequence[str] | None,
        options: SparseOptions,
    ) -> SparseJob:
        task, before = tasks_and_prompts(task, len(texts), self, prompt_name=prompt_name, prompt=prompt)
        on_truncate = _on_truncate(options)
        return SparseJob(
            prompts=before,
            lora_ids=adapter_numbers(task, len(texts), self.tasks, self.spec.tasks),
            batch_size=options.get("batch_size"),
            batch_tokens=options.get("batch_tokens"),
            show_progress_bar=options.get("show_progress_bar"),
            limit=self._limit(options.get("max_length")),
            on_truncate=on_truncate,
        )

    def _limit(self, max_length: int | None) -> int:
        if max_length is None:
            return self.max_length
        limit, least = checked_int("encode: max_length", max_length), self.tokenizer.num_special_tokens + 1
        if not least <= limit <= self.spec.max_tokens:
            raise ValueError(f"encode: max_length must be from {least} to {self.spec.max_tokens}, got {limit}")
        return limit


def _checked_count(name: str, value: int | None) -> int | None:
    if value is not None and checked_int(name, value) < 1:
        raise ValueError(f"{name} must be 1 or more, got {value}")
    return value


def _on_truncate(options: SparseOptions) -> OnTruncate:
    """What is to be done with texts that are cut."""
    on_truncate = options.get("on_truncate", "warn")
    check_choice("encode", "on_truncate", on_truncate, ON_TRUNCATE)
    return on_truncate
