"""maxsim on one thread in calls of a few milliseconds, on a machine that others use: what sixteen queries at once gain.

    python -m bench.ops.bench_maxsim_pieces [--seconds 30] [--full] [--json FILE]

Each call is over a part of the documents, and the least times of all parts are added: what others do to the machine is
in few of the calls, and the least of many has none of it. Parity is bench maxsim's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from longspan import _core, ops
from longspan.ops.maxsim_tokens import Tokens

from ..case import OURS, Numerics, Setting
from ..command import new_report, run_command
from ..contest import with_shares
from ..meter import machine_meter
from ..results import Entry, Report, Result
from ..table import result_text
from ..timing import Spread
from ..watch import Watch
from .bench_maxsim import DIM, DOC_TOKENS, DOCS, FORMATS, QUERIES, QUERY_TOKENS, unit_rows

BUDGET: Final = 7  # seconds of the short form, about
MIN_SECONDS: Final = 4.0


def pieces(seconds: float) -> dict[str, float]:
    """Seconds of one thread for a query, by format; "x 16" with all queries at once: the least times of parts, added.

    A part is of 250 documents for one query and of 50 for sixteen, so that the calls take about as long.
    """
    q, d = unit_rows(QUERIES * QUERY_TOKENS, 1), unit_rows(DOCS * DOC_TOKENS, 2)
    halves, narrow, coded = d.astype(np.float16), ops.to_bfloat16(d), ops.to_int8(d)
    formats: dict[str, Callable[[slice], Tokens]] = {
        "float32": lambda part: d[part],
        "float16": lambda part: halves[part],
        "bfloat16": lambda part: ops.Bfloat16Tokens(narrow.bits[part]),
        "int8": lambda part: ops.Int8Tokens(coded.values[part], coded.scales[part]),
    }
    least: dict[tuple[str, int, int], float] = {}
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        for name, cut in formats.items():
            for queries, docs in ((1, 250), (QUERIES, 50)):
                cu_q, cu_d = (
                    np.arange(0, n * tokens + 1, tokens, dtype=np.int32)
                    for n, tokens in ((queries, QUERY_TOKENS), (docs, DOC_TOKENS))
                )
                asked = q[: queries * QUERY_TOKENS]
                for first in range(0, DOCS, docs):
                    part = cut(slice(first * DOC_TOKENS, (first + docs) * DOC_TOKENS))
                    before = time.perf_counter()
                    ops.maxsim(asked, part, cu_q, cu_d)
                    key, taken = (name, queries, first), time.perf_counter() - before
                    least[key] = min(least.get(key, taken), taken)
    return {
        name if queries == 1 else f"{name} x {QUERIES}": sum(
            taken for key, taken in least.items() if key[:2] == (name, queries)
        )
        / queries
        for name in formats
        for queries in (1, QUERIES)
    }


def run(setting: Setting) -> Report:
    """Seconds a query, one at a time and sixteen at once."""
    watch = Watch.now()
    _core.set_num_threads(1)
    meter = machine_meter(1)
    meter.settle()
    times = pieces(max(setting.seconds, MIN_SECONDS))
    numerics: dict[str, Numerics] = {kept.name: kept.numerics for kept in FORMATS}
    entries = []
    for name, seconds in times.items():
        kept, _, _ = name.partition(" x ")
        value = Spread(seconds, seconds, seconds)
        flops = 2.0 * QUERY_TOKENS * DIM * DOCS * DOC_TOKENS
        one = times[kept]
        entry = Entry(f"{OURS} {name}", numerics[kept], value=value, rounds=(seconds,), flops=flops, rate=1 / seconds)
        if kept != name:
            gain = seconds / one
            entry = replace(entry, ratio=Spread(gain, gain, gain), against=f"{OURS} {kept}")
        entries.append(entry)
    meter.take()
    labels: dict[str, str | int] = {"threads": 1, "docs": DOCS, "doc tokens": DOC_TOKENS, "dim": DIM}
    result = with_shares(Result("maxsim_pieces", labels, tuple(entries), "queries/s"), meter.ceilings)
    # Shares are of one thread's ceilings; without a count of work they stay so where runs are joined.
    result = replace(result, entries=tuple(replace(entry, flops=0.0) for entry in result.entries))
    print(result_text(result))
    return new_report((result,), replace(setting, threads=1), watch)


if __name__ == "__main__":
    sys.exit(run_command("bench.ops.bench_maxsim_pieces", __doc__, run))
