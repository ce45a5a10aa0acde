"""attention_varlen with bf16 products: the error of the same maths in bf16 and no more, in every instruction set."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import attention_varlen_cases as cases
import inputs
from attention_varlen_cases import HEADS, OPTIONS, RAGGED, Case, case
from longspan import _core, ops, reference
from longspan.ops.attention_varlen import key_limits
from longspan.reference.attention_varlen import round_to_bf16

F32_ROUNDING = 2.0**-24
BF16_ROUNDING = 2.0**-8  # eight significant bits, to the nearest
EXP_ERROR = 2.0**-13  # of 2^x as the AVX512-BF16 kernel has it; the others' is far smaller

attend, check = partial(cases.attend, "bfloat16"), partial(cases.check, "bfloat16")


def rounded(case: Case) -> Case:
    """Its q, k and v as bf16 has them."""
    return replace(case, **{name: round_to_bf16(getattr(case, name)) for name in "qkv"})


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("head_dim", [33, 64])
def test_matches_reference(isa: str, head_dim: int, kind: str) -> None:
    check(case(RAGGED, head_dim, kind, kv_heads=2))


@pytest.mark.parametrize("head_dim", [1, 2, 7, 15, 17, 32, 96, 128, 130])
def test_any_head_dim(isa: str, head_dim: int) -> None:
    check(case(RAGGED, head_dim))
    if head_dim > 1:
        check(case(RAGGED, head_dim, "full rope"))


@pytest.mark.parametrize("kind", OPTIONS)
def test_queries_end_where_the_keys_end(isa: str, kind: str) -> None:
    """Windows and masks that begin and end inside pairs of keys; with more queries than keys, rows without any."""
    lengths, lengths_k = (1, 5, 64, 100, 3, 1, 2), (70, 5, 201, 131, 64, 7, 128)
    check(case(lengths, 24, kind, lengths_k=lengths_k))
    if "rope" in kind or kind == "interleaved":  # positions before the first key have no angle
        return
    longer = case((*lengths, 90, 7), 24, kind, lengths_k=(*lengths_k, 41, 0))
    check(longer)
    assert not attend(longer)[-7:].any(), "no key must give zeros"


@pytest.mark.large
@pytest.mark.parametrize("kind", ["plain", "alibi", "rope alibi causal"])
def test_long(isa: str, kind: str) -> None:
    check(case((1000,), 64, kind))


@pytest.mark.large
@pytest.mark.parametrize("kind", ["plain", "alibi", "table", "causal window"])
def test_error_is_bounded_by_the_rounding_of_weights(isa: str, kind: str) -> None:
    """Where q, k and v are bf16 values, only the weights w_j are rounded: they become w_j (1 + e_j), and as they are
    divided by their own sum, the result moves by no more than max|e| / (1 - max|e|) * sum_j w_j |v_j - result|."""
    for lengths, head_dim in ((RAGGED, 32), ((700,), 64)):
        exact = rounded(case(lengths, head_dim, kind))
        double = exact.double()
        truth = reference.attention_varlen(*double.args, **double.options)
        squares = reference.attention_varlen(*replace(double, v=double.v**2).args, **double.options)
        spread = np.sqrt(np.maximum(squares - truth**2, 0))  # no less than sum_j w_j |v_j - truth|
        norms = [np.linalg.norm(x, axis=-1).max() for x in (double.q, double.k)]
        score = norms[0] * norms[1] * head_dim**-0.5 + 0.5 * max(lengths) + 4  # the largest, with any of these biases
        # A score is a sum of head_dim products; scale, bias, maximum and the change to base 2 round it once each.
        score_error = (head_dim + 8) * F32_ROUNDING * score
        error = (1 + BF16_ROUNDING) * (1 + EXP_ERROR) * (1 + score_error) - 1
        # Both sums: no more than 128 terms in a block, two roundings a block of no less than 64.
        sum_error = 2 * (128 + max(lengths) / 32) * F32_ROUNDING * np.abs(double.v).max()
        difference = np.abs(attend(exact) - truth)
        assert (difference <= error / (1 - error) * spread + sum_error).all()


def test_weights_are_divided_by_the_sum_of_the_rounded_ones(isa: str) -> None:
    """Equal values come out as they went in; a sum of unrounded weights would be off by about 2^-9 / sqrt(length)."""
    batch = rounded(case(RAGGED, 32))
    same = replace(batch, v=np.broadcast_to(batch.v[:1], batch.v.shape).copy())
    tolerance = 2 * (128 + max(RAGGED) / 32) * F32_ROUNDING
    np.testing.assert_allclose(attend(same), same.v, rtol=tolerance, atol=0)


def test_laws(isa: str) -> None:
    plain = case(RAGGED, 32)
    expected = attend(plain)
    assert np.abs(expected - ops.attention_varlen(*plain.args)).max() > 1e-4, "nothing was rounded"
    for nothing in ({"slopes": np.zeros(HEADS, np.float32)}, {"window": (-1, -1)}, {"window": (200, 200)}):
        np.testing.assert_array_equal(attend(plain, **nothing), expected)
    np.testing.assert_array_equal(attend(plain, window=(0, 0)), round_to_bf16(plain.v))
    np.testing.assert_array_equal(attend(plain), attend(rounded(plain)))


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_grouped_heads(isa: str, kv_heads: int) -> None:
    grouped = case((70, 5, 500), 32, "alibi", kv_heads=kv_heads)
    spread = replace(grouped, **{name: np.repeat(getattr(grouped, name), HEADS // kv_heads, 1) for name in "kv"})
    np.testing.assert_array_equal(attend(spread), attend(grouped))


@pytest.mark.large
@pytest.mark.parametrize("kind", ["plain", "alibi", "causal window", "rope", "table"])
def test_one_sequence_alone_gives_the_same_bits(isa: str, kind: str) -> None:
    lengths = (1, 700, 33, 0, 64, 65, 16, 10, 130)
    for head_dim, kv_heads in ((32, HEADS), (25, 1)):
        batch = case(lengths, head_dim, kind, kv_heads=kv_heads)
        expected = attend(batch)
        try:
            for threads in (1, 2, 7):
                _core.set_num_threads(threads)
                np.testing.assert_array_equal(attend(batch), expected)
                for number in range(len(lengths)):
                    rows = slice(*batch.cu_seqlens_q[number : number + 2])
                    np.testing.assert_array_equal(attend(batch.sequence(number)), expected[rows])
        finally:
            _core.set_num_threads(0)


def test_nan_stays_in_its_sequence(isa: str) -> None:
    batch = case((21, 64, 70), 33)
    expected = attend(batch)
    for name in "qkv":
        spoilt = getattr(batch, name).copy()
        spoilt[21:85] = np.array([0x7F800001], np.uint32).view(np.float32)  # a NaN whose upper half alone is infinity
        got = attend(replace(batch, **{name: spoilt}))
        assert np.isnan(got[21:85]).all()
        np.testing.assert_array_equal(np.delete(got, np.s_[21:85], 0), np.delete(expected, np.s_[21:85], 0))


def test_huge_scores(isa: str) -> None:
    batch = rounded(case((70, 3), 16))
    got = attend(replace(batch, q=batch.q * 2**14, k=batch.k * 2**14))
    for start, end in ((0, 70), (70, 73)):
        scores = np.einsum("ihd,jhd->hij", batch.q[start:end].astype(float), batch.k[start:end].astype(float))
        winners = scores.argmax(-1).T + start
        np.testing.assert_array_equal(got[start:end], batch.v[winners, np.arange(HEADS)])


def test_layouts(isa: str) -> None:
    batch = case((65, 0, 20), 33, "rope alibi causal", kv_heads=2)
    expected = attend(batch)
    for name in "qkv":
        for layout, odd in inputs.odd_layouts(getattr(batch, name)).items():
            np.testing.assert_array_equal(attend(replace(batch, **{name: odd})), expected, layout)
    for layout, odd in inputs.odd_layouts(np.full_like(batch.q, np.nan)).items():
        np.testing.assert_array_equal(attend(batch, out=odd), expected, layout)
    q = batch.q.copy()
    np.testing.assert_array_equal(attend(replace(batch, q=q), out=q), expected)


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0, 0)], ids=str)
def test_nothing_to_do(isa: str, lengths: tuple[int, ...]) -> None:
    assert attend(case(lengths, 32)).shape == (0, HEADS, 32)


def bits(values: np.ndarray) -> np.ndarray:
    """bf16 numbers as the bits that the kernel takes."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def attend_bits(case: Case, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The kernel itself on q, k and v as they are given; the public op has no such type."""
    options = dict.fromkeys(("slopes", "cos", "sin", "bias_table", "window")) | case.options
    left, right = key_limits(bool(options.get("causal")), options["window"])
    tables = (options["slopes"], options["cos"], options["sin"], False, options["bias_table"])
    out = np.full_like(case.q, np.nan)
    scale = options.get("softmax_scale") or case.q.shape[2] ** -0.5
    _core.attention_varlen(q, k, v, *case.args[3:], *tables, left, right, scale, out, "bfloat16")
    return out


