"""The CUDA kernels of hamming and hamming_topk against brute force: integers, so exactly."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from cuda_kernels import CudaKernels
from emulated import Emulated
from longspan import ops, reference

NO_DISTANCE = 2**31 - 1


def random_codes(n: int, width: int, *seed: int) -> np.ndarray:
    """(n, width) uint8."""
    return inputs.rng(n, width, *seed).integers(0, 256, (n, width), dtype=np.uint8)


def assert_exact(
    kernels: CudaKernels, q: np.ndarray, codes: np.ndarray, k: int, route: str, filter: np.ndarray | None = None
) -> None:
    """Distances and rows are the CPU's, which its own tests hold against brute force; padded where the filter lets
    fewer than k pass. `route` is the way that the search must have gone, where that can be seen."""
    distances, rows, taken = kernels.hamming_topk(q, codes, k, filter)
    assert taken in ("", route)
    true_distances, true_rows = map(np.asarray, ops.hamming_topk(q, codes, k, filter=filter))
    found = true_rows.shape[1]
    np.testing.assert_array_equal(distances[:, :found], true_distances)
    np.testing.assert_array_equal(rows[:, :found], true_rows)
    assert (distances[:, found:] == NO_DISTANCE).all() and (rows[:, found:] == -1).all()


@pytest.mark.parametrize("width", [1, 4, 16, 31, 32, 33, 64, 96, 128, 129, 192, 256, 300, 512])
def test_few_rows(kernels: CudaKernels, width: int) -> None:
    """All pairs, and one block a query; every number of products to a code, and every width that codes are read at."""
    q, codes = random_codes(5, width, 1), random_codes(300, width, 2)
    np.testing.assert_array_equal(kernels.hamming(q, codes), reference.hamming(q, codes))
    for k in (1, 7, 300):
        assert_exact(kernels, q, codes, k, "whole")


@pytest.mark.parametrize("num_queries, n", [(1, 1), (1, 7), (16, 8), (17, 129), (65, 128), (130, 33), (600, 5)])
def test_all_pairs_of_awkward_sizes(kernels: CudaKernels, num_queries: int, n: int) -> None:
    q, codes = random_codes(num_queries, 24, 1), random_codes(n, 24, 2)
    np.testing.assert_array_equal(kernels.hamming(q, codes), reference.hamming(q, codes))


def test_extreme_codes(kernels: CudaKernels) -> None:
    """All bits alike and all bits different: the largest sums."""
    for width in (128, 512):
        codes = np.stack([np.zeros(width, np.uint8), np.full(width, 255, np.uint8)])
        np.testing.assert_array_equal(kernels.hamming(codes, codes), [[0, 8 * width], [8 * width, 0]])
        assert_exact(kernels, codes, codes, 2, "whole")


@pytest.mark.parametrize("width, mask", [(16, 255), (128, 255), (5, 255), (4, 3), (1, 255)])
@pytest.mark.parametrize("k", [1, 100])
def test_many_rows(kernels: CudaKernels, width: int, mask: int, k: int) -> None:
    """One query by histogram, three by samples; with a mask few distances are left, and most rows tie."""
    codes = random_codes(20_000, width, 1) & mask
    q = random_codes(3, width, 2) & mask
    assert_exact(kernels, q[:1], codes, k, "histogram")
    assert_exact(kernels, q, codes, k, "sampled")


def test_numbers_of_queries(kernels: CudaKernels) -> None:
    """A warp holds 64; the fewer warps have queries of their own, the more share a tile's codes."""
    codes = random_codes(8200, 32, 1)
    for num_queries in (2, 64, 65, 130):
        assert_exact(kernels, random_codes(num_queries, 32, 2), codes, 10, "sampled")


def test_large_k(kernels: CudaKernels) -> None:
    """Beyond what one block sorts, up to all rows; with duplicates, so that ties decide."""
    codes = np.concatenate([random_codes(9000, 8, 1), random_codes(9000, 8, 1)])
    q = random_codes(2, 8, 2)
    for k in (2049, 18_000):
        assert_exact(kernels, q, codes, k, "histogram")
    assert_exact(kernels, q, codes, 2048, "sampled")
    assert_exact(kernels, q, codes[:5000], 5000, "whole")


def test_all_the_same(kernels: CudaKernels) -> None:
    codes = np.zeros((20_000, 16), np.uint8)
    q = random_codes(2, 16, 1)
    assert_exact(kernels, q[:1], codes, 5000, "histogram")
    assert_exact(kernels, q, codes, 2000, "sampled")


