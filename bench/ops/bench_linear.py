"""linear in float32, bfloat16 and int8 beside NumPy (OpenBLAS) and torch, and its share of the multipliers' rate.

    python -m bench.ops.bench_linear [--full] [--json FILE]

The products of MiniLM, BERT-base and jina-v3 layers, with bias, on 1 to 2048 rows. Weights are packed beforehand, as a
model does once; rows are rounded within the time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from longspan import ops

from ..case import Case, ComputeType, Contest, Contestant, Numerics, Setting, Work, float32_limit
from ..command import main
from ..contest import our_name
from ..peers import enter
from ..shapes import MODELS
from ..truth import limits_of, rounded

BUDGET: Final = 20  # seconds of the short form, about
# The products that differ in shape; a model's attention_out is as wide as it is high.
PRODUCTS: Final = {"MiniLM": ("qkv", "attention_out", "up", "down"), "base": ("qkv", "up", "down"), "jina-v3": ("up",)}
ROWS: Final = (1, 8, 32, 128, 512, 2048)
SHORT_PRODUCTS: Final = {"MiniLM": ("up",), "base": ("down",)}
SHORT_ROWS: Final = (1, 32, 512)
WEIGHT_BYTES: Final[Mapping[ComputeType, int]] = {"float32": 4, "bfloat16": 2, "int8": 1}
CHECKED_ROWS: Final = 64


def cases(setting: Setting) -> Iterator[Case]:
    """A product and a number of rows each."""
    for model, names in (SHORT_PRODUCTS if setting.is_short else PRODUCTS).items():
        for name in names:
            sizes = MODELS[model].products[name]
            for rows in SHORT_ROWS if setting.is_short else ROWS:
                labels: dict[str, str | int] = {
                    "model": model,
                    "product": name,
                    "in": sizes[0],
                    "out": sizes[1],
                    "rows": rows,
                }
                yield Case(
                    "linear", labels, work_of(rows, *sizes, 4), partial(_contest, rows, *sizes), "linear", "rows"
                )


def work_of(rows: int, in_features: int, out_features: int, weight_bytes: int) -> Work:
    """Rows and results are float32; weights as they are packed."""
    moved = 4.0 * rows * (in_features + out_features) + weight_bytes * in_features * out_features
    return Work(2.0 * rows * in_features * out_features, moved)


def _contest(rows: int, in_features: int, out_features: int, setting: Setting) -> Contest:
    random = np.random.default_rng([rows, in_features, out_features])
    x, weight, bias, out = (
        random.standard_normal(shape, np.float32)
        for shape in ((rows, in_features), (out_features, in_features), (out_features,), (rows, out_features))
    )
    weight /= np.float32(np.sqrt(in_features))
    contestants = []
    for dtype, size in WEIGHT_BYTES.items():
        packed = ops.pack_linear([weight], [bias], dtype=dtype)
        work = work_of(rows, in_features, out_features, size)

        def run(packed: ops.PackedLinear = packed) -> object:
            return ops.linear(x, packed, out=out)

        contestants.append(Contestant(our_name(dtype), run, dtype, work=work))
    entered, absent = enter("linear", setting, x, weight, bias)
    everyone = tuple(replace(each, read=partial(_first_rows, each)) for each in [*contestants, *entered])

    def product(numerics: Numerics) -> np.ndarray:
        return rounded(x[:CHECKED_ROWS], numerics, 1) @ rounded(weight, numerics, 1).T + bias

    coarser: dict[Numerics, np.ndarray] = {"bfloat16": product("bfloat16"), "int8": product("int8")}
    truth = product("float32")
    return Contest(everyone, truth, limits_of(truth, coarser, float32_limit(in_features)), absent)


def _first_rows(contestant: Contestant, result: object) -> np.ndarray:
    return contestant.read(result)[:CHECKED_ROWS]


if __name__ == "__main__":
    sys.exit(main("bench.ops.bench_linear", __doc__, cases))
