"""jina-reranker-v3: all documents of a query in one sequence, each seen in the light of those before it.

The prompt holds a marker behind each document and one behind the query; a document's score is the cosine of what a
projector makes of the hidden states at the two. What does not fit one sequence goes into several blocks; then all
cosines are taken against the mean of the blocks' query vectors, weighted by the best score of each block.
Source: arXiv:2509.25085 and its published code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from io import SEEK_END, StringIO
from typing import Final

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import Product
from longspan.packing.batch import PackedBatch
from longspan.packing.selection import Selection
from longspan.pipeline.pipeline import Pipeline
from longspan.reranking.head import finite
from longspan.reranking.request import Lists, Request, Scored
from longspan.text.tokenizer import TextTokenizer

FIRST: Final = "projector.0.weight"
SECOND: Final = "projector.2.weight"
DOCUMENT_MARKER: Final = "<|embed_token|>"
QUERY_MARKER: Final = "<|rerank_token|>"
BLOCK_DOCUMENTS: Final = 125  # in one sequence at most
MAX_DOCUMENT_LENGTH: Final = 2048
MAX_QUERY_LENGTH: Final = 512
SMALLEST_NORM: Final = 1e-8  # torch's cosine_similarity

PROMPT_HEAD: Final = (
    "<|im_start|>system\nYou are a search relevance expert who can determine a ranking of the passages based on how "
    "relevant they are to the query. If the query is a question, how relevant a passage is depends on how well it "
    "answers the question. If not, try to analyze the intent of the query and assess how well each passage satisfies "
    "the intent. If an instruction is provided, you should follow the instruction when determining the ranking."
    "<|im_end|>\n<|im_start|>user\n"
)
PROMPT_TAIL: Final = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


@dataclass(frozen=True, slots=True)
class ListCut:
    """Tokens of a query and of a document at most."""

    max_query_length: int = MAX_QUERY_LENGTH
    max_document_length: int = MAX_DOCUMENT_LENGTH


@dataclass(frozen=True, slots=True, eq=False)
class MarkerHead:
    """A tail of the pipeline: the projector of the hidden states at the markers."""

    first: Product
    second: Product
    engine: OpsEngine

    @classmethod
    def load(cls, checkpoint: Checkpoint, hidden_size: int, engine: OpsEngine) -> MarkerHead:
        """CheckpointError, naming the tensor, if one has a wrong shape or holds NaN or infinity."""
        shapes = checkpoint.shape(FIRST), checkpoint.shape(SECOND)
        width = shapes[0][0] if shapes[0] else 0
        for name, shape, columns in zip((FIRST, SECOND), shapes, (hidden_size, width), strict=True):
            if len(shape) != 2 or shape[0] < 1 or shape[1] != columns:
                raise CheckpointError(f"{checkpoint.folder}: tensor {name} must be (any, {columns}), got {shape}")
        first, second = (Product(engine.pack_exactly(finite(checkpoint, name), None)) for name in (FIRST, SECOND))
        return cls(first, second, engine)

    @property
    def dim(self) -> int:
        """Values of a document's vector."""
        return self.second.weight.out_features

    def __call__(self, hidden: np.ndarray, batch: PackedBatch, selection: Selection) -> np.ndarray:
        """(hidden, batch, selection) -> (markers, dim)."""
        marked, engine = hidden[selection.tokens], self.engine
        inner = engine.empty(len(marked), self.first.weight.out_features)
        engine.multiply(marked, self.first, None, activation="relu", out=inner)
        vectors = engine.empty(len(marked), self.second.weight.out_features)
        engine.multiply(inner, self.second, None, out=vectors)
        return vectors


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring documents of one query that share a sequence."""

    owner: int  # the query's place
    ids: np.ndarray


class ListScorer:
    """A model that scores the documents of a query together: their number and order matter."""

    def __init__(self, pipeline: Pipeline, head: MarkerHead, tokenizer: TextTokenizer, max_length: int) -> None:
        self._pipeline = pipeline
        self._head = head
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._markers = tuple(self._marker(name) for name in (DOCUMENT_MARKER, QUERY_MARKER))

    def _marker(self, name: str) -> int:
        number = self._tokenizer.token_id(name)
        if number is None:
            raise CheckpointError(f"{self._tokenizer.source} has no token {name!r}, which marks what is scored")
        return number

    @property
    def num_labels(self) -> int:
        """One cosine a document."""
        return 1

    def score(self, lists: Lists, request: Request) -> Scored:
        """See `Scorer`: cosines from -1 to 1. The blocks of all lists go through the model in one call, as many in a
        batch as have room."""
        if request.long_documents != "cut":
            raise ValueError(f"{request.caller}: a listwise model cuts long documents, it has no windows")
        if request.truncation_side == "left":
            raise ValueError(f"{request.caller}: truncation_side must be 'right' or None for a listwise model")
        most = self._max_length
        cut = ListCut(
            request.limit("max_query_length", request.max_query_length, MAX_QUERY_LENGTH, 1, most),
            request.limit("max_length", request.max_length, MAX_DOCUMENT_LENGTH, 1, most),
        )
        blocks: list[Block] = []
        num_cut = 0
        for place, (query, documents) in enumerate(lists):
            made, lost = self._blocks(place, query, documents, cut, request.instruction or None)
            blocks += made
            num_cut += lost
        vectors = self._vectors([block.ids for block in blocks], request)
        by_owner: list[list[np.ndarray]] = [[] for _ in lists]
        for block, own in zip(blocks, vectors, strict=True):
            by_owner[block.owner].append(own)
        logits = [_cosines(own)[:, None] if own else np.empty((0, 1), np.float32) for own in by_owner]
        text = (
            f"{request.caller}: {num_cut} texts were cut, queries to {cut.max_query_length} tokens and documents to "
            f"{cut.max_document_length}"
        )
        none = np.empty((0, self._head.dim), np.float32)
        of_documents = [np.concatenate([none, *(block[:-1] for block in own)]) for own in by_owner]
        return Scored(logits, text if num_cut else None, of_documents)

    def _blocks(
        self, place: int, query: str, documents: Sequence[str], cut: ListCut, instruction: str | None
    ) -> tuple[list[Block], int]:
        [(query, num_query, query_was_cut)] = self._shortened([query], cut.max_query_length)
        shortened = self._shortened(documents, cut.max_document_length)
        num_cut = query_was_cut + sum(was_cut for _, _, was_cut in shortened)
        whole = self._max_length - 2 * num_query
        groups: list[list[str]] = []
        group: list[str] = []
        room = whole
        for text, tokens, _ in shortened:
            group.append(text)
            room -= tokens
            if len(group) >= BLOCK_DOCUMENTS or room <= cut.max_document_length:
                groups.append(group)
                group, room = [], whole
        groups += [group] if group else []
        prompts = [prompt(query, texts, instruction) for texts in groups]
        return [Block(place, ids) for ids in self._tokenizer.bare_ids(prompts, "prompts")], num_cut

    def _shortened(self, texts: Sequence[str], longest: int) -> list[tuple[str, int, bool]]:
        """Each text, its tokens, and whether it was cut: a text of `longest` tokens or more becomes what the first
        `longest` of them spell."""
        shortened = []
        for text, ids in zip(texts, self._tokenizer.bare_ids(texts, "texts", longest), strict=True):
            if len(ids) < longest:
                shortened.append((text, len(ids), False))
                continue
            spelt = self._tokenizer.backend.decode(ids[:longest].tolist(), skip_special_tokens=False)
            shortened.append((spelt, longest, len(ids) > longest))
        return shortened

    def _vectors(self, rows: Sequence[np.ndarray], request: Request) -> list[np.ndarray]:
        """For each sequence the projected vectors at its markers, the query's last: (documents + 1, dim) f32."""
        found: list[np.ndarray] = [np.empty(0, np.float32)] * len(rows)

        def select(batch: PackedBatch) -> Selection:
            marked = np.flatnonzero(np.isin(batch.ids, self._markers)).astype(np.int32)
            return Selection(len(marked), marked)

        given = self._pipeline.for_adapter(request.adapter).results(
            rows, self._head, select, batch_size=request.batch_size, batch_tokens=request.batch_tokens
        )
        with closing(given) as results:
            for batch, values in results:
                marked = np.isin(batch.ids, self._markers)
                ends = np.cumsum(marked)[batch.cu_seqlens[1:] - 1]
                for index, own in zip(batch.indices, np.split(values, ends[:-1]), strict=True):
                    found[index] = own
                    request.progress(len(own) - 1)
        return found


