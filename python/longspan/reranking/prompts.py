"""The prompts of decoders that judge a pair, to the character, as published: Qwen3-Reranker and mxbai-rerank-v2.

Source: Qwen3-Reranker's model card, the mxbai_rerank package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan.reranking.formats import Cut, Pairs
from longspan.text.pairs import PairRow, is_long, kept, unique_ids
from longspan.text.tokenizer import TextTokenizer

CONVENTION: Final = 8192  # tokens of a row, in the published code
YES_NO_INSTRUCTION: Final = "Given a web search query, retrieve relevant passages that answer the query"
YES_NO_PREFIX: Final = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
ASSISTANT_SUFFIX: Final = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
MXBAI_PREFIX: Final = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n"
)
MXBAI_TASK: Final = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document "
    "pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment "
    "(0 for not relevant, 1 for relevant).\nRelevance:"
)
MXBAI_SUFFIX: Final = "<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True, slots=True, eq=False)
class YesNoFormat:
    """Qwen3-Reranker's prompt. Its three parts are tokenized apart, and of the middle one the end is cut."""

    tokenizer: TextTokenizer
    prefix: np.ndarray
    suffix: np.ndarray
    num_beside: int = 0
    takes_instruction: bool = True
    cuts_queries: bool = False
    max_length: int | None = CONVENTION

    @classmethod
    def of(cls, tokenizer: TextTokenizer) -> YesNoFormat:
        """With the fixed parts tokenized."""
        prefix, suffix = tokenizer.bare_ids([YES_NO_PREFIX, ASSISTANT_SUFFIX])
        return cls(tokenizer, prefix, suffix)

    @property
    def num_fixed(self) -> int:
        """See `RowFormat`."""
        return len(self.prefix) + len(self.suffix)

    def rows(self, pairs: Pairs, cut: Cut, instruction: str | None) -> list[PairRow]:
        """See `RowFormat`. The cut comes off the body's end: the document's, and where nothing of it is left the
        query's."""
        told = YES_NO_INSTRUCTION if instruction is None else instruction
        heads = [f"<Instruct>: {told}\n<Query>: {query}\n<Document>:" for query, _ in pairs]
        bodies = [f"{head} {document}" for head, (_, document) in zip(heads, pairs, strict=True)]
        room = cut.max_length - self.num_fixed
        rows = []
        for head, text, body in zip(heads, bodies, self.tokenizer.bare_ids(bodies, "pairs", room), strict=True):
            ids = np.concatenate([self.prefix, body[:room], self.suffix])
            lost = max(0, len(body) - room)
            of_query = min(lost, max(0, len(self.tokenizer.bare_ids([head], "queries", room)[0]) - room)) if lost else 0
            rows.append(PairRow(ids, None, of_query, lost - of_query, is_long(text)))
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class MxbaiFormat:
    """mxbai-rerank-v2's prompt: every part tokenized apart, the query cut to 3/4, then the document."""

    tokenizer: TextTokenizer
    prefix: np.ndarray
    newline: np.ndarray
    suffix: np.ndarray
    takes_instruction: bool = True
    cuts_queries: bool = True
    max_length: int | None = CONVENTION

    @classmethod
    def of(cls, tokenizer: TextTokenizer) -> MxbaiFormat:
        """With the fixed parts tokenized."""
        prefix, newline, task, suffix = tokenizer.bare_ids([MXBAI_PREFIX, "\n", MXBAI_TASK, MXBAI_SUFFIX])
        return cls(tokenizer, prefix, newline, np.concatenate([newline, task, suffix]))

    @property
    def num_fixed(self) -> int:
        """See `RowFormat`."""
        return len(self.newline)

    @property
    def num_beside(self) -> int:
        """See `RowFormat`: the published code counts the query, a newline and the document alone."""
        return len(self.prefix) + len(self.suffix)

    def rows(self, pairs: Pairs, cut: Cut, instruction: str | None) -> list[PairRow]:
        """See `RowFormat`."""
        before = "" if instruction is None else f"instruction: {instruction}\n"
        room = cut.max_length - self.num_fixed
        queries = unique_ids(self.tokenizer, (f"{before}query: {query}" for query, _ in pairs), "queries", room)
        documents = unique_ids(self.tokenizer, (f"document: {document}" for _, document in pairs), "documents", room)
        longest_query = cut.max_length * 3 // 4 if cut.max_query_length is None else cut.max_query_length
        rows = []
        for query_text, document_text in pairs:
            query, document = queries[f"{before}query: {query_text}"], documents[f"document: {document_text}"]
            of_query, of_document = kept(len(query), len(document), room, longest_query)
            parts = [self.prefix, query[:of_query], self.newline, document[:of_document], self.suffix]
            lost = len(query) - of_query, len(document) - of_document
            more = is_long(query_text) or is_long(document_text)
            rows.append(PairRow(np.concatenate(parts), None, *lost, more))
        return rows