@pytest.mark.parametrize("share", [0.5, 0.003, 0.0])
def test_filters(kernels: CudaKernels, share: float) -> None:
    codes, q = random_codes(20_001, 12, 1), random_codes(2, 12, 2)
    wanted = np.packbits(inputs.rng(int(1000 * share)).random(len(codes)) < share)
    wanted[-1] |= 0x7F  # bits past the last row count for nothing
    for k in (10, 500):
        assert_exact(kernels, q[:1], codes, k, "histogram", wanted)
        assert_exact(kernels, q, codes, k, "sampled", wanted)
        assert_exact(kernels, q, codes[:900], k, "whole", wanted[:113])


def test_strides(kernels: CudaKernels) -> None:
    """Rows that lie farther apart than they are long, and start anywhere."""
    wide = random_codes(10_000, 48, 1)
    q = random_codes(3, 48, 2)
    for columns in (slice(0, 32), slice(4, 36), slice(3, 35)):
        codes = wide[:, columns]
        np.testing.assert_array_equal(
            kernels.hamming(q[:, columns], codes[:200]), reference.hamming(q[:, columns], codes[:200])
        )
        assert_exact(kernels, q[:, columns], codes, 5, "sampled")
        assert_exact(kernels, q[:1, columns], codes, 5, "histogram")


def test_rows_in_the_rhythm_of_the_sample(kernels: CudaKernels) -> None:
    """The rows that the samples look at are far, all others near: nothing is learnt, and too much is kept."""
    codes = np.zeros((40_000, 8), np.uint8)
    codes[::10], codes[1::10] = 255, 1
    assert_exact(kernels, np.zeros((2, 8), np.uint8), codes, 3, "sampled")


def test_candidates_that_find_no_room(emulated: Emulated) -> None:
    """A query that had more of them than fit looks at all rows itself."""
    codes, q = random_codes(20_000, 16, 1), random_codes(3, 16, 2)
    truth = reference.hamming_topk(q, codes, 10)
    for capacity in (1, 10, 40):
        emulated.seed(capacity)
        distances, rows, route = emulated.hamming_topk(q, codes, 10, None, capacity)
        assert route == "sampled"
        np.testing.assert_array_equal(distances, truth[0])
        np.testing.assert_array_equal(rows, truth[1])


@pytest.mark.parametrize("multiprocessors", [1, 40])
def test_sizes_of_the_gpu(emulated: Emulated, multiprocessors: int) -> None:
    codes, q = random_codes(20_000, 16, 1) & 7, random_codes(20, 16, 2) & 7
    emulated.seed(1, multiprocessors)
    try:
        assert_exact(emulated, q[:1], codes, 100, "histogram")
        assert_exact(emulated, q, codes, 100, "sampled")
    finally:
        emulated.seed(1)


def test_plans(emulated: Emulated) -> None:
    """What every plan promises, over sizes from thousands to billions of rows."""
    for n in (20_000, 98_304, 98_305, 10**6, 10**7, 3 * 10**8, 2**32 - 1):
        for k in (1, 100, 2048):
            for num_queries in (2, 1024, 100_000):
                plan = emulated.plan(num_queries, n, 128, k)
                assert plan.route == "sampled" and plan.steps[-1] == 1
                ratios = {before // after for before, after in zip(plan.steps, plan.steps[1:])}
                assert len(ratios) == 1 and ratios.pop() <= 24, plan
                assert max(4096, 4 * k) / 4 <= n / plan.steps[0] <= max(4096, 4 * k)
                assert plan.capacity >= max(4096, 2 * k * plan.steps[-2])
                assert 1 <= plan.group <= min(num_queries, 1024)
                assert 8 * plan.group * plan.capacity <= plan.workspace < 300 << 20
            one = emulated.plan(1, n, 128, k)
            assert one.route == "histogram" and one.rows_per_block % 1024 == 0
            assert (one.blocks - 1) * one.rows_per_block < n <= one.blocks * one.rows_per_block
            assert one.blocks <= 5 * 132 and one.workspace >= 2 * n
    assert emulated.plan(1024, 10**7, 128, 100).steps == [2744, 196, 14, 1]


def test_threads_to_a_row(emulated: Emulated) -> None:
    for parts in range(1, 513):
        lanes = emulated.lanes_for(parts)
        assert lanes in (1, 2, 4, 8, 16, 32) and parts / (-(-parts // lanes) * lanes) >= 0.75
    assert [emulated.lanes_for(parts) for parts in (1, 2, 3, 6, 8, 32)] == [1, 2, 4, 8, 8, 32]


def test_the_emulator_holds_to_the_rules(emulated: Emulated) -> None:
    neighbours = (np.arange(64) - 1) % 64
    np.testing.assert_array_equal(emulated.broken(0), neighbours)
    for kind in (1, 2):
        with pytest.raises(RuntimeError, match="broken: a barrier or warp exchange is not reached by all"):
            emulated.broken(kind)
    assert (emulated.broken(3) != neighbours).any()
