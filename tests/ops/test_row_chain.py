"""A chain of steps against its ops, called one after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from longspan import _core
from longspan._core import RowChain
from longspan.ops import layer_norm, linear, rms_norm
from longspan.ops.linear import ComputeType, pack_linear
from longspan.ops.multi_lora import pack_lora
from longspan.reference.attention_varlen import round_to_bf16

HIDDEN, INNER = 40, 70
X, WIDE, DELTA = range(3)
# One row, rows that go through each step together, the first that are cut into blocks, several blocks and a rest.
ROWS = [0, 1, 63, 64, 65, 167, 168, 169, 500, 1000]


def values(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


class Layer:
    """A post-norm layer's weights with two adapters on each product, as a chain and as calls of the ops."""

    def __init__(self, dtype: ComputeType, rng: np.random.Generator) -> None:
        self.up = pack_linear([values(rng, INNER, HIDDEN)], [values(rng, INNER)], dtype=dtype)
        self.down = pack_linear([values(rng, HIDDEN, INNER)], dtype=dtype)
        self.wide = pack_linear([values(rng, 3 * HIDDEN, HIDDEN)], dtype=dtype)
        self.up_lora = pack_lora(values(rng, 2, 3, HIDDEN), values(rng, 2, INNER, 3), 0.5, self.up)
        self.down_lora = pack_lora(values(rng, 2, 3, INNER), values(rng, 2, HIDDEN, 3), 0.5, self.down)
        self.weight, self.bias, self.head = values(rng, HIDDEN), values(rng, HIDDEN), values(rng, HIDDEN // 2)

    def chain(self) -> RowChain:
        chain = RowChain(2)
        chain.mlp(X, self.up, self.up_lora, "gelu", self.down, self.down_lora, X, DELTA)
        chain.norm(DELTA, self.weight, self.bias, 1e-5, True, X, X, 0, HIDDEN)
        chain.multiply(X, self.wide, None, None, WIDE)
        chain.norm(WIDE, self.head, None, 1e-5, False, None, WIDE, HIDDEN, HIDDEN)
        return chain

    def by_ops(self, x: np.ndarray, ids: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        def adapters(lora: _core.PackedLora) -> dict[str, object]:
            return {} if ids is None else {"lora": lora, "lora_ids": ids}

        middle = linear(x, self.up, activation="gelu", **adapters(self.up_lora))
        delta = linear(middle, self.down, residual=x, **adapters(self.down_lora))
        x = layer_norm(delta, self.weight, self.bias, eps=1e-5, residual=x)
        wide = linear(x, self.wide)
        part = wide[:, HIDDEN : 2 * HIDDEN].reshape(len(x), 2, HIDDEN // 2)
        rms_norm(part, self.head, eps=1e-5, out=part)
        return x, wide


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("rows", ROWS)
def test_a_chain_has_the_bits_of_its_ops(isa: str, dtype: ComputeType, rows: int) -> None:
    rng = np.random.default_rng(rows)
    layer, x = Layer(dtype, rng), values(rng, rows, HIDDEN)
    for ids in (None, rng.integers(-1, 2, rows).astype(np.int32)):
        expected = layer.by_ops(x, ids)
        for threads in (1, 2, 3):
            bound = [x.copy(), np.full((rows, 3 * HIDDEN), np.nan, np.float32)]
            before = _core.set_num_threads(threads)
            try:
                layer.chain().run(bound, ids)
            finally:
                _core.set_num_threads(before)
            for found, known in zip(bound, expected, strict=True):
                np.testing.assert_array_equal(found, known)


def test_values_may_lie_in_wider_memory() -> None:
    rng = np.random.default_rng(0)
    layer, x = Layer("float32", rng), values(rng, 300, HIDDEN)
    memory = np.full((300, 5 * HIDDEN), 7, np.float32)
    bound = [memory[:, :HIDDEN], memory[:, HIDDEN + 3 : 4 * HIDDEN + 3]]
    bound[0][...] = x
    layer.chain().run(bound)
    for found, known in zip(bound, layer.by_ops(x, None), strict=True):
        np.testing.assert_array_equal(found, known)
    assert (memory[:, HIDDEN : HIDDEN + 3] == 7).all() and (memory[:, 4 * HIDDEN + 3 :] == 7).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("rows", [1, 65, 300])
def test_a_product_may_be_rounded_to_bf16(isa: str, dtype: ComputeType, rows: int) -> None:
    rng = np.random.default_rng(rows)
    x, weight = values(rng, rows, HIDDEN), pack_linear([values(rng, INNER, HIDDEN)], dtype=dtype)
    chain = RowChain(2)
    chain.multiply(X, weight, None, None, WIDE)
    memory = np.full((rows, INNER + 2), 7, np.uint16)
    chain.run([x, memory[:, :INNER]])
    found = (memory[:, :INNER].astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(found, round_to_bf16(linear(x, weight)))
    assert (memory[:, INNER:] == 7).all()


@pytest.mark.parametrize("rows", ROWS)
def test_a_sum_behind_a_norm(isa: str, rows: int) -> None:
    """What models with norms of what they add need: x = x + norm(delta)."""
    layer, rng = Layer("float32", np.random.default_rng(8)), np.random.default_rng(9)
    x, wide = values(rng, rows, HIDDEN), np.empty((rows, 3 * HIDDEN), np.float32)
    chain = RowChain(2)
    chain.multiply(X, layer.wide, None, None, WIDE)
    chain.mlp(X, layer.up, None, "gelu", layer.down, None, None, DELTA)
    chain.norm(DELTA, layer.weight, None, 1e-5, False, None, DELTA, 0, HIDDEN)
    chain.add(DELTA, X, X)
    delta = linear(linear(x, layer.up, activation="gelu"), layer.down)
    expected = rms_norm(delta, layer.weight, eps=1e-5) + x
    chain.run([x, wide])
    np.testing.assert_array_equal(x, expected)


def test_weights_that_no_cache_keeps() -> None:
    """Rows go through each step together then, in two turns."""
    rng, (rows, inputs, outputs) = np.random.default_rng(10), (1400, 1500, 7000)
    x, wide = values(rng, rows, inputs), np.full((rows, outputs), np.nan, np.float32)
    weight, norm = pack_linear([values(rng, outputs, inputs)]), values(rng, outputs)
    assert weight.nbytes > 40 << 20
    chain = RowChain(2)
    chain.multiply(X, weight, None, None, WIDE)
    chain.norm(WIDE, norm, None, 1e-5, False, None, WIDE, 0, outputs)
    chain.add(WIDE, WIDE, WIDE)
    chain.run([x, wide])
    np.testing.assert_array_equal(wide, 2 * rms_norm(linear(x, weight), norm, eps=1e-5))


def wrong_runs(layer: Layer) -> dict[str, Callable[[], object]]:
    x, wide = np.zeros((5, HIDDEN), np.float32), np.zeros((5, 3 * HIDDEN), np.float32)
    ids = np.zeros(5, np.int32)
    return {
        r"run takes 2 values, got 1": lambda: layer.chain().run([x]),
        r"value 1 must be \(5, 120\), got \(4, 120\)": lambda: layer.chain().run([x, wide[:4]]),
        r"value 0 must be \(5, 40\), got \(5, 120\)": lambda: layer.chain().run([wide, wide]),
        r"value 0 must be float32: only the target of products alone may be bfloat16": lambda: layer.chain().run(
            [x.astype(np.uint16), wide]
        ),
        r"value 1 must be float32": lambda: layer.chain().run([x, wide.astype(np.uint16)]),
        r"lora_ids must be \(5,\), got \(4,\)": lambda: layer.chain().run([x, wide], ids[:4]),
        r"lora_ids\[0\] is 2 but 2 adapters are loaded": lambda: layer.chain().run([x, wide], ids + 2),
        r"values must be float32, got float64": lambda: layer.chain().run([x.astype(np.float64), wide]),
        r"source must have 70 columns, but value 0 has 40": lambda: layer.chain().multiply(
            X, layer.down, None, None, DELTA
        ),
        r"down must have 70 inputs, as up has outputs, got 40": lambda: layer.chain().mlp(
            X, layer.up, None, "gelu", layer.wide, None, None, DELTA
        ),
        r"add: source 5 has no width yet": lambda: layer.chain().add(5, X, X),
        r"add: a value must have 40 columns, but value 1 has 120": lambda: layer.chain().add(X, WIDE, X),
        r"source must be 0 or more, got -1": lambda: layer.chain().multiply(-1, layer.up, None, None, DELTA),
        r"columns 100 to 140 are not in value 1, which has 120": lambda: layer.chain().norm(
            WIDE, layer.weight, None, 1e-5, True, None, WIDE, 100, HIDDEN
        ),
        r"columns must be a multiple of weight's size, 40, got 60": lambda: layer.chain().norm(
            WIDE, layer.weight, None, 1e-5, True, None, WIDE, 0, 60
        ),
    }


@pytest.mark.parametrize("message", list(wrong_runs(Layer("float32", np.random.default_rng(0)))))
def test_what_does_not_fit_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong_runs(Layer("float32", np.random.default_rng(0)))[message]()
