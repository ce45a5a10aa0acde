"""`MultiVectorEncoder`: one vector a token, compared by MaxSim (late interaction, ColBERT)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, TypedDict, cast, overload

import numpy as np

from longspan.arguments import names_arguments
from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.integers import checked_int
from longspan.late_interaction.colbert import ColbertTokenizer
from longspan.late_interaction.colbert_rules import SKIP_RULES, override, read_rules
from longspan.late_interaction.token_head import load_projection
from longspan.late_interaction.token_places import TokenPlaces, token_places
from longspan.late_interaction.token_vectors import TokenInput, TokenJob, encode_tokens
from longspan.models.encoder import TextEncoder
from longspan.models.expansion import ExpansionEncoder
from longspan.models.peft import Adapter
from longspan.models.spec import ModelSpec
from longspan.models.weights import read_adapters
from longspan.pipeline.inputs import Input, is_one, read_inputs
from longspan.pipeline.loaded_model import LoadedModel, LoadOptions, open_model
from longspan.pipeline.options import ON_TRUNCATE, OnTruncate, check_choice
from longspan.pipeline.pipeline import Pipeline
from longspan.pipeline.purpose import COLBERT, purpose_of, require_purpose
from longspan.progress import progress_bar
from longspan.search import MultiVectorStore
from longspan.search.late_interaction import Ranked, TokenArrays, rank, score
from longspan.text.containers import listed
from longspan.text.task_names import role_tasks_and_prompts
from longspan.text.tasks import Role, Task, adapter_numbers
from longspan.text.tokenizer import TextTokenizer
from longspan.vectors.arrays import FloatArray
from longspan.vectors.origin import Origin

if TYPE_CHECKING:
    from typing_extensions import Unpack

SkipList = Literal["model", "colbert", "pylate"]


class QueryOptions(TypedDict, total=False):
    """What `encode_queries` takes by keyword, and says what it means."""

    task: Task
    dim: int | None
    max_length: int | None
    batch_size: int | None
    batch_tokens: int | None
    show_progress_bar: bool | None
    on_truncate: OnTruncate
    modality: str | None


class DocumentOptions(QueryOptions, total=False):
    """What `encode_documents` takes by keyword."""

    skip_list: SkipList | None


@names_arguments
class MultiVectorEncoder(LoadedModel):
    """A late-interaction model: jina-colbert-v2, other ColBERTs, the containers of PyLate and of sentence-transformers'
    MultiVectorEncoder, jina-embeddings-v4's second head.

    Args:
        name_or_path, device, dtype, revision, token, cache_dir, local_files_only, num_threads,
            cuda_graphs: as `Encoder`.
        query_maxlen: tokens to which queries are cut and filled up; None for what the model's files say.
        doc_maxlen: tokens to which documents are cut by default; None for what the files say.
        query_marker: the token that stands second in queries, "" for none; None for what the files say.
        doc_marker: the same in documents.
        attend_to_mask_tokens: whether a query's tokens see the mask tokens that fill it up; None as the files say.
        mask_punctuation: whether documents lose the vectors of a skip list by default; None for what the files say.
        modalities: as `Encoder`.
    Raises: FileNotFoundError, no such folder or model; CheckpointError, its files are damaged, not supported, or of no
        multi-vector model; ValueError, an argument breaks a line above.
    """

    def __init__(
        self,
        name_or_path: str | os.PathLike[str],
        device: str | None = None,
        dtype: str = "auto",
        *,
        query_maxlen: int | None = None,
        doc_maxlen: int | None = None,
        query_marker: str | None = None,
        doc_marker: str | None = None,
        attend_to_mask_tokens: bool | None = None,
        mask_punctuation: bool | None = None,
        modalities: Sequence[str] | None = None,
        **options: Unpack[LoadOptions],
    ) -> None:
        """Open the checkpoint and load it; the class says what the arguments mean."""
        rule_options = {
            "query_maxlen": query_maxlen,
            "doc_maxlen": doc_maxlen,
            "query_marker": query_marker,
            "doc_marker": doc_marker,
            "attend_to_mask_tokens": attend_to_mask_tokens,
            "mask_punctuation": mask_punctuation,
        }
        opened = open_model("MultiVectorEncoder", name_or_path, device, dtype, modalities=modalities, **options)
        checkpoint, spec, engine = opened.checkpoint, opened.spec, opened.engine
        if purpose_of(checkpoint) in ("reranking", "sparse"):
            require_purpose("MultiVectorEncoder", checkpoint, "late interaction")
        # First, as it says what is no multi-vector model.
        projection = load_projection(checkpoint, spec.hidden_size, engine)
        self.max_length: Final = _longest(checkpoint, spec)
        rules = override(
            read_rules(checkpoint, self.max_length),
            query_maxlen=query_maxlen,
            doc_maxlen=doc_maxlen,
            query_marker=query_marker,
            doc_marker=doc_marker,
            attends_to_expansion=attend_to_mask_tokens,
            mask_punctuation=mask_punctuation,
        )
        self.tokenizer: Final = TextTokenizer.load(checkpoint, max_length=self.max_length, vocab_size=spec.vocab_size)
        self.rules: Final = rules
        self._tokenizer = ColbertTokenizer(self.tokenizer, rules, checkpoint.tokenizer_file)
        self.query_maxlen: Final = self._limit("MultiVectorEncoder", query_maxlen, rules.query_maxlen, "query_maxlen")
        self.doc_maxlen: Final = self._limit("MultiVectorEncoder", doc_maxlen, rules.doc_maxlen, "doc_maxlen")
        adapters = read_adapters(opened.names)
        # A projection beside the backbone is none of the family's tensors.
        super().__init__(
            opened,
            replace(opened.names, unused=(*opened.names.unused, COLBERT)),
            adapters,
            {"rules": rules.settings, "lengths": [self.query_maxlen, self.doc_maxlen, self.max_length]},
        )
        if self._vision is not None:
            self._vision.stand_in_text(self.tokenizer, checkpoint.tokenizer_file)
        self._again.update(rule_options)
        self._projection = projection.adapted(0, adapters)
        self._query_encoder: TextEncoder = self._encoder
        expansion_id = self._tokenizer.expansion_id
        if expansion_id is not None and not rules.attends_to_expansion:
            self._tokenizer.check_ends()
            self._query_encoder = ExpansionEncoder(spec, self._encoder.weights, engine, expansion_id)
            self._query_encoder.watches = self._encoder.watches
        self._pipelines: Final = {
            "document": Pipeline(self._encoder, (), "mean", self.num_threads),
            "query": Pipeline(self._query_encoder, (), "mean", self.num_threads),
        }

    @property
    def dim(self) -> int:
        """Values of a token's vector, before any truncation."""
        return self._projection.dim

    def _add_adapter(self, adapter: Adapter) -> None:
        projection = self._projection.adapted(len(self.tasks), [adapter])
        super()._add_adapter(adapter)
        self._projection = projection
        self._query_encoder.weights = self._encoder.weights

    @overload
    def encode_queries(self, texts: Input, **options: Unpack[QueryOptions]) -> FloatArray: ...  # type: ignore[overload-overlap]
    @overload
    def encode_queries(self, texts: Iterable[Input], **options: Unpack[QueryOptions]) -> list[FloatArray]: ...

    def encode_queries(
        self,
        texts: Input | Iterable[Input],
        *,
        task: Task = None,
        dim: int | None = None,
        max_length: int | None = None,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        show_progress_bar: bool | None = None,
        on_truncate: OnTruncate = "warn",
        modality: str | None = None,
    ) -> FloatArray | list[FloatArray]:
        """Token vectors of queries, of unit length. No input's result depends on the others, bit for bit.

        Args:
            texts: any number of str, or one; where the model reads them, images too, as `Encoder.encode` takes them.
            task: one of `tasks`, the adapter to run; "base" for none; None for the model's own choice for queries; or a
                list, one a text. It also decides the prompt, where the model has any.
            dim: keep this many leading values of each vector, and bring it to unit length again; None for all.
            max_length: takes the place of `query_maxlen`: what queries are cut to, and filled up to.
            batch_size: texts in a batch at most; None for any number.
            batch_tokens: tokens in a batch at most (a longer text runs alone); None for a number that runs well.
            show_progress_bar: None shows one on a terminal or in a notebook, if the work takes more than a second, and
                elsewhere a line every 30 seconds; False shows nothing.
            on_truncate: what to do when a text is cut: "warn" (TruncationWarning), "error" or "ignore".
            modality: as `Encoder.encode`: "image" takes a str, a path or bytes for an image's file.
        Returns: for each query (query_maxlen, dim) f32, the mask tokens' vectors included; where the model fills
            nothing up, (tokens, dim). For one str one array.
        Raises: TypeError or ValueError, an argument breaks a line above, or `on_truncate="error"` and a text is cut.
        """
        job = TokenJob(
            name="encode_queries",
            role="query",
            rule=None,
            dim=self._checked_dim("encode_queries", dim),
            max_length=self._limit("encode_queries", max_length, self.query_maxlen),
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            on_truncate=on_truncate,
        )
        return self._encode(job, texts, task, show_progress_bar, modality)

    @overload
    def encode_documents(self, texts: Input, **options: Unpack[DocumentOptions]) -> FloatArray: ...  # type: ignore[overload-overlap]
    @overload
    def encode_documents(self, texts: Iterable[Input], **options: Unpack[DocumentOptions]) -> list[FloatArray]: ...

    def encode_documents(
        self,
        texts: Input | Iterable[Input],
        *,
        task: Task = None,
        dim: int | None = None,
        max_length: int | None = None,
        skip_list: SkipList | None = "model",
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        show_progress_bar: bool | None = None,
        on_truncate: OnTruncate = "warn",
        modality: str | None = None,
    ) -> FloatArray | list[FloatArray]:
        """Token vectors of documents, of unit length. No input's result depends on the others, bit for bit.

        Args:
            texts: any number of str, or one; where the model reads them, images too, as `Encoder.encode` takes them.
            task: as `encode_queries`, with the model's own choice for documents.
            dim: as `encode_queries`.
            max_length: tokens of a document at most, special ones and the marker included; None for `doc_maxlen`,
                which it may exceed, up to the model's own `max_length`.
            skip_list: whose tokens get no vector: "model", that of the model's own tool; "colbert" or "pylate", those
                of these tools, which differ in which tokens stand for a mark; None for a vector of every token.
            batch_size: as `encode_queries`.
            batch_tokens: as `encode_queries`.
            show_progress_bar: as `encode_queries`.
            on_truncate: as `encode_queries`.
            modality: as `encode_queries`.
        Returns: for each document (kept_tokens, dim) f32; for one input one array. Of an image every token has a
            vector, those of the text around it too. Special tokens and the marker are kept, so an empty document has
            vectors too; so does one all of whose tokens are on the list: it keeps them.
        Raises: as `encode_queries`.
        """
        check_choice("encode_documents", "skip_list", skip_list, (None, "model", *SKIP_RULES))
        job = TokenJob(
            name="encode_documents",
            role="document",
            rule=self._tokenizer.rules.skip_rule if skip_list == "model" else skip_list,
            dim=self._checked_dim("encode_documents", dim),
            max_length=self._limit("encode_documents", max_length, self.doc_maxlen),
            batch_size=batch_size,
            batch_tokens=batch_tokens,
            on_truncate=on_truncate,
        )
        return self._encode(job, texts, task, show_progress_bar, modality)

    # The same by the names that `Encoder` and `SparseEncoder` have for them.
    encode_query = encode_queries
    encode_document = encode_documents

    def token_places(
        self, inputs: Input | Iterable[Input], role: Role = "document", *, modality: str | None = None
    ) -> list[TokenPlaces]:
        """What each vector of `encode_queries` or `encode_documents` stands for, by their default arguments: characters
        of a text, or a cell of an image. No model is run.

        Raises: as they do.
        """
        check_choice("token_places", "role", role, ("query", "document"))
        given = read_inputs("token_places", inputs, modality, self.modalities)
        _, prompts = role_tasks_and_prompts(None, len(given.items), self, role)
        limit = self.query_maxlen if role == "query" else self.doc_maxlen
        rule = self._tokenizer.rules.skip_rule
        parts = (role, rule, limit, self._tokenizer, self._vision)
        return token_places("token_places", given.items, prompts, *parts)

    def score(self, queries: TokenArrays, documents: TokenArrays | MultiVectorStore) -> FloatArray:
        """(num_queries, num_docs) f32 by MaxSim of what `encode_queries` and `encode_documents` gave.

        `documents` may be a `MultiVectorStore`: all of it, in the order of its ids.
        """
        if isinstance(documents, MultiVectorStore):
            return documents.score(queries, origin=self._origin_for(documents))
        return score(queries, documents)

    def rank(
        self,
        query: Input | np.ndarray,
        documents: Sequence[Input] | Sequence[np.ndarray] | MultiVectorStore,
        top_k: int = 10,
        *,
        candidates: np.ndarray | None = None,
        modality: str | None = None,
    ) -> list[Ranked]:
        """The `top_k` best documents of a query, or all if there are fewer, best first; equal ones in order.

        Args:
            query: a text or another input, or its vectors (tokens, dim).
            documents: texts, images (pages), or for each document its vectors, or a store of them.
            top_k: 1 or more.
            candidates: with a store, the ids to choose from, None for all; see `MultiVectorStore.rank`.
            modality: of `documents`, as `encode_documents`.
        Raises: TypeError or ValueError, an argument breaks a line above.
        """
        vectors = np.asarray(self.encode_queries(query) if is_one(query) else query)
        if isinstance(documents, MultiVectorStore):
            return documents.rank(vectors, candidates, top_k, origin=self._origin_for(documents))
        if candidates is not None:
            raise ValueError("rank: candidates are ids of a MultiVectorStore; leave out of documents what is not asked")
        items = listed("rank: documents", documents, "str, images or arrays of vectors")
        inputs = cast("list[Input]", [item for item in items if is_one(item)])
        if inputs and len(inputs) < len(items):
            raise TypeError("rank: documents must be all texts or images, or all arrays of vectors, got both")
        given = cast("list[np.ndarray]", items)
        return rank(vectors, list(self.encode_documents(inputs, modality=modality)) if inputs else given, top_k)

    def _origin_for(self, store: MultiVectorStore) -> Origin | None:
        """Ours, where the store has one to hold it against; what is not needed is not computed."""
        return None if store.origin is None else self.origin

    def explain(self) -> str:
        """Which kernels run, in one line."""
        return self._pipelines["document"].explain()

    def __repr__(self) -> str:
        return f"MultiVectorEncoder({self.name!r}, {self.spec.family}, dim={self.dim}, max_length={self.max_length})"

    def _encode(
        self, job: TokenJob, texts: Input | Iterable[Input], task: Task, show: bool | None, modality: str | None
    ) -> FloatArray | list[FloatArray]:
        check_choice(job.name, "on_truncate", job.on_truncate, ON_TRUNCATE)
        given = read_inputs(job.name, texts, modality, self.modalities)
        items = given.items
        task, prompts = role_tasks_and_prompts(task, len(items), self, job.role)
        lora_ids = adapter_numbers(task, len(items), self.tasks, self.spec.tasks)
        inputs = [TokenInput(*parts) for parts in zip(items, prompts, lora_ids, strict=True)]
        job_parts = (job, self._tokenizer, self._pipelines[job.role], self._projection, self._vision)
        with progress_bar(len(items), "text" if given.texts is not None else "input", show) as progress:
            found = encode_tokens(inputs, *job_parts, progress)
        return found[0] if given.alone else found

    def _checked_dim(self, name: str, dim: int | None) -> int | None:
        if dim is not None and not 1 <= checked_int(f"{name}: dim", dim) <= self.dim:
            raise ValueError(f"{name}: dim must be from 1 to {self.dim}, got {dim}")
        return dim

    def _limit(self, name: str, given: int | None, default: int, argument: str = "max_length") -> int:
        """The length that holds for a call, in the model's bounds; the default is what its files say."""
        limit = default if given is None else checked_int(f"{name}: {argument}", given)
        shortest = self._tokenizer.shortest
        if not shortest <= limit <= self.max_length:
            kind = CheckpointError if given is None else ValueError
            raise kind(f"{name}: {argument} must be from {shortest} to {self.max_length} tokens, got {limit}")
        return limit


def _longest(checkpoint: Checkpoint, spec: ModelSpec) -> int:
    """Tokens that a text may have. A PyLate file's own limit is that of its last call, and says nothing."""
    longest = spec.default_max_tokens or spec.max_tokens
    said = None if checkpoint.modules else checkpoint.max_seq_length
    return longest if said is None else min(said, longest)
