"""attention_varlen against float64, in every instruction set; a sequence does not know its neighbours."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import attention_varlen_cases as cases
import inputs
from attention_varlen_cases import HEADS, OPTIONS, RAGGED, case, rope, slopes
from longspan import BackendError, _core, ops, reference

check = partial(cases.check, "float32")


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("head_dim", [33, 64])
def test_matches_reference(isa: str, head_dim: int, kind: str) -> None:
    check(case(RAGGED, head_dim, kind, kv_heads=2))


@pytest.mark.parametrize("head_dim", [1, 2, 7, 15, 17, 32, 96, 128, 130])
def test_any_head_dim(isa: str, head_dim: int) -> None:
    check(case(RAGGED, head_dim))
    if head_dim > 1:
        check(case(RAGGED, head_dim, "full rope"))


@pytest.mark.parametrize("kv_heads", [1, 2, HEADS])
def test_grouped_heads(isa: str, kv_heads: int) -> None:
    grouped = case((70, 5, 500), 32, "alibi", kv_heads=kv_heads)
    got = check(grouped)
    spread = replace(grouped, **{name: np.repeat(getattr(grouped, name), HEADS // kv_heads, 1) for name in ("k", "v")})
    np.testing.assert_array_equal(ops.attention_varlen(*spread.args, **spread.options), got)


@pytest.mark.parametrize("kind", OPTIONS)
def test_queries_end_where_the_keys_end(isa: str, kind: str) -> None:
    lengths, lengths_k = (1, 5, 64, 100, 3), (70, 5, 200, 130, 64)
    has_rope = "rope" in kind or kind == "interleaved"  # positions before the first key have no angle
    got = check(case(lengths, 24, kind, lengths_k=lengths_k))
    if not has_rope:
        longer = check(case((*lengths, 90, 7), 24, kind, lengths_k=(*lengths_k, 40, 0)))
        assert not longer[-7:].any(), "no key must give zeros"
    whole = case(lengths_k, 24, kind)
    tails = np.concatenate([np.arange(end - n, end) for n, end in zip(lengths, whole.cu_seqlens_q[1:])])
    part = replace(whole, q=whole.q[tails], cu_seqlens_q=inputs.cu_seqlens(list(lengths)))
    expected = ops.attention_varlen(*whole.args, **whole.options)[tails]
    got = ops.attention_varlen(*part.args, **part.options)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.large
def test_long(isa: str) -> None:
    check(case((1000,), 64))
    check(case((1000,), 32, "rope alibi causal"))
    check(case((1000,), 8, "alibi table window", kv_heads=1))


@pytest.mark.parametrize("kind", ["plain", "alibi", "rope"])
@pytest.mark.parametrize("size", [0.01, 1.0, 3.0])
def test_scores_with_bounds(isa: str, kind: str, size: float) -> None:
    """Where small norms bound all scores of a tile, its softmax may do without their maximum (AVX2); of larger ones,
    only some tiles' do. A table of zeros is always summed the other way."""
    few = case((300, 270), 40, kind, kv_heads=2)
    few = replace(few, q=few.q * np.float32(size))
    few.q[37:290:50] *= 8.0
    got = check(few)
    table = np.zeros((HEADS, 1), np.float32)
    np.testing.assert_allclose(
        got, ops.attention_varlen(*few.args, **few.options, bias_table=table), rtol=2e-5, atol=2e-5
    )
    for spoilt in (np.nan, np.inf):
        few.q[10, 0, 0] = spoilt
        broken = ops.attention_varlen(*few.args, **few.options)
        assert np.isnan(broken[10, 0]).all()
        np.testing.assert_array_equal(broken[300:], got[300:])


