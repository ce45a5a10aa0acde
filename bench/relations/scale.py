"""What RETRO costs on a made database: reading it, a step, the memory; beside scipy.sparse and the published loops.

    python -m bench.relations.scale [--values 1000000] [--pairs 10000000] [--dim 384] [--peers] [--growth] [--json FILE]
                                    [--plot FILE.svg]

`--peers` takes turns with scipy at the whole size, and with the published code's structure at 10^4 values. `--growth`
runs parts of that size instead: time a step by values, with as many pairs each, and by pairs, of the same values.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bench.quality.plot import Line, line_chart
from bench.relations.made import make
from bench.relations.peers import published_step, scipy_step
from longspan import _core
from longspan.relations import Database, Plan
from longspan.relations.graph import make_graph
from longspan.relations.settings import make_settings
from longspan.relations.solvers import run_series
from longspan.relations.system import System, optimum_system, series_system


@dataclass(frozen=True, slots=True)
class Cost:
    """What one database took."""

    values: int
    pairs: int
    nonzeros: int  # of P
    group_members: int
    dim: int
    read_seconds: float
    system_seconds: float
    step_seconds: float  # median of the steps of RN
    step_cpu_seconds: float  # the same of processor time, all threads
    gathered_gb: float  # bytes of rows that a step reads
    memory_ratio: float  # peak while solving over 2 n d floats and CSR
    isa: str
    threads: int


def read(path: Path) -> tuple[Plan, float]:
    """A plan and the seconds that it took."""
    started = time.perf_counter()
    plan = Database(path).plan()
    return plan, time.perf_counter() - started


def measure(plan: Plan, read_seconds: float, dim: int, steps: int) -> Cost:
    """Make the system, run RN."""
    before = _resident()
    base = _vectors(len(plan.nodes), dim)
    absent = np.zeros(len(base), bool)
    how = make_settings("rn", 1, 0, 3, 1, steps, "anchor", 1e-6)
    _forget_peak()
    started = time.perf_counter()
    system = series_system(make_graph(plan), base, absent, how.strengths)
    made = time.perf_counter() - started
    times, spent = [time.perf_counter()], [time.process_time()]

    def note(_: int) -> None:
        times.append(time.perf_counter())
        spent.append(time.process_time())

    run_series(system, base, absent, steps, note)
    peak = _peak() - before
    csr = system.product.indices.nbytes + system.product.weights.nbytes + system.product.indptr.nbytes
    terms = len(system.product.indices) + len(system.group_indices) + len(system.corrections.indices)
    return Cost(
        values=len(plan.nodes),
        pairs=sum(relation.count for relation in plan.relations),
        nonzeros=len(system.product.indices),
        group_members=len(system.group_indices),
        dim=dim,
        read_seconds=read_seconds,
        system_seconds=made,
        step_seconds=statistics.median(b - a for a, b in pairwise(times[:-1])),  # the last one measures itself
        step_cpu_seconds=statistics.median(b - a for a, b in pairwise(spent[:-1])),
        gathered_gb=terms * dim * 4 / 1e9,
        memory_ratio=peak / (2 * base.nbytes + csr),
        isa=_core.isa(),
        threads=_core.num_threads(),
    )


def beside_scipy(plan: Plan, dim: int, rounds: int) -> dict[str, Any]:
    """Medians of one RN step each, in turn, on the same system; both start from the same vectors."""
    base = _vectors(len(plan.nodes), dim)
    system = series_system(make_graph(plan), base, np.zeros(len(base), bool), _strengths("rn"))
    out = np.empty_like(base)

    def ours() -> np.ndarray:
        for start in range(0, dim, 64):
            columns = slice(start, min(start + 64, dim))
            system.step(base[:, columns], base[:, columns], columns, out[:, columns])
        return out

    return _contest({"longspan": ours, "scipy": scipy_step(system, base, base)}, rounds)


def beside_published(folder: Path, dim: int) -> dict[str, Any]:
    """The same of RO at 10^4 values against the published structure."""
    plan = Database(make(folder / "small.db", 10_000, 100_000)).plan()
    base, graph = _vectors(len(plan.nodes), dim), make_graph(plan)
    how = _strengths("ro")
    system: System = optimum_system(graph, base, np.zeros(len(base), bool), how, "anchor")
    out = np.empty_like(base)

    def ours() -> np.ndarray:
        system.step(base, base, slice(0, dim), out)
        return out

    return _contest({"longspan": ours, "published": published_step(graph, how, base, base)}, 5, steps=10)


def _contest(runs: dict[str, Callable[[], np.ndarray]], rounds: int, *, steps: int = 1) -> dict[str, Any]:
    """Medians and their ratio, after both have given the same; processor time too, steadier where others work.

    A turn is `steps` steps, as a solver takes them; times are those of one.
    """
    ours, other = runs
    expected = runs[other]()
    apart = float(np.abs(runs[ours]() - expected).max() / np.abs(expected).max())
    if apart > 1e-5:
        raise AssertionError(f"{ours} and {other} differ by {apart:.1e} of the largest value")
    del expected
    times: dict[str, list[float]] = {name: [] for name in runs}
    processor: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started, spent = time.perf_counter(), time.process_time()
            for _ in range(steps):
                run()
            times[name].append((time.perf_counter() - started) / steps)
            processor[name].append((time.process_time() - spent) / steps)
    medians = {name: statistics.median(found) for name, found in times.items()}
    spent_by = {f"{name}_cpu": statistics.median(found) for name, found in processor.items()}
    ratios = {"ratio": medians[other] / medians[ours], "cpu_ratio": spent_by[f"{other}_cpu"] / spent_by[f"{ours}_cpu"]}
    return {**medians, **spent_by, **ratios, "difference": apart}


def _strengths(solver: str) -> Any:
    return make_settings(solver, 1, 0, 3, None, 1, "anchor", 1e-6).strengths


def _vectors(rows: int, dim: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    found = rng.standard_normal((rows, dim), np.float32)
    found /= np.sqrt(np.float32(dim))
    return found


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def whole(path: Path, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The whole size, and others beside it if they are asked for."""
    if not path.exists():
        make(path, args.values, args.pairs)
    plan, seconds = read(path)
    print(f"read in {seconds:.0f} s", file=sys.stderr, flush=True)
    found: dict[str, Any] = {"whole": asdict(measure(plan, seconds, args.dim, args.steps))}
    print(found, file=sys.stderr, flush=True)
    if args.peers:
        found["scipy"] = beside_scipy(plan, args.dim, 3)
        print(found["scipy"], file=sys.stderr, flush=True)
        found["published"] = beside_published(folder, args.dim)
    return found