def prompt(query: str, documents: Sequence[str], instruction: str | None) -> str:
    """The sequence of a query and its documents; markers that the texts spell out are deleted."""
    query, *documents = map(_without_markers, (query, *documents))
    number = len(documents)
    told = "" if instruction is None else f"<instruct>\n{_without_markers(instruction)}\n</instruct>\n"
    passages = "\n".join(
        f'<passage id="{place}">\n{document}{DOCUMENT_MARKER}\n</passage>' for place, document in enumerate(documents)
    )
    return (
        f"{PROMPT_HEAD}I will provide you with {number} passages, each indicated by a numerical identifier. "
        f"Rank the passages based on their relevance to query: {query}\n{told}{passages}\n"
        f"<query>\n{query}{QUERY_MARKER}\n</query>{PROMPT_TAIL}"
    )


def _without_markers(text: str) -> str:
    """Until none is left: taking one out may join the halves of another. In one pass, as they may be nested deeply."""
    text = text.replace(DOCUMENT_MARKER, "").replace(QUERY_MARKER, "")  # as published
    if DOCUMENT_MARKER not in text and QUERY_MARKER not in text:
        return text
    kept = StringIO()
    last = DOCUMENT_MARKER[-1]
    for part in re.split(f"(?<={re.escape(last)})", text):
        kept.write(part)
        for marker in (DOCUMENT_MARKER, QUERY_MARKER):
            start = kept.tell() - len(marker)
            if start >= 0 and part.endswith(last):
                kept.seek(start)
                if kept.read() == marker:
                    kept.seek(start)
                    kept.truncate()
                kept.seek(0, SEEK_END)
    return kept.getvalue()


def _cosines(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """(documents,) f32 from the vectors of a query's blocks."""
    wide = [block.astype(np.float64) for block in blocks]
    first = [_cosine(block[:-1], block[-1]) for block in wide]
    if len(wide) == 1:
        return first[0].astype(np.float32)
    weights = np.array([((1 + scores) / 2).max() for scores in first])
    query = np.average([block[-1] for block in wide], axis=0, weights=weights)
    return np.concatenate([_cosine(block[:-1], query) for block in wide]).astype(np.float32)


def _cosine(documents: np.ndarray, query: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(documents, axis=1) * np.linalg.norm(query)
    return np.asarray(documents @ query / np.maximum(lengths, SMALLEST_NORM))
