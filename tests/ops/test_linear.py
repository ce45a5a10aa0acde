"""linear against float64, in every instruction set; its rows do not know of each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import inputs
from errors import assert_no_worse
from longspan import BackendError, _core, ops, reference
from longspan.ops.linear import ACTIVATIONS, COMPUTE_TYPES, GATES

SHAPES = [(1, 1), (1, 40), (5, 1), (7, 3), (65, 31), (256, 32), (257, 33), (300, 65), (384, 200), (1030, 48)]  # K, N
# The level whose kernel multiplies floats, where that is a lower one.
FLOAT_KERNELS = {
    "avx_vnni": "avx2",
    "avx512_vnni": "avx512",
    "avx512_bf16": "avx512",
    "amx": "avx512",
    "neon_dotprod": "neon",
    "neon_i8mm": "neon",
}
BATCH = 130  # rows of x, so that NumPy sums by matrix products also where the op is given one row


def case(in_features: int, out_rows: int, rows: int = BATCH) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, weight, bias; outputs of ordinary size."""
    weight = inputs.normal((out_rows, in_features), 2) / np.float32(np.sqrt(in_features))
    return inputs.normal((rows, in_features), 1), weight, inputs.normal((out_rows,), 3)


def doubles(*arrays: np.ndarray | None) -> list[np.ndarray | None]:
    return [None if array is None else array.astype(np.float64) for array in arrays]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 15, 64, BATCH])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(isa: str, shape: tuple[int, int], rows: int) -> None:
    x, weight, bias = case(*shape)
    packed = ops.pack_linear([weight], [bias])
    got = np.concatenate([ops.linear(x[i : i + rows], packed) for i in range(0, BATCH, rows)])
    assert_no_worse(got, reference.linear(*doubles(x, weight, bias)), reference.linear(x, weight, bias))


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("gate", [None, *GATES])
def test_epilogue(isa: str, gate: str | None, activation: str | None, with_residual: bool) -> None:
    for in_features, outputs in ((24, 1), (70, 33), (300, 48)):
        x, weight, bias = case(in_features, outputs if gate is None else 2 * outputs)
        residual = inputs.normal((BATCH, outputs), 4) if with_residual else None
        how = {"activation": activation, "gate": gate}
        truth = reference.linear(*doubles(x, weight, bias), residual=doubles(residual)[0], **how)
        native = reference.linear(x, weight, bias, residual=residual, **how)
        poisoned = np.full((BATCH, outputs), np.nan, np.float32)
        got = ops.linear(x, weight, bias, residual=residual, out=poisoned, **how)
        assert got is poisoned
        assert_no_worse(got, truth, native)
        packed = ops.pack_linear([weight], [bias], gate=gate)
        np.testing.assert_array_equal(ops.linear(x, packed, residual=residual, activation=activation), got)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_over_its_whole_range(isa: str, activation: str) -> None:
    one = np.ones((1, 1), np.float32)
    for limit in (0.01, 1, 12, 200):
        u = np.linspace(-limit, limit, 5001, dtype=np.float32)[:, None]
        got = ops.linear(u, one, activation=activation)
        truth, native = (reference.linear(*args, activation=activation) for args in (doubles(u, one), (u, one)))
        assert_no_worse(got, truth, native)
    extreme = np.array([[0.0], [1e30], [np.inf], [np.nan], [-1e30]], np.float32)
    zero, huge, infinite, not_a_number, lowest = ops.linear(extreme, one, activation=activation)[:, 0]
    assert zero == 0 and np.isnan(not_a_number)
    assert (huge, infinite) == ((1, 1) if activation == "tanh" else (np.float32(1e30), np.inf))
    np.testing.assert_allclose(lowest, -1 if activation == "tanh" else 0, atol=1e-7)


@pytest.mark.large
@pytest.mark.parametrize("shape, gate", [((384, 100), "first"), ((600, 33), None)], ids=str)
@pytest.mark.parametrize("dtype", COMPUTE_TYPES)
def test_a_row_has_the_same_bits_in_any_batch_on_any_threads(
    isa: str, shape: tuple[int, int], gate: str | None, dtype: str
) -> None:
    x, weight, bias = case(shape[0], 2 * shape[1], rows=400)
    packed = ops.pack_linear([weight], [bias], gate=gate, dtype=dtype)
    expected = ops.linear(x, packed, activation="gelu")
    before = _core.num_threads()
    try:
        for threads in (1, 2, 3):
            _core.set_num_threads(threads)
            for rows in (*range(1, 18), 29, 168, 169, 337, 400):
                for first in (0, 400 - rows):
                    some = ops.linear(x[first : first + rows], packed, activation="gelu")
                    np.testing.assert_array_equal(some, expected[first : first + rows], f"{threads}, {rows}")
    finally:
        _core.set_num_threads(before)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", COMPUTE_TYPES)
