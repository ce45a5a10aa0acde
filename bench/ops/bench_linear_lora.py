"""linear with adapters of five tasks mixed in one batch, beside one task merged into the weights and a loop over tasks.

    python -m bench.ops.bench_linear_lora [--seconds 1] [--rows 2048] [--ranks 4,32] [--dtypes float32,bfloat16,int8]

The products of a jina-v3 layer, the adapters of query, key and value stacked as the model has them; rows in runs of 40
to 300, as texts have one task each. First the mixed batch is held, to the bit, against each task alone, and in float32
against float64. "merged" is the same product with weights that took one task's adapter in: the cost that adapters add
is the mixed batch's time over its. "loop" is what torch and PEFT do: the product of all rows, then for each task its
rows gathered, shrunk, expanded and added; in torch float32, where torch is installed. Figures are medians of rounds in
turn.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from typing import Final

import numpy as np

from bench.record import busy_warning, machine
from bench.timing import Spread, interleave, speedup
from longspan import _core, ops, reference
from longspan.ops.linear import ComputeDtype
from longspan.ops.multi_lora import pack_lora

# in_features, out_features, parts stacked by rows with an adapter each
PRODUCTS: Final = ((1024, 3072, 3), (1024, 1024, 1), (1024, 4096, 1), (4096, 1024, 1))
TASKS: Final = 5
PAUSE: Final = 0.04  # seconds, until torch's idle threads have let go of the cores
CHECKED_ROWS: Final = 64

Call = Callable[[], object]


def task_ids(rows: int) -> np.ndarray:
    """Runs of 40 to 300 rows with a task each."""
    random = np.random.default_rng(rows)
    runs = [np.full(random.integers(40, 301), random.integers(0, TASKS)) for _ in range(rows // 40 + 1)]
    return np.concatenate(runs)[:rows].astype(np.int32)


def contestants(
    product: tuple[int, int, int], rows: int, rank: int, dtype: ComputeDtype
) -> tuple[dict[str, Call], float]:
    """The calls by name, and what the adapters add to the FLOPs. Raises: ValueError, the mixed one is wrong."""
    in_features, out_features, parts = product
    random = np.random.default_rng([in_features, out_features, rank])
    x, weight, bias = (
        random.standard_normal(shape, np.float32)
        for shape in ((rows, in_features), (out_features, in_features), (out_features,))
    )
    weight /= np.float32(np.sqrt(in_features))
    lora_a = random.standard_normal((TASKS, parts * rank, in_features), np.float32) / np.float32(np.sqrt(in_features))
    lora_b = np.zeros((TASKS, out_features, parts * rank), np.float32)
    size = out_features // parts
    for part in range(parts):
        block = random.standard_normal((TASKS, size, rank), np.float32) / np.float32(np.sqrt(rank))
        lora_b[:, part * size : (part + 1) * size, part * rank : (part + 1) * rank] = block
    ids, out = task_ids(rows), np.empty((rows, out_features), np.float32)
    packed = ops.pack_linear([weight], [bias], dtype=dtype)
    merged = ops.pack_linear([weight + lora_b[0] @ lora_a[0]], [bias], dtype=dtype)
    lora = pack_lora(lora_a, lora_b, 1.0, packed)
    calls: dict[str, Call] = {
        "merged": lambda: ops.linear(x, merged, out=out),
        "mixed": lambda: ops.linear(x, packed, lora=lora, lora_ids=ids, out=out),
    }
    mixed = np.array(calls["mixed"]())
    for task in range(TASKS):
        alone = np.asarray(ops.linear(x, packed, lora=lora, lora_ids=np.full(rows, task, np.int32)))
        if not np.array_equal(alone[ids == task], mixed[ids == task]):
            raise ValueError(f"task {task} has other bits in the mixed batch than alone")
    if dtype == "float32":
        some = [array.astype(np.float64) for array in (x[:CHECKED_ROWS], weight, bias, lora_a, lora_b)]
        truth = reference.linear(*some[:3]) + reference.multi_lora(
            some[0], *some[3:], ids[:CHECKED_ROWS], np.ones(TASKS)
        )
        error = np.abs(mixed[:CHECKED_ROWS] - truth).max()
        if not error < 1e-5 * np.sqrt(in_features):
            raise ValueError(f"mixed: an error of {error:.2g}")
        if importlib.util.find_spec("torch") is not None:
            calls["loop"] = torch_loop(x, weight, bias, lora_a, lora_b, ids)
    return calls, rank * (in_features * parts + out_features) / (in_features * out_features)


def torch_loop(*arrays: np.ndarray) -> Call:
    """One task after the other, in torch."""
    import torch

    x, weight, bias, lora_a, lora_b, ids = map(torch.from_numpy, arrays)

    @torch.inference_mode()
    def run() -> object:
        result = torch.nn.functional.linear(x, weight, bias)
        for task in range(TASKS):
            rows = torch.nonzero(ids == task)[:, 0]
            result.index_add_(0, rows, x[rows] @ lora_a[task].T @ lora_b[task].T)
        return result

    return run


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0."""
    name = "bench.ops.bench_linear_lora"
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each line (%(default)s)")
    parser.add_argument("--rows", type=int, default=2048, help="of a batch (%(default)s)")
    parser.add_argument("--ranks", default="4,32", help="by commas (%(default)s)")
    parser.add_argument("--dtypes", default="float32,bfloat16,int8", help="by commas (%(default)s)")
    options = parser.parse_args(argv)
    print(f"{machine()['cpu']}, {_core.num_threads()} threads, {_core.isa()}; {options.rows} rows of {TASKS} tasks;")
    print("mixed over merged, and loop over mixed: median (p20 .. p80); FLOPs: what adapters add to them")
    for rank in map(int, options.ranks.split(",")):
        for dtype in options.dtypes.split(","):
            totals = dict.fromkeys(("merged", "mixed"), 0.0)
            for product in PRODUCTS:
                calls, share = contestants(product, options.rows, rank, dtype)
                seconds = interleave(calls, seconds=options.seconds, pause=PAUSE if "loop" in calls else 0.0)
                for each in totals:
                    totals[each] += Spread.of(seconds[each]).median
                line = f"{dtype:<9} rank {rank:<3} {product[0]} -> {product[1]:<5} FLOPs {1 + share:.3f}"
                line += f"  mixed {speedup(seconds['merged'], seconds['mixed']).text(3):<24}"
                print(line + (f"  loop {speedup(seconds['mixed'], seconds['loop']).text()}" if "loop" in calls else ""))
            print(f"{dtype:<9} rank {rank:<3} the four together: {totals['mixed'] / totals['merged']:.3f}", flush=True)
    if warning := busy_warning():
        print(warning)
    return 0


if __name__ == "__main__":
    sys.exit(main())
