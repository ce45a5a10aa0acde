"""Token vectors as bfloat16 and as int8 with scales: what rounding gives, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from longspan import ops


def neighbours(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bfloat16 values next to |x|, by cutting bits off: at most |x|, and the one after it."""
    low = np.abs(x).view(np.uint32) & np.uint32(0xFFFF0000)
    return low.view(np.float32), (low + np.uint32(0x10000)).view(np.float32)


def test_bfloat16_is_the_nearest(isa: str) -> None:
    x = inputs.normal((300, 50), 1) * np.float32(10.0) ** inputs.rng(2).integers(-37, 37, (300, 50)).astype(np.float32)
    got = ops.to_bfloat16(x).to_float32()
    low, high = neighbours(x)
    size = np.abs(x).astype(np.float64)
    np.testing.assert_array_equal(np.abs(got), np.where(size - low < high.astype(np.float64) - size, low, high))
    np.testing.assert_array_equal(np.signbit(got), np.signbit(x))


def test_bfloat16_ties_go_to_even_and_special_values_stay() -> None:
    ties = np.array([[0x3F808000, 0x3F818000, 0xBF808000, 0x3F808001]], np.uint32).view(np.float32)
    assert ops.to_bfloat16(ties).bits.tolist() == [[0x3F80, 0x3F82, 0xBF80, 0x3F81]]
    special = np.array([[0.0, -0.0, np.inf, -np.inf, 1e-45, 3.4e38]], np.float32)
    assert ops.to_bfloat16(special).bits.tolist() == [[0, 0x8000, 0x7F80, 0xFF80, 0, 0x7F80]]
    quiet_and_signalling = np.array([[0x7FC00000, 0x7F800001, 0xFFFFFFFF]], np.uint32).view(np.float32)
    assert np.isnan(ops.to_bfloat16(quiet_and_signalling).to_float32()).all()


def test_int8_is_within_half_a_step() -> None:
    x = inputs.normal((100, 33), 3)
    tokens = ops.to_int8(x)
    np.testing.assert_array_equal(tokens.scales, np.abs(x).max(axis=1) / np.float32(127))
    assert (np.abs(tokens.to_float32() - x) <= tokens.scales[:, None] * 0.5001).all()
    assert (np.abs(tokens.values).max(axis=1) == 127).all()


def test_int8_of_rows_without_a_scale() -> None:
    tokens = ops.to_int8(np.array([[0, 0], [np.nan, 1], [np.inf, 1]], np.float32))
    assert not tokens.values.any()
    assert tokens.scales[0] == 0 and np.isnan(tokens.scales[1:]).all()


def test_conversion_in_parts_is_the_same() -> None:
    x = inputs.normal((70000, 3), 4)
    np.testing.assert_array_equal(ops.to_bfloat16(x).bits[65530:65540], ops.to_bfloat16(x[65530:65540]).bits)
    np.testing.assert_array_equal(ops.to_int8(x).values[65530:65540], ops.to_int8(x[65530:65540]).values)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ops.to_bfloat16(np.ones(3, np.float32)), r"to_bfloat16: x must be \(total_tokens, dim\), got \(3,\)"),
        (lambda: ops.to_int8(np.ones((3, 2))), "to_int8: x must be float32, got float64"),
        (lambda: ops.to_int8(np.ones((3, 0), np.float32)), "to_int8: x must have at least one column, got 0"),
        (lambda: ops.Bfloat16Tokens(np.ones((3, 2), np.int16)), "Bfloat16Tokens: bits must be uint16, got int16"),
        (lambda: ops.Bfloat16Tokens(np.ones(3, np.uint16)), r"Bfloat16Tokens: bits must be \(total_tokens, dim\), got"),
        (
            lambda: ops.Int8Tokens(np.ones((3, 2), np.uint8), np.ones(3, np.float32)),
            "Int8Tokens: values must be int8, got uint8",
        ),
        (
            lambda: ops.Int8Tokens(np.ones((3, 2), np.int8), np.ones(3)),
            "Int8Tokens: scales must be float32, got float64",
        ),
        (
            lambda: ops.Int8Tokens(np.ones((3, 2), np.int8), np.ones(2, np.float32)),
            r"Int8Tokens: scales must be \(3,\), got \(2,\)",
        ),
    ],
)
def test_bad_input(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
