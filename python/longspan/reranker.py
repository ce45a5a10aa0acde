"""`Reranker`: a cross-encoder, ready to score how well documents answer a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict, cast, overload

import numpy as np

from longspan.arguments import names_arguments
from longspan.errors import TruncationWarning, warn_caller
from longspan.integers import checked_int
from longspan.pipeline.options import ON_TRUNCATE, OnTruncate, check_choice
from longspan.progress import progress_bar
from longspan.reranking.activation import ActivationFn, activated, checked_activation, softmax
from longspan.reranking.model import RerankModel
from longspan.reranking.request import (
    LONG_DOCUMENTS,
    OVERLAP_TOKENS,
    Lists,
    LongDocuments,
    Request,
    Scored,
    checked_lists,
    checked_pairs,
)
from longspan.text.containers import checked_texts
from longspan.text.prompts import resolve_prompt
from longspan.text.tasks import adapter_numbers
from longspan.text.tokenizer_config import Side
from longspan.vectors.arrays import FloatArray

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack


class _WithEmbedding(TypedDict, total=False):
    embedding: FloatArray


class RankedDocument(_WithEmbedding):
    """One document of a ranking, as sentence-transformers names its parts.

    Attributes:
        corpus_id: the document's place in the caller's list.
        score: higher is better.
        embedding: (dim,) f32, with `return_embeddings=True`.
    """

    corpus_id: int
    score: float


class RankedText(RankedDocument):
    """The same with `return_documents=True`.

    Attributes:
        text: the document.
    """

    text: str


Rankings: TypeAlias = "list[RankedDocument] | list[RankedText] | list[list[RankedDocument]] | list[list[RankedText]]"


class RerankOptions(TypedDict, total=False):
    """The options that `predict` and `rank` share; `predict` says what they mean."""

    batch_size: int | None
    batch_tokens: int | None
    show_progress_bar: bool | None
    activation_fn: ActivationFn | None
    prompt_name: str | None
    prompt: str | None
    task: str | None
    max_length: int | None
    max_query_length: int | None
    truncation_side: Side | None
    on_truncate: OnTruncate


class RankOptions(RerankOptions, total=False):
    """Those of `rank`."""

    return_embeddings: bool
    long_documents: LongDocuments
    overlap_tokens: int


@names_arguments
class Reranker(RerankModel):
    """A model that reads a query and a document together and says how well they fit.

    Args:
        name_or_path: a folder or a Hugging Face id such as "cross-encoder/ms-marco-MiniLM-L6-v2".
        device: as `Encoder`.
        dtype: as `Encoder`; the head runs in float32 on the CPU whatever the encoder's products run in.
        pair_format: how pairs become rows: "pair", the tokenizer's own template; "qwen3" or "mxbai", the prompts of
            those rerankers; None for what the model's family was published with.
        revision, token, cache_dir, local_files_only, num_threads, cuda_graphs: as `Encoder`.
    Raises: FileNotFoundError, no such folder or model; CheckpointError, its files are damaged, not supported or none of
        a reranker; ValueError, an argument breaks a line above.
    """

    @overload
    def predict(
        self,
        pairs: Sequence[Sequence[str]] | Sequence[str],
        *,
        apply_softmax: bool = False,
        convert_to_tensor: Literal[False] = False,
        **options: Unpack[RerankOptions],
    ) -> FloatArray: ...

    @overload
    def predict(
        self,
        pairs: Sequence[Sequence[str]] | Sequence[str],
        *,
        apply_softmax: bool = False,
        convert_to_tensor: Literal[True],
        **options: Unpack[RerankOptions],
    ) -> torch.Tensor: ...

    @overload
    def predict(
        self,
        pairs: Sequence[Sequence[str]] | Sequence[str],
        *,
        apply_softmax: bool = False,
        convert_to_tensor: bool,
        **options: Unpack[RerankOptions],
    ) -> FloatArray | torch.Tensor: ...

    def predict(
        self,
        pairs: Sequence[Sequence[str]] | Sequence[str],
        *,
        apply_softmax: bool = False,
        convert_to_tensor: bool = False,
        **options: Unpack[RerankOptions],
    ) -> FloatArray | torch.Tensor:
        """Score pairs. On the CPU a pair's score is the same in any batch, bit for bit.

        Args:
            pairs: (query, document) each, or one such pair of str.
            apply_softmax: softmax over the labels, behind the activation, of models that have several.
            convert_to_tensor: return a torch tensor.
            batch_size: pairs in a batch at most; None for any number.
            batch_tokens: tokens in a batch at most (a longer pair runs alone); None for a number that runs well.
            show_progress_bar: None shows one on a terminal or in a notebook, if the work takes more than a second, and
                elsewhere a line every 30 seconds; False shows nothing.
            activation_fn: from logits to scores: "identity", "sigmoid" or a function of (n, labels) f32; None for what
                the model's files say, which without a word is sigmoid for one label and identity for several.
            prompt_name: one of `prompts`: it goes before the query, or is the instruction of a model that takes one;
                None for the model's default, if it has one.
            prompt: the prompt or instruction itself; wins over `prompt_name`.
            task: one of `tasks`, the adapter to run; None for none.
            max_length: tokens of a pair at most, special ones included; None for the model's own limit. Of
                mxbai-rerank it counts query and document alone, of a listwise model the document (None: 2048).
            max_query_length: tokens that a query keeps; what is too much then comes off the document. None takes from
                the end of the longer of the two first; of a listwise model it is 512. Qwen3-Reranker takes none: its
                prompt is cut at the end, the document's, which comes to the query where it has no room.
            truncation_side: which end of a text is cut, "left" or "right"; None for what the tokenizer's settings say.
                A model with a prompt and a listwise one cut the right alone.
            on_truncate: what to do when a pair is cut: "warn" (TruncationWarning), "error" or "ignore".
        Returns: (n,) f32, or (n, labels) of a model with several labels; a scalar or (labels,) for one pair. A listwise
            model scores each document as if it were its query's only one.
        Raises: TypeError or ValueError, an argument breaks a line above, or `on_truncate="error"` and a pair is cut.
        """
        items, alone = checked_pairs(pairs)
        activation = checked_activation("predict", options.get("activation_fn"), self.default_activation)
        lists = [(query, [document]) for query, document in items]
        parts = self._scored("predict", lists, "pair", {**options}).logits  # type: ignore[typeddict-item]  # all optional
        logits = np.concatenate([np.empty((0, self.num_labels), np.float32), *parts])
        several = self.num_labels > 1
        values = activated(logits, activation)
        values = softmax(values) if apply_softmax and several else values
        values = values if several else values[:, 0]
        if convert_to_tensor:
            import torch

            return torch.from_numpy(values)[0] if alone else torch.from_numpy(values)
        return np.asarray(values[0]) if alone else values

    @overload
    def rank(  # type: ignore[overload-overlap]  # a str is a sequence of them
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: Literal[False] = False,
        **options: Unpack[RankOptions],
    ) -> list[RankedDocument]: ...

    @overload
    def rank(  # type: ignore[overload-overlap]
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        *,
        return_documents: Literal[True],
        **options: Unpack[RankOptions],
    ) -> list[RankedText]: ...

    @overload
    def rank(
        self,
        query: Sequence[str],
        documents: Sequence[str] | Sequence[Sequence[str]],
        top_k: int | None = None,
        return_documents: Literal[False] = False,
        **options: Unpack[RankOptions],
    ) -> list[list[RankedDocument]]: ...

    @overload
    def rank(
        self,
        query: Sequence[str],
        documents: Sequence[str] | Sequence[Sequence[str]],
        top_k: int | None = None,
        *,
        return_documents: Literal[True],
        **options: Unpack[RankOptions],
    ) -> list[list[RankedText]]: ...

    @overload
    def rank(
        self,
        query: str | Sequence[str],
        documents: Sequence[str] | Sequence[Sequence[str]],
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Unpack[RankOptions],
    ) -> Rankings: ...

    def rank(
        self,
        query: str | Sequence[str],
        documents: Sequence[str] | Sequence[Sequence[str]],
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Unpack[RankOptions],
    ) -> Rankings:
        """The documents of a query, best first; equal ones in the caller's order. Many queries run in one pass.

        Ranks follow the logits: a sigmoid in float32 makes all that are above 17 equal.

        Args:
            query: one, or a list of them.
            documents: for one query its documents; for several one list for all, or one list a query.
            top_k: documents of each ranking; None for all.
            return_documents: put the texts beside the scores.
            return_embeddings: of a listwise model put each document's vector, which it was scored by, beside them, as
                "embedding", (dim,) f32: it knows the query and the documents before it, and has no unit length.
            long_documents: of models that score a pair by itself: "cut" the end of what is too long, or read it in
                overlapping "windows" and take the best, as jina-reranker-v2's own code does. With windows
                `max_query_length` counts special tokens, and None stands for 512 or half of `max_length`.
            overlap_tokens: that neighbouring windows share, a quarter of a window at most.
            options: as `predict`.
        Returns: for one query a list of {"corpus_id", "score"[, "text"][, "embedding"]}; for a list of queries one such
            list each.
        Raises: as `predict`; ValueError, the model has several labels, or no vectors that are asked for.
        """
        if self.num_labels != 1:
            raise ValueError(f"rank: the model has {self.num_labels} labels, and a ranking needs 1; use predict")
        lists = checked_lists(query, documents)
        top = len(lists) and max(len(own) for _, own in lists)
        if top_k is not None:
            top = checked_int("rank: top_k", top_k)
            if top < 1:
                raise ValueError(f"rank: top_k must be 1 or more, got {top}")
        activation = checked_activation("rank", options.get("activation_fn"), self.default_activation)
        with_vectors = options.get("return_embeddings", False)
        if with_vectors and not self.is_listwise:
            raise ValueError(
                "rank: this model reads a pair at once and makes no vector of a document; leave out return_embeddings"
            )
        scored = self._scored("rank", lists, "document", options)
        rankings = [
            _ranking(logits, own, activation, top, return_documents)
            for logits, (_, own) in zip(scored.logits, lists, strict=True)
        ]
        if with_vectors and scored.vectors is not None:
            for ranking, vectors in zip(rankings, scored.vectors, strict=True):
                for entry in ranking:
                    entry["embedding"] = vectors[entry["corpus_id"]]
        return rankings[0] if isinstance(query, str) else cast("Rankings", rankings)

    def _scored(self, caller: str, lists: Lists, unit: str, options: RankOptions) -> Scored:
        """All lists in one pass; what was cut is told as the caller wants it."""
        on_truncate = options.get("on_truncate", "warn")
        check_choice(caller, "on_truncate", on_truncate, ON_TRUNCATE)
        check_choice(caller, "truncation_side", options.get("truncation_side"), (None, "left", "right"))
        check_choice(caller, "long_documents", options.get("long_documents", "cut"), LONG_DOCUMENTS)
        prompt = resolve_prompt(
            self.prompts,
            prompt_name=options.get("prompt_name"),
            prompt=options.get("prompt"),
            default_prompt_name=self.default_prompt_name,
        )
        checked_texts("prompt", [prompt], caller=caller)
        overlap = checked_int(f"{caller}: overlap_tokens", options.get("overlap_tokens", OVERLAP_TOKENS))
        if overlap < 0:
            raise ValueError(f"{caller}: overlap_tokens must be 0 or more, got {overlap}")
        [adapter] = adapter_numbers(options.get("task"), 1, self.tasks, self.spec.tasks)
        total = sum(len(documents) for _, documents in lists)
        with progress_bar(total, unit, options.get("show_progress_bar")) as progress:
            request = Request(
                caller=caller,
                instruction=prompt,
                adapter=adapter,
                max_length=options.get("max_length"),
                max_query_length=options.get("max_query_length"),
                long_documents=options.get("long_documents", "cut"),
                overlap_tokens=overlap,
                truncation_side=options.get("truncation_side"),
                batch_size=options.get("batch_size"),
                batch_tokens=options.get("batch_tokens"),
                progress=progress,
            )
            scored = self._scorer.score(lists, request)
        if scored.losses is not None and on_truncate != "ignore":
            if on_truncate == "error":
                raise ValueError(scored.losses)
            warn_caller(scored.losses, TruncationWarning)
        return scored

    def __repr__(self) -> str:
        kind = "listwise, " if self.is_listwise else ""
        return f"Reranker({self.name!r}, {self.spec.family}, {kind}max_length={self.max_length})"


def _ranking(
    logits: np.ndarray, documents: Sequence[str], activation: ActivationFn, top: int, with_text: bool
) -> list[RankedDocument] | list[RankedText]:
    """Best first, by the logits, (documents, 1) f32; by the scores where they are a function of the caller's."""
    scores = activated(logits, activation)[:, 0]
    by = logits[:, 0] if isinstance(activation, str) else scores
    best: list[int] = np.argsort(-by, kind="stable")[:top].tolist()
    ranking: list[RankedDocument] = [{"corpus_id": place, "score": float(scores[place])} for place in best]
    if not with_text:
        return ranking
    with_texts: list[RankedText] = [{**entry, "text": documents[entry["corpus_id"]]} for entry in ranking]
    return with_texts
