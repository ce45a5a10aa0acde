"""Values and weights as f16 (level avx512_fp16), beside the same whole numbers with values of float32 and bf16."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

import inputs
from attention_varlen_cases import HEADS, Case, case
from longspan import _core, ops, reference

LEVEL, FLOATS, PAIRS = "avx512_fp16", "avx512_vnni", "avx512_bf16"
DIM, KEYS = 24, 520

pytestmark = pytest.mark.skipif(LEVEL not in _core.available_isas(), reason="this machine has no AVX512-FP16")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = _core.isa()
    yield
    _core.set_isa(before)


def attend(batch: Case, level: str = LEVEL) -> np.ndarray:
    _core.set_isa(level)
    return ops.attention_varlen(*batch.args, **batch.options, dtype="int8")


def with_values(batch: Case, values: np.ndarray) -> Case:
    return replace(batch, v=values.astype(np.float32))


def sink(batch: Case) -> Case:
    """The first key takes about half of all weights."""
    k = batch.k.copy()
    mean = batch.q.mean(axis=0)[: k.shape[1]]
    k[0] = mean / np.square(mean).sum(axis=1, keepdims=True) * np.sqrt(DIM) * np.log(KEYS)
    return replace(batch, q=batch.q * np.float32(0.2) + batch.q.mean(axis=0), k=k)


plain = case((KEYS,), DIM)
CASES = {
    "plain": plain,
    "alibi": case((KEYS,), DIM, "alibi"),
    "causal": case((KEYS,), DIM, "causal"),
    "grouped": case((KEYS, 300), DIM, "causal window", kv_heads=1),
    "values with a mean": with_values(plain, plain.v + 1),
    "values with outliers": with_values(plain, np.exp(3 * plain.v)),
    "sharp": replace(plain, q=plain.q * np.float32(4)),
    "one key takes half": sink(plain),
    "so it does, and its value is small": sink(
        with_values(plain, np.where(np.arange(KEYS)[:, None, None], plain.v, 0))
    ),
    "all alike": replace(plain, q=plain.q * 0),
}


@pytest.mark.skipif(PAIRS not in _core.available_isas(), reason="this machine has no AVX512-BF16")
@pytest.mark.parametrize("name", CASES)
def test_finer_than_bf16(name: str) -> None:
    """Of the values alone: scores are the same whole numbers at all three levels."""
    exact, halves, pairs = (attend(CASES[name], level) for level in (FLOATS, LEVEL, PAIRS))
    error, others = np.abs(halves - exact), np.abs(pairs - exact)
    assert 0 < np.sqrt(np.square(error).mean()) < np.sqrt(np.square(others).mean())
    assert error.max() < others.max()


@pytest.mark.parametrize("dim", [1, 17, 64, 130])
@pytest.mark.parametrize("keys", [256, 257, 331])
def test_awkward_shapes(keys: int, dim: int) -> None:
    """A twentieth of what whole numbers cost, in any number of columns, keys and queries."""
    batch = case((keys, 3), dim, lengths_k=(keys, 290))
    truth = reference.attention_varlen(*batch.double().args, **batch.double().options)
    exact, halves = attend(batch, FLOATS), attend(batch)
    assert np.abs(halves - exact).max() < 4e-3 * np.abs(batch.v).max()
    assert np.sqrt(np.square(halves - truth).mean()) < 1.05 * np.sqrt(np.square(exact - truth).mean()) + 1e-4


def test_columns_of_any_size() -> None:
    """A column times a power of two gives the result times it, to the bit: 1e-30 beside 1e30, up to float32's ends."""
    expected = attend(plain)
    powers = np.linspace(-90, 90, DIM).round()
    powers[:2] = (-100, 110)  # sums of 520 keys are still below float32's largest
    scaled = with_values(plain, np.ldexp(plain.v.astype(np.float64), powers.astype(int)))
    assert np.isfinite(scaled.v).all()
    np.testing.assert_array_equal(
        attend(scaled).astype(np.float64), np.ldexp(expected.astype(np.float64), powers.astype(int))
    )


def test_the_largest_and_the_least_values() -> None:
    """Sums of weights and values stay finite as long as those of floats do; the smallest give what they are."""
    largest = np.finfo(np.float32).max
    for value in (largest / KEYS, -largest / KEYS, 1e-36, 0.0):
        got = attend(with_values(plain, np.full_like(plain.v, value)))
        np.testing.assert_allclose(got, np.float32(value), rtol=2e-3, atol=0)
    assert np.abs(attend(with_values(plain, np.full_like(plain.v, 1e-44)))).max() <= 2e-44


def test_a_block_of_huge_values_beside_others() -> None:
    """Each block of keys has powers of two of its own: what is seen of others keeps its bits' worth."""
    batch = case((KEYS,), DIM, "left window")
    values = batch.v.copy()
    values[:64] *= np.float32(1e30)
    exact, halves = attend(with_values(batch, values), FLOATS), attend(with_values(batch, values))
    far = slice(200, None)  # the window does not reach back to the first block
    np.testing.assert_array_equal(halves[far], attend(batch)[far])
    np.testing.assert_allclose(halves[:64], exact[:64], rtol=0, atol=4e-3 * np.abs(values[:64]).max())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_takes_floats(value: float) -> None:
    """One value in one head: that sequence's head has the bits of the level below, all else its own."""
    batch = case((300, KEYS), DIM, "causal", kv_heads=2)
    spoilt = batch.v.copy()
    spoilt[310, 1, 3] = value
    got, floats, expected = (
        attend(with_values(batch, spoilt)),
        attend(with_values(batch, spoilt), FLOATS),
        attend(batch),
    )
    ours = slice(300, None), slice(HEADS // 2, None)
    np.testing.assert_array_equal(got[ours], floats[ours])
    got[ours] = expected[ours]
    np.testing.assert_array_equal(got, expected)


def test_queries_that_are_not_finite_keep_to_themselves() -> None:
    spoilt = plain.q.copy()
    spoilt[100] = np.nan
    got, expected = attend(replace(plain, q=spoilt)), attend(plain)
    assert np.isnan(got[100]).all()
    np.testing.assert_array_equal(np.delete(got, 100, axis=0), np.delete(expected, 100, axis=0))


@pytest.mark.parametrize("lengths", [(256, 700), (1000, 257, 31)], ids=str)
@pytest.mark.parametrize("kv_heads", [1, HEADS])
def test_short_sums_begin_at_the_same_keys_in_any_batch(lengths: tuple[int, ...], kv_heads: int) -> None:
    """Tiles of queries are mixed in pairs, whichever two they are and whatever each sees: rows of one to four tiles,
    one head a key head and several."""
    batch = case(lengths, DIM, "causal", kv_heads=kv_heads)
    expected = attend(batch)
    last = inputs.cu_seqlens(lengths)
    for number, length in enumerate(lengths):
        alone = batch.sequence(number)
        for count in (1, 47, 49, 97, 150):
            if count >= length:
                continue
            some = replace(alone, q=alone.q[-count:], cu_seqlens_q=inputs.cu_seqlens([count]))
            np.testing.assert_array_equal(attend(some), expected[last[number + 1] - count : last[number + 1]])
