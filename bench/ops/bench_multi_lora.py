"""multi_lora, adapters chosen by the row, beside PEFT's mixed batches and a loop in NumPy.

    python -m bench.ops.bench_multi_lora [--full] [--json FILE]

Rows of a mixed batch in runs, as texts have one task each, against every adapter of the model: five of rank 4 on
jina-v3's products, four of rank 32 on Qwen3's. One row in six has no adapter. The delta alone; fused into the product
it costs less, and a model runs it so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np

from longspan import ops, reference

from ..case import OURS, Case, Contest, Contestant, Setting, Work, float32_limit
from ..command import main
from ..peers import enter
from ..shapes import MODELS, ModelShape

BUDGET: Final = 15  # seconds of the short form, about
NAMES: Final = ("jina-v3", "qwen3-0.6b")
PRODUCTS: Final = ("qkv", "up", "down")
SHORT_PRODUCTS: Final = ("up",)
ROWS: Final = (8, 128, 2048)
SHORT_ROWS: Final = (128, 2048)
RUN: Final = 16  # rows of one text
SCALING: Final = 0.25  # jina-embeddings-v3: alpha 1, rank 4


def cases(setting: Setting) -> Iterator[Case]:
    """A product and a number of rows each."""
    for name in NAMES:
        shape = MODELS[name]
        for product in SHORT_PRODUCTS if setting.is_short else PRODUCTS:
            for rows in SHORT_ROWS if setting.is_short else ROWS:
                inputs, outputs = shape.products[product]
                moved = rows * (inputs + outputs) + shape.lora_tasks * shape.lora_rank * (inputs + outputs)
                work = Work(2.0 * rows * shape.lora_rank * (inputs + outputs), 4.0 * moved, float(rows), "rows")
                labels: dict[str, str | int] = {
                    "model": name,
                    "product": product,
                    "rank": shape.lora_rank,
                    "rows": rows,
                }
                build = partial(_contest, shape, product, rows)
                yield Case("multi_lora", labels, work, build, "multi_lora", "rows")


def _contest(shape: ModelShape, product: str, rows: int, setting: Setting) -> Contest:
    inputs, outputs = shape.products[product]
    rng = np.random.default_rng([inputs, outputs, rows])
    tasks, rank = shape.lora_tasks, shape.lora_rank
    x = rng.standard_normal((rows, inputs), np.float32)
    lora_a = rng.standard_normal((tasks, rank, inputs), np.float32) / np.float32(np.sqrt(inputs))
    lora_b = rng.standard_normal((tasks, outputs, rank), np.float32) / np.float32(np.sqrt(rank))
    lora_ids = np.repeat(rng.integers(-1, tasks, -(-rows // RUN)), RUN)[:rows].astype(np.int32)
    out = np.empty((rows, outputs), np.float32)
    ours = Contestant(OURS, lambda: ops.multi_lora(x, lora_a, lora_b, lora_ids, SCALING, out=out))
    entered, absent = enter("multi_lora", setting, x, lora_a, lora_b, lora_ids, SCALING)
    wide, shrink, expand = (array.astype(np.float64) for array in (x, lora_a, lora_b))
    truth = reference.multi_lora(wide, shrink, expand, lora_ids, np.full(tasks, SCALING))
    return Contest((ours, *entered), truth, {"float32": float32_limit(inputs, SCALING)}, absent)


if __name__ == "__main__":
    sys.exit(main("bench.ops.bench_multi_lora", __doc__, cases))
