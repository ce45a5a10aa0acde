"""Shapes that occur: layers of published models, and how long real texts are; each with its source.

python -m bench.shapes DATA MODEL     measures LENGTHS again from the judged data (bench/quality)
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class ModelShape:
    """An encoder's sizes, as its config.json has them."""

    name: str
    hidden: int
    layers: int
    heads: int
    intermediate: int
    position: Literal["absolute", "alibi", "rope"]
    source: str
    is_gated: bool = False
    kv_heads: int | None = None  # None: as heads
    own_head_dim: int | None = None  # None: hidden / heads
    lora_rank: int = 0
    lora_tasks: int = 0

    @property
    def head_dim(self) -> int:
        """Values of a head."""
        return self.own_head_dim or self.hidden // self.heads

    @property
    def products(self) -> dict[str, tuple[int, int]]:
        """in_features and out_features of a layer's products."""
        kv_heads = self.heads if self.kv_heads is None else self.kv_heads
        up = self.intermediate * (2 if self.is_gated else 1)
        return {
            "qkv": (self.hidden, (self.heads + 2 * kv_heads) * self.head_dim),
            "attention_out": (self.heads * self.head_dim, self.hidden),
            "up": (self.hidden, up),
            "down": (self.intermediate, self.hidden),
        }


MODELS: Final[Mapping[str, ModelShape]] = {
    shape.name: shape
    for shape in (
        ModelShape("MiniLM", 384, 6, 12, 1536, "absolute", "sentence-transformers/all-MiniLM-L6-v2, config.json"),
        ModelShape("base", 768, 12, 12, 3072, "absolute", "google-bert/bert-base-uncased, config.json"),
        ModelShape(
            "jina-v2", 768, 12, 12, 3072, "alibi", "jinaai/jina-embeddings-v2-base-en, config.json", is_gated=True
        ),
        ModelShape(
            "jina-v3", 1024, 24, 16, 4096, "rope", "jinaai/jina-embeddings-v3, config.json", lora_rank=4, lora_tasks=5
        ),
        ModelShape(
            "qwen3-0.6b", 1024, 28, 16, 3072, "rope", "Qwen/Qwen3-0.6B, config.json (jina-embeddings-v5-text-small)",
            is_gated=True, kv_heads=8, own_head_dim=128, lora_rank=32, lora_tasks=4,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TextLengths:
    """How long the texts of a real collection are, in tokens with the special ones: every tenth of them."""

    name: str
    deciles: tuple[int, ...]  # 11: the shortest, ... the longest
    source: str

    def draw(self, count: int, seed: int, *, most: int | None = None) -> np.ndarray:
        """(count,) int64 lengths of that distribution, straight between deciles, cut at `most`."""
        places = np.random.default_rng([20260131, seed]).uniform(0, 10, count)
        lengths = np.rint(np.interp(places, np.arange(11), self.deciles)).astype(np.int64)
        return lengths if most is None else np.minimum(lengths, most)


# Measured by this file's command with the tokenizer of all-MiniLM-L6-v2.
LENGTHS: Final[Mapping[str, TextLengths]] = {
    lengths.name: lengths
    for lengths in (
        TextLengths(
            "sts sentences", (5, 8, 9, 10, 11, 12, 13, 15, 18, 24, 46), "STS-B, English test pairs: 2,758 texts"
        ),
        TextLengths("code queries", (6, 7, 8, 8, 9, 9, 9, 10, 11, 13, 17), "CoSQA, queries: 313 texts"),
        TextLengths("claims", (7, 14, 16, 17, 19, 21, 23, 26, 30, 36, 64), "SciFact, test queries: 300 texts"),
        TextLengths(
            "abstracts",
            (70, 188, 229, 260, 286, 316, 351, 388, 434, 502, 1939),
            "SciFact, titles and abstracts: 5,183 texts",
        ),
        TextLengths(
            "wiki passages",
            (36, 100, 114, 127, 135, 146, 160, 178, 203, 247, 619),
            "XQuAD, English paragraphs of Wikipedia: 240 texts",
        ),
        TextLengths(
            "articles",
            (660, 1351, 2497, 3571, 3986, 4816, 5601, 6749, 8022, 10339, 12818),
            "COVID-QA, whole articles: 92 texts",
        ),
    )
}


def measure_lengths(data: Path, model: str) -> list[TextLengths]:
    """The table LENGTHS from the data. Raises: FileNotFoundError, a file is not there."""
    from longspan import Encoder

    from .quality.data import load_articles, load_retrieval, load_sts

    tokenizer = Encoder(model).tokenizer
    pairs = load_sts(data, "en")
    texts = {
        "sts sentences": (pairs.first + pairs.second, "STS-B, English test pairs"),
        "code queries": (load_retrieval(data, "cosqa").queries, "CoSQA, queries"),
        "claims": (load_retrieval(data, "scifact").queries, "SciFact, test queries"),
        "abstracts": (load_retrieval(data, "scifact").documents, "SciFact, titles and abstracts"),
        "wiki passages": (load_retrieval(data, "xquad.en").documents, "XQuAD, English paragraphs of Wikipedia"),
        "articles": (load_articles(data, "covidqa").documents, "COVID-QA, whole articles"),
    }
    measured = []
    for name, (some, source) in texts.items():
        sizes = [len(text.ids) for text in tokenizer.encode(list(some), max_length=10**9)]
        deciles = tuple(int(size) for size in np.percentile(sizes, np.arange(0, 101, 10)))
        measured.append(TextLengths(name, deciles, f"{source}: {len(sizes):,} texts"))
    return measured


if __name__ == "__main__":
    for each in measure_lengths(Path(sys.argv[1]), sys.argv[2]):
        print(f"        {each!r},")
