"""maxsim beside maxsim-cpu and torch, one query at a time and sixteen at once, and its share of the multiplier's rate.

    python -m bench.ops.bench_maxsim [--seconds 3] [--json FILE]
    python -m bench.ops.bench_maxsim --pieces [--seconds 30] [--json FILE]      on a machine that others use

Queries of 32 tokens against 1000 documents of 180, dim 128, in every format of documents; peers that are not installed
(`pip install maxsim-cpu torch`) are left out. First every contestant's scores are held against float64. Then all take
turns, after a pause in which the other's waiting threads fall asleep. Torch multiplies, takes the maximum and sums, in
the faster of its two orders. The ceilings are fma_ceiling.cpp and dpbf16_ceiling.cpp, compiled and run here; without a
compiler, or a processor that has the instruction, their share stays empty.

--pieces measures one thread in calls of a few milliseconds, each over a part of the documents, and adds up the least
time of each part: what others do to the machine is in few of the calls, and the least of many has none of it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from bench.record import busy_warning, machine, write_json
from bench.timing import interleave, speedup
from longspan import _core, ops
from longspan.ops.maxsim_tokens import Tokens

QUERIES: Final = 16
QUERY_TOKENS: Final = 32
DOCS: Final = 1000
DOC_TOKENS: Final = 180
DIM: Final = 128
PAUSE: Final = 0.04  # seconds; other libraries' idle threads hold their cores for about 25 ms
# How far scores may be from float64: sums of 32 products of unit vectors, each rounded as its format does.
LIMITS: Final = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2, "int8": 5e-2}
TARGETS: Final = (
    ("float32", "maxsim-cpu", 2.5),
    ("bfloat16", "maxsim-cpu", 4.5),
    ("bfloat16", "torch bfloat16", 2.0),
)

Call = Callable[[], np.ndarray]


def unit_rows(rows: int, seed: int) -> np.ndarray:
    """Random unit vectors."""
    x = np.random.default_rng(seed).standard_normal((rows, DIM), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def contestants(q: np.ndarray, d: np.ndarray) -> dict[str, Call]:
    """What to time, by name; "x 16" ones take all queries at once. Raises: ValueError, one of them is wrong."""
    cu_q = np.arange(0, len(q) + 1, QUERY_TOKENS, dtype=np.int32)
    cu_d = np.arange(0, len(d) + 1, DOC_TOKENS, dtype=np.int32)
    first = q[:QUERY_TOKENS]
    codes, query_codes = np.packbits(d > 0, axis=1), np.packbits(q > 0, axis=1)
    formats: dict[str, tuple[np.ndarray, Tokens]] = {
        "float32": (q, d),
        "float16": (q, d.astype(np.float16)),
        "bfloat16": (q, ops.to_bfloat16(d)),
        "int8": (q, ops.to_int8(d)),
        "sign codes": (q, codes),
        "codes x codes": (query_codes, codes),
    }
    calls: dict[str, Call] = {}
    for name, (queries, docs) in formats.items():
        one = np.ascontiguousarray(queries[:QUERY_TOKENS])
        calls[name] = lambda one=one, docs=docs: np.asarray(ops.maxsim(one, docs, cu_q[:2], cu_d))[0]
        calls[f"{name} x {QUERIES}"] = lambda all_=queries, docs=docs: np.asarray(ops.maxsim(all_, docs, cu_q, cu_d))
    calls |= peers(first, d)
    check(calls, first, d)
    return calls


def peers(q: np.ndarray, d: np.ndarray) -> dict[str, Call]:
    """The peers that are installed, with one query."""
    calls: dict[str, Call] = {}
    cube = d.reshape(DOCS, DOC_TOKENS, DIM)
    try:
        import maxsim_cpu
    except ImportError:
        pass
    else:
        calls["maxsim-cpu"] = lambda: np.asarray(maxsim_cpu.maxsim_scores(q, cube))
    try:
        import torch
    except ImportError:
        return calls
    torch.set_num_threads(_core.num_threads())
    for name, dtype in (("torch float32", torch.float32), ("torch bfloat16", torch.bfloat16)):
        query, docs = torch.from_numpy(q).to(dtype), torch.from_numpy(d).to(dtype)
        calls[name] = lambda query=query, docs=docs: (
            (query @ docs.T).view(QUERY_TOKENS, DOCS, DOC_TOKENS).amax(2).float().sum(0).numpy()
        )
    return calls


def check(calls: dict[str, Call], q: np.ndarray, d: np.ndarray) -> None:
    """Hold what scores vectors with one query against float64; codes, which have a truth of their own, are tested."""
    products = q.astype(np.float64) @ d.astype(np.float64).T
    truth = products.reshape(QUERY_TOKENS, DOCS, DOC_TOKENS).max(axis=2).sum(axis=0)
    for name, call in calls.items():
        limit = LIMITS.get(name.removeprefix("torch "), LIMITS["float32"])
        if "codes" in name or name.endswith(f"x {QUERIES}"):
            continue
        error = np.abs(call() - truth).max()
        if not error <= limit:
            raise ValueError(f"{name}: scores are off by {error:.2g}, more than {limit:.2g}")


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


def report_pieces(options: argparse.Namespace) -> None:
    """Prints and writes what `pieces` measures."""
    _core.set_num_threads(1)
    ceilings = {"float32": ceiling("fma_ceiling.cpp"), "bfloat16": ceiling("dpbf16_ceiling.cpp")}
    print(f"{machine()['cpu']}, 1 thread, {_core.isa()}: least times of parts; share of the register loop")
    times = pieces(options.seconds)
    flops = 2.0 * QUERY_TOKENS * DIM * DOCS * DOC_TOKENS
    for name, seconds in times.items():
        one, top = times[name.removesuffix(f" x {QUERIES}")], ceilings.get(name.removesuffix(f" x {QUERIES}"))
        share = f"{flops / seconds * 1e-9 / top:>7.0%}" if top else " " * 7
        gain = f"{one / seconds:>7.2f} times one at a time" if name not in ceilings and one != seconds else ""
        print(f"{name:<20}{seconds * 1e3:>9.3f} ms a query{flops / seconds * 1e-9:>9.0f} GFLOP/s{share}{gain}")
    if options.json is not None:
        write_json(options.json, "ops.maxsim.pieces", {"ceiling_gflops": ceilings, "seconds": times})


def ceiling(source: str) -> float | None:
    """GFLOP/s of the register loop on as many threads as ours uses; None where it cannot be compiled."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "ceiling"
        path = Path(__file__).with_name(source)
        command = [os.environ.get("CXX", "c++"), "-std=c++20", "-O2", "-march=native", "-pthread"]
        try:
            subprocess.run([*command, str(path), "-o", str(program)], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError):
            print(f"no ceiling: {source} cannot be compiled for this machine", file=sys.stderr)
            return None
        run = [str(program), str(_core.num_threads()), "30"]
        return float(subprocess.run(run, check=True, capture_output=True, text=True).stdout)


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.ops.bench_maxsim", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="for all contestants together (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--pieces", action="store_true", help="one thread, the least times of short calls")
    options = parser.parse_args(argv)
    if options.pieces:
        report_pieces(options)
        return 0
    ceilings = {"float32": ceiling("fma_ceiling.cpp"), "bfloat16": ceiling("dpbf16_ceiling.cpp")}
    print(f"{machine()['cpu']}, {_core.num_threads()} threads, {_core.isa()}")
    print(f"{QUERY_TOKENS} x {DIM} against {DOCS} documents x {DOC_TOKENS}: medians; share of the register loop")
    calls = contestants(unit_rows(QUERIES * QUERY_TOKENS, 1), unit_rows(DOCS * DOC_TOKENS, 2))
    times = interleave(calls, seconds=options.seconds, pause=PAUSE)
    flops = 2.0 * QUERY_TOKENS * DIM * DOCS * DOC_TOKENS
    for name, seconds in times.items():
        queries = QUERIES if name.endswith(f"x {QUERIES}") else 1
        per_query = statistics.median(seconds) / queries
        rate = flops / per_query * 1e-9
        top = ceilings.get(name.removesuffix(f" x {QUERIES}"))
        share = f"{rate / top:>7.0%}" if top else ""
        print(f"{name:<20}{per_query * 1e3:>9.3f} ms a query{rate:>9.0f} GFLOP/s{share}")
    for name, peer, target in TARGETS:
        if peer in times:
            print(f"{name} over {peer}: {speedup(times[name], times[peer]).text()} times, target {target}")
    for name in (name for name in times if f"{name} x {QUERIES}" in times):
        together = [seconds / QUERIES for seconds in times[f"{name} x {QUERIES}"]]
        print(f"{name}, {QUERIES} at once over one at a time: {speedup(together, times[name]).text()} times")
    if warning := busy_warning():
        print(warning)
    if options.json is not None:
        write_json(options.json, "ops.maxsim", {"ceiling_gflops": ceilings, "seconds": times})
    return 0


if __name__ == "__main__":
    sys.exit(main())
