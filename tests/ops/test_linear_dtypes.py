"""linear in bfloat16 and int8: what is rounded, and that nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from errors import assert_no_worse
from longspan import ops, reference
from longspan.ops.linear import ACTIVATIONS, GATES
from longspan.reference.linear import quantize_rows, quantize_weight, rotate, round_bfloat16

NARROW = ("bfloat16", "int8")
SHAPES = [(1, 1), (2, 40), (5, 1), (7, 3), (65, 31), (511, 32), (512, 33), (1030, 48)]  # K, N
ROWS = (0, 1, 63, 64, 65)
MOST_INT8_INPUTS = (2**31 - 1) // (255 * 127)
HALF_ULP = 2.0**-24  # of float32, relative
HALF_ULP_BFLOAT16 = 2.0**-8
# What rotating two rows in float32 moves their product by, in half ulps of the product of their lengths: six sums, of
# 64 values whose sizes add up to 8 times the block's length at most, for each row.
ROTATION = 2 * 6 * 8


def case(in_features: int, out_rows: int, rows: int = max(ROWS)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, not centred; weight; bias. Outputs of ordinary size."""
    weight = inputs.normal((out_rows, in_features), 2) / np.float32(np.sqrt(in_features))
    return inputs.normal((rows, in_features), 1) + np.float32(0.5), weight, inputs.normal((out_rows,), 3)


