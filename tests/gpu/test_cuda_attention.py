"""The Hopper kernel of attention_varlen against the reference in float64: in the emulator, and on a GPU."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest

import inputs
from cuda_kernels import OnDevice, rounded
from emulated_attention import EmulatedAttention, aligned
from gpu_errors import EXP2, matrix_sum, sums_error
from longspan import reference

AWKWARD = (0, 1, 63, 64, 65, 127, 128, 129, 0, 1)
CROSS = ((70, 7, 1, 30, 130, 40), (30, 0, 400, 300, 129, 257))
HALVES = [np.float16, np.uint16]  # uint16 is bfloat16
ROUNDING = {np.float16: 2.0**-11, np.uint16: 2.0**-8}  # half a unit in the last place of 1
UNDERFLOW = 2.0**-25  # half the distance between f16's smallest numbers
LOG2_E = float(np.log2(np.e))


@dataclass(frozen=True, slots=True)
class Case:
    """Packed rows as the kernel gets them (bfloat16 as bits), and what they are in f32."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    values: tuple[np.ndarray, np.ndarray, np.ndarray]
    offsets: tuple[np.ndarray, np.ndarray]
    dtype: type
    slopes: np.ndarray | None = None
    causal: bool = False
    scale: float | None = None

    @property
    def softmax_scale(self) -> float:
        """The scale in force."""
        return self.q.shape[-1] ** -0.5 if self.scale is None else self.scale

    def reference(self, kind: type, v: np.ndarray | None = None) -> np.ndarray:
        """The truth in `kind`, of other values for `v` if they are given."""
        q, k, own = (x.astype(kind) for x in self.values)
        slopes = None if self.slopes is None else self.slopes.astype(kind)
        rows = (q, k, own if v is None else v.astype(kind))
        options = {"slopes": slopes, "causal": self.causal, "softmax_scale": self.softmax_scale}
        return reference.attention_varlen(*rows, *self.offsets, **options)


def case(
    lengths: tuple[int, ...],
    head_dim: int,
    dtype: type,
    kind: str = "",
    lengths_k: tuple[int, ...] | None = None,
    heads: int = 2,
    kv_heads: int = 1,
) -> Case:
    """`kind` may name alibi and causal."""
    lengths_k = lengths_k or lengths
    shapes = ((sum(lengths), heads, head_dim), *[(sum(lengths_k), kv_heads, head_dim)] * 2)
    given = [rounded(inputs.normal(shape, seed), dtype) for seed, shape in enumerate(shapes)]
    slopes = 2.0 ** -np.arange(1, heads + 1, dtype=np.float32) if "alibi" in kind else None
    offsets = (inputs.cu_seqlens(list(lengths)), inputs.cu_seqlens(list(lengths_k)))
    rows, values = zip(*given, strict=True)
    return Case(*map(aligned, rows), values, offsets, dtype, slopes, "causal" in kind)


