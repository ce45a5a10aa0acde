"""maxsim beside maxsim-cpu and torch, one query at a time and sixteen at once, and its share of the multiplier's rate.

    python -m bench.ops.bench_maxsim [--seconds 3] [--json FILE]

Queries of 32 tokens against 1000 documents of 180, dim 128, in every format of documents; peers that are not installed
(`pip install maxsim-cpu torch`) are left out. First every contestant's scores are held against float64. Then all take
turns, after a pause in which the other's waiting threads fall asleep. Torch multiplies, takes the maximum and sums, in
the faster of its two orders. The ceilings are fma_ceiling.cpp and dpbf16_ceiling.cpp, compiled and run here; without a
compiler, or a processor that has the instruction, their share stays empty.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
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
    options = parser.parse_args(argv)
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
