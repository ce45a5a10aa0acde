"""span_mean beside a loop in NumPy, torch.segment_reduce and cumulative sums, and its share of the rate of reading.

    python -m bench.ops.bench_span_mean [--full] [--json FILE]

500 spans that part 8192 rows of 768 values, as the sentences of a long document do; with `spans=overlapping` each
reaches as far again into the next, which segment_reduce cannot do. A call works through eight such packs, 200 MB, so
that the rows come from memory and not from a cache.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

import numpy as np

from longspan import ops, reference

from ..case import OURS, Case, Contest, Contestant, Numerics, Setting, Work
from ..command import main
from ..peers import enter

BUDGET: Final = 14  # seconds of the short form, about
PACKS: Final = 8
TOTAL_TOKENS: Final = 8192
DIM: Final = 768
NUM_SPANS: Final = 500
# Sums of some dozen values of size 1 in float32; cumulative sums over 8192 rows, near 100, lose a hundred times that.
LIMITS: Final[Mapping[Numerics, float]] = {"float32": 1e-6}
CUMULATIVE_LIMIT: Final = 1e-4


def make_spans(overlap: bool) -> np.ndarray:
    """(500, 2) int32: spans that part the rows, of any length; with `overlap` twice as long."""
    cuts = np.random.default_rng(1).choice(np.arange(1, TOTAL_TOKENS), NUM_SPANS - 1, replace=False)
    edges = np.concatenate([[0], np.sort(cuts), [TOTAL_TOKENS]]).astype(np.int32)
    starts, ends = edges[:-1], edges[1:]
    return np.stack([starts, np.minimum(2 * ends - starts, TOTAL_TOKENS) if overlap else ends], axis=1)


def cases(setting: Setting) -> Iterator[Case]:
    """Spans that part the rows, and spans that overlap."""
    for name in ("parting", "overlapping"):
        spans = make_spans(name == "overlapping")
        rows = int((spans[:, 1] - spans[:, 0]).sum())
        work = Work(bytes=4.0 * DIM * PACKS * (TOTAL_TOKENS + NUM_SPANS), items=float(rows * PACKS), item="rows")
        labels = {"spans": name, "count": NUM_SPANS, "rows": TOTAL_TOKENS, "dim": DIM}
        yield Case("span_mean", labels, work, partial(_contest, spans), "span_mean")


def _contest(spans: np.ndarray, setting: Setting) -> Contest:
    packs = np.random.default_rng(0).standard_normal((PACKS, TOTAL_TOKENS, DIM), np.float32)
    means = np.empty((NUM_SPANS, DIM), np.float32)

    def ours() -> np.ndarray:
        for pack in packs:
            found = np.asarray(ops.span_mean(pack, spans, out=means))
        return found

    by_pack: dict[str, list[Contestant]] = {}
    for pack in packs:
        entered, absent = enter("span_mean", setting, pack, spans)
        for each in entered:
            by_pack.setdefault(each.name, []).append(each)

    def through(each: list[Contestant]) -> Contestant:
        return Contestant(each[0].name, lambda: [one.run() for one in each][-1], read=each[0].read)

    everyone = (Contestant(OURS, ours), *map(through, by_pack.values()))
    truth = reference.span_mean(packs[-1].astype(np.float64), spans)
    return Contest(everyone, truth, LIMITS, absent, {"numpy cumsum": CUMULATIVE_LIMIT})


if __name__ == "__main__":
    sys.exit(main("bench.ops.bench_span_mean", __doc__, cases))
