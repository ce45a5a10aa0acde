"""linear in float32 beside NumPy (OpenBLAS) and torch, and its share of the multiply-adds that a register loop reaches.

    python -m bench.ops.bench_linear [--seconds 0.3] [--rows 1,8,32] [--json FILE]

Rows of MiniLM, BERT-base and jina-v3 layers, with bias, on all cores that the process may use (`taskset` gives fewer).
First every contestant's result is held against float64. Then they take turns: in each round each makes as many calls
as fit in its share of the time, after a pause in which the other's waiting threads fall asleep; a round's time is the
median of its calls. The ceiling is fma_ceiling.cpp, compiled and run beside each layer; without a compiler its column
stays empty.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.record import busy_warning, machine, write_json
from bench.timing import Spread, speedup
from longspan import _core, ops

# in_features, out_features: query-key-value, attention output, and the two layers of the MLP
LAYERS: Final = {
    "MiniLM": ((384, 1152), (384, 384), (384, 1536), (1536, 384)),
    "base": ((768, 2304), (768, 3072), (3072, 768)),
    "v3": ((1024, 4096),),
}
ROWS: Final = (1, 8, 32, 128, 512, 2048)
OURS: Final = "longspan"
ROUNDS: Final = 5
PAUSE: Final = 0.04  # seconds; OpenBLAS's idle threads hold their cores for about 25 ms
CEILING_SOURCE: Final = Path(__file__).with_name("fma_ceiling.cpp")

Call = Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True)
class Result:
    """One shape: a contestant's seconds a call in each round, by name."""

    model: str
    rows: int
    in_features: int
    out_features: int
    seconds: dict[str, list[float]]
    ceiling: float | None  # GFLOP/s

    def rate(self, name: str) -> float:
        """GFLOP/s by the median round."""
        flops = 2 * self.rows * self.in_features * self.out_features
        return flops / statistics.median(self.seconds[name]) * 1e-9

    def line(self) -> str:
        """The table's line."""
        share = f"{self.rate(OURS) / self.ceiling:>6.0%}" if self.ceiling else f"{'':>6}"
        shape = f"{self.rows} x {self.in_features} -> {self.out_features}"
        peers = [name for name in self.seconds if name != OURS]
        rates = "".join(f"{self.rate(name):>10.1f}" for name in self.seconds)
        ratios = "".join(f"  {speedup(self.seconds[OURS], self.seconds[name]).text():<22}" for name in peers)
        return f"{self.model:<8}{shape:<22}{rates}{share}{ratios}"


def contestants(rows: int, in_features: int, out_features: int) -> dict[str, Call]:
    """Ours and the peers that are installed, on the same values. Raises: ValueError, one of them is wrong."""
    random = np.random.default_rng([rows, in_features, out_features])
    x, weight, bias, out = (
        random.standard_normal(shape, np.float32)
        for shape in ((rows, in_features), (out_features, in_features), (out_features,), (rows, out_features))
    )
    weight /= np.float32(np.sqrt(in_features))
    packed = ops.pack_linear([weight], [bias])
    calls: dict[str, Call] = {
        OURS: lambda: np.asarray(ops.linear(x, packed, out=out)),
        "numpy": lambda: x @ weight.T + bias,
    }
    try:
        import torch
    except ImportError:
        pass
    else:
        tensors = [torch.from_numpy(array) for array in (x, weight, bias)]
        calls["torch"] = lambda: np.asarray(torch.nn.functional.linear(*tensors))
    truth = x[:64].astype(np.float64) @ weight.T.astype(np.float64) + bias
    for name, call in calls.items():
        error = np.abs(call()[:64] - truth).max()
        if not error < 1e-5 * np.sqrt(in_features):
            raise ValueError(f"{name}: an error of {error:.2g} at {rows} x {in_features} -> {out_features}")
    return calls


def run_rounds(calls: dict[str, Call], seconds: float) -> dict[str, list[float]]:
    """The contestants in turn, ROUNDS times; `seconds` for each contestant's calls together."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            time.sleep(PAUSE)
            call()  # wakes its threads
            took: list[float] = []
            while not took or sum(took) < seconds / ROUNDS:
                before = time.perf_counter()
                call()
                took.append(time.perf_counter() - before)
            times[name].append(statistics.median(took))
    return times


def build_ceiling(folder: Path) -> Path | None:
    """Compile the register loop into `folder`; None, with a line to say why, where that cannot be done."""
    program = folder / "fma_ceiling"
    command = [os.environ.get("CXX", "c++"), "-std=c++20", "-O2", "-march=native", "-pthread"]
    try:
        subprocess.run([*command, str(CEILING_SOURCE), "-o", str(program)], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no ceiling: {getattr(error, 'stderr', None) or error}", file=sys.stderr)
        return None
    return program


def ceiling_rate(program: Path | None) -> float | None:
    """GFLOP/s of the register loop on as many threads as ours uses."""
    if program is None:
        return None
    command = [str(program), str(_core.num_threads()), "30"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.ops.bench_linear", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.3, help="for each contestant at each shape (%(default)s)")
    parser.add_argument("--rows", default=",".join(map(str, ROWS)), help="how many rows, by commas (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(argv)
    print(f"{machine()['cpu']}, {_core.num_threads()} threads, {_core.isa()}; GFLOP/s, share of the register loop,")
    print(f"times as fast as each peer: median (p20 .. p80) of {ROUNDS} rounds")
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        program = build_ceiling(Path(folder))
        for model, layers in LAYERS.items():
            for in_features, out_features in layers:
                ceiling = ceiling_rate(program)
                for rows in map(int, options.rows.split(",")):
                    calls = contestants(rows, in_features, out_features)
                    if not results:
                        peers = "".join(f"  over {name:<17}" for name in calls if name != OURS)
                        print(f"{'':<30}" + "".join(f"{name:>10}" for name in calls) + f"{'share':>6}" + peers)
                    seconds = run_rounds(calls, options.seconds)
                    results.append(Result(model, rows, in_features, out_features, seconds, ceiling))
                    print(results[-1].line(), flush=True)
    for peer in (name for name in results[0].seconds if name != OURS):
        ratios = [statistics.median(speedup_by_round(result, peer)) for result in results]
        print(f"over {peer}, all shapes: {Spread.of(ratios).text()}, least {min(ratios):.2f}")
    if warning := busy_warning():
        print(warning)
    if options.json is not None:
        write_json(options.json, "ops.linear", {"results": [as_json(result) for result in results]})
    return 0


def speedup_by_round(result: Result, peer: str) -> list[float]:
    """How many times as fast as `peer` ours was, in each round."""
    return [slow / fast for fast, slow in zip(result.seconds[OURS], result.seconds[peer], strict=True)]


def as_json(result: Result) -> dict[str, object]:
    """What the record keeps of a shape."""
    return {
        "model": result.model,
        "rows": result.rows,
        "in_features": result.in_features,
        "out_features": result.out_features,
        "ceiling_gflops": result.ceiling,
        "gflops": {name: round(result.rate(name), 1) for name in result.seconds},
        "seconds": result.seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
