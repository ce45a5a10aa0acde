"""retrofit_step beside scipy.sparse, and its share of the rate of reading.

    python -m bench.ops.bench_retrofit_step [--full] [--json FILE]

100,000 rows of 384 values, 154 MB, which lie in memory and not in a cache of this core; 20 neighbours a row, few of
them hubs, as link tables have them. `columns=64` is as the solvers call it: a block of columns after the other. The
bytes are those of the gathered rows, their indices and weights, the base rows and the result.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from longspan import ops, reference

from ..case import OURS, Case, Contest, Contestant, Numerics, Setting, Work
from ..command import main
from ..peers import enter

BUDGET: Final = 25  # seconds of the short form, about
ROWS, DIM, NEIGHBORS = 100_000, 384, 20
LIMITS: Final[Mapping[Numerics, float]] = {"float32": 2e-5}  # of sums of 20 values of size 1


def cases(setting: Setting) -> Iterator[Case]:
    """Whole rows, and blocks of columns."""
    terms = ROWS * NEIGHBORS
    work = Work(2.0 * DIM * terms, 4.0 * DIM * (terms + 2 * ROWS) + 8.0 * terms, float(terms), "neighbours")
    for columns in (DIM, 64):
        labels = {"rows": ROWS, "neighbours": NEIGHBORS, "dim": DIM, "columns": columns}
        yield Case("retrofit_step", labels, work, partial(_contest, columns), "retrofit_step")


def _contest(columns: int, setting: Setting) -> Contest:
    rng = np.random.default_rng(0)
    vectors, base = (rng.standard_normal((ROWS, DIM), np.float32) for _ in range(2))
    indices = np.sort((ROWS * rng.random((ROWS, NEIGHBORS)) ** 2).astype(np.int32), axis=1).reshape(-1)
    indptr = np.arange(0, len(indices) + 1, NEIGHBORS)
    weights = rng.random(len(indices), np.float32)
    anchor, divisor = rng.random(ROWS, np.float32), 1 + rng.random(ROWS, np.float32)
    out = np.empty_like(vectors)
    graph = (indptr, indices, weights)

    def ours() -> np.ndarray:
        for first in range(0, DIM, columns):
            part = slice(first, first + columns)
            ops.retrofit_step(
                vectors[:, part], *graph, base=base[:, part], anchor=anchor, divisor=divisor, out=out[:, part]
            )
        return out

    entered, absent = enter("retrofit_step", setting, vectors, *graph, base, anchor, divisor)
    some = slice(0, 2000)
    start = indptr[: some.stop + 1]
    truth = reference.retrofit_step(
        vectors.astype(np.float64), start, indices, weights, base=base[some], anchor=anchor[some], divisor=divisor[some]
    )
    everyone = tuple(replace(each, read=lambda x: np.asarray(x)[some]) for each in (Contestant(OURS, ours), *entered))
    return Contest(everyone, truth, LIMITS, absent)


if __name__ == "__main__":
    sys.exit(main("bench.ops.bench_retrofit_step", __doc__, cases))
