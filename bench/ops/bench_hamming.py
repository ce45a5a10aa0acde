"""Hamming top-k beside FAISS and NumPy, its share of the memory's read rate, and an index's adding and loading.

    python -m bench.ops.bench_hamming [--rows 1000000] [--k 100] [--index-rows 1000000] [--json FILE]

Random codes of 256 and 1024 bits, 1 and 64 queries. Before any timing every contestant's distances are held against
the reference on the first codes and against each other on all of them (ties may come in another order, distances may
not); then all take turns. The ceiling is read_ceiling.cpp, compiled here, which reads the same codes on as many
threads in the same rounds; without a compiler there is none. Codes that fit in the last cache are read faster than
memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from bench.ops.bench_span_mean import CEILING, load_ceiling
from bench.record import busy_warning, write_json
from bench.timing import Spread, interleave, speedup
from longspan import BinaryIndex, _core, ops, reference

OURS: Final = "longspan"
PEER: Final = "faiss"
CASES: Final = ((1024, 1), (1024, 64), (256, 1), (256, 64))  # bits, queries
CHECKED_ROWS: Final = 2000
BATCH: Final = 100_000  # codes to an `add`

Search = Callable[[], np.ndarray]  # -> distances (num_queries, k)


def contestants(q: np.ndarray, codes: np.ndarray, k: int) -> dict[str, Search]:
    """Ours and the others that are installed."""
    searches: dict[str, Search] = {OURS: lambda: np.asarray(ops.hamming_topk(q, codes, k)[0])}
    if importlib.util.find_spec(PEER) is not None:
        import faiss

        faiss.omp_set_num_threads(_core.num_threads())
        index = faiss.IndexBinaryFlat(8 * codes.shape[1])
        index.add(codes)
        searches[PEER] = lambda: index.search(q, k)[0]
    if len(q) == 1 and hasattr(np, "bitwise_count"):
        words = codes.view(np.uint64)

        def numpy_search() -> np.ndarray:
            distances = np.bitwise_count(words ^ q.view(np.uint64)).sum(axis=1, dtype=np.int32)
            return np.sort(np.partition(distances, k - 1)[:k])[None]

        searches["numpy"] = numpy_search
    return searches


def check(q: np.ndarray, codes: np.ndarray, k: int, searches: dict[str, Search]) -> None:
    """Raises: RuntimeError, a contestant's distances are wrong."""
    first = codes[:CHECKED_ROWS]
    if not all(map(np.array_equal, ops.hamming_topk(q, first, k), reference.hamming_topk(q, first, k))):
        raise RuntimeError("hamming_topk differs from its reference: nothing is timed")
    ours = searches[OURS]()
    for name, search in searches.items():
        if not np.array_equal(search(), ours):
            raise RuntimeError(f"{name} and {OURS} find other distances: nothing is timed")


def time_searches(options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """Prints a table; returns its rows."""
    rows: list[dict[str, object]] = []
    for bits, num_queries in CASES:
        rng = np.random.default_rng([bits, num_queries])
        codes, q = (rng.integers(0, 256, (n, bits // 8), dtype=np.uint8) for n in (options.rows, num_queries))
        searches = contestants(q, codes, options.k)
        check(q, codes, options.k, searches)
        ceiling = load_ceiling(folder, codes.reshape(-1).view(np.float32)) if num_queries == 1 else None
        times = interleave({**({CEILING: ceiling} if ceiling else {}), **searches}, seconds=options.seconds)
        print(f"{len(codes):,} x {bits} bits, {num_queries} queries, top {options.k}", flush=True)
        for name, each in times.items():
            line = f"    {name:<14} {Spread.of([1e3 * t for t in each]).text():<26} ms"
            line += f"  {codes.nbytes / statistics.median(each) / 1e9:6.1f} GB/s"
            over = {peer: speedup(each, times[peer]) for peer in (CEILING, PEER) if peer in times and name == OURS}
            line += "".join(f"  {ratio.text()} x {peer}" for peer, ratio in over.items())
            print(line, flush=True)
            rows.append(
                {
                    "bits": bits,
                    "queries": num_queries,
                    "contestant": name,
                    "median_ms": 1e3 * statistics.median(each),
                    **{f"over {peer}": ratio.median for peer, ratio in over.items()},
                }
            )
    return rows


def time_index(num_rows: int, folder: Path) -> dict[str, float]:
    """Adding, saving, loading and a first search of 1024-bit codes; prints and returns the figures.

    All is added twice: a virtual machine's memory, touched for the first time, comes from its host, ten times slower
    than what the machine has already.
    """
    batch = np.random.default_rng(1).integers(0, 256, (BATCH, 128), dtype=np.uint8)
    for _ in range(2):
        index, adds = BinaryIndex(1024), list[float]()
        while len(index) < num_rows:
            started = time.perf_counter()
            index.add(batch)
            adds.append(time.perf_counter() - started)
    started = time.perf_counter()
    index.save(folder / "index")
    saved = time.perf_counter() - started
    loads, firsts = list[float](), list[float]()
    for _ in range(5):
        started = time.perf_counter()
        loaded = BinaryIndex.load(folder / "index")
        loads.append(time.perf_counter() - started)
        started = time.perf_counter()
        loaded.search(batch[:1], 10, rescore=False)
        firsts.append(time.perf_counter() - started)
    size = len(index) * 128
    figures = {
        "rows": float(len(index)),
        "add_gb_s": size / sum(adds) / 1e9,
        "add_median_gb_s": batch.nbytes / statistics.median(adds) / 1e9,
        "save_gb_s": size / saved / 1e9,
        "load_ms": 1e3 * statistics.median(loads),
        "first_search_ms": 1e3 * statistics.median(firsts),  # with the check of all codes
    }
    added = f"{figures['add_gb_s']:.2f} GB/s, of the batches' median {figures['add_median_gb_s']:.2f} GB/s"
    print(f"index of {len(index):,} x 1024 bits: add {added}")
    print(f"    save {figures['save_gb_s']:.2f} GB/s, load {figures['load_ms']:.1f} ms")
    print(f"    first search, with the check of all codes, {figures['first_search_ms']:.0f} ms")
    return figures


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0; 1 where a result is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.ops.bench_hamming", description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2, help="threads of every contestant (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="for each case (%(default)s)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="codes to search; 0: none (%(default)s)")
    parser.add_argument("--k", type=int, default=100, help="codes to find (%(default)s)")
    parser.add_argument("--index-rows", type=int, default=1_000_000, help="codes of the index; 0: none (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(argv)
    _core.set_num_threads(options.threads)
    warning = busy_warning()
    with tempfile.TemporaryDirectory() as name:
        try:
            rows = time_searches(options, Path(name)) if options.rows else []
        except RuntimeError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        index = time_index(options.index_rows, Path(name)) if options.index_rows else {}
    if warning:
        print(warning)
    if options.json is not None:
        write_json(options.json, "ops.hamming", {"threads": options.threads, "rows": rows, "index": index})
    return 0


if __name__ == "__main__":
    sys.exit(main())
