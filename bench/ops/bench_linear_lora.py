"""linear with adapters of five tasks mixed in one batch, beside weights without any, and what torch and PEFT do.

    python -m bench.ops.bench_linear_lora [--full] [--json FILE]

The products of a jina-v3 layer, the adapters of query, key and value stacked as the model has them; rows in runs of 40
to 300, as texts have one task each. "without adapters" is the cost of weights that took one task's adapter in. torch
makes the product of all rows, then for each task gathers its rows, shrinks, expands and adds; PEFT does that by the
names that its forward takes. Whole models: bench mixed_tasks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from longspan import ops, reference

from ..case import OURS, Case, Contest, Contestant, Numerics, Setting, float32_limit
from ..command import main
from ..contest import our_name
from ..peers import enter
from ..shapes import MODELS
from ..truth import limits_of, rounded
from .bench_linear import WEIGHT_BYTES, work_of

BUDGET: Final = 18  # seconds of the short form, about
MODEL: Final = "jina-v3"
STACKED: Final = {"qkv": 3}  # parts by rows, with an adapter each
RANKS: Final = (4, 32)
ROWS: Final = (128, 2048)
SHORT_PRODUCTS: Final = ("qkv",)
SHORT_ROWS: Final = (2048,)
CHECKED_ROWS: Final = 64
WITHOUT: Final = "without adapters"
TARGET: Final = "<= 1.05x the time without adapters"


def cases(setting: Setting) -> Iterator[Case]:
    """A rank, a product and a number of rows each."""
    shape = MODELS[MODEL]
    for rank in RANKS:
        for product in SHORT_PRODUCTS if setting.is_short else shape.products:
            for rows in SHORT_ROWS if setting.is_short else ROWS:
                labels: dict[str, str | int] = {"model": MODEL, "product": product, "rank": rank, "rows": rows}
                build = partial(_contest, product, rank, rows)
                yield Case("linear_lora", labels, work_of(rows, *shape.products[product], 4), build, "linear_lora")


def task_ids(rows: int, tasks: int) -> np.ndarray:
    """(rows,) int32: runs of 40 to 300 rows with a task each."""
    random = np.random.default_rng(rows)
    runs = [np.full(random.integers(40, 301), random.integers(0, tasks)) for _ in range(rows // 40 + 1)]
    return np.concatenate(runs)[:rows].astype(np.int32)


def adapters(product: str, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """lora_a (tasks, parts * rank, in) and lora_b (tasks, out, parts * rank) f32, each part's on the diagonal."""
    (inputs, outputs), parts, tasks = MODELS[MODEL].products[product], STACKED.get(product, 1), MODELS[MODEL].lora_tasks
    random = np.random.default_rng([inputs, outputs, rank])
    lora_a = random.standard_normal((tasks, parts * rank, inputs), np.float32) / np.float32(np.sqrt(inputs))
    lora_b = np.zeros((tasks, outputs, parts * rank), np.float32)
    size = outputs // parts
    for part in range(parts):
        block = random.standard_normal((tasks, size, rank), np.float32) / np.float32(np.sqrt(rank))
        lora_b[:, part * size : (part + 1) * size, part * rank : (part + 1) * rank] = block
    return lora_a, lora_b


def _contest(product: str, rank: int, rows: int, setting: Setting) -> Contest:
    inputs, outputs = MODELS[MODEL].products[product]
    random = np.random.default_rng([rows, inputs, outputs])
    x, weight, bias, out = (
        random.standard_normal(shape, np.float32)
        for shape in ((rows, inputs), (outputs, inputs), (outputs,), (rows, outputs))
    )
    weight /= np.float32(np.sqrt(inputs))
    lora_a, lora_b = adapters(product, rank)
    ids = task_ids(rows, len(lora_a))
    plain: dict[str, np.ndarray] = {}  # what those without adapters are to give, beside the truth of the others

    def product_of(numerics: Numerics) -> tuple[np.ndarray, np.ndarray]:
        some = rounded(x[:CHECKED_ROWS], numerics, 1)
        shrink, expand = (np.stack([rounded(each, numerics, 1) for each in part]) for part in (lora_a, lora_b))
        added = reference.multi_lora(some, shrink, expand, ids[:CHECKED_ROWS], np.ones(len(lora_a)))
        without = some @ rounded(weight, numerics, 1).T + bias
        return without + added, without

    truth, plain_truth = product_of("float32")
    contestants = []
    for dtype, size in WEIGHT_BYTES.items():
        packed = ops.pack_linear([weight], [bias], dtype=dtype)
        lora, work = ops.pack_lora(lora_a, lora_b, 1.0, packed), work_of(rows, inputs, outputs, size)

        def mixed(packed: ops.PackedLinear = packed, lora: ops.PackedLora = lora) -> object:
            return ops.linear(x, packed, lora=lora, lora_ids=ids, out=out)

        def without(packed: ops.PackedLinear = packed) -> object:
            return ops.linear(x, packed, out=out)

        contestants.append(Contestant(our_name(dtype), mixed, dtype, work=work, target=TARGET))
        name = f"{OURS} {WITHOUT}" + ("" if dtype == "float32" else f" {dtype}")
        contestants.append(Contestant(name, without, dtype, work=work))
        plain[name] = plain_truth
    entered, absent = enter("linear_lora", setting, x, weight, bias, lora_a, lora_b, ids)
    everyone = tuple(
        replace(each, read=partial(_off, each, plain.get(each.name, truth))) for each in [*contestants, *entered]
    )
    coarser: dict[Numerics, np.ndarray] = {}
    for numerics in ("bfloat16", "int8"):
        coarser[numerics] = product_of(numerics)[0]
    limits = limits_of(truth, coarser, float32_limit(inputs, 2**0.5))  # a product's own size is 1, and the adapters'
    return Contest(everyone, np.zeros_like(truth), limits, absent)


def _off(contestant: Contestant, truth: np.ndarray, result: object) -> np.ndarray:
    """What it differs by: those without adapters have another truth."""
    return contestant.read(result)[:CHECKED_ROWS] - truth


if __name__ == "__main__":
    sys.exit(main("bench.ops.bench_linear_lora", __doc__, cases))