@pytest.mark.parametrize("kind", [kind for kind in OPTIONS if "rope" not in kind and kind != "interleaved"])
@pytest.mark.parametrize("head_dim", [32, 64, 96])
def test_bits_of_bf16_give_what_their_floats_give(isa: str, head_dim: int, kind: str) -> None:
    whole = rounded(case((*RAGGED, 300), head_dim, kind, kv_heads=2))
    expected = attend(whole)
    parts = [bits(getattr(whole, name)) for name in "qkv"]
    np.testing.assert_array_equal(attend_bits(whole, *parts), expected)
    side_by_side = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    cuts = np.cumsum([part.shape[1] * part.shape[2] for part in parts])[:-1]
    views = [view.reshape(part.shape) for view, part in zip(np.split(side_by_side, cuts, axis=1), parts, strict=True)]
    np.testing.assert_array_equal(attend_bits(whole, *views), expected)


def test_bits_of_bf16_are_refused_where_they_cannot_be_read() -> None:
    odd, narrow = (rounded(case(RAGGED, dim, kv_heads=2)) for dim in (33, 48))
    with pytest.raises(ValueError, match="q in bfloat16 must have an even head_dim"):
        attend_bits(odd, *(bits(getattr(odd, name)) for name in "qkv"))
    with pytest.raises(ValueError, match="need dtype bfloat16 or int8, no RoPE, a head_dim that 32 divides"):
        attend_bits(narrow, *(bits(getattr(narrow, name)) for name in "qkv"))
    with pytest.raises(ValueError, match="k must be uint16, got float32"):
        attend_bits(odd, bits(narrow.q), narrow.k, bits(narrow.v))
    turned = rounded(case(RAGGED, 32, "full rope", kv_heads=2))
    with pytest.raises(ValueError, match="need dtype bfloat16 or int8, no RoPE"):
        attend_bits(turned, *(bits(getattr(turned, name)) for name in "qkv"))
