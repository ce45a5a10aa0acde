"""What can be looked at of the Hopper kernels without a GPU: maps and descriptors against the manual's definitions,
tiles and masks against brute force, and the emulator's own rules."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import inputs
from emulated_attention import EmulatedAttention
from longspan.reference.attention_varlen import round_to_bf16

TILE, BLOCK = 128, 128
RULES = [
    "an mbarrier that was not initialised",
    "an mbarrier that was not published",
    "a barrier or warp exchange is not reached by all of its threads",  # more bytes expected than come
    "an mbarrier has more arrivals than it counts",
    "a tensor copy to an address that is no multiple of 128",
    "a named barrier of two sizes",
    "a barrier or warp exchange is not reached by all of its threads",
    "threads of a warpgroup ask for different products",
    "a product before start_products",
    "not a 128-byte swizzled descriptor",
    "a block ends before its products were waited for",
]


@pytest.mark.parametrize("seed", range(3))
def test_the_emulator_holds_kernels_to_the_rules(emulated_attention: EmulatedAttention, seed: int) -> None:
    emulated_attention.seed(seed)
    emulated_attention.broken(0)
    for kind, rule in enumerate(RULES, 1):
        with pytest.raises(RuntimeError, match=rule):
            emulated_attention.broken(kind)


def test_swizzling(emulated_attention: EmulatedAttention) -> None:
    """Part p of 16 bytes of row r of 128 lies at part p XOR (r mod 8); so the 8 rows of a part are in 8 places."""
    for row, part, byte in product(range(24), range(8), (0, 7, 15)):
        there = emulated_attention.swizzled(row * 128 + part * 16 + byte)
        assert there == row * 128 + (part ^ row % 8) * 16 + byte
    for part in range(8):
        assert len({emulated_attention.swizzled(row * 128 + part * 16) // 16 % 8 for row in range(8)}) == 8


def test_descriptors(emulated_attention: EmulatedAttention) -> None:
    """The fields of the PTX manual's table, 16 bytes a unit, 128-byte swizzling, patterns where they should start."""
    fields = {"address": (0, 14), "across": (16, 14), "down": (32, 14), "offset": (49, 3), "swizzle": (62, 2)}
    taken = sum(((1 << bits) - 1) << low for low, bits in fields.values())
    for place, across, down in ((0, 0, 1024), (1024, 16384, 1024), (227 * 1024 - 1024, 32768, 2048)):
        descriptor = emulated_attention.describe(place, across, down)
        got = {name: descriptor >> low & (1 << bits) - 1 for name, (low, bits) in fields.items()}
        assert got == {"address": place // 16, "across": across // 16, "down": down // 16, "offset": 0, "swizzle": 1}
        assert descriptor & ~taken == 0
        assert emulated_attention.further(descriptor, 96) == emulated_attention.describe(place + 96, across, down)


def test_fragments(emulated_attention: EmulatedAttention) -> None:
    """Each of 64 x 128 sums has one owner, where the manual's figures show it; so has each operand; and the sums of 16
    columns, paired in order, are the operand of a step."""
    owners = np.zeros((64, 128), int)
    for thread in range(128):
        sums, operand = emulated_attention.fragments(thread)
        warp, group, quad = thread // 32, thread % 32 // 4, thread % 4
        want = [
            (16 * warp + group + 8 * lower, 8 * eight + 2 * quad + odd)
            for eight, lower, odd in product(range(16), range(2), range(2))
        ]
        np.testing.assert_array_equal(sums, want)
        np.testing.assert_array_equal(operand, sums)
        owners[sums[:, 0], sums[:, 1]] += 1
    assert (owners == 1).all()


@pytest.mark.parametrize("dtype", [np.float16, np.uint16])
def test_pairs_are_rounded_to_nearest_even(emulated_attention: EmulatedAttention, dtype: type) -> None:
    ordinary = inputs.normal((400,), 1) * 10.0 ** inputs.rng(2).integers(-9, 6, 400).astype(np.float32)
    ties = np.array([1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 65519, 65520, 6e-8, 3e-8, 0, -0.0])
    values = np.concatenate([ordinary, ties.astype(np.float32), np.float32([np.inf, -np.inf])])
    with np.errstate(over="ignore"):
        as_bf16 = round_to_bf16(values).view(np.uint32) >> 16
        want = values.astype(np.float16).view(np.uint16) if dtype is np.float16 else as_bf16
    got = [emulated_attention.pack_pair(float(a), float(b), dtype) for a, b in zip(values, values[::-1], strict=True)]
    np.testing.assert_array_equal(np.array(got) & 0xFFFF, want)
    np.testing.assert_array_equal(np.array(got) >> 16, want[::-1])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "lengths, lengths_k",
    [
        ((0, 1, 127, 128, 129, 500, 0), (0, 1, 127, 128, 129, 500, 0)),
        ((3, 300, 40, 129, 0), (700, 20, 0, 129, 9)),
        (tuple(n % 7 * 60 for n in range(3000)), tuple(n % 5 * 90 for n in range(3000))),
    ],
    ids=["self", "cross", "many"],
)
def test_tiles(
    emulated_attention: EmulatedAttention, lengths: tuple[int, ...], lengths_k: tuple[int, ...], causal: bool
) -> None:
    """Every query is in one tile, which says where it stands and what it sees; most work first."""
    offsets, offsets_k = (inputs.cu_seqlens(list(n)) for n in (lengths, lengths_k))
    want = []
    for start, count, start_k, count_k in zip(offsets, lengths, offsets_k, lengths_k):
        for first in range(0, count, TILE):
            rows, low = min(TILE, count - first), first + count_k - count
            seen = max(0, low + rows) if causal else count_k
            want.append((start + first, rows, low, start_k, count_k, -(-seen // BLOCK)))
    tiles = emulated_attention.list_tiles(offsets, offsets_k, causal)
    assert sorted(map(tuple, tiles.tolist())) == sorted(want)
    assert (np.diff(tiles[:, 5]) <= 0).all()


@pytest.mark.parametrize("causal, biased", list(product([False, True], repeat=2)))
def test_sight(emulated_attention: EmulatedAttention, causal: bool, biased: bool) -> None:
    """Blocks with a key that some query does not see are edges; a bias is split where its sign is that of all pairs."""
    lows = (-70, -1, 0, 1, 64, 65, 66, 126, 127, 128, 129, 300)
    for low, rows, keys in product(lows, (1, 33, 64), (1, 128, 200, 256, 512)):
        i = low + np.arange(rows)[:, None]
        for block in range(-(-keys // BLOCK)):
            j = block * BLOCK + np.arange(BLOCK)
            is_seen = (j < keys) & ((j <= i) | (not causal))
            sight, is_half = emulated_attention.sight_of(block, low, rows, keys, causal, biased)
            assert is_half == (not is_seen[:, BLOCK // 2 :].any())
            if not is_seen.all():
                assert sight == "edge"
            elif not biased:
                assert sight == "whole"
            elif (j <= i).all() or (j >= i).all():
                assert sight == ("before" if (j <= i).all() else "behind")
            else:
                assert sight == "edge"


def test_a_block_fits_in_a_multiprocessor(emulated_attention: EmulatedAttention) -> None:
    """One alone: two would have 80 registers a thread, too few for the scores and sums that wgmma keeps there."""
    for head_dim, kilobytes in ((64, 145), (128, 161)):
        used = emulated_attention.shared_bytes(head_dim)
        assert used <= 227 * 1024 and -(-used // 1024) == kilobytes + 1  # README.md's, and the room to align it
