"""`out` in every op that has one: memory of its own, or an input itself where the op says so; never half of one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from longspan import ops

BASE = np.arange(16 * 24, dtype=np.float32).reshape(16, 24) / 100
ONES = np.ones(8, np.float32)
MATRIX = np.eye(8, dtype=np.float32)
OFFSETS = np.array([0, 6], np.int32)
Call = Callable[[np.ndarray, np.ndarray], object]

ITSELF = "may be {} itself, not overlap it otherwise"
CALLS: dict[str, tuple[Call, str]] = {
    "layer_norm": (
        lambda x, out: ops.layer_norm(x, ONES, ONES, eps=1e-5, out=out),
        ITSELF.format("x"),
    ),
    "rms_norm": (lambda x, out: ops.rms_norm(x, ONES, eps=1e-5, out=out), ITSELF.format("x")),
    "linear": (lambda x, out: ops.linear(x, MATRIX, out=out), "must not overlap x"),
    "multi_lora": (
        lambda x, out: ops.multi_lora(x, MATRIX[None], MATRIX[None], np.zeros(6, np.int32), 1.0, out=out),
        "must not overlap x",
    ),
    "attention_varlen": (
        lambda x, out: ops.attention_varlen(
            *(part[:, None] for part in (x, x.copy(), x.copy())), OFFSETS, OFFSETS, out=out[:, None]
        ),
        ITSELF.format("q"),
    ),
    "span_mean": (
        lambda x, out: ops.span_mean(x, np.array([[i, i + 1] for i in range(6)], np.int32), out=out),
        "must not overlap hidden",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_part_of_an_input_is_refused(name: str) -> None:
    call, rule = CALLS[name]
    rows = np.ascontiguousarray(BASE[:, :8])
    before = rows.copy()
    with pytest.raises(ValueError, match=f"{name}: out {rule}"):
        call(rows[:6], rows[1:7])
    assert np.array_equal(rows, before)


@pytest.mark.parametrize("name", CALLS)
def test_room_for_every_value(name: str) -> None:
    call, _ = CALLS[name]
    row = np.zeros((1, 8), np.float32)
    out = np.lib.stride_tricks.as_strided(row, (6, 8), (0, 4), writeable=True)
    with pytest.raises(ValueError, match=f"{name}: out must have room for every value, got strides"):
        call(np.ascontiguousarray(BASE[:6, :8]), out)


@pytest.mark.parametrize("name", CALLS)
def test_columns_side_by_side_do_not_overlap(name: str) -> None:
    call, _ = CALLS[name]
    wide = BASE.copy()
    want = call(np.ascontiguousarray(wide[:6, :8]), np.empty((6, 8), np.float32))
    assert np.array_equal(call(wide[:6, :8], wide[:6, 8:16]), want)


def test_an_input_itself() -> None:
    want = ops.layer_norm(BASE[:, :8], ONES, ONES, eps=1e-5)
    rows = np.ascontiguousarray(BASE[:, :8])
    assert np.array_equal(ops.layer_norm(rows, ONES, ONES, eps=1e-5, out=rows), want)
    residual = np.ascontiguousarray(BASE[:, 8:16])
    assert np.array_equal(ops.linear(BASE[:, :8], MATRIX, residual=residual, out=residual), BASE[:, :8] + BASE[:, 8:16])


@pytest.mark.parametrize(
    "ranks, reason",
    [([0, 1, 1, 3], "rank 2 is missing"), ([0, 1, 2, 4], "from 0 to 3, got 4"), ([-1, 1, 2, 3], "0 to 3, got -1")],
)
def test_ranks_are_a_permutation(ranks: list[int], reason: str) -> None:
    codes = np.arange(4, dtype=np.uint8)[:, None]
    with pytest.raises(ValueError, match=f"hamming_topk: tie_ranks must be .*{reason}"):
        ops.hamming_topk(codes[:1], codes, 2, tie_ranks=np.array(ranks))


@pytest.mark.parametrize("k", [1.5, True, "2"])
def test_rescore_takes_whole_numbers(k: object) -> None:
    query, candidates = np.ones((1, 8), np.float32), np.zeros((1, 2), np.int64)
    with pytest.raises(TypeError, match="rescore: k must be an int, got"):
        ops.rescore(query, candidates, BASE[:2, :8], k=k)  # type: ignore[arg-type]
    assert ops.rescore(query, candidates, BASE[:2, :8], k=np.uint8(1))[0].shape == (1, 1)