def test_a_bad_row_spoils_no_other(isa: str, bad: float, dtype: str) -> None:
    x, weight, bias = case(300, 65)
    packed = ops.pack_linear([weight], [bias], dtype=dtype)
    expected = ops.linear(x, packed)
    x[[0, 17, 129], [5, 299, 0]] = bad
    got = ops.linear(x, packed)
    spoiled = np.isin(np.arange(BATCH), [0, 17, 129])
    assert not np.isfinite(got[spoiled]).any()
    assert dtype != "int8" or np.isnan(got[spoiled]).all()
    np.testing.assert_array_equal(got[~spoiled], expected[~spoiled])


def test_layouts(isa: str) -> None:
    x, weight, bias = case(70, 33)
    residual = inputs.normal((BATCH, 33), 4)
    expected = ops.linear(x, weight, bias, residual=residual)
    for (name, odd_x), odd_weight, odd_bias, odd_residual, odd_out in zip(
        inputs.odd_layouts(x).items(),
        *(inputs.odd_layouts(array).values() for array in (weight, bias, residual, np.zeros_like(expected))),
    ):
        np.testing.assert_array_equal(ops.linear(odd_x, odd_weight, odd_bias, residual=odd_residual), expected, name)
        ops.linear(x, weight, bias, residual=residual, out=odd_out)
        np.testing.assert_array_equal(odd_out, expected, name)


def test_out_may_be_the_residual_or_the_columns_beside_x(isa: str) -> None:
    x, weight, bias = case(300, 48)
    residual = inputs.normal((BATCH, 48), 4)
    expected = ops.linear(x, weight, bias, residual=residual)
    in_place = residual.copy()
    np.testing.assert_array_equal(ops.linear(x, weight, bias, residual=in_place, out=in_place), expected)
    both = np.concatenate([x, residual], axis=1)
    left, right = both[:, :300], both[:, 300:]
    np.testing.assert_array_equal(ops.linear(left, weight, bias, residual=right, out=right), expected)
    np.testing.assert_array_equal(left, x)


def test_no_rows(isa: str) -> None:
    x, weight, bias = case(20, 6, rows=0)
    assert ops.linear(x, weight, bias).shape == (0, 6)
    assert ops.linear(x, weight, bias, gate="second", activation="silu").shape == (0, 3)


@pytest.mark.parametrize("gate", [None, *GATES])
def test_packing_stacked_parts(isa: str, gate: str | None) -> None:
    x, weight, bias = case(70, 62)
    parts = [slice(0, 1), slice(1, 40), slice(40, 62)]
    bias[parts[1]] = 0
    packed = ops.pack_linear([weight[part] for part in parts], [bias[parts[0]], None, bias[parts[2]]], gate=gate)
    assert (packed.in_features, packed.out_features) == (70, 62 if gate is None else 31)
    assert (packed.gate, packed.isa) == (gate, FLOAT_KERNELS.get(isa, isa))
    assert packed.nbytes >= weight.nbytes + bias.nbytes
    unpacked_weight, unpacked_bias = packed.unpack()
    np.testing.assert_array_equal(unpacked_weight, weight)
    np.testing.assert_array_equal(unpacked_bias, bias)
    np.testing.assert_array_equal(ops.linear(x, packed), ops.linear(x, weight, bias, gate=gate))


@pytest.mark.parametrize("dtype", COMPUTE_TYPES)
def test_packed_for_one_instruction_set_runs_under_another(isa: str, dtype: str) -> None:
    x, weight, bias = case(300, 65)
    packed = ops.pack_linear([weight], [bias], dtype=dtype)
    expected = ops.linear(x, packed)
    for other in _core.available_isas():
        _core.set_isa(other)
        np.testing.assert_array_equal(ops.linear(x, packed), expected)


def test_packing_from_a_read_only_file(tmp_path: Path) -> None:
    x, weight, bias = case(70, 33)
    for offset in (0, 4, 6):
        path = tmp_path / f"weight{offset}"
        path.write_bytes(b"\0" * offset + weight.tobytes())
        mapped = np.memmap(path, np.float32, mode="r", offset=offset, shape=weight.shape)
        np.testing.assert_array_equal(ops.linear(x, ops.pack_linear([mapped], [bias])), ops.linear(x, weight, bias))


def test_large_weights_are_whole() -> None:
    weight = inputs.normal((1100, 500), 2)  # more than a huge page
    unpacked, bias = ops.pack_linear([weight]).unpack()
    np.testing.assert_array_equal(unpacked, weight)
    assert not bias.any()


