"""Adapters of linear layers and of embedding tables, a batch of any, against float64."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from gpu_errors import matrix_sum, sums_error
from kernel_cases import FLOATS, ROUNDING, assert_within, normal, plain, tensor, torch
from longspan import ops, reference
from longspan.kernels import multi_lora as kernels

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


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("has_bias", [False, True])
def test_tables(has_bias: bool, dtype: torch.dtype) -> None:
    rows, vocab, rank, dim = 90, 50, 4, 130
    tables, expand = normal((ADAPTERS, vocab, rank), 1, dtype=dtype), normal((ADAPTERS, dim, rank), 2, dtype=dtype)
    bias = normal((ADAPTERS, dim), 3, dtype=dtype) if has_bias else None
    out, ids = normal((rows, dim), 4, dtype=dtype), mixed_ids(rows)
    tokens = inputs.rng(5).integers(0, vocab, rows).astype(np.int32)
    cases = []
    for kind in (np.float64, np.float32):
        expected = plain(out, kind).copy()
        for row in np.flatnonzero(ids >= 0):
            expected[row] += plain(expand, kind)[ids[row]] @ plain(tables, kind)[ids[row], tokens[row]]
            if bias is not None:
                expected[row] += plain(bias, kind)[ids[row]]
        cases.append(expected)
    kernels.add_table_lora(out, tensor(tokens), tensor(ids), tables, expand, bias)
    of_tables = np.abs(plain(expand)).max() * np.abs(plain(tables)).max() * rank
    allowed = ROUNDING[dtype] * np.abs(cases[0]) * (1 + 2.0**-8) + sums_error(*cases) + matrix_sum(rank) * of_tables
    assert_within(out, cases[0], allowed)


def test_out_must_be_addable() -> None:
    x, a, b = (normal(shape, 1, dtype=torch.float32) for shape in ((3, 4), (1, 2, 4), (1, 5, 2)))
    ids, ones = tensor(np.zeros(3, np.int32)), torch.ones(1, device=x.device)
    with pytest.raises(ValueError, match="multi_lora: out must have a contiguous last axis on a GPU"):
        kernels.launch_multi_lora(torch.zeros(5, 3, device=x.device).t(), x, a, b, ids, ones)
