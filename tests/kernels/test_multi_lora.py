"""Adapters of linear layers, a batch of any, against float64: added to a product, and folded into it."""

from __future__ import annotations

import numpy as np
import pytest

from gpu_errors import matrix_sum, sums_error
from kernel_cases import FLOATS, ROUNDING, assert_within, normal, plain, tensor, torch
from longspan import ops, reference
from longspan.kernels import multi_lora as kernels
from longspan.kernels.linear import DenseLinear, DenseLora, dense_linear, widened

SHAPES = ((1, 1, 1), (65, 130, 4), (130, 70, 20), (3, 65, 33))  # rows, out_features, rank
ADAPTERS = 5
IN = 100


def mixed_ids(rows: int) -> np.ndarray:
    """Runs of rows of one adapter, as packed texts have them, and some of none."""
    return np.repeat(np.array([3, -1, 0, 3, 1, -1, 4], np.int32), -(-rows // 7))[:rows]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("rows, out_features, rank", SHAPES)
def test_matches_reference(rows: int, out_features: int, rank: int, dtype: torch.dtype) -> None:
    x = normal((rows, IN), 1, dtype=dtype)
    lora_a, lora_b = (
        normal((ADAPTERS, rank, IN), 2, dtype=dtype),
        normal((ADAPTERS, out_features, rank), 3, dtype=dtype),
    )
    ids, scaling = mixed_ids(rows), [0.5, 2.0, 1.0, 0.25, 3.0]
    out = torch.full((rows, out_features), torch.nan, dtype=dtype, device=x.device)
    got = ops.multi_lora(x, lora_a, lora_b, tensor(ids), scaling, out=out, backend="triton")
    assert got is out
    cases = [[plain(part, kind) for part in (x, lora_a, lora_b)] for kind in (np.float64, np.float32)]
    truth, native = (reference.multi_lora(*case, ids, np.array(scaling)) for case in cases)
    allowed = ROUNDING[dtype] * np.abs(truth) * (1 + 2.0**-8) + sums_error(truth, native)
    if truth.size == 1:  # of one value NumPy's own error says little
        allowed += (
            2.0**-23 * np.abs(cases[0][0]).max() * np.abs(cases[0][1]).sum(axis=2).max() * np.abs(cases[0][2]).max()
        )
    if dtype != torch.float32:  # the shrunk row is rounded: an error of u in each of the values that B then sums
        x64, a64, b64 = cases[0]
        for adapter in range(ADAPTERS):
            mine = ids == adapter
            shrunk = np.abs(scaling[adapter] * (x64[mine] @ a64[adapter].T))
            allowed[mine] += ROUNDING[dtype] * (1 + 2.0**-8) * shrunk @ np.abs(b64[adapter]).T
            in_parts = abs(scaling[adapter]) * np.abs(x64[mine]) @ np.abs(a64[adapter]).T @ np.abs(b64[adapter]).T
            allowed[mine] += (matrix_sum(IN) + matrix_sum(rank)) * in_parts
    assert_within(got, truth, allowed)
    assert not got[tensor(ids) == -1].any()


def test_adds_to_rows_that_have_an_adapter_and_to_no_others() -> None:
    rows, width = 200, 70
    x, out = normal((rows, IN), 1, dtype=torch.float16), normal((rows, 2 * width), 2, dtype=torch.float16)
    lora_a, lora_b = (
        normal((ADAPTERS, 4, IN), 3, dtype=torch.float16),
        normal((ADAPTERS, width, 4), 4, dtype=torch.float16),
    )
    ids, scaling = tensor(mixed_ids(rows)), torch.ones(ADAPTERS, device=x.device)
    before, part = out.clone(), out[:, :width]
    delta = ops.multi_lora(x, lora_a, lora_b, ids, backend="triton")
    kernels.launch_multi_lora(part, x, lora_a, lora_b, ids, scaling)
    assert torch.equal(out[:, width:], before[:, width:]) and torch.equal(part[ids == -1], before[:, :width][ids == -1])
    # The delta alone was rounded before it was added here; the kernel rounds once, after.
    allowed = ROUNDING[torch.float16] * (np.abs(plain(delta)) + np.abs(plain(part))) * (1 + 2.0**-8)
    assert_within(part, plain(before[:, :width]) + plain(delta), allowed)


def test_a_row_does_not_know_its_neighbours() -> None:
    x = normal((130, IN), 1, dtype=torch.float16)
    lora_a, lora_b = (
        normal((ADAPTERS, 4, IN), 2, dtype=torch.float16),
        normal((ADAPTERS, 70, 4), 3, dtype=torch.float16),
    )
    mixed = mixed_ids(130)
    got = ops.multi_lora(x, lora_a, lora_b, tensor(mixed), backend="triton")
    for adapter in range(ADAPTERS):
        alone = ops.multi_lora(x, lora_a, lora_b, tensor(np.full(130, adapter, np.int32)), backend="triton")
        mine = tensor(mixed) == adapter
        assert torch.equal(got[mine], alone[mine])


def test_out_must_be_addable() -> None:
    x, a, b = (normal(shape, 1, dtype=torch.float32) for shape in ((3, 4), (1, 2, 4), (1, 5, 2)))
    ids, ones = tensor(np.zeros(3, np.int32)), torch.ones(1, device=x.device)
    with pytest.raises(ValueError, match="multi_lora: out must have a contiguous last axis on a GPU"):
        kernels.launch_multi_lora(torch.zeros(5, 3, device=x.device).t(), x, a, b, ids, ones)


FOLDED = ((1, 96, 20, 1), (65, 130, 40, 4), (130, 160, 70, 2), (200, 480, 33, 20))  # rows, in, out, rank


def folded(rows: int, n_in: int, n_out: int, rank: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Rows with room behind them that holds NaN, a weight, a bias, a and b."""
    layer = [normal((n_out, n_in), 1, dtype=dtype), normal((n_out,), 2, dtype=dtype)]
    factors = [normal((ADAPTERS, rank, n_in), 3, dtype=dtype), normal((ADAPTERS, n_out, rank), 4, dtype=dtype)]
    return normal((rows, n_in), 5, dtype=dtype), *layer, *factors


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("rows, n_in, n_out, rank", FOLDED)
def test_folded_into_the_product(rows: int, n_in: int, n_out: int, rank: int, dtype: torch.dtype) -> None:
    values, weight, bias, lora_a, lora_b = folded(rows, n_in, n_out, rank, dtype)
    layer, lora = DenseLinear(weight, bias, None), DenseLora(lora_a, lora_b, torch.ones(ADAPTERS, device=weight.device))
    lora.fold(layer)
    assert lora.added == -(-ADAPTERS * rank // 16) * 16
    assert torch.equal(layer.weight, weight), "the base's weight lies in the folded one"
    ids, room = mixed_ids(rows), lora.added + 16  # as beside a layer with more adapters
    memory = torch.full((rows, n_in + room), torch.nan, dtype=dtype, device=values.device)
    x = memory[:, :n_in].copy_(values)
    out = torch.full((rows, n_out), torch.nan, dtype=dtype, device=values.device)
    how = {"activation": None, "residual": None, "lora": lora, "lora_ids": tensor(ids)}
    dense_linear(x, layer, **how, out=out, wide=widened(x, lora.added))
    assert torch.equal(x, values) and memory[:, n_in + lora.added :].isnan().all()

    def expected(kind: type) -> np.ndarray:
        x, w, b, a, up = (plain(part, kind) for part in (values, weight, bias, lora_a, lora_b))
        result = x @ w.T + b
        for adapter in range(ADAPTERS):
            mine = ids == adapter
            result[mine] += (x[mine] @ a[adapter].T) @ up[adapter].T
        return result

    truth, native = expected(np.float64), expected(np.float32)
    allowed = ROUNDING[dtype] * np.abs(truth) * (1 + 2.0**-8) + sums_error(truth, native)
    x64, a64, b64 = (np.abs(plain(part)) for part in (values, lora_a, lora_b))
    for adapter in range(ADAPTERS):
        mine = ids == adapter
        shrunk = np.abs(plain(values)[mine] @ plain(lora_a)[adapter].T)
        unit = 0 if dtype == torch.float32 else ROUNDING[dtype] * (1 + 2.0**-8)
        allowed[mine] += unit * shrunk @ b64[adapter].T
        allowed[mine] += matrix_sum(n_in) * x64[mine] @ a64[adapter].T @ b64[adapter].T
    allowed += matrix_sum(n_in + lora.added) * (x64 @ np.abs(plain(weight)).T)
    assert_within(out, truth, allowed)


def test_without_room_or_where_they_are_many_adapters_are_added_behind() -> None:
    """The same values, but for what is rounded once more."""
    values, weight, bias, lora_a, lora_b = folded(130, 160, 70, 2, torch.float16)
    ones, ids = torch.ones(ADAPTERS, device=weight.device), tensor(mixed_ids(130))
    results = []
    for room, rank in ((16, 2), (0, 2)):
        layer, lora = DenseLinear(weight, bias, None), DenseLora(lora_a, lora_b, ones)
        lora.fold(layer)
        memory = torch.zeros((130, 160 + room), dtype=weight.dtype, device=weight.device)
        x = memory[:, :160].copy_(values)
        out = torch.empty((130, 70), dtype=weight.dtype, device=weight.device)
        wide = widened(x, lora.added) if room else None
        dense_linear(x, layer, activation=None, residual=None, lora=lora, lora_ids=ids, out=out, wide=wide)
        results.append(out.float())
        assert lora.a.shape[1] == rank
    assert (results[0] - results[1]).abs().max() <= 4 * ROUNDING[torch.float16] * results[0].abs().max()
    many = DenseLora(lora_a.repeat(1, 8, 1), lora_b.repeat(1, 1, 8), ones)
    many.fold(DenseLinear(weight, bias, None))
    assert many.added == 0 and many.turned is None


def test_merged_into_the_weight() -> None:
    """For a batch of one task: the adapter's part is in the weight, rounded with it."""
    _, weight, bias, lora_a, lora_b = folded(65, 130, 40, 4, torch.float16)
    layer, lora = DenseLinear(weight, bias, None), DenseLora(lora_a, lora_b, torch.ones(ADAPTERS, device=weight.device))
    lora.fold(layer)
    merged = lora.merged(layer, 3)
    truth = plain(weight) + plain(lora_b)[3] @ plain(lora_a)[3]
    native = plain(weight, np.float32) + plain(lora_b, np.float32)[3] @ plain(lora_a, np.float32)[3]
    assert_within(
        merged.weight, truth, ROUNDING[torch.float16] * np.abs(truth) * (1 + 2.0**-8) + sums_error(truth, native)
    )
    assert merged.bias is layer.bias and merged.turned.shape == (130, 40)


def test_a_folded_row_does_not_know_its_neighbours() -> None:
    values, weight, bias, lora_a, lora_b = folded(130, 160, 70, 2, torch.float16)
    mixed, out = mixed_ids(130), {}
    lora = DenseLora(lora_a, lora_b, torch.ones(ADAPTERS, device=weight.device))
    lora.fold(DenseLinear(weight, bias, None))
    assert lora.shrink is not None
    for name, ids in {"mixed": mixed, **{str(n): np.full(130, n, np.int32) for n in range(-1, ADAPTERS)}}.items():
        out[name] = torch.full((130, lora.added), torch.nan, dtype=weight.dtype, device=weight.device)
        kernels.launch_shrink(values, lora.shrink, 2, tensor(ids), out[name])
    for number in range(-1, ADAPTERS):
        mine = tensor(mixed) == number
        assert torch.equal(out["mixed"][mine], out[str(number)][mine])
    assert not out["-1"].any()
