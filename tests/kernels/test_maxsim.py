"""maxsim, maxsim_pairs and maxsim_topk of torch tensors against float64, and maxsim's gradients."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from gpu_errors import matrix_sum
from kernel_cases import FLOATS, HALVES, ON_GPU, assert_rounded_once, cu_seqlens, normal, plain, tensor, torch
from longspan import ops, reference
from longspan.kernels import maxsim as kernels
from longspan.kernels.maxsim_kernel import WIDE_DOC, launch_maxsim

LENS_Q = ((1,), (32, 5), (3, 0, 70, 1), (130, 2))
LENS_D = ((1,), (63, 64, 65), (1, 200, 7, 1, 33))


def unit_rows(rows: int, dim: int, seed: int, dtype: torch.dtype) -> torch.Tensor:
    values = normal((rows, dim), seed, dtype=torch.float32)
    return (values / values.norm(dim=1, keepdim=True)).to(dtype)


def references(q: torch.Tensor, d: torch.Tensor, *rest: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """In float64 and in float32."""
    op = reference.maxsim_pairs if len(rest) == 3 else reference.maxsim
    truth, native = (op(plain(q, kind), plain(d, kind), *map(plain, rest)) for kind in (np.float64, np.float32))
    return truth, native


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("dim", [20, 128])
@pytest.mark.parametrize("lens_q, lens_d", list(zip(LENS_Q, (*LENS_D, LENS_D[1]))), ids=str)
def test_matches_reference(lens_q: tuple[int, ...], lens_d: tuple[int, ...], dim: int, dtype: torch.dtype) -> None:
    q, d = unit_rows(sum(lens_q), dim, 1, dtype), unit_rows(sum(lens_d), dim, 2, dtype)
    offsets = cu_seqlens(lens_q), cu_seqlens(lens_d)
    # Products of halves are exact in f32, so that nothing but the sums is rounded.
    more = max(lens_q) * matrix_sum(dim)  # of unit vectors, one product a query token
    assert_rounded_once(ops.maxsim(q, d, *offsets, backend="triton"), *references(q, d, *offsets), more)
    pairs = tensor(np.array([(i, j) for j in range(len(lens_d)) for i in range(len(lens_q))][::-1], np.int32))
    got = ops.maxsim_pairs(q, d, *offsets, pairs, backend="triton")
    assert_rounded_once(got, *references(q, d, *offsets, pairs), more)


def test_wide_vectors() -> None:
    q, d = unit_rows(40, 700, 1, torch.float16), unit_rows(130, 700, 2, torch.float16)
    offsets = cu_seqlens((33, 7)), cu_seqlens((30, 100))
    got = ops.maxsim(q, d, *offsets, backend="triton")
    assert_rounded_once(got, *references(q, d, *offsets), 33 * matrix_sum(700))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_int8_documents(dtype: torch.dtype) -> None:
    q, full = unit_rows(37, 128, 1, dtype), unit_rows(136, 128, 2, torch.float32)
    rounded = ops.to_int8(plain(full, np.float32))
    d = ops.Int8Tokens(tensor(rounded.values), tensor(rounded.scales))
    offsets = cu_seqlens((32, 5)), cu_seqlens((1, 35, 100))
    got = ops.maxsim(q, d, *offsets, backend="triton")
    truth = reference.maxsim(
        plain(q), rounded.values * rounded.scales[:, None].astype(np.float64), *map(plain, offsets)
    )
    native = reference.maxsim(plain(q, np.float32), rounded.to_float32(), *map(plain, offsets))
    assert_rounded_once(got, truth, native, 32 * matrix_sum(128))


def test_tiles_of_other_sizes_give_the_same_scores() -> None:
    """The largest of the same products, each of which is summed alike."""
    lens_d = (1, 63, 64, 65, 128, 129, 300)
    q, d = unit_rows(70, 32, 1, torch.float16), unit_rows(sum(lens_d), 32, 2, torch.float16)
    offsets = cu_seqlens((1, 32, 37)), cu_seqlens(lens_d)
    expected = kernels.maxsim(q, d, *offsets)
    for block_doc in (16, WIDE_DOC):
        out = torch.full_like(expected, torch.nan)
        launch_maxsim(q, d, None, *offsets, None, out, block_doc)
        # Matrix units may sum in an order that depends on the tile.
        assert (out - expected).abs().max() <= (70 * 2.0**-20 if ON_GPU else 0)


def test_mixed_dtypes() -> None:
    q, d = unit_rows(37, 64, 1, torch.float32), unit_rows(136, 64, 2, torch.float16)
    offsets = cu_seqlens((32, 5)), cu_seqlens((1, 35, 100))
    assert_rounded_once(ops.maxsim(q, d, *offsets, backend="triton"), *references(q, d, *offsets))
    if torch.bfloat16 in HALVES:
        got = ops.maxsim(q, d.bfloat16(), *offsets, backend="triton")
        assert_rounded_once(got, *references(q.bfloat16(), d.bfloat16(), *offsets), 32 * matrix_sum(64))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("num_docs", [1, 64, 500, 1000, 3001])
@pytest.mark.parametrize("k", [1, 3, 60])
def test_the_best_of_blocks(num_docs: int, k: int) -> None:
    """The very keys that sorting all of them gives: with few different scores, so that ties are everywhere, and NaN."""
    values = inputs.rng(num_docs, k).integers(-2, 3, (5, num_docs)).astype(np.float32)
    values[1] = np.nan
    values[2, ::3] = np.nan
    values[3, ::2], values[3, 1::7] = -np.inf, -0.0
    values[4] = inputs.normal((num_docs,), k)
    scores = tensor(values)
    k = min(k, num_docs)
    found, truth = kernels.best_keys(scores, 7, k), kernels.sort_keys(scores, 7)
    assert torch.equal(found.topk(k, dim=1).values, truth.topk(k, dim=1).values)
    if num_docs >= 1000 and k < 4:
        assert found.shape[1] == k * kernels.BLOCK_DOCS, "or it reads all of them"


def test_topk(monkeypatch: pytest.MonkeyPatch) -> None:
    lens_d = tuple(1 + number % 9 for number in range(24))
    q, d = unit_rows(12, 16, 1, torch.float16), unit_rows(sum(lens_d), 16, 2, torch.float16)
    offsets = cu_seqlens((5, 0, 7)), cu_seqlens(lens_d)
    d[20:50] = d[65:95]  # equal scores, some of them
    d[7] = torch.nan
    for at_once in (kernels.SCORES_AT_ONCE, 3 * 7):
        monkeypatch.setattr(kernels, "SCORES_AT_ONCE", at_once)
        for k in (1, 5, 24):
            scores, rows = ops.maxsim_topk(q, d, *offsets, k, backend="triton")
            everything = plain(ops.maxsim(q, d, *offsets, backend="triton"), np.float32)
            expected = np.argsort(-everything, axis=1, kind="stable")[:, :k]
            assert rows.dtype == torch.int64
            np.testing.assert_array_equal(plain(rows), expected)
            np.testing.assert_array_equal(plain(scores), np.take_along_axis(everything, expected, axis=1))


def test_keys_of_any_score() -> None:
    scores = tensor(np.array([[-np.inf, -1.5, -0.0, 0.0, 1e-45, 2.5, np.inf, np.nan, -np.nan]], np.float32))
    keys = kernels.sort_keys(scores, 7)
    assert keys.argsort(dim=1, descending=True)[0].tolist() == [6, 5, 4, 2, 3, 1, 0, 7, 8]
    np.testing.assert_array_equal(plain(kernels.scores_of(keys)), plain(scores))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, in the interpreter
def test_nan_stays_in_its_query_and_document() -> None:
    q, d = unit_rows(37, 64, 1, torch.float16), unit_rows(136, 64, 2, torch.float16)
    offsets = cu_seqlens((32, 5)), cu_seqlens((1, 35, 100))
    expected = ops.maxsim(q, d, *offsets, backend="triton")
    q[33, 3] = d[20, 5] = torch.nan
    got = ops.maxsim(q, d, *offsets, backend="triton")
    assert got[1].isnan().all() and got[:, 1].isnan().all()
    assert torch.equal(got[0, [0, 2]], expected[0, [0, 2]])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gradients(dtype: torch.dtype) -> None:
    lens_q, lens_d = (3, 0, 20), (1, 40, 20)
    offsets = cu_seqlens(lens_q), cu_seqlens(lens_d)
    grad = normal((3, 3), 3, dtype=torch.float32)

    def gradients(run: object, dtype: torch.dtype) -> list[torch.Tensor]:
        rows = [
            unit_rows(sum(lens), 20, seed, given).to(dtype).requires_grad_()
            for seed, lens in ((1, lens_q), (2, lens_d))
        ]
        run(*rows).backward(grad.to(torch.float64 if dtype == torch.float64 else torch.float32))
        return [x.grad for x in rows]

    def spelt_out(q: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.stack([(a @ b.T).amax(1).sum() for b in d.split(lens_d)]) for a in q.split(lens_q)])

    given = dtype
    got = gradients(lambda q, d: ops.maxsim(q, d, *offsets, backend="triton"), dtype)
    truth, native = gradients(spelt_out, torch.float64), gradients(spelt_out, torch.float32)
    for ours, true, theirs in zip(got, truth, native):
        assert_rounded_once(ours, plain(true), plain(theirs, np.float32))


def test_gradients_of_pairs() -> None:
    """Those of `maxsim`, with zeros where no pair is, and sums where two are the same."""
    offsets = cu_seqlens((3, 5)), cu_seqlens((4, 2, 6))
    pairs = np.array([[1, 2], [0, 0], [1, 2], [1, 1]], np.int32)
    weights = normal((4,), 3, dtype=torch.float32)
    every = np.zeros((2, 3), np.float32)
    np.add.at(every, (pairs[:, 0], pairs[:, 1]), weights.cpu().numpy())
    grads = []
    for grad, rest in ((weights, {"pairs": tensor(pairs)}), (tensor(every), {})):
        q, d = (unit_rows(rows, 16, seed, torch.float32).requires_grad_() for rows, seed in ((8, 1), (12, 2)))
        op = ops.maxsim_pairs if rest else ops.maxsim
        op(q, d, *offsets, **rest, backend="triton").backward(grad)
        grads.append((q.grad, d.grad))
    for ours, true in zip(*grads, strict=True):
        assert torch.equal(ours, true) and ours.abs().max() > 0