def growth(folder: Path, dim: int, values: int, pairs: int) -> dict[str, list[Cost]]:
    """Smaller ones: by values with as many pairs a value, and by pairs with the same values."""
    by_values, by_pairs = [], []
    for part in (16, 8, 4, 2):
        path = make(folder / f"v{part}.db", values // part, pairs // part)
        by_values.append(measure(*read(path), dim, 4))
        path.unlink()
        path = make(folder / f"p{part}.db", values // 4, pairs // part)
        by_pairs.append(measure(*read(path), dim, 4))
        path.unlink()
    return {"values": by_values, "pairs": by_pairs}


def plot(costs: dict[str, list[Cost]]) -> str:
    """Processor time of a step by values and by pairs, each beside the straight line that fits best."""
    panels = {}
    for name, found in costs.items():
        x = np.array([getattr(cost, name) for cost in found], np.float64)
        y = np.array([cost.step_cpu_seconds for cost in found])
        straight = np.polyval(np.polyfit(x, y, 1), x)
        panels[f"by {name}"] = [
            Line("measured", list(zip(x.tolist(), y.tolist()))),
            Line("straight", list(zip(x.tolist(), straight.tolist()))),
        ]
    return line_chart(panels, x_label="values or pairs", y_label="processor s a step")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser("bench.relations.scale", description=__doc__)
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--database", type=Path, help="one that was made before; it is made here if it is not there")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args(argv)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        if args.growth:
            costs = growth(Path(place), args.dim, args.values, args.pairs)
            found["growth"] = {name: [asdict(cost) for cost in each] for name, each in costs.items()}
            if args.plot:
                args.plot.write_text(plot(costs), encoding="utf-8")
        else:
            found = whole(args.database or Path(place) / "made.db", args, Path(place))
    print(json.dumps(found, indent=1))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
