"""span_mean beside a Python loop, torch.segment_reduce and cumulative sums, and its share of the memory's read rate.

    python -m bench.ops.bench_span_mean [--seconds 5] [--json FILE]

500 spans that part 8192 rows of 768 values, as the sentences of a long document do (segment_reduce takes no others);
with --overlap each span reaches as far again into the next, which segment_reduce cannot do and is left out of.
A call works through eight such packs, 200 MB, so that the rows come from memory and not from a cache. First every
contestant is held against float64; then all take turns. The ceiling is read_ceiling.cpp, compiled here, which reads
the same memory on as many threads in the same rounds; without a compiler there is none.
"""

from __future__ import annotations

import argparse
import ctypes
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
from bench.timing import Spread, interleave, speedup
from longspan import _core, ops, reference

PACKS: Final = 8
TOTAL_TOKENS: Final = 8192
DIM: Final = 768
NUM_SPANS: Final = 500
OURS: Final = "longspan"
CEILING: Final = "reading alone"
CEILING_SOURCE: Final = Path(__file__).with_name("read_ceiling.cpp")
# Sums of some dozen values of size 1 in float32; cumulative sums over 8192 rows, with sums near 100, lose much more.
MAX_ERROR: Final = {OURS: 1e-6, "loop": 1e-6, "segment_reduce": 1e-6, "cumulative sums": 1e-4}

Pool = Callable[[np.ndarray], np.ndarray]  # hidden (8192, 768) f32 -> means (500, 768) f32


def make_spans(overlap: bool) -> np.ndarray:
    """(500, 2) int32: spans that part the rows, of any length; with `overlap` twice as long."""
    cuts = np.random.default_rng(1).choice(np.arange(1, TOTAL_TOKENS), NUM_SPANS - 1, replace=False)
    edges = np.concatenate([[0], np.sort(cuts), [TOTAL_TOKENS]]).astype(np.int32)
    starts, ends = edges[:-1], edges[1:]
    return np.stack([starts, np.minimum(2 * ends - starts, TOTAL_TOKENS) if overlap else ends], axis=1)


def contestants(spans: np.ndarray, overlap: bool) -> dict[str, Pool]:
    """Ours and the others that are installed."""
    starts, ends = spans.T.astype(np.int64)
    counts = (ends - starts)[:, None].astype(np.float32)
    means = np.empty((NUM_SPANS, DIM), np.float32)  # for those that can write to memory that they are given

    def ours(hidden: np.ndarray) -> np.ndarray:
        return np.asarray(ops.span_mean(hidden, spans, out=means))

    def loop(hidden: np.ndarray) -> np.ndarray:
        for row, (start, end) in enumerate(spans.tolist()):
            hidden[start:end].mean(axis=0, out=means[row])
        return means

    def cumulative(hidden: np.ndarray) -> np.ndarray:
        np.cumsum(hidden, axis=0, out=sums[1:])
        return (sums[ends] - sums[starts]) / counts

    sums = np.zeros((TOTAL_TOKENS + 1, DIM), np.float32)
    pools: dict[str, Pool] = {OURS: ours, "loop": loop}
    try:
        import torch
    except ImportError:
        torch = None
    if torch is not None and not overlap:
        torch.set_num_threads(_core.num_threads())
        lengths = torch.from_numpy(ends - starts)

        def segment_reduce(hidden: np.ndarray) -> np.ndarray:
            return torch.segment_reduce(torch.from_numpy(hidden), "mean", lengths=lengths).numpy()

        pools["segment_reduce"] = segment_reduce
    return {**pools, "cumulative sums": cumulative}


def check(pools: dict[str, Pool], hidden: np.ndarray, spans: np.ndarray) -> None:
    """Raises: ValueError, a contestant's means are wrong."""
    truth = reference.span_mean(hidden.astype(np.float64), spans)
    for name, pool in pools.items():
        error = float(np.abs(pool(hidden) - truth).max())
        print(f"{name:<18} largest error {error:.1e}")
        if not error <= MAX_ERROR[name]:
            raise ValueError(f"{name}: an error of {error:.2g}, allowed is {MAX_ERROR[name]:.2g}")


def load_ceiling(folder: Path, packs: np.ndarray) -> Callable[[], object] | None:
    """What reads all packs once; None, with a line to say why, where it cannot be compiled."""
    library = folder / "read_ceiling.so"
    flags = ["-std=c++20", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", "-pthread"]
    command = [os.environ.get("CXX", "c++"), *flags, str(CEILING_SOURCE), "-o", str(library)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no ceiling: {getattr(error, 'stderr', None) or error}", file=sys.stderr)
        return None
    read_all = ctypes.CDLL(str(library)).read_all
    read_all.argtypes, read_all.restype = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int], ctypes.c_float
    return lambda: read_all(packs.ctypes.data, packs.size, _core.num_threads())


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.ops.bench_span_mean", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5, help="for all rounds together (%(default)s)")
    parser.add_argument("--overlap", action="store_true", help="spans that overlap")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(argv)
    packs = np.random.default_rng(0).standard_normal((PACKS, TOTAL_TOKENS, DIM), np.float32)
    spans = make_spans(options.overlap)
    pools = contestants(spans, options.overlap)
    check(pools, packs[0], spans)

    def through(pool: Pool) -> Callable[[], object]:
        return lambda: [pool(pack) for pack in packs]

    with tempfile.TemporaryDirectory() as folder:
        calls = {name: through(pool) for name, pool in pools.items()}
        ceiling = load_ceiling(Path(folder), packs)
        times = interleave(calls if ceiling is None else {CEILING: ceiling, **calls}, seconds=options.seconds)
    read = 4 * DIM * int((spans[:, 1] - spans[:, 0]).sum())
    rows = {name: (packs[0].nbytes if name == CEILING else read) * PACKS for name in times}
    print(
        f"{machine()['cpu']}, {_core.num_threads()} threads, {_core.isa()}; bytes of the rows that are read, each span"
    )
    print(f"{'':<18}{'ms a pack':>10}{'GB/s':>8}  longspan is so many times as fast: median (p20 .. p80)")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        ratio = "" if name == OURS else speedup(times[OURS], seconds).text()
        print(f"{name:<18}{median / PACKS * 1e3:>10.2f}{rows[name] / median * 1e-9:>8.1f}  {ratio}")
    if CEILING in times:
        scale = read / packs[0].nbytes
        share = Spread.of([scale * one / two for one, two in zip(times[CEILING], times[OURS], strict=True)])
        print(f"longspan reads its rows at {share.text()} of the rate of reading alone")
    if warning := busy_warning():
        print(warning)
    if options.json is not None:
        write_json(options.json, "ops.span_mean", {"overlap": options.overlap, "packs": PACKS, "seconds": times})
    return 0


if __name__ == "__main__":
    sys.exit(main())
