"""maxsim in every format of documents beside maxsim-cpu, NumKong and torch, and its share of the multipliers' rate.

    python -m bench.ops.bench_maxsim [--full] [--json FILE]

Queries of 32 tokens against 1000 documents of 180, dim 128, as ColBERT models give them. One query at a time, where
peers take part; and sixteen at once, which those do not do. Scores are held against float64 maths on the
vectors as given.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from longspan import ops
from longspan.ops.maxsim_tokens import Tokens

from ..case import Case, Contest, Contestant, Numerics, Setting, Work, float32_limit
from ..command import main
from ..contest import our_name
from ..peers import enter
from ..truth import limits_of, rounded

BUDGET: Final = 15  # seconds of the short form, about
QUERIES: Final = 16
QUERY_TOKENS: Final = 32
DOCS: Final = 1000
DOC_TOKENS: Final = 180
DIM: Final = 128


@dataclass(frozen=True, slots=True)
class Format:
    """How documents are kept."""

    name: str
    numerics: Numerics
    size: float  # bytes of a value


# float16 is widened, its products are float32's; rounding the documents is what its error is made of.
FORMATS: Final = (
    Format("float32", "float32", 4),
    Format("float16", "float16", 2),
    Format("bfloat16", "bfloat16", 2),
    Format("int8", "int8", 1),
)


def cases(setting: Setting) -> Iterator[Case]:
    """One query, then several."""
    for queries in (1, QUERIES):
        work = _work(queries, 4)
        labels = {"queries": queries, "query tokens": QUERY_TOKENS, "docs": DOCS, "doc tokens": DOC_TOKENS, "dim": DIM}
        yield Case("maxsim", labels, work, partial(_contest, queries), "maxsim" if queries == 1 else "")


def unit_rows(rows: int, seed: int) -> np.ndarray:
    """Random unit vectors."""
    x = np.random.default_rng(seed).standard_normal((rows, DIM), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _work(queries: int, size: float) -> Work:
    flops = 2.0 * queries * QUERY_TOKENS * DIM * DOCS * DOC_TOKENS
    return Work(flops, size * DOCS * DOC_TOKENS * DIM, float(queries), "queries")


def _contest(queries: int, setting: Setting) -> Contest:
    q, d = unit_rows(queries * QUERY_TOKENS, 1), unit_rows(DOCS * DOC_TOKENS, 2)
    cu_q = np.arange(0, len(q) + 1, QUERY_TOKENS, dtype=np.int32)
    cu_d = np.arange(0, len(d) + 1, DOC_TOKENS, dtype=np.int32)
    docs: dict[str, Tokens] = {
        "float32": d,
        "float16": d.astype(np.float16),
        "bfloat16": ops.to_bfloat16(d),
        "int8": ops.to_int8(d),
    }
    contestants = []
    for kept in FORMATS:

        def run(tokens: Tokens = docs[kept.name]) -> object:
            return ops.maxsim(q, tokens, cu_q, cu_d)

        contestants.append(Contestant(our_name(kept.name), run, kept.numerics, work=_work(queries, kept.size)))
    entered: list[Contestant] = []
    absent: dict[str, str] = {}
    if queries == 1:
        entered, absent = enter("maxsim", setting, q, d.reshape(DOCS, DOC_TOKENS, DIM))
        entered = [replace(one, read=partial(_one_query, one)) for one in entered]
    truth = scores(q, d)
    coarser: dict[Numerics, np.ndarray] = {"float16": scores(q, docs["float16"].astype(np.float64))}  # type: ignore[union-attr]
    for numerics in ("bfloat16", "int8"):
        coarser[numerics] = scores(rounded(q, numerics, 1), rounded(d, numerics, 1))
    limits = limits_of(truth, coarser, float32_limit(DIM, QUERY_TOKENS**0.5))
    return Contest((*contestants, *entered), truth, limits, absent)


def scores(q: np.ndarray, d: np.ndarray) -> np.ndarray:
    """(queries, docs) f64."""
    found = []
    for query in np.split(q.astype(np.float64), len(q) // QUERY_TOKENS):
        products = query @ d.astype(np.float64).T
        found.append(products.reshape(QUERY_TOKENS, DOCS, DOC_TOKENS).max(axis=2).sum(axis=0))
    return np.stack(found)


def _one_query(contestant: Contestant, result: object) -> np.ndarray:
    return contestant.read(result).reshape(1, DOCS)


if __name__ == "__main__":
    sys.exit(main("bench.ops.bench_maxsim", __doc__, cases))
