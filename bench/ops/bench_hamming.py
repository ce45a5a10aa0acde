"""hamming_topk beside FAISS, USearch, NumKong and NumPy, and its share of the rate of reading.

    python -m bench.ops.bench_hamming [--full] [--json FILE]

A million random codes of 256 and of 1024 bits, the nearest 100, for 1 and for 64 queries. Distances must be exact;
ties may come in any order. What an index of such codes takes to grow, keep and load: bench index.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np

from longspan import ops, reference

from ..case import OURS, Case, Contest, Contestant, Setting, Work
from ..command import main
from ..peers import enter

BUDGET: Final = 20  # seconds of the short form, about
ROWS: Final = 1_000_000
K: Final = 100
CASES: Final = ((1024, 1), (1024, 64), (256, 1), (256, 64))  # bits, queries
SHORT_CASES: Final = ((1024, 1), (256, 64))


def cases(setting: Setting) -> Iterator[Case]:
    """Codes read once for all queries is the least that must be moved."""
    for bits, queries in SHORT_CASES if setting.is_short else CASES:
        work = Work(bytes=ROWS * bits / 8, items=float(queries), item="queries")
        labels = {"codes": ROWS, "bits": bits, "queries": queries, "k": K}
        yield Case("hamming", labels, work, partial(_contest, bits, queries), "hamming_topk")


def _contest(bits: int, queries: int, setting: Setting) -> Contest:
    rng = np.random.default_rng([bits, queries])
    codes, asked = (rng.integers(0, 256, (n, bits // 8), dtype=np.uint8) for n in (ROWS, queries))
    ours = Contestant(OURS, lambda: ops.hamming_topk(asked, codes, K), "bits", lambda found: np.asarray(found[0]))
    entered, absent = enter("hamming_topk", setting, asked, codes, K)
    truth = np.asarray(reference.hamming_topk(asked, codes, K)[0])
    return Contest((ours, *entered), truth, {"bits": 0}, absent)


if __name__ == "__main__":
    sys.exit(main("bench.ops.bench_hamming", __doc__, cases))