def double(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bfloat16_sums_products_of_rounded_operands(isa: str, shape: tuple[int, int], rows: int) -> None:
    x, weight, bias = case(*shape, rows=rows)
    got = ops.linear(x, ops.pack_linear([weight], [bias], dtype="bfloat16"))
    assert got.shape == (rows, shape[1]) and got.dtype == np.float32
    sizes = np.abs(double(x)) @ np.abs(double(weight)).T + np.abs(bias)
    # Products of two bfloat16 are exact in float32; a sum of n terms, in any order, is off by n - 1 half ulps of sizes
    # that rounding the operands has made at most 1 % larger.
    summation = HALF_ULP * (shape[0] + 1) * sizes
    truth = double(round_bfloat16(x)) @ double(round_bfloat16(weight)).T + bias
    assert (np.abs(got - truth) <= summation * 1.01).all()
    rounding = ((1 + HALF_ULP_BFLOAT16) ** 2 - 1) * sizes
    assert (np.abs(got - (double(x) @ double(weight).T + bias)) <= rounding + summation * 1.01).all()


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_int8_is_the_reference_to_the_bit(isa: str, shape: tuple[int, int], rows: int) -> None:
    """Whole numbers, scales and zeros, integer sums and the one product by scales, in every instruction set."""
    x, weight, bias = case(*shape, rows=rows)
    got = ops.linear(x, ops.pack_linear([weight], [bias], dtype="int8"))
    np.testing.assert_array_equal(got, reference.linear(x, weight, bias, dtype="int8"))
    # A value of x is off by half a step, or by a whole one where both ends rounded up and the top was cut.
    row_scales, scales = double(quantize_rows(x)[1])[:, None], double(quantize_weight(weight)[1])
    size_x, size_weight = np.abs(double(rotate(x))), np.abs(double(rotate(weight)))
    from_x = row_scales * (size_weight.sum(axis=1) + size_weight.shape[1] * scales / 2)
    from_weight = size_x.sum(axis=1, keepdims=True) * scales / 2
    floats = 4 * HALF_ULP * (size_x @ size_weight.T + np.abs(bias) + from_x + from_weight)
    floats += ROTATION * HALF_ULP * np.linalg.norm(size_x, axis=1)[:, None] * np.linalg.norm(size_weight, axis=1)
    assert (np.abs(got - (double(x) @ double(weight).T + bias)) <= from_x + from_weight + floats).all()


def test_int8_sums_at_the_limit_of_32_bits(isa: str) -> None:
    x = np.repeat(np.float32([[1], [-1], [2], [0]]), MOST_INT8_INPUTS, axis=1)
    x[2, ::2] = -1
    weight = np.repeat(np.float32([[3], [-3], [1]]), MOST_INT8_INPUTS, axis=1)
    weight[2, 1::2] = -0.3
    x, weight = rotate(x), rotate(weight)  # which is its own inverse: these are quantised as they stand above
    sums = double(reference.linear(x, weight, dtype="int8"))
    packed = ops.pack_linear([weight], dtype="int8")
    got = ops.linear(x, packed)
    np.testing.assert_array_equal(got, sums)
    np.testing.assert_allclose(got[:2, :2] / MOST_INT8_INPUTS, [[3, -3], [-3, 3]], rtol=3e-7)
    with pytest.raises(ValueError, match="pack_linear: int8 weights must have at most 66311 columns.* got 66312; pack"):
        ops.pack_linear([np.zeros((1, MOST_INT8_INPUTS + 1), np.float32)], dtype="int8")


def test_int8_of_extreme_rows(isa: str) -> None:
    """Rows that end near the largest float, rows of almost nothing, and zeros: no overflow, no 0 / 0."""
    x = inputs.normal((6, 40), 1) * np.float32([[1e38], [1e-38], [1e-44], [0], [-0.0], [1]])
    x[5] = np.abs(x[5])  # of one sign
    x[0, :2] = 3.4e38, -3.4e38
    weight = inputs.normal((9, 40), 2) / np.float32(40)
    weight[3] = 0
    weight[4] *= np.float32(1e-38)
    got = ops.linear(x, ops.pack_linear([weight], dtype="int8"))
    np.testing.assert_array_equal(got, reference.linear(x, weight, dtype="int8"))
    assert np.isfinite(got).all() and not got[3:5].any() and not got[:, 3].any()
    weight[6, 7] = np.inf
    weight[7, 39] = np.nan
    got = ops.linear(x, ops.pack_linear([weight], dtype="int8"))
    np.testing.assert_array_equal(np.isnan(got).all(axis=0), np.isin(np.arange(9), [6, 7]))


def test_bfloat16_rounding_of_special_values(isa: str) -> None:
    """Ties to even, what rounds to infinity, infinities and NaN whose payload is all in the low bits."""
    bits = np.uint32([0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0x7F800001, 0x80000000])
    values = bits.view(np.float32)
    one = np.ones((1, 1), np.float32)
    expected = round_bfloat16(values)
    assert np.isinf(expected[3:6]).all() and np.isnan(expected[6])
    by_x = ops.linear(values[:, None], ops.pack_linear([one], dtype="bfloat16"))
    np.testing.assert_array_equal(by_x[:, 0], expected)
    packed = ops.pack_linear([values[:, None]], dtype="bfloat16")
    np.testing.assert_array_equal(ops.linear(one, packed)[0], expected)
    np.testing.assert_array_equal(packed.unpack()[0][:, 0], expected)


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("gate", [None, *GATES])
def test_the_epilogue_sees_floats(isa: str, gate: str | None, dtype: str) -> None:
    """Activation, gate and residual of the sums, as of any floats."""
    outputs = 33
    x, weight, bias = case(70, outputs if gate is None else 2 * outputs)
    residual = inputs.normal((len(x), outputs), 4)
    sums = ops.linear(x, ops.pack_linear([weight], [bias], dtype=dtype))
    packed = ops.pack_linear([weight], [bias], gate=gate, dtype=dtype)
    for activation in (None, *ACTIVATIONS):
        got = ops.linear(x, packed, activation=activation, residual=residual, out=np.full_like(residual, np.nan))
        truth, native = (
            reference.linear(
                sums.astype(kind), np.eye(sums.shape[1], dtype=kind), residual=residual.astype(kind),
                activation=activation, gate=gate,
            )
            for kind in (np.float64, np.float32)
        )  # fmt: skip
        assert_no_worse(got, truth, native)


@pytest.mark.parametrize("dtype", ["float32", *NARROW])
def test_packing_from_other_dtypes_and_layouts(isa: str, dtype: str) -> None:
    x, weight, bias = case(70, 33)
    weight[0, :4] = 6e-8, -6.1e-5, 65504, 0  # the ends of float16's range
    halves, patterns = weight.astype(np.float16), (round_bfloat16(weight).view(np.uint32) >> 16).astype(np.uint16)
    for narrow, plain in ((halves, halves.astype(np.float32)), (patterns, round_bfloat16(weight))):
        packed = ops.pack_linear([plain], [bias.astype(np.float16).astype(np.float32)], dtype=dtype)
        expected = ops.linear(x, packed)
        half_biases = [part.astype(np.float16) for part in (bias[:10], bias[10:])]
        for name, odd in inputs.odd_layouts(narrow.view(np.float16)).items():
            parts = [part.view(narrow.dtype) for part in (odd[:10], odd[10:])]
            again = ops.pack_linear(parts, half_biases, dtype=dtype)
            np.testing.assert_array_equal(ops.linear(x, again), expected, name)
            np.testing.assert_array_equal(again.unpack()[0], packed.unpack()[0])
    for name, odd_x in inputs.odd_layouts(x).items():
        np.testing.assert_array_equal(ops.linear(odd_x, packed), expected, name)
    specials = np.float16([[np.inf, -np.inf, np.nan]])
    if dtype != "int8":
        np.testing.assert_array_equal(ops.pack_linear([specials], dtype=dtype).unpack()[0], specials.astype(np.float32))


@pytest.mark.parametrize("gate", [None, *GATES])
def test_what_is_packed(isa: str, gate: str | None) -> None:
    _, weight, bias = case(256, 64)
    wide = ops.pack_linear([weight], [bias], gate=gate)
    for dtype, share in (("bfloat16", 2), ("int8", 4)):
        packed = ops.pack_linear([weight[:5], weight[5:]], [bias[:5], bias[5:]], gate=gate, dtype=dtype)
        assert packed.dtype == dtype and f"dtype={dtype}" in repr(packed)
        assert weight.nbytes // share < packed.nbytes <= wide.nbytes // share + 3 * bias.nbytes
        unpacked, unpacked_bias = packed.unpack()
        np.testing.assert_array_equal(unpacked_bias, bias)
        wholes, scales = quantize_weight(weight)
        expected = rotate(wholes.astype(np.float32) * scales[:, None]) if dtype == "int8" else round_bfloat16(weight)
        np.testing.assert_array_equal(unpacked, expected)


@pytest.mark.parametrize("dtype", NARROW)
def test_reference_backend(dtype: str) -> None:
    x, weight, bias = case(30, 8)
    for gate in (None, "first"):
        packed = ops.pack_linear([weight], [bias], gate=gate, dtype=dtype)
        got = ops.linear(x, packed, activation="gelu", backend="reference")
        truth, native = (
            reference.linear(*(part.astype(kind) for part in (x, weight, bias)), activation="gelu", gate=gate,
                             dtype=dtype)
            for kind in (np.float64, np.float32)
        )  # fmt: skip
        if dtype == "bfloat16":
            assert_no_worse(got, truth, native)
            continue
        # What is unpacked was rotated back, and is rotated again: the same whole numbers, of scales that are a few
        # half ulps off.
        sizes = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(weight, axis=1) + np.abs(bias)
        largest = sizes if gate is None else sizes[:, :4] * sizes[:, 4:]
        assert (np.abs(got - truth) <= 4 * ROTATION * HALF_ULP * largest).all()


def test_unknown_dtype() -> None:
    with pytest.raises(ValueError, match="pack_linear: dtype must be one of float32, bfloat16, int8, got 'float16'"):
        ops.pack_linear([np.ones((2, 2), np.float32)], dtype="float16")
