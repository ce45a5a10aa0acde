"""attention_varlen with q k^T in whole numbers: the error of the same maths in NumPy, in every instruction set, and the
same whole numbers everywhere."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import attention_varlen_cases as cases
import inputs
from attention_varlen_cases import HEADS, OPTIONS, case
from longspan import _core, ops
from longspan.ops.attention_varlen import key_limits
from longspan.reference.attention_varlen import KEYS_WORTH_BYTES, round_to_bf16

pytestmark = pytest.mark.every_isa
LONG = (256, 300, 5, 259)  # and one that is too short for whole numbers

attend, check = partial(cases.attend, "int8"), partial(cases.check, "int8")


@pytest.mark.parametrize("kind", OPTIONS)
def test_matches_reference(isa: str, kind: str) -> None:
    check(case(LONG, 24, kind, kv_heads=2))


@pytest.mark.parametrize("head_dim", [1, 3, 7, 17, 64, 80, 130])
def test_any_head_dim(isa: str, head_dim: int) -> None:
    check(case((257,), head_dim, kv_heads=1))
    if head_dim > 1:
        check(case((257,), head_dim, "full rope", kv_heads=1))


@pytest.mark.parametrize("kind", ["plain", "causal window", "alibi table window"])
def test_queries_end_where_the_keys_end(isa: str, kind: str) -> None:
    check(case((1, 70, 300, 2), 24, kind, lengths_k=(256, 300, 300, 321)))
    if kind == "plain":
        check(case((330, 3), 24, kind, lengths_k=(260, 0)))


def test_short_sequences_are_as_without(isa: str) -> None:
    """Fewer keys than pay: the same bits as the type that the instruction set multiplies anyway."""
    few = case((1, 64, KEYS_WORTH_BYTES - 1), 32)
    wider = "bfloat16" if _core.attention_reads_bf16() else "float32"
    np.testing.assert_array_equal(attend(few), ops.attention_varlen(*few.args, dtype=wider))
    many = case((KEYS_WORTH_BYTES,), 32)
    assert np.abs(attend(many) - ops.attention_varlen(*many.args, dtype=wider)).max() > 1e-4, "nothing was rounded"


@pytest.mark.parametrize("kind", ["plain", "alibi", "full rope"])
def test_whole_numbers_are_the_same_everywhere(isa: str, kind: str) -> None:
    """Results of two instruction sets differ by float32's rounding, and by that of their values; a step more
    or less in one number of a row would show: it is 1 / 127 of the row's largest value."""
    batch = case((500,), 64, kind)
    before = _core.isa()
    try:
        _core.set_isa("portable")
        expected = attend(batch)
    finally:
        _core.set_isa(before)
    found, error = attend(batch), np.abs(attend(batch) - cases.references("int8", batch)[0])
    difference = np.abs(found - expected)
    if _core.attention_reads_bf16() or isa == "avx512_fp16":
        assert np.sqrt(np.square(difference).mean()) < 0.5 * np.sqrt(np.square(error).mean())
    else:
        assert difference.max() < 1e-3 * np.abs(expected).max()
        assert difference.max() < 0.1 * error.max()


def test_what_keys_share_costs_no_step(isa: str) -> None:
    """A vector that all keys have in addition, a hundred times as long as they are, changes no weight: without the mean
    the numbers would have no step left for what differs."""
    plain = case((400,), 64)
    shared = np.float32(50) * inputs.normal((1, HEADS, 64), 9)
    moved = replace(plain, k=plain.k + shared)
    truth = cases.references("int8", plain)[0]
    error, own = np.abs(attend(moved) - truth), np.abs(attend(plain) - truth)
    assert np.sqrt(np.square(error).mean()) < 1.5 * np.sqrt(np.square(own).mean())


def test_one_value_that_sticks_out(isa: str) -> None:
    """The rotation shares it among 64."""
    spiky = case((300,), 64)
    q, k = spiky.q.copy(), spiky.k.copy()
    q[:, :, 5] *= 30
    k[:, :, 9] *= 30
    check(replace(spiky, q=q, k=k))


@pytest.mark.parametrize("kind", ["plain", "alibi", "causal window", "rope"])
def test_one_sequence_alone_gives_the_same_bits(isa: str, kind: str) -> None:
    lengths = (1, 700, 33, 256, 320)
    for kv_heads in (HEADS, 1):
        batch = case(lengths, 25, kind, kv_heads=kv_heads)
        expected = attend(batch)
        try:
            for threads in (1, 3):
                _core.set_num_threads(threads)
                np.testing.assert_array_equal(attend(batch), expected)
                for number in range(len(lengths)):
                    rows = slice(*batch.cu_seqlens_q[number : number + 2])
                    np.testing.assert_array_equal(attend(batch.sequence(number)), expected[rows])
        finally:
            _core.set_num_threads(0)


def test_a_query_alone_has_the_same_bits(isa: str) -> None:
    """The last layer may ask for some rows only."""
    whole = case((600,), 32)
    expected = attend(whole)
    for first in (0, 200, 599):
        some = replace(whole, q=whole.q[first:], cu_seqlens_q=inputs.cu_seqlens([600 - first]))
        np.testing.assert_array_equal(attend(some), expected[first:])


def test_stored_bf16(isa: str) -> None:
    """Rows that come as bf16 are what the same rows are as float32."""
    batch = case((300, 40), 64, "alibi")
    batch = replace(batch, **{name: round_to_bf16(getattr(batch, name)) for name in "qkv"})
    bits = [(x.view(np.uint32) >> 16).astype(np.uint16) for x in (batch.q, batch.k, batch.v)]
    out = np.full_like(batch.q, np.nan)
    tables = (batch.options["slopes"], None, None, False, None)
    rest = (*key_limits(False, None), 64**-0.5, out, "int8")
    _core.attention_varlen(*bits, batch.cu_seqlens_q, batch.cu_seqlens_k, *tables, *rest)
    np.testing.assert_array_equal(out, attend(batch))


def test_nothing_finite_stays_in_its_sequence(isa: str) -> None:
    batch = case((270, 300), 32)
    expected = attend(batch)
    for name in "qkv":
        for value in (np.nan, np.inf):
            spoilt = getattr(batch, name).copy()
            spoilt[:270] = value
            got = attend(replace(batch, **{name: spoilt}))
            assert not np.isfinite(got[:270]).any()
            np.testing.assert_array_equal(got[270:], expected[270:])


def test_zeros_and_tiny_and_huge(isa: str) -> None:
    batch = case((300,), 32)
    mean = np.broadcast_to(batch.v.mean(axis=0), batch.v.shape)
    for factor in (0.0, 1e-30):
        small = replace(batch, q=batch.q * np.float32(factor))
        np.testing.assert_allclose(attend(small), mean, atol=5e-3)
    huge = replace(batch, q=batch.q * np.float32(1e15), k=batch.k * np.float32(1e15))
    assert np.isfinite(attend(huge)).all()


def test_too_many_values_are_refused(isa: str) -> None:
    rows = np.zeros((1, 1, 1025), np.float32)
    offsets = inputs.cu_seqlens([1])
    with pytest.raises(ValueError, match="attention_varlen: head_dim must be at most 1024 for int8, got 1025"):
        ops.attention_varlen(rows, rows, rows, offsets, offsets, dtype="int8")
    with pytest.raises(ValueError, match="head_dim must be at most 1024 for int8"):
        _core.attention_varlen(
            rows, rows, rows, offsets, offsets, None, None, None, False, None, None, None, 1.0, rows.copy(), "int8"
        )