@pytest.mark.parametrize("scale", [1e-25, 1e20])
def test_values_of_any_size(isa: str, scale: float) -> None:
    """Weights relative to a bound leave room for values far from 1."""
    few = case((270,), 16, "alibi")
    expected = ops.attention_varlen(*few.args, **few.options)
    got = ops.attention_varlen(few.q, few.k, few.v * np.float32(scale), *few.args[3:], **few.options)
    np.testing.assert_allclose(got / np.float32(scale), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.large
@pytest.mark.parametrize("kind", ["plain", "alibi", "causal window", "rope", "table"])
def test_one_sequence_alone_gives_the_same_bits(isa: str, kind: str) -> None:
    lengths = (1, 700, 33, 0, 64, 65, 16, 10, 130)
    for head_dim, kv_heads in ((32, HEADS), (24, 1)):
        batch = case(lengths, head_dim, kind, kv_heads=kv_heads)
        expected = ops.attention_varlen(*batch.args, **batch.options)
        try:
            for threads in (1, 2, 7):
                _core.set_num_threads(threads)
                np.testing.assert_array_equal(ops.attention_varlen(*batch.args, **batch.options), expected)
                for number in range(len(lengths)):
                    one = batch.sequence(number)
                    rows = slice(*batch.cu_seqlens_q[number : number + 2])
                    np.testing.assert_array_equal(ops.attention_varlen(*one.args, **one.options), expected[rows])
        finally:
            _core.set_num_threads(0)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_keys_out_of_reach(isa: str, dtype: str, causal: bool) -> None:
    """Blocks of keys that ALiBi's slope leaves without weight are skipped; a bias of zeros sees all of them."""
    lengths, steep = inputs.cu_seqlens([700, 300]), np.array([2.0, 0.25, 0.02, 0.0], np.float32)
    q, k, v = (inputs.rng(i).standard_normal((1000, 4, 16), dtype=np.float32) for i in range(3))
    q[:, 1] *= 30  # scores that outweigh the slope
    options = {"slopes": steep, "causal": causal, "dtype": dtype}
    got = ops.attention_varlen(q, k, v, lengths, lengths, **options)
    whole = ops.attention_varlen(q, k, v, lengths, lengths, **options, bias_table=np.zeros((4, 1), np.float32))
    if isa in {"avx2", "avx_vnni"} and dtype != "bfloat16":  # where ALiBi alone is summed in another way
        np.testing.assert_allclose(got, whole, rtol=2e-5, atol=2e-5)
    elif isa not in {"avx2", "avx_vnni"}:
        np.testing.assert_array_equal(got, whole)
    v[0] = np.inf  # far from the last queries of the first sequence
    far = ops.attention_varlen(q, k, v, lengths, lengths, **options)
    assert np.isfinite(far[690:, 0]).all()


def test_nan_stays_in_its_sequence(isa: str) -> None:
    batch = case((20, 64, 70), 32)
    expected = ops.attention_varlen(*batch.args)
    for array in (batch.q, batch.k, batch.v):
        spoilt = array.copy()
        spoilt[20:84] = np.nan
        args = [spoilt if other is array else other for other in batch.args]
        got = ops.attention_varlen(*args)
        assert np.isnan(got[20:84]).all()
        np.testing.assert_array_equal(np.delete(got, np.s_[20:84], 0), np.delete(expected, np.s_[20:84], 0))


def test_laws(isa: str) -> None:
    plain = case(RAGGED, 32)
    expected = ops.attention_varlen(*plain.args)
    for nothing in (
        {"slopes": np.zeros(HEADS, np.float32)},
        {"window": (-1, -1)},
        {"window": (200, 200)},
        {"softmax_scale": 32**-0.5},
    ):
        np.testing.assert_array_equal(ops.attention_varlen(*plain.args, **nothing), expected)
    np.testing.assert_array_equal(
        ops.attention_varlen(*plain.args, causal=True), ops.attention_varlen(*plain.args, window=(-1, 0))
    )
    first = plain.cu_seqlens_q[:-1][np.diff(plain.cu_seqlens_q) > 0]
    np.testing.assert_array_equal(ops.attention_varlen(*plain.args, causal=True)[first], plain.v[first])
    np.testing.assert_array_equal(ops.attention_varlen(*plain.args, window=(0, 0)), plain.v)
    np.testing.assert_array_equal(ops.attention_varlen(*plain.args, window=(np.int64(0), np.int32(0))), plain.v)


def test_biases_agree_with_each_other(isa: str) -> None:
    batch = case((130, 1, 300), 32)
    distances = np.abs(np.arange(-300, 301))
    table = -slopes()[:, None] * distances.astype(np.float32)
    np.testing.assert_allclose(
        ops.attention_varlen(*batch.args, slopes=slopes()),
        ops.attention_varlen(*batch.args, bias_table=table),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("interleaved", [False, True])
def test_rope_by_key_of_places_is_rope(isa: str, interleaved: bool, dtype: str) -> None:
    lengths, lengths_k = (1, 5, 64, 100, 3), (70, 5, 200, 130, 64)
    by_place = case(lengths, 24, "interleaved" if interleaved else "rope", lengths_k=lengths_k)
    places = np.concatenate([np.arange(length) for length in lengths_k])
    by_key = {name: by_place.options[name][places] for name in ("cos", "sin")} | {"interleaved": interleaved}
    expected = ops.attention_varlen(*by_place.args, **by_place.options, dtype=dtype)
    got = ops.attention_varlen(*by_place.args, **by_key, rotary_by_key=True, dtype=dtype)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rope_sees_relative_positions_only(isa: str, interleaved: bool) -> None:
    batch = case((130, 1, 63), 32)
    tables = rope(16, interleaved)
    shifted = {**tables, "cos": tables["cos"][400:], "sin": tables["sin"][400:]}
    expected = ops.attention_varlen(*batch.args, **tables)
    assert not np.allclose(expected, ops.attention_varlen(*batch.args))
    np.testing.assert_allclose(ops.attention_varlen(*batch.args, **shifted), expected, rtol=1e-4, atol=1e-5)


def test_huge_scores(isa: str) -> None:
    batch = case((70, 3), 16)
    got = ops.attention_varlen(batch.q * 1e4, batch.k * 1e4, *batch.args[2:])
    for start, end in ((0, 70), (70, 73)):
        scores = np.einsum("ihd,jhd->hij", batch.q[start:end].astype(float), batch.k[start:end].astype(float))
        winners = scores.argmax(-1).T + start
        np.testing.assert_array_equal(got[start:end], batch.v[winners, np.arange(HEADS)])


def test_layouts(isa: str) -> None:
    batch = case((65, 0, 20), 33, "rope alibi causal", kv_heads=2)
    expected = ops.attention_varlen(*batch.args, **batch.options)
    for position in range(3):
        for name, odd in inputs.odd_layouts(batch.args[position]).items():
            args = [odd if i == position else array for i, array in enumerate(batch.args)]
            np.testing.assert_array_equal(ops.attention_varlen(*args, **batch.options), expected, name)
    for name, odd in inputs.odd_layouts(np.full_like(batch.q, np.nan)).items():
        got = ops.attention_varlen(*batch.args, **batch.options, out=odd)
        assert got is odd
        np.testing.assert_array_equal(got, expected, name)


def test_slices_of_a_fused_projection(isa: str) -> None:
    batch = case((300, 9, 64), 32)
    fused = np.stack([batch.q, batch.k, batch.v], axis=1)  # (total, 3, heads, head_dim)
    expected = ops.attention_varlen(*batch.args)
    q, k, v = (fused[:, i] for i in range(3))
    np.testing.assert_array_equal(ops.attention_varlen(q, k, v, *batch.args[3:]), expected)
    assert ops.attention_varlen(q, k, v, *batch.args[3:], out=q) is q
    np.testing.assert_array_equal(q, expected)
    np.testing.assert_array_equal(fused[:, 1:], np.stack([batch.k, batch.v], axis=1))


@pytest.mark.parametrize("lengths", [(), (0,), (0, 0, 0)], ids=str)
def test_nothing_to_do(isa: str, lengths: tuple[int, ...]) -> None:
    empty = case(lengths, 32)
    assert ops.attention_varlen(*empty.args).shape == (0, HEADS, 32)


MEMORY_SCRIPT = """
import resource
import numpy as np
from longspan import ops

def attend(rows, q, out):
    cu_seqlens = np.array([0, rows], np.int32)
    for dtype in ("float32", "bfloat16"):
        options = {"slopes": np.ones(12, np.float32), "dtype": dtype, "out": out[:rows]}
        ops.attention_varlen(q[:rows], q[:rows], q[:rows], cu_seqlens, cu_seqlens, **options)

q, out = np.ones((8192, 12, 64), np.float32), np.ones((8192, 12, 64), np.float32)
attend(8, q, out)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
attend(8192, q, out)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.large
def test_long_sequence_needs_little_memory() -> None:
    pytest.importorskip("resource", reason="the peak of resident memory is read the Unix way")
    done = subprocess.run([sys.executable, "-c", MEMORY_SCRIPT], capture_output=True, text=True, check=True)
    kilobytes = int(done.stdout) // (1024 if sys.platform == "darwin" else 1)
    assert kilobytes < 16 * 1024, "a length-squared array would be 268 MB for one head"


def test_reference_backend_and_dtype_refusal() -> None:
    double = case((5, 9), 8).double()
    with pytest.raises(
        BackendError,
        match="cpu: dtype must be float32, got float64; triton: takes torch tensors only; "
        "cuda_sm90: tensors are on cpu; reference: only on request",
    ):
        ops.attention_varlen(*double.args)
    got = ops.attention_varlen(*double.args, causal=True, backend="reference")
    np.testing.assert_array_equal(got, reference.attention_varlen(*double.args, causal=True))


F32 = np.float32
BAD = [
    ({"q": np.ones((3, 8), F32)}, r"q must be \(total_q, num_heads, head_dim\), got \(3, 8\)"),
    ({"q": np.ones((3, 0, 8), F32)}, r"q must have at least one head and one value a head, got \(3, 0, 8\)"),
    ({"q": np.ones((3, 3, 8), F32)}, "q's 3 heads must be a multiple of k's, got 2"),
    ({"k": np.ones((5, 2, 7), F32)}, r"k must be \(total_k, num_kv_heads, 8\), got \(5, 2, 7\)"),
    ({"v": np.ones((4, 2, 8), F32)}, r"v must be \(5, 2, 8\), got \(4, 2, 8\)"),
    ({"v": np.ones((5, 2, 8), np.int64)}, "v must be float32, got int64"),
    ({"out": np.ones((3, 4, 9), F32)}, r"out must be \(3, 4, 8\), got \(3, 4, 9\)"),
    ({"cu_seqlens_q": inputs.cu_seqlens([2])}, "cu_seqlens_q must end at the number of rows, 3, got 2"),
    ({"cu_seqlens_k": inputs.cu_seqlens([5])}, r"cu_seqlens_k must be \(3,\), got \(2,\)"),
    ({"cu_seqlens_k": np.array([0, 6, 5], np.int32)}, r"cu_seqlens_k must never fall, cu_seqlens_k\[1\] is 6, then 5"),
    ({"cu_seqlens_k": np.array([0, 2, 5])}, "cu_seqlens_k must be int32, got int64"),
    ({"slopes": np.ones(2, F32)}, r"slopes must be \(4,\), got \(2,\)"),
    ({"bias_table": np.ones((2, 5), F32)}, r"bias_table must be \(4, 2 \* max_distance \+ 1\), got \(2, 5\)"),
    ({"bias_table": np.ones((4, 6), F32)}, "bias_table must have an odd number of columns, .* got 6"),
    ({"cos": np.ones((9, 4), F32)}, "cos and sin must be given together, got only one of them"),
    ({"cos": np.ones((9, 4), F32), "sin": np.ones((9, 3), F32)}, r"sin must be \(9, 4\), got \(9, 3\)"),
    ({"cos": np.ones((9, 5), F32), "sin": np.ones((9, 5), F32)}, r"cos must have from 1 to 4 columns .*, got 5"),
    ({"cos": np.ones((9, 0), F32), "sin": np.ones((9, 0), F32)}, r"cos must have from 1 to 4 columns .*, got 0"),
    ({"cos": np.ones((2, 4), F32), "sin": np.ones((2, 4), F32)}, "cos has 2 positions but sequence 1 has 3 keys"),
    (
        {"cos": np.ones((9, 4), F32), "sin": np.ones((9, 4), F32), "cu_seqlens_k": inputs.cu_seqlens([0, 5])},
        "with cos and sin, no sequence may have more queries than keys, sequence 0 has 1 and 0",
    ),
    ({"interleaved": True}, "interleaved and rotary_by_key are RoPE's, but cos and sin are not given"),
    ({"rotary_by_key": True}, "interleaved and rotary_by_key are RoPE's, but cos and sin are not given"),
    (
        {"cos": np.ones((9, 4), F32), "sin": np.ones((9, 4), F32), "rotary_by_key": True},
        r"cos must be \(5, rotary_dim / 2\), got \(9, 4\)",
    ),
    ({"window": (3,)}, r"window must be two ints \(left, right\), each -1 \(no limit\) or more, got \(3,\)"),
    ({"window": (-2, 0)}, r"window must be two ints .*, got \(-2, 0\)"),
    ({"window": (1.5, 0)}, r"window must be two ints .*, got \(1.5, 0\)"),
    ({"softmax_scale": 0.0}, "softmax_scale must be a finite number above 0, got 0.0"),
    ({"softmax_scale": float("nan")}, "softmax_scale must be a finite number above 0, got nan"),
    ({"dtype": "int4"}, "dtype must be 'float32', 'bfloat16' or 'int8', got 'int4'"),
    ({"backend": "gpu"}, "backend must be one of auto, cpu, triton, cuda_sm90, reference, got 'gpu'"),
]


@pytest.mark.parametrize("change, message", BAD, ids=lambda value: "" if isinstance(value, dict) else value[:40])
def test_bad_input(change: dict[str, object], message: str) -> None:
    good = case((1, 2), 8, lengths_k=(2, 3), kv_heads=2)
    arrays = dict(zip(("q", "k", "v", "cu_seqlens_q", "cu_seqlens_k"), good.args))
    with pytest.raises(ValueError, match=f"attention_varlen: {message}"):
        ops.attention_varlen(**{**arrays, **change})


def test_kernel_checks_what_it_is_given() -> None:
    """The compiled function by itself refuses what would make it read beyond an array."""
    good = case((1, 2), 8, lengths_k=(2, 3), kv_heads=2)
    names = ("q", "k", "v", "cu_seqlens_q", "cu_seqlens_k")
    rest = ("slopes", "cos", "sin", "interleaved", "bias_table", "left", "right", "softmax_scale", "out")
    values = (*good.args, None, None, None, False, None, None, None, 1.0, np.empty_like(good.q))
    arguments = dict(zip((*names, *rest), values))
    _core.attention_varlen(**arguments)
    wide, narrow = np.ones((9, 5), F32), np.ones((2, 4), F32)
    for change, message in (
        ({"q": np.ones((3, 3, 8), F32)}, "q's 3 heads must be a multiple of k's 2"),
        ({"k": np.ones((5, 2, 9), F32)}, r"k must be \(5, 2, 8\), got \(5, 2, 9\)"),
        ({"v": np.ones((4, 2, 8), F32)}, r"v must be \(5, 2, 8\), got \(4, 2, 8\)"),
        ({"out": np.ones((2, 4, 8), F32)}, r"out must be \(3, 4, 8\), got \(2, 4, 8\)"),
        ({"cu_seqlens_q": inputs.cu_seqlens([9])}, "cu_seqlens_q must go from 0 to 3"),
        ({"cu_seqlens_k": np.array([0, 9, 5], np.int32)}, "cu_seqlens_k must not fall, it does at 2"),
        ({"cu_seqlens_k": inputs.cu_seqlens([5])}, "cu_seqlens_q and cu_seqlens_k must have one length, got 3 and 2"),
        ({"slopes": np.ones(3, F32)}, "slopes must have 4 values, got 3"),
        ({"bias_table": np.ones((4, 4), F32)}, r"bias_table must be \(4, odd\), got \(4, 4\)"),
        ({"cos": wide}, r"sin must have the shape of cos, \(9, 5\)"),
        ({"cos": wide, "sin": wide}, "cos must have at most 4 columns, got 5"),
        ({"cos": narrow, "sin": narrow}, "sequence 1 has 2 queries and 3 keys"),
        ({"cos": narrow, "sin": narrow, "rotary_by_key": True}, "cos must have a row for each of 5 keys, got 2"),
        ({"dtype": "int4"}, "dtype must be float32, bfloat16 or int8, got 'int4'"),
        ({"left": -1}, "left and right must not be negative"),
    ):
        with pytest.raises(ValueError, match=f"attention_varlen: {message}"):
            _core.attention_varlen(**{**arguments, **change})
