"""Packing: every text once, in its place, within the budget."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longspan.packing.batch import INT32_MAX, PackedBatch, pack

LENGTHS = st.lists(st.integers(1, 40), max_size=40)
BATCH_SIZES = st.none() | st.integers(1, 10)


def texts(lengths: list[int]) -> list[np.ndarray]:
    """Texts whose ids say which text they are of, and where in it they stand."""
    return [1000 * index + np.arange(length, dtype=np.int32) for index, length in enumerate(lengths)]


def rows(batch: PackedBatch) -> list[np.ndarray]:
    return np.split(batch.ids, batch.cu_seqlens[1:-1])


@given(LENGTHS, st.integers(1, 100), BATCH_SIZES)
def test_every_text_comes_once_and_whole(lengths: list[int], batch_tokens: int, batch_size: int | None) -> None:
    given_ids = texts(lengths)
    batches = list(pack(given_ids, batch_tokens=batch_tokens, batch_size=batch_size))
    indices = [int(index) for batch in batches for index in batch.indices]
    assert sorted(indices) == list(range(len(lengths)))
    for index, row in zip(indices, [row for batch in batches for row in rows(batch)], strict=True):
        np.testing.assert_array_equal(row, given_ids[index])


@given(LENGTHS, st.integers(1, 100), BATCH_SIZES)
def test_batches_keep_the_budget_and_are_full(lengths: list[int], batch_tokens: int, batch_size: int | None) -> None:
    batches = list(pack(texts(lengths), batch_tokens=batch_tokens, batch_size=batch_size))
    for batch in batches:
        assert len(batch.ids) <= batch_tokens or len(batch.indices) == 1
        assert batch_size is None or len(batch.indices) <= batch_size
    for batch, after in pairwise(batches):  # the next text would not have gone in
        is_full = batch_size is not None and len(batch.indices) == batch_size
        assert is_full or len(batch.ids) + after.cu_seqlens[1] > batch_tokens


@given(LENGTHS, st.integers(1, 100))
def test_longest_first_and_ties_in_order(lengths: list[int], batch_tokens: int) -> None:
    batches = list(pack(texts(lengths), batch_tokens=batch_tokens))
    indices = [int(index) for batch in batches for index in batch.indices]
    assert indices == sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))


@given(LENGTHS.filter(bool), st.integers(1, 100), st.randoms(use_true_random=False))
def test_fields_agree(lengths: list[int], batch_tokens: int, random: Random) -> None:
    adapters = [random.randint(-1, 4) for _ in lengths]
    for batch in pack(texts(lengths), batch_tokens=batch_tokens, lora_ids=adapters):
        widths = np.diff(batch.cu_seqlens)
        assert batch.cu_seqlens[0] == 0
        assert batch.cu_seqlens[-1] == len(batch.ids) == len(batch.positions) == len(batch.lora_ids)
        assert batch.max_seqlen == widths.max()
        np.testing.assert_array_equal(batch.positions, batch.ids % 1000)
        np.testing.assert_array_equal(batch.lora_ids, np.repeat(np.array(adapters)[batch.indices], widths))
        fields = (batch.ids, batch.positions, batch.cu_seqlens, batch.lora_ids)
        assert {field.dtype for field in fields} == {np.dtype(np.int32)}
        assert batch.indices.dtype == np.int64


def test_no_texts_no_batches() -> None:
    assert list(pack([], batch_tokens=8)) == []
    assert list(pack([], batch_tokens=8, lora_ids=[])) == []


def test_without_adapters_there_are_no_lora_ids() -> None:
    (batch,) = pack(texts([2, 3]), batch_tokens=8)
    assert batch.lora_ids is None


def test_wider_ids_become_int32() -> None:
    (batch,) = pack([np.array([0, INT32_MAX])], batch_tokens=8)
    assert batch.ids.dtype == np.int32
    assert batch.ids.tolist() == [0, INT32_MAX]


# bad input: the call itself complains, before the first batch is asked for


@pytest.mark.parametrize("value", [0, -1, INT32_MAX + 1])
@pytest.mark.parametrize("name", ["batch_tokens", "batch_size"])
def test_a_budget_out_of_range_is_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"pack: {name} must be from 1 to 2147483647, got {value}"):
        pack(texts([1]), **{"batch_tokens": 8, name: value})


@pytest.mark.parametrize("name", ["batch_tokens", "batch_size"])
def test_a_budget_that_is_no_int_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"pack: {name} must be an int, got float"):
        pack(texts([1]), **{"batch_tokens": 8, name: 8.0})


@pytest.mark.parametrize("row", [[1, 2], np.array([1.0]), np.array([True])], ids=repr)
def test_ids_are_arrays_of_integers(row: object) -> None:
    with pytest.raises(TypeError, match=r"pack: ids\[1\] must be an array of integers, got (list|float64|bool)"):
        pack([*texts([1]), row], batch_tokens=8)


@pytest.mark.parametrize("shape", [(0,), (2, 2), (), (INT32_MAX + 1,)], ids=str)
def test_a_row_is_one_axis_from_one_to_int32_max(shape: tuple[int, ...]) -> None:
    row = np.broadcast_to(np.int32(7), shape)  # no memory behind it
    with pytest.raises(ValueError, match=r"pack: ids\[0\] must be 1 to 2147483647 tokens on one axis, got \("):
        pack([row], batch_tokens=8)


@pytest.mark.parametrize("token", [-1, INT32_MAX + 1])
def test_ids_that_int32_cannot_hold_are_refused(token: int) -> None:
    with pytest.raises(ValueError, match=rf"pack: ids\[0\] must be from 0 to 2147483647, got {min(token, 5)} to"):
        pack([np.array([5, token])], batch_tokens=8)


def test_lora_ids_are_one_a_text() -> None:
    with pytest.raises(ValueError, match="lora_ids must have one number for each of 2 texts, got 1"):
        pack(texts([1, 1]), batch_tokens=8, lora_ids=[0])


@pytest.mark.parametrize("lora_id", [-2, 1.0, None, INT32_MAX + 1])
def test_lora_ids_are_adapters_numbers(lora_id: object) -> None:
    with pytest.raises(ValueError, match=rf"lora_ids\[1\] must be an adapter's number, .* got {lora_id}"):
        pack(texts([1, 1]), batch_tokens=8, lora_ids=[0, lora_id])