def test_reference_backend_and_dtype_refusal() -> None:
    x, weight, bias = doubles(*case(30, 8))
    with pytest.raises(BackendError, match="cpu: dtype must be float32, got float64; reference: only on request"):
        ops.linear(x, weight, bias)
    for gate in (None, "first"):
        how = {"activation": "gelu", "gate": gate}
        expected = reference.linear(x, weight, bias, **how)
        np.testing.assert_array_equal(ops.linear(x, weight, bias, backend="reference", **how), expected)
        singles = [array.astype(np.float32) for array in (x, weight, bias)]
        packed = ops.pack_linear(singles[1:2], singles[2:], gate=gate)
        got = ops.linear(singles[0], packed, activation="gelu", backend="reference")
        np.testing.assert_array_equal(got, reference.linear(*singles, **how))


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"x": ones(5)}, r"linear: x must be \(rows, in_features\), got \(5,\)"),
        ({"x": ones(3, 4)}, r"linear: x must be \(rows, 5\), got \(3, 4\)"),
        ({"weight": ones(5)}, r"linear: weight must be \(out_rows, in_features\), got \(5,\)"),
        ({"weight": ones(0, 5), "bias": None}, r"pack_linear: weights\[0\] must have at least one row .* got \(0, 5\)"),
        ({"bias": ones(7)}, r"linear: bias must be \(8,\), got \(7,\)"),
        ({"residual": ones(2, 8)}, r"linear: residual must be \(3, 8\), got \(2, 8\)"),
        ({"out": ones(3, 8), "gate": "first"}, r"linear: out must be \(3, 4\), got \(3, 8\)"),
        ({"activation": "elu"}, "linear: activation must be None or one of gelu, gelu_tanh, .*, got 'elu'"),
        ({"gate": "third"}, "linear: gate must be None, first or second, got 'third'"),
        ({"weight": ones(7, 5), "bias": None, "gate": "first"}, "weight must have an even number of rows .* got 7"),
        ({"weight": ops.pack_linear([ones(8, 5)])}, "linear: bias must be None with a PackedLinear"),
        ({"weight": ops.pack_linear([ones(8, 5)]), "bias": None, "gate": "first"}, "linear: gate must be None with a"),
        ({"backend": "gpu"}, "linear: backend must be one of auto, cpu, reference, got 'gpu'"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.linear(**{"x": ones(3, 5), "weight": ones(8, 5), "bias": ones(8), **change})


def test_out_must_not_overlap() -> None:
    buffer = ones(40, 24)
    x = buffer[:20, :5]
    for out in (buffer[:20, 4:12], buffer[1:21, :8], buffer.reshape(80, 12)[20:40, :8]):
        with pytest.raises(ValueError, match="linear: out must not overlap x"):
            ops.linear(x, ones(8, 5), out=out)
    with pytest.raises(ValueError, match="linear: out may be residual itself, not overlap it otherwise"):
        ops.linear(ones(20, 5), ones(8, 5), residual=buffer[1:21, :8], out=buffer[:20, :8])


@pytest.mark.parametrize(
    "weights, biases, gate, message",
    [
        ([], None, None, "pack_linear: weights must hold at least one matrix, got none"),
        ([ones(8, 5), ones(4, 6)], None, None, r"pack_linear: weights\[1\] must have .* 5 columns, got \(4, 6\)"),
        ([ones(8, 0)], None, None, r"pack_linear: weights\[0\] must have .* 1 columns, got \(8, 0\)"),
        ([ones(8)], None, None, r"pack_linear: weights\[0\] must be \(out_rows, in_features\), got \(8,\)"),
        ([ones(8, 5)], [ones(5)], None, r"pack_linear: biases\[0\] must be \(8,\), got \(5,\)"),
        ([ones(8, 5)], [], None, "pack_linear: biases must be as many as weights, 1, got 0"),
        ([ones(4, 5), ones(3, 5)], None, "first", "pack_linear: gated weights must have an even number of rows, got 7"),
        ([ones(8, 5)], None, "both", "pack_linear: gate must be None, first or second, got 'both'"),
        ([ones(8, 5)], [ones(8).astype(np.float64)], None, r"pack_linear: biases\[0\] must be float32, got float64"),
        ([ones(8, 5).astype(np.float64)], None, None, r"pack_linear: weights\[0\] must be float32, got float64"),
    ],
)
def test_bad_packing(
    weights: list[np.ndarray], biases: list[np.ndarray] | None, gate: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ops.pack_linear(weights, biases, gate=gate)
