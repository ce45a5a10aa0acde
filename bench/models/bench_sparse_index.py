"""The 10 best of many sparse documents by dot product: SparseIndex beside scipy's product and seismic.

    python -m bench.models.bench_sparse_index [--full] [--json FILE]

Documents of 100 to 200 terms, queries of 20 to 40, terms drawn as words are (one in rank + 20), over 30522 of them:
10^6 documents in the full form, 20,000 in the short one. The scores of the 10 best are held against float64, so that
who finds others is told with his error and has no time; seismic is approximate.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache, partial
from typing import Final

import numpy as np

from longspan import SparseIndex, SparseVectors

from ..case import OURS, Case, Contest, Contestant, Setting, Work
from ..command import main
from ..peers import enter

BUDGET: Final = 10  # seconds of the short form, about
WORDS, TERMS, ASKED = 30522, (100, 200), (20, 40)
DOCUMENTS, SHORT_DOCUMENTS = 1_000_000, 20_000
QUERIES: Final = 64
BEST: Final = 10
AT_ONCE: Final = 50_000  # documents drawn together


def cases(setting: Setting) -> Iterator[Case]:
    """All queries in one call, and one alone."""
    documents = SHORT_DOCUMENTS if setting.is_short else DOCUMENTS
    for queries in (1, QUERIES):
        labels: dict[str, str | int] = {"documents": documents, "queries": queries}
        entries = queries * (sum(ASKED) / 2) * documents * _share()
        work = Work(2.0 * entries, 6.0 * entries, float(queries), "queries")
        yield Case("sparse_index", labels, work, partial(_contest, documents, queries), "sparse_topk")


def _chances() -> np.ndarray:
    """Of each term to be the next one."""
    chances = 1 / (np.arange(WORDS) + 20.0)
    return chances / chances.sum()


def _share() -> float:
    """Of the documents in which a term of a query occurs, about."""
    chances = _chances()
    return float((chances * (1 - (1 - chances) ** (sum(TERMS) / 2))).sum())


def make_vectors(count: int, least: int, most: int, seed: int) -> SparseVectors:
    """Rows of about `least` to `most` different terms, with weights as SPLADE's."""
    rng = np.random.default_rng(seed)
    bounds, parts = np.cumsum(_chances()), []
    for first in range(0, count, AT_ONCE):
        rows = min(AT_ONCE, count - first)
        lengths = rng.integers(least, most + 1, rows)
        row = np.repeat(np.arange(rows), lengths)
        term = np.minimum(np.searchsorted(bounds, rng.random(len(row))), WORDS - 1)
        keys = np.sort(row * WORDS + term)
        keys = keys[np.append(True, keys[1:] != keys[:-1])]  # np.unique of whole numbers hashes them, and is slower
        values = np.log1p(np.abs(rng.standard_normal(len(keys), np.float32)) * 3).astype(np.float32)
        offsets = np.concatenate([[0], np.cumsum(np.bincount(keys // WORDS, minlength=rows))]).astype(np.int64)
        parts.append(SparseVectors(offsets, (keys % WORDS).astype(np.int32), values, WORDS))
    return SparseVectors.joined(parts, WORDS)


@cache
def _documents(count: int) -> SparseVectors:
    return make_vectors(count, *TERMS, seed=1)


@cache
def _index(count: int) -> SparseIndex:
    index = SparseIndex(WORDS)
    index.add(_documents(count))
    return index


def _contest(count: int, num_queries: int, setting: Setting) -> Contest:
    documents, queries = _documents(count), make_vectors(num_queries, *ASKED, seed=2)
    index = _index(count)
    run = partial(index.search, queries, BEST)
    ours = Contestant(OURS, run, read=lambda found: found.scores, note=f"{index.info().nbytes >> 20} MB")
    entered, absent = enter("sparse_topk", setting, documents, queries, BEST)
    return Contest((ours, *entered), _truth(documents, queries), {"float32": 1e-4}, absent)


def _truth(documents: SparseVectors, queries: SparseVectors) -> np.ndarray:
    """(queries, 10) f64 scores, best first."""
    rows = np.repeat(np.arange(len(documents)), np.diff(documents.offsets))
    best = []
    for query in queries:
        spread = np.zeros(WORDS)
        spread[query.indices] = query.values
        scores = np.bincount(rows, spread[documents.indices] * documents.values, len(documents))
        best.append(np.sort(np.partition(scores, -BEST)[-BEST:])[::-1])
    return np.stack(best)


if __name__ == "__main__":
    sys.exit(main("bench.models.bench_sparse_index", __doc__, cases))
