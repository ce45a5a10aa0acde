"""hamming and hamming_topk against brute force, in every instruction set: integers, so exactly."""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import inputs
from longspan import _core, ops, reference

WIDTHS = [1, 7, 8, 9, 16, 31, 32, 33, 63, 64, 65, 96, 128, 255, 256, 257, 300, 512, 1000]


def random_codes(n: int, width: int, *seed: int) -> np.ndarray:
    """(n, width) uint8."""
    return inputs.rng(n, width, *seed).integers(0, 256, (n, width), dtype=np.uint8)


def assert_same(got: tuple[np.ndarray, np.ndarray], truth: tuple[np.ndarray, np.ndarray]) -> None:
    for found, expected, dtype in zip(got, truth, (np.int32, np.int64)):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
def test_matches_reference(isa: str, width: int, n: int) -> None:
    codes, q = random_codes(n, width, 1), random_codes(3, width, 2)
    got = ops.hamming(q, codes)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, reference.hamming(q, codes))
    for k in {1, (n + 1) // 2, n}:
        assert_same(ops.hamming_topk(q, codes, k), reference.hamming_topk(q, codes, k))


@pytest.mark.parametrize("width", [1, 7, 8, 16, 31, 32, 33, 48, 95, 96, 97, 128, 192, 193, 300, 4095, 4096])
@pytest.mark.parametrize("num_queries", [4, 7])
def test_several_queries(isa: str, width: int, num_queries: int) -> None:
    """Where four queries and more take another way (tables on AVX2); 4096 bytes are past what it sums."""
    for n in (1, 31, 65, 200) if width < 1000 else (65,):
        codes, q = random_codes(n, width, 1), random_codes(num_queries, width, 2)
        np.testing.assert_array_equal(ops.hamming(q, codes), reference.hamming(q, codes))
        for k in {1, (n + 1) // 2, n}:
            assert_same(ops.hamming_topk(q, codes, k), reference.hamming_topk(q, codes, k))


@pytest.mark.parametrize("width", [2, 15, 32, 64, 100, 128, 130, 400])
def test_nibbles_that_differ_as_a_whole(isa: str, width: int) -> None:
    """Where a scan by tables knows bounds of distances alone: as far below them as may be, and for some codes only."""
    codes = random_codes(300, width, 1)
    q = random_codes(6, width, 2)
    whole = inputs.rng(width).choice(np.array([0x00, 0x0F, 0xF0, 0xFF], np.uint8), (300, width))
    codes[::2] = q[0] ^ whole[::2]
    codes[1:40:4] = ~q[1]
    codes[2:40:8] = ~q[0] ^ (whole[2:40:8] & 0x01)
    for k in (1, 10, 299):
        assert_same(ops.hamming_topk(q, codes, k), reference.hamming_topk(q, codes, k))
    far = np.concatenate([~q[:1], ~q[:1], q[:1]])  # the nearest come last
    assert_same(ops.hamming_topk(q, far, 2), reference.hamming_topk(q, far, 2))


@pytest.mark.parametrize("num_queries", [0, 1, 63, 64, 65, 130])
def test_numbers_of_queries(isa: str, num_queries: int) -> None:
    codes, q = random_codes(500, 40, 1), random_codes(num_queries, 40, 2)
    np.testing.assert_array_equal(ops.hamming(q, codes), reference.hamming(q, codes))
    assert_same(ops.hamming_topk(q, codes, 17), reference.hamming_topk(q, codes, 17))


def test_extremes(isa: str) -> None:
    """All bits alike and all bits different: the largest sums that the kernels' partial counts must hold."""
    for width in (16, 24, 32, 31 * 8, 32 * 8, 1000, 4095):
        codes = np.stack([np.zeros(width, np.uint8), np.full(width, 255, np.uint8)])
        np.testing.assert_array_equal(ops.hamming(codes, codes), np.array([[0, 8 * width], [8 * width, 0]]))
        several = ops.hamming(np.repeat(codes, 3, axis=0), codes)
        np.testing.assert_array_equal(several, np.repeat([[0, 8 * width], [8 * width, 0]], 3, axis=0))


def test_ties_go_by_row(isa: str) -> None:
    codes = np.zeros((70_000, 16), np.uint8)
    codes[40_000:] = 1
    q = np.zeros((2, 16), np.uint8)
    distances, rows = ops.hamming_topk(q, codes, 50_000)
    np.testing.assert_array_equal(rows, np.tile(np.arange(50_000), (2, 1)))
    np.testing.assert_array_equal(distances[0], np.where(np.arange(50_000) < 40_000, 0, 16))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(threads: int) -> None:
    codes, q = random_codes(60_000, 9, 1) & 3, random_codes(70, 9, 2) & 3  # few distances, many ties
    before = _core.set_num_threads(threads)
    try:
        got = ops.hamming_topk(q, codes, 100)
    finally:
        _core.set_num_threads(before)
    assert_same(got, reference.hamming_topk(q, codes, 100))


def test_many_candidates_in_descending_distance() -> None:
    """The worst order: every code is nearer than all before it."""
    n = 30_000
    codes = np.packbits(np.tri(2000, 2000, dtype=np.uint8), axis=1)[::-1].repeat(n // 2000, axis=0)
    q = np.zeros((1, codes.shape[1]), np.uint8)
    assert_same(ops.hamming_topk(q, codes, 300), reference.hamming_topk(q, codes, 300))


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 400),
    width=st.integers(1, 80),
    num_queries=st.integers(1, 4),
    share=st.floats(0, 1),
    bits=st.sampled_from([0, 1, 3, 255]),
    seed=st.integers(0, 2**16),
    data=st.data(),
)
def test_topk_is_brute_force(
    n: int, width: int, num_queries: int, share: float, bits: int, seed: int, data: st.DataObject
) -> None:
    """Any size, k, filter and number of ties; `bits` 0 makes all codes zero."""
    k = data.draw(st.integers(1, n))
    codes, q = random_codes(n, width, seed, 1) & bits, random_codes(num_queries, width, seed, 2) & bits
    wanted = inputs.rng(seed).random(n) < share
    ranks = inputs.rng(seed, 1).permutation(n)
    for options in ({}, {"filter": wanted}, {"filter": np.packbits(wanted)}, {"tie_ranks": ranks, "filter": wanted}):
        assert_same(ops.hamming_topk(q, codes, k, **options), reference.hamming_topk(q, codes, k, **options))


def test_filter(isa: str) -> None:
    codes, q = random_codes(5000, 24, 1), random_codes(3, 24, 2)
    wanted = np.zeros(5000, np.bool_)
    wanted[[0, 7, 8, 63, 64, 1000, 4999]] = True
    distances, rows = ops.hamming_topk(q, codes, 20, filter=wanted)
    assert distances.shape == rows.shape == (3, 7)
    assert_same((distances, rows), reference.hamming_topk(q, codes, 20, filter=wanted))
    assert ops.hamming_topk(q, codes, 20, filter=np.zeros(5000, np.bool_))[1].shape == (3, 0)
    # Bits beyond n count for nothing.
    bits = np.full(13, 255, np.uint8)
    assert ops.hamming_topk(q, codes[:100], 100, filter=bits)[1].max() == 99


def test_layouts(isa: str) -> None:
    codes, q = random_codes(200, 20, 1), random_codes(5, 20, 2)
    expected, nearest = ops.hamming(q, codes), ops.hamming_topk(q, codes, 9)
    wide = np.zeros((200, 50), np.uint8)
    wide[:, 3:23] = codes
    for odd in (wide[:, 3:23], np.asfortranarray(codes), codes[::-1].copy()[::-1], codes.copy()):
        np.testing.assert_array_equal(ops.hamming(q, odd), expected)
        assert_same(ops.hamming_topk(q, odd, 9), nearest)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's mprotect")
def test_reads_no_byte_beyond_the_codes(isa: str) -> None:
    """Codes that end where a forbidden page begins: a kernel that read on would end the process."""
    page, libc = mmap.PAGESIZE, ctypes.CDLL(None, use_errno=True)
    memory = mmap.mmap(-1, 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(ctypes.c_void_p(start + page), page, 0) == 0
    try:
        for width in (1, 8, 9, 40, 100, 256):
            n = page // width
            codes = np.frombuffer(memory, np.uint8, page)[page - n * width :].reshape(n, width)
            codes[:] = random_codes(n, width, 5)
            q = random_codes(2, width, 6)
            np.testing.assert_array_equal(ops.hamming(q, codes), reference.hamming(q, codes))
            assert_same(ops.hamming_topk(q, codes, 3), reference.hamming_topk(q, codes, 3))
    finally:
        libc.mprotect(ctypes.c_void_p(start + page), page, mmap.PROT_READ | mmap.PROT_WRITE)


def test_torch_tensors_come_back_as_such() -> None:
    torch = pytest.importorskip("torch", reason="torch absent: pip install torch")
    codes, q = random_codes(200, 16, 1), random_codes(3, 16, 2)
    found = ops.hamming_topk(torch.from_numpy(q), torch.from_numpy(codes), 5, filter=torch.ones(200, dtype=torch.bool))
    assert all(isinstance(part, torch.Tensor) for part in found)
    assert_same(tuple(part.numpy() for part in found), reference.hamming_topk(q, codes, 5))


def test_reference_backend() -> None:
    codes, q = random_codes(30, 4, 1), random_codes(2, 4, 2)
    np.testing.assert_array_equal(ops.hamming(q, codes, backend="reference"), reference.hamming(q, codes))
    assert_same(ops.hamming_topk(q, codes, 3, backend="reference"), reference.hamming_topk(q, codes, 3))


CODES = np.zeros((10, 4), np.uint8)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"q": np.zeros((2, 5), np.uint8)}, r"hamming_topk: q must be \(nq, 4\), got \(2, 5\)"),
        ({"q": np.zeros((2, 4), np.int8)}, "hamming_topk: q must be uint8, got int8"),
        ({"codes": np.zeros(4, np.uint8)}, r"hamming_topk: codes must be \(n, bytes\), got \(4,\)"),
        ({"k": 0}, r"hamming_topk: k must be from 1 to 10 \(the number of codes\), got 0"),
        ({"k": 11}, r"hamming_topk: k must be from 1 to 10 \(the number of codes\), got 11"),
        (
            {"filter": np.ones(9, np.bool_)},
            r"hamming_topk: filter must be \(10,\) bool or \(2,\) uint8 bits, got \(9,\) bool",
        ),
        ({"tie_ranks": np.arange(9)}, r"hamming_topk: tie_ranks must be \(10,\), got \(9,\)"),
        ({"tie_ranks": np.arange(10) + 1}, "hamming_topk: tie_ranks must be from 0 to 9, got 10"),
        ({"tie_ranks": np.arange(10, dtype=np.int32)}, "hamming_topk: tie_ranks must be int64, got int32"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.hamming_topk(**{"q": np.zeros((2, 4), np.uint8), "codes": CODES, "k": 3, **change})


def test_codes_without_bytes_and_too_long() -> None:
    with pytest.raises(ValueError, match="hamming: codes must have at least one byte, got 0"):
        ops.hamming(np.zeros((1, 0), np.uint8), np.zeros((1, 0), np.uint8))
    long = np.zeros((1, 1 << 21), np.uint8)
    with pytest.raises(ValueError, match="hamming: codes must have from 1 to 2097151 bytes, got 2097152"):
        ops.hamming(long, long)
