"""Adapters for each row: alone (multi_lora), and fused into linear."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from errors import assert_no_worse
from longspan import _core, ops
from longspan.errors import BackendError
from longspan.ops.linear import GATES
from longspan.ops.multi_lora import multi_lora, pack_lora
from longspan.reference.linear import linear as reference_linear
from longspan.reference.linear import quantize_rows, rotate, round_bfloat16
from longspan.reference.multi_lora import multi_lora as reference_multi_lora

SHAPES = [(1, 1, 1, 1), (24, 17, 4, 5), (70, 33, 3, 1), (300, 96, 32, 3), (257, 65, 7, 12), (40, 48, 300, 2)]
SCALING = [0.25, 2.0, 0.3, 1.0, 0.7]


def adapters(in_features: int, outputs: int, rank: int, n: int) -> tuple[np.ndarray, np.ndarray, list[float]]:
    lora_a = inputs.normal((n, rank, in_features), 5) / np.float32(np.sqrt(in_features))
    lora_b = inputs.normal((n, outputs, rank), 6) / np.float32(np.sqrt(rank))
    return lora_a, lora_b, [SCALING[i % len(SCALING)] for i in range(n)]


def ragged_ids(rows: int, n: int, *seed: int) -> np.ndarray:
    """Runs of 1 to 40 rows with an adapter each, -1 among them."""
    rng = inputs.rng(rows, n, *seed)
    ids = [np.full(rng.integers(1, 41), rng.integers(-1, n)) for _ in range(rows)]
    return np.concatenate(ids)[:rows].astype(np.int32)


def doubles(*arrays: np.ndarray) -> list[np.ndarray]:
    return [array.astype(np.float64) for array in arrays]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(isa: str, shape: tuple[int, int, int, int]) -> None:
    in_features, outputs, rank, n = shape
    lora_a, lora_b, scaling = adapters(in_features, outputs, rank, n)
    x, ids = inputs.normal((400, in_features), 1), ragged_ids(400, n)
    truth = reference_multi_lora(*doubles(x, lora_a, lora_b), ids, np.array(scaling))
    native = reference_multi_lora(x, lora_a, lora_b, ids, np.array(scaling))
    poisoned = np.full((400, outputs), np.nan, np.float32)
    assert multi_lora(x, lora_a, lora_b, ids, scaling, out=poisoned) is poisoned
    # Each sum is one chain: its error is below eps * terms * the sum of absolute values, of both products together.
    chain = np.finfo(np.float32).eps * (in_features + rank + 2)
    allowed = chain * reference_multi_lora(*map(np.abs, doubles(x, lora_a, lora_b)), ids, np.array(scaling))
    assert (np.abs(poisoned - truth) <= allowed).all()
    assert not poisoned[ids < 0].any()
    named = multi_lora(x, lora_a, lora_b, ids, scaling, backend="reference")
    np.testing.assert_array_equal(named, native)


@pytest.mark.parametrize("gate", [None, *GATES])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_linear_matches_reference(isa: str, shape: tuple[int, int, int, int], gate: str | None) -> None:
    in_features, outputs, rank, n = shape
    out_rows = outputs if gate is None else 2 * outputs
    lora_a, lora_b, scaling = adapters(in_features, out_rows, rank, n)
    x, weight = inputs.normal((173, in_features), 1), inputs.normal((out_rows, in_features), 2)
    weight /= np.float32(np.sqrt(in_features))
    bias, residual, ids = inputs.normal((out_rows,), 3), inputs.normal((173, outputs), 4), ragged_ids(173, n)
    how = {"activation": "gelu", "gate": gate}
    truth, native = (
        reference_linear(
            *cast(x, weight),
            bias=cast(bias)[0] + reference_multi_lora(*cast(x, lora_a, lora_b), ids, np.array(scaling)),
            residual=cast(residual)[0],
            **how,
        )
        for cast in (doubles, lambda *arrays: list(arrays))
    )
    packed = ops.pack_linear([weight], [bias], gate=gate)
    lora = pack_lora(lora_a, lora_b, scaling, packed)
    how = {"activation": "gelu", "residual": residual, "lora": lora, "lora_ids": ids}
    got = ops.linear(x, packed, out=np.full((173, outputs), np.nan, np.float32), **how)
    assert_no_worse(got, truth, native)
    np.testing.assert_array_equal(ops.linear(x, weight, bias, gate=gate, **how), got)
    assert_no_worse(ops.linear(x, packed, backend="reference", **how), truth, native)


@pytest.mark.large
@pytest.mark.parametrize("shape", [(384, 100, 4, 5), (600, 66, 48, 3), (64, 32, 300, 2)], ids=str)
@pytest.mark.parametrize("gate, dtype", [(None, "float32"), ("second", "bfloat16"), (None, "int8")])
def test_a_row_has_the_same_bits_beside_any_others(
    isa: str, shape: tuple[int, int, int, int], gate: str | None, dtype: str
) -> None:
    """Mixed = each adapter alone = any part of the batch; -1 = no adapters at all; on any number of threads."""
    in_features, outputs, rank, n = shape
    lora_a, lora_b, scaling = adapters(in_features, outputs, rank, n)
    x, ids = inputs.normal((400, in_features), 1), ragged_ids(400, n)
    packed = ops.pack_linear([inputs.normal((outputs, in_features), 2)], gate=gate, dtype=dtype)
    lora = pack_lora(lora_a, lora_b, scaling, packed)

    def run(first: int, last: int, lora_ids: np.ndarray) -> np.ndarray:
        return ops.linear(x[first:last], packed, activation="silu", lora=lora, lora_ids=lora_ids)

    mixed = run(0, 400, ids)
    plain = ops.linear(x, packed, activation="silu")
    np.testing.assert_array_equal(run(0, 400, np.full(400, -1, np.int32)), plain)
    for adapter in range(-1, n):
        of_it = ids == adapter
        np.testing.assert_array_equal(run(0, 400, np.full(400, adapter, np.int32))[of_it], mixed[of_it])
        assert adapter < 0 or not np.array_equal(mixed[of_it], plain[of_it])
    before = _core.num_threads()
    try:
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            for rows in (*range(1, 18), 29, 169, 337):
                for first in (0, 111 % (401 - rows), 400 - rows):
                    some = run(first, first + rows, ids[first : first + rows])
                    np.testing.assert_array_equal(some, mixed[first : first + rows], f"{threads}, {rows}")
    finally:
        _core.set_num_threads(before)
    delta = multi_lora(x, lora_a, lora_b, ids, scaling)
    for first, last in ((0, 1), (5, 90), (399, 400)):
        part = multi_lora(x[first:last], lora_a, lora_b, ids[first:last], scaling)
        np.testing.assert_array_equal(part, delta[first:last])


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_linear_in_narrow_dtypes(isa: str, shape: tuple[int, int, int, int], dtype: str) -> None:
    """The reference in float64, on operands rounded as the kernel rounds them."""
    in_features, outputs, rank, n = shape
    lora_a, lora_b, scaling = adapters(in_features, outputs, rank, n)
    x, weight, ids = inputs.normal((173, in_features), 1), inputs.normal((outputs, in_features), 2), ragged_ids(173, n)
    packed = ops.pack_linear([weight], dtype=dtype)
    lora = pack_lora(lora_a, lora_b, scaling, packed)
    assert lora.dtype == dtype
    got = ops.linear(x, packed, lora=lora, lora_ids=ids)
    truth = ops.linear(x.astype(np.float64), packed, lora=lora, lora_ids=ids, backend="reference")
    # f32 sums, each a chain of what the operands were rounded to; and a shrunk value that f32 sums bring to the other
    # side of a tie rounds to the other neighbour in bfloat16, at most 2^-7 away.
    wholes, scales, zeros = quantize_rows(x)
    rounded = round_bfloat16(x) if dtype == "bfloat16" else (wholes - zeros[:, None]) * scales[:, None]
    weight, lora_a, lora_b = packed.unpack()[0], *lora.unpack()
    if dtype == "int8":
        weight, lora_a = rotate(weight), rotate(lora_a.reshape(n * rank, -1)).reshape(n, rank, -1)
    size_x, size_weight, size_a, size_b = map(np.abs, doubles(rounded, weight, lora_a, lora_b))
    delta = reference_multi_lora(size_x, size_a, size_b, ids, np.ones(n))
    chain = np.finfo(np.float32).eps * (in_features + rank + 4)
    allowed = chain * (size_x @ size_weight.T + delta) + 2**-7 * delta
    if dtype == "int8":  # the reference rotates anew what was rotated back: see test_linear_dtypes.py
        long_x, long_weight, long_a = (
            np.linalg.norm(part, axis=-1, keepdims=True) for part in (size_x, size_weight, size_a)
        )
        lengths = long_x @ long_weight.T + reference_multi_lora(long_x, long_a, size_b, ids, np.ones(n))
        allowed += 4 * (2 * 6 * 8) * 2.0**-24 * lengths
    assert (np.abs(got - truth) <= allowed).all()


def test_every_row_with_another_adapter_than_its_neighbour(isa: str) -> None:
    lora_a, lora_b, scaling = adapters(50, 40, 9, 5)
    x, ids = inputs.normal((61, 50), 1), (np.arange(61) % 6 - 1).astype(np.int32)
    apart = np.stack([multi_lora(x[[i]], lora_a, lora_b, ids[[i]], scaling)[0] for i in range(61)])
    np.testing.assert_array_equal(multi_lora(x, lora_a, lora_b, ids, scaling), apart)


@pytest.mark.parametrize("gate", [None, *GATES])
def test_stacked_parts_and_unpacking(isa: str, gate: str | None) -> None:
    """An adapter for each part of stacked weights: zeros beside the diagonal are not stored; unpacking is exact."""
    rank, parts, in_features = 8, (96, 64, 64), 40
    blocks = adapters(in_features, sum(parts), rank * 3, 2)
    lora_a, lora_b = blocks[0], np.zeros_like(blocks[1])
    for i, rows in enumerate(parts):
        at = slice(sum(parts[:i]), sum(parts[:i]) + rows)
        lora_b[:, at, i * rank : (i + 1) * rank] = blocks[1][:, at, i * rank : (i + 1) * rank]
    packed = ops.pack_linear([inputs.normal((sum(parts), in_features), 2)], gate=gate)
    lora = pack_lora(lora_a, lora_b, [0.5, 2.0], packed)
    dense = pack_lora(lora_a, blocks[1], [0.5, 2.0], packed)
    assert (lora.num_adapters, lora.rank) == (2, 24)
    if gate is None:
        assert lora.nbytes == dense.nbytes - 2 * sum(parts) * 2 * rank * 4
    unpacked_a, unpacked_b = lora.unpack()
    np.testing.assert_array_equal(unpacked_a, lora_a * np.float32([0.5, 2.0])[:, None, None])
    np.testing.assert_array_equal(unpacked_b, lora_b)
    x, ids = inputs.normal((30, in_features), 1), ragged_ids(30, 2)
    again = pack_lora(unpacked_a, unpacked_b, 1.0, packed)
    got = ops.linear(x, packed, lora=lora, lora_ids=ids)
    np.testing.assert_array_equal(ops.linear(x, packed, lora=again, lora_ids=ids), got)
    bias = reference_multi_lora(*doubles(x, lora_a, lora_b), ids, np.array([0.5, 2.0]))
    truth = reference_linear(*doubles(x, packed.unpack()[0]), bias=bias, gate=gate)
    np.testing.assert_allclose(got, truth, rtol=0, atol=2e-4)


def test_an_adapter_does_not_reach_rows_of_others(isa: str) -> None:
    """Not even with infinities: it is not multiplied by zero, it is not there."""
    lora_a, lora_b, scaling = adapters(20, 34, 4, 3)
    x, ids = inputs.normal((40, 20), 1), ragged_ids(40, 3)
    expected = multi_lora(x, lora_a, lora_b, ids, scaling)
    lora_a[1], lora_b[1] = np.inf, np.nan
    got = multi_lora(x, lora_a, lora_b, ids, scaling)
    np.testing.assert_array_equal(got[ids != 1], expected[ids != 1])
    assert not np.isfinite(got[ids == 1]).any()


def test_no_rows_and_packed_for_another_instruction_set(isa: str) -> None:
    lora_a, lora_b, scaling = adapters(20, 34, 4, 3)
    packed = ops.pack_linear([inputs.normal((34, 20), 2)])
    lora = pack_lora(lora_a, lora_b, scaling, packed)
    assert multi_lora(ones(0, 20), lora_a, lora_b, np.zeros(0, np.int32)).shape == (0, 34)
    assert ops.linear(ones(0, 20), packed, lora=lora, lora_ids=np.zeros(0, np.int32)).shape == (0, 34)
    x, ids = inputs.normal((30, 20), 1), ragged_ids(30, 3)
    expected = ops.linear(x, packed, lora=lora, lora_ids=ids)
    for other in _core.available_isas():
        _core.set_isa(other)
        np.testing.assert_array_equal(ops.linear(x, packed, lora=lora, lora_ids=ids), expected)


def test_layouts(isa: str) -> None:
    lora_a, lora_b, scaling = adapters(20, 34, 4, 3)
    x, ids = inputs.normal((30, 20), 1), ragged_ids(30, 3)
    expected = multi_lora(x, lora_a, lora_b, ids, scaling)
    for odd_x, odd_a, odd_b in zip(*(inputs.odd_layouts(array).values() for array in (x, lora_a, lora_b))):
        np.testing.assert_array_equal(multi_lora(odd_x, odd_a, odd_b, np.repeat(ids, 2)[::2], scaling), expected)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


IDS = np.zeros(9, np.int32)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x": ones(9)}, r"multi_lora: x must be \(rows, in_features\), got \(9,\)"),
        ({"lora_a": ones(4, 2, 6)}, r"multi_lora: lora_a must be \(n, rank, 5\), got \(4, 2, 6\)"),
        ({"lora_b": ones(4, 8, 3)}, r"multi_lora: lora_b must be \(4, out_features, 2\), got \(4, 8, 3\)"),
        ({"lora_b": ones(4, 0, 2)}, r"multi_lora: lora_b must have at least one output, got \(4, 0, 2\)"),
        ({"lora_a": ones(0, 2, 5), "lora_b": ones(0, 8, 2)}, r"lora_a must have at least one adapter.*\(0, 2, 5\)"),
        ({"lora_ids": IDS[:8]}, r"multi_lora: lora_ids must be \(9,\), got \(8,\)"),
        ({"lora_ids": IDS.astype(np.int64)}, "multi_lora: lora_ids must be int32, got int64"),
        (
            {"lora_ids": np.array([0, 1, -1, 7, 0, 0, 0, 0, 0], np.int32)},
            r"^multi_lora: lora_ids\[3\] is 7 but 4 adapters are loaded; use -1 for the base model$",
        ),
        ({"lora_ids": IDS - 2}, r"lora_ids\[0\] is -2 but 4 adapters are loaded"),
        ({"scaling": [1.0, 2.0]}, "multi_lora: scaling must be one number or 4, one an adapter; got 2"),
        ({"scaling": np.nan}, "multi_lora: scaling must be finite, got"),
        ({"out": ones(9, 7)}, r"multi_lora: out must be \(9, 8\), got \(9, 7\)"),
        ({"backend": "gpu"}, "multi_lora: backend must be one of auto, cpu, triton, reference, got 'gpu'"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    args = {"x": ones(9, 5), "lora_a": ones(4, 2, 5), "lora_b": ones(4, 8, 2), "lora_ids": IDS}
    with pytest.raises(ValueError, match=message):
        multi_lora(**{**args, **change})


def test_dtype_refusal_and_overlap() -> None:
    x, lora_a, lora_b = ones(9, 5), ones(4, 2, 5), ones(4, 5, 2)
    with pytest.raises(BackendError, match="multi_lora: every backend refused; cpu: dtype must be float32"):
        multi_lora(*doubles(x, lora_a, lora_b), IDS)
    with pytest.raises(ValueError, match="multi_lora: out must not overlap x"):
        multi_lora(x, lora_a, lora_b, IDS, out=x)


def test_bad_lora_of_linear() -> None:
    packed = ops.pack_linear([ones(8, 5)])
    lora = pack_lora(ones(4, 2, 5), ones(4, 8, 2), 1.0, packed)
    assert repr(lora) == "PackedLora(num_adapters=4, rank=2)"
    for how in ({"lora": lora}, {"lora_ids": IDS}):
        with pytest.raises(ValueError, match="linear: lora and lora_ids go together; one is None"):
            ops.linear(ones(9, 5), packed, **how)
    with pytest.raises(ValueError, match=r"linear: lora_ids\[0\] is 4 but 4 adapters are loaded; use -1"):
        ops.linear(ones(9, 5), packed, lora=lora, lora_ids=IDS + 4)
    for other in (ops.pack_linear([ones(9, 5)]), ops.pack_linear([ones(8, 5)], gate="first")):
        with pytest.raises(ValueError, match="linear: lora was packed for another layer than weight"):
            ops.linear(ones(9, 5), other, lora=lora, lora_ids=IDS)
    with pytest.raises(ValueError, match="linear: lora must be for 6 inputs, got one for 5"):
        ops.linear(ones(9, 6), ops.pack_linear([ones(8, 6)]), lora=lora, lora_ids=IDS)
    with pytest.raises(ValueError, match=r"pack_lora: lora_b must be \(4, 8, 2\), got \(4, 7, 2\)"):
        pack_lora(ones(4, 2, 5), ones(4, 7, 2), 1.0, packed)
    with pytest.raises(ValueError, match=r"pack_lora: lora_a must be \(n, rank, 5\), got \(4, 2, 6\)"):
        pack_lora(ones(4, 2, 6), ones(4, 8, 2), 1.0, packed)
    with pytest.raises(ValueError, match="pack_lora: scaling must be one number or 4, one an adapter; got 3"):
        pack_lora(ones(4, 2, 5), ones(4, 8, 2), [1.0] * 3, packed)


def test_the_core_guards_its_memory_itself() -> None:
    packed = ops.pack_linear([ones(8, 5)])
    lora = pack_lora(ones(4, 2, 5), ones(4, 8, 2), 1.0, packed)
    out = ones(9, 8)
    with pytest.raises(ValueError, match=r"linear: lora_ids\[0\] is 9 but 4 adapters"):
        _core.linear(ones(9, 5), packed, None, None, out, lora, IDS + 9)
    with pytest.raises(ValueError, match=r"linear: lora_ids must be \(9,\), got \(8,\)"):
        _core.linear(ones(9, 5), packed, None, None, out, lora, IDS[:8])
    with pytest.raises(ValueError, match=r"linear: lora_ids must be \(9,\), got \(0,\)"):
        _core.linear(ones(9, 5), packed, None, None, out, lora, None)
    ids = IDS.copy()
    ids[8] = 4
    with pytest.raises(ValueError, match=r"multi_lora: lora_ids\[8\] is 4 but 4 adapters"):
        _core.multi_lora(ones(9, 5), ones(4, 2, 5), ones(4, 8, 2), ids, [1.0] * 4, out)
    with pytest.raises(ValueError, match="pack_lora: scaling must have 4 values, got 1"):
        _core.multi_lora(ones(9, 5), ones(4, 2, 5), ones(4, 8, 2), IDS, [1.0], out)
    with pytest.raises(ValueError, match=r"multi_lora: out must be \(9, 8\), got \(9, 7\)"):
        _core.multi_lora(ones(9, 5), ones(4, 2, 5), ones(4, 8, 2), IDS, [1.0] * 4, ones(9, 7))