class Attention:
    """The kernel where it runs."""

    def __init__(self, where: EmulatedAttention | OnDevice) -> None:
        self._where = where

    def __call__(self, case: Case, with_lse: bool = True, like: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        """The result as the kernel writes it, with the strides of `like`, and the logarithms (empty without)."""
        out = aligned(np.full(case.q.shape, 0x7E00, np.uint16).view(case.q.dtype)) if like is None else like
        out[...] = np.array(0x7FC1, np.uint16).view(case.q.dtype)  # NaN, in both dtypes
        lse = np.full((case.q.shape[1], case.q.shape[0]) if with_lse else (0,), np.nan, np.float32)
        options = (*case.offsets, case.slopes, case.softmax_scale, case.causal)
        self._where.attention_varlen(case.q, case.k, case.v, *options, out, lse if with_lse else None)
        return out, lse


@pytest.fixture(params=["emulated", "on_device"])
def attention(request: pytest.FixtureRequest) -> Attention:
    """Each in turn."""
    name = {"emulated": "emulated_attention"}.get(request.param, request.param)
    where: EmulatedAttention | OnDevice = request.getfixturevalue(name)
    if isinstance(where, EmulatedAttention):
        where.seed(zlib.crc32(request.node.name.encode()))
    elif (reason := where.why_no_hopper()) is not None:
        pytest.skip(reason)
    return Attention(where)


def plain(rows: np.ndarray) -> np.ndarray:
    """f64 values of f16, or of bf16 as bits."""
    return (rows.astype(np.uint32) << 16).view(np.float32).astype(float) if rows.dtype == np.uint16 else rows * 1.0


def check(case: Case, out: np.ndarray, lse: np.ndarray) -> None:
    """Rounding a weight moves a result by at most u * (weights times |v|); a score that the matrix units are off moves
    its weight by twice as much in proportion, the weight itself and the sum. As tests/kernels/test_attention_varlen."""
    truth, native = case.reference(np.float64), case.reference(np.float32)
    weighed = case.reference(np.float64, np.abs(case.values[2]))
    u = ROUNDING[case.dtype]
    longest = [np.linalg.norm(x.astype(float), axis=-1).max(initial=0) for x in case.values[:2]]
    moved = matrix_sum(case.q.shape[-1]) * longest[0] * longest[1] * case.softmax_scale
    allowed = u * (1 + 2.0**-8) * np.abs(truth) + sums_error(truth, native) + 2 * EXP2 * weighed
    allowed += (u * (1 + 2.0**-8) + matrix_sum(len(case.k)) + np.expm1(2 * moved)) * weighed + UNDERFLOW
    excess = np.abs(plain(out) - truth) - allowed
    assert not (excess > 0).any() and not np.isnan(excess).any(), f"{np.nanmax(excess):.3g} beyond the bound"
    if lse.size:
        check_lse(case, lse, moved)


def check_lse(case: Case, lse: np.ndarray, moved: float) -> None:
    """log2 of the sum of 2^score; scores are off by `moved`, and by an f32 rounding for each of four operations."""
    q, k = (x.astype(float) for x in case.values[:2])
    truth, largest = np.full(lse.shape, np.inf), 0.0
    for (start, end), (start_k, end_k) in zip(*map(pairwise, case.offsets), strict=True):
        i, j = np.arange(end - start)[:, None] + (end_k - start_k) - (end - start), np.arange(end_k - start_k)
        for head in range(len(lse)):
            scores = q[start:end, head] @ k[start_k:end_k, head * k.shape[1] // q.shape[1]].T * case.softmax_scale
            if case.slopes is not None:
                scores -= float(case.slopes[head]) * np.abs(i - j)
            largest = max(largest, np.abs(scores).max(initial=0) * LOG2_E)
            seen = (j <= i) if case.causal else np.ones(scores.shape, bool)
            scores = np.where(seen, scores, -np.inf) * LOG2_E
            some = seen.any(axis=1)
            truth[head, start:end][some] = np.logaddexp2.reduce(scores[some], axis=1)
    assert np.isposinf(lse[np.isinf(truth)]).all()
    finite = np.isfinite(truth)
    allowed = LOG2_E * (moved + EXP2 + len(case.k) * 2.0**-24) + (4 * largest + np.abs(truth[finite]) + 1) * 2.0**-23
    assert (np.abs(lse[finite] - truth[finite]) <= allowed).all()


@pytest.mark.parametrize("kind", ["plain", "alibi", "causal", "alibi causal"])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("head_dim", [64, 128])
def test_awkward_lengths(attention: Attention, head_dim: int, dtype: type, kind: str) -> None:
    batch = case(AWKWARD, head_dim, dtype, kind)
    check(batch, *attention(batch))


@pytest.mark.parametrize("kind", ["plain", "alibi", "causal", "alibi causal"])
def test_queries_end_where_the_keys_end(attention: Attention, kind: str) -> None:
    """More keys than queries and fewer, none at all; queries without a key give zeros."""
    batch = case(CROSS[0], 64, np.float16, kind, CROSS[1])
    out, lse = attention(batch)
    check(batch, out, lse)
    assert not out[70:77].any() and np.isposinf(lse[:, 70:77]).all()


@pytest.mark.parametrize("kind", ["plain", "alibi", "alibi causal"])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_many_blocks_of_keys(attention: Attention, head_dim: int, kind: str) -> None:
    """Blocks before, on and behind the diagonal, and rings that go round."""
    batch = replace(case((700, 200), head_dim, np.uint16, kind), scale=0.3)
    check(batch, *attention(batch))


@pytest.mark.parametrize("heads, kv_heads", [(4, 4), (4, 2), (5, 1)])
def test_grouped_heads(attention: Attention, heads: int, kv_heads: int) -> None:
    batch = case((130, 66), 64, np.float16, "alibi", heads=heads, kv_heads=kv_heads)
    check(batch, *attention(batch))


@pytest.mark.parametrize("layout", ["heads side by side", "q, k and v side by side", "one head"])
def test_slices_of_a_fused_projection(attention: Attention, layout: str) -> None:
    heads = 1 if layout == "one head" else 2
    batch = case((130, 3, 66), 64, np.float16, "alibi", heads=heads, kv_heads=heads)
    axis = 2 if layout == "heads side by side" else 1
    fused = aligned(np.concatenate([batch.q, batch.k, batch.v], axis=axis))
    q, k, v = np.split(fused, 3, axis=axis)
    wide = aligned(np.zeros((*batch.q.shape[:2], 80), np.float16))
    out, lse = attention(replace(batch, q=q, k=k, v=v), like=wide[..., :64])
    check(batch, out, lse)
    assert not wide[..., 64:].any(), "only what was asked for is written"
    same, _ = attention(batch)
    np.testing.assert_array_equal(out, same)


def test_a_sequence_depends_on_itself_alone(attention: Attention) -> None:
    """Bit for bit, also beside a neighbour of infinities and NaN, whose rows are copied along with its own."""
    lengths = (40, 150, 129)
    batch = case(lengths, 64, np.float16, "alibi", kv_heads=2)
    together, lse = attention(batch)
    for x in (batch.q, batch.k, batch.v):
        x[40:190] = np.nan
        x[45:50] = np.inf
    beside, _ = attention(batch, with_lse=False)
    assert np.isnan(beside[40:190]).all()
    for start, length in ((0, 40), (190, 129)):
        own = slice(start, start + length)
        offsets = np.array([0, length], np.int32)
        parts = (aligned(x[own]) for x in (batch.q, batch.k, batch.v))
        alone, lse_alone = attention(Case(*parts, batch.values, (offsets, offsets), np.float16, batch.slopes))
        np.testing.assert_array_equal(alone, together[own])
        np.testing.assert_array_equal(beside[own], together[own])
        np.testing.assert_array_equal(lse_alone, lse[:, own])


def test_nothing_to_do(attention: Attention) -> None:
    for lengths, lengths_k in (((), ()), ((0, 0), (0, 0)), ((0,), (5,)), ((5, 2), (0, 0))):
        out, lse = attention(case(lengths, 64, np.float16, "alibi", lengths_k))
        assert out.shape == (sum(lengths), 2, 64) and not out.any() and np.isposinf(lse).all()


def test_any_number_of_multiprocessors(emulated_attention: EmulatedAttention) -> None:
    """Blocks that find no work, one that does all; threads and copies in any order: the same bits."""
    batch = case((300, 65), 64, np.uint16, "alibi causal")
    results = []
    for seed, count in enumerate((1, 2, 3, 7, 7, 100)):
        emulated_attention.seed(seed, count)
        results.append(Attention(emulated_attention)(batch)[0])
    check(batch, results[0], np.empty(0))
    assert all((result == results[0]).all() for result in results[1:])


def test_rows_that_cannot_be_copied(emulated_attention: EmulatedAttention) -> None:
    batch = case((9,), 64, np.float16)
    wide = aligned(np.zeros((9, 2, 68), np.float16))
    run = Attention(emulated_attention)
    message = r"attention_varlen: {} must have its rows and heads at multiples of 16 bytes, got strides of 272 and 136"
    for name in ("q", "out"):
        rows = wide[..., :64]
        with pytest.raises(RuntimeError, match=message.format(name)):
            run(replace(batch, q=rows)) if name == "q" else run(batch, like=rows)
    with pytest.raises(RuntimeError, match=r"k must have its .* multiples of 16 bytes"):
        run(replace(batch, k=aligned(np.zeros((9, 1, 72), np.float16))[..., 4:68]))
    backwards = replace(batch, v=aligned(np.zeros((9, 1, 64), np.float16))[::-1])
    with pytest.raises(RuntimeError, match=r"v must have strides from 16 to 2\^40 bytes, got -128 and 128"):
        run(backwards)
