"""maxsim: late-interaction scores of packed queries and documents, without the token-by-token matrix in memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from longspan import _core, reference
from longspan.integers import checked_int
from longspan.ops.arrays import Array, dtype_of, host_values, is_array, like, to_numpy
from longspan.ops.border import kernel_input, run_kernel
from longspan.ops.checks import check_array, check_axes, check_cu_seqlens
from longspan.ops.dispatch import GPU_FLOATS, Backend, Op, only_on_request, unless, unless_torch
from longspan.ops.maxsim_tokens import (
    Bfloat16Tokens,
    Int8Tokens,
    Tokens,
    dim_of,
    format_of,
    kernel_tokens,
    plain_operands,
)

DOC_FORMATS = ("float32", "float16", "bfloat16", "int8", "codes")


def _refuses(q: Array, d: Tokens, *rest: object, **_options: object) -> str | None:
    reason = unless(device="cpu")(q, d, *rest)
    if reason is not None:
        return reason
    if dtype_of(q) not in ("float32", "uint8"):
        return f"q must be float32, or uint8 sign codes, got {dtype_of(q)}"
    if format_of(d) not in DOC_FORMATS or (format_of(d) == "int8" and is_array(d)):
        return f"d must be float32, float16, bfloat16, Int8Tokens or uint8 sign codes, got {dtype_of(d)}"  # type: ignore[arg-type]
    return None


def _refuses_triton(q: Array, d: Tokens, *rest: object, **_options: object) -> str | None:
    arrays = (d.values, d.scales) if isinstance(d, Int8Tokens) else (d,)
    reason = unless_torch(dtypes=GPU_FLOATS)(q, *arrays, *rest)
    if reason is not None:
        return reason
    if isinstance(d, Bfloat16Tokens) or "codes" in (format_of(q), format_of(d)):
        return "d must be float32, float16 or bfloat16, or Int8Tokens of tensors"
    return None


def _backends(name: str) -> tuple[Backend, ...]:
    return (
        Backend("cpu", f"ops.maxsim:_{name}_cpu", _refuses),
        Backend("triton", f"kernels.maxsim:{name}", _refuses_triton),
        Backend("reference", f"ops.maxsim:_{name}_reference", only_on_request),
    )


MAXSIM: Op[Array] = Op("maxsim", _backends("maxsim"))
MAXSIM_PAIRS: Op[Array] = Op("maxsim_pairs", _backends("maxsim_pairs"))
MAXSIM_TOPK: Op[tuple[Array, Array]] = Op("maxsim_topk", _backends("maxsim_topk"))


def maxsim(q: Array, d: Tokens, cu_seqlens_q: Array, cu_seqlens_d: Array, *, backend: str = "auto") -> Array:
    """Score every packed query against every packed document.

    score[a, b] = sum over i of max over j of <q[i], d[j]>, i in query a, j in document b.

    A pair's score has the same bits whatever else is scored, and on any number of threads. NaN in a token reaches the
    scores of its query or document, and no others. On a GPU, halves are multiplied as they are with sums in f32, an
    `Int8Tokens` holds tensors and takes `q` in its own dtype, `q` and `d` have gradients, and the offsets' values are
    not checked; a pair's bits may depend on the mean length of the queries there.

    Args:
        q: (total_q, dim) f32; or sign codes (total_q, dim / 8) uint8, if `d` is such too.
        d: (total_d, dim), one of
            f32, f16: multiplied with `q` in f32;
            bfloat16 (a `Bfloat16Tokens`, or a torch tensor): `q` is rounded to bfloat16, sums are f32;
            `Int8Tokens`: `q` is rounded to 16 bits (fewer above dim 512: sums stay below 2^31) with a scale a token,
                sums are exact;
            sign codes (total_d, dim / 8) uint8, most significant bit first, which stand for +1 where set and -1 where
                clear (not on a GPU): `q` is rounded to 16 bits; codes with codes give dim - 2 * hamming, exactly.
        cu_seqlens_q: (num_queries + 1,) int32, from 0 to total_q, never falling.
        cu_seqlens_d: (num_docs + 1,) int32, from 0 to total_d, always rising: no document is empty.
        backend: "auto" or one of `MAXSIM.names`.
    Returns: (num_queries, num_docs) f32; an empty query scores 0.
    Raises: ValueError, an input breaks a line above; BackendError, all backends refused, with each reason.
    Source: ColBERT, arXiv:2004.12832.
    """
    _check("maxsim", q, d, cu_seqlens_q, cu_seqlens_d)
    return MAXSIM(q, d, cu_seqlens_q, cu_seqlens_d, backend=backend)


def maxsim_pairs(
    q: Array, d: Tokens, cu_seqlens_q: Array, cu_seqlens_d: Array, pairs: Array, *, backend: str = "auto"
) -> Array:
    """Score given pairs of a packed query and a packed document, each as `maxsim` does, to the bit.

    Args: as `maxsim`, and
        pairs: (num_pairs, 2) int32, a query's number and a document's.
    Returns: (num_pairs,) f32.
    Raises: as `maxsim`.
    """
    num_queries, num_docs = _check("maxsim_pairs", q, d, cu_seqlens_q, cu_seqlens_d)
    check_axes("maxsim_pairs", "pairs", pairs, ("num_pairs", 2))
    if dtype_of(pairs) != "int32":
        raise ValueError(f"maxsim_pairs: pairs must be int32, got {dtype_of(pairs)}")
    numbers = host_values("maxsim_pairs", "pairs", pairs)
    if numbers is None:
        outside = np.empty(0, np.int64)
    else:
        outside = np.flatnonzero(((numbers < 0) | (numbers >= (num_queries, num_docs))).any(axis=1))
    if numbers is not None and outside.size:
        at = int(outside[0])
        raise ValueError(
            f"maxsim_pairs: pairs[{at}] is {tuple(numbers[at].tolist())} but there are {num_queries} queries and "
            f"{num_docs} documents"
        )
    return MAXSIM_PAIRS(q, d, cu_seqlens_q, cu_seqlens_d, pairs, backend=backend)


def maxsim_topk(
    q: Array, d: Tokens, cu_seqlens_q: Array, cu_seqlens_d: Array, k: int, *, backend: str = "auto"
) -> tuple[Array, Array]:
    """Find each packed query's `k` best documents by `maxsim`; needs memory for those alone, not for all scores.

    Args: as `maxsim`, and
        k: from 1 to num_docs.
    Returns: scores (num_queries, k) f32 and documents (num_queries, k) int64: score falling, equal ones by rising
        document, NaN last.
    Raises: as `maxsim`.
    """
    _, num_docs = _check("maxsim_topk", q, d, cu_seqlens_q, cu_seqlens_d)
    k = checked_int("maxsim_topk: k", k)
    if not 1 <= k <= num_docs:
        raise ValueError(f"maxsim_topk: k must be from 1 to the number of documents, {num_docs}, got {k}")
    return MAXSIM_TOPK(q, d, cu_seqlens_q, cu_seqlens_d, k, backend=backend)


def _check(op: str, q: Array, d: Tokens, cu_seqlens_q: Array, cu_seqlens_d: Array) -> tuple[int, int]:
    """Check what all three take; numbers of queries and documents."""
    check_axes(op, "q", q, ("total_q", "dim"))
    if not isinstance(d, (Bfloat16Tokens, Int8Tokens)):
        check_array(op, "d", d)
    if len(d.shape) != 2:
        raise ValueError(f"{op}: d must be (total_d, dim), got {tuple(d.shape)}")
    if format_of(q) == "codes" and format_of(d) != "codes":
        raise ValueError(f"{op}: d must be uint8 sign codes, as q, got {format_of(d)}")
    if dim_of(d) != dim_of(q):
        raise ValueError(f"{op}: d must have dim {dim_of(q)} (as q), got {dim_of(d)}")
    if dim_of(q) < 1:
        raise ValueError(f"{op}: dim must be at least 1, got 0")
    if format_of(d) in ("int8", "codes") and dim_of(d) > 65536:
        raise ValueError(f"{op}: dim must be at most 65536 for {format_of(d)}, got {dim_of(d)}")
    check_cu_seqlens(op, "cu_seqlens_q", cu_seqlens_q, q.shape[0])
    offsets_d = check_cu_seqlens(op, "cu_seqlens_d", cu_seqlens_d, d.shape[0])
    if offsets_d is not None and (empty := np.flatnonzero(np.diff(offsets_d) == 0)).size:
        raise ValueError(f"{op}: every document must have a token, document {int(empty[0])} has none; leave it out")
    return cu_seqlens_q.shape[0] - 1, cu_seqlens_d.shape[0] - 1


# (q, d, format, scales, cu_seqlens_q, cu_seqlens_d) as the compiled functions take them.
_Inputs = tuple[np.ndarray, np.ndarray, str, "np.ndarray | None", np.ndarray, np.ndarray]


def _inputs(op: str, q: Array, d: Tokens, cu_seqlens_q: Array, cu_seqlens_d: Array) -> _Inputs:
    offsets_q = kernel_input(op, "cu_seqlens_q", cu_seqlens_q)
    offsets_d = kernel_input(op, "cu_seqlens_d", cu_seqlens_d)
    return kernel_input(op, "q", q), *kernel_tokens(op, d), offsets_q, offsets_d


def _maxsim_cpu(q: Array, d: Tokens, cu_seqlens_q: Array, cu_seqlens_d: Array) -> Array:
    inputs = _inputs("maxsim", q, d, cu_seqlens_q, cu_seqlens_d)
    shape = (cu_seqlens_q.shape[0] - 1, cu_seqlens_d.shape[0] - 1)
    return run_kernel("maxsim", lambda out: _core.maxsim(*inputs, out), shape, None, q)


def _maxsim_pairs_cpu(q: Array, d: Tokens, cu_seqlens_q: Array, cu_seqlens_d: Array, pairs: Array) -> Array:
    inputs = _inputs("maxsim_pairs", q, d, cu_seqlens_q, cu_seqlens_d)
    numbers = kernel_input("maxsim_pairs", "pairs", pairs)
    return run_kernel("maxsim_pairs", lambda out: _core.maxsim_pairs(*inputs, numbers, out), (len(numbers),), None, q)


def _maxsim_topk_cpu(q: Array, d: Tokens, cu_seqlens_q: Array, cu_seqlens_d: Array, k: int) -> tuple[Array, Array]:
    inputs = _inputs("maxsim_topk", q, d, cu_seqlens_q, cu_seqlens_d)
    shape = (cu_seqlens_q.shape[0] - 1, k)
    scores, rows = np.empty(shape, np.float32), np.empty(shape, np.int64)
    _core.maxsim_topk(*inputs, scores, rows)
    return like(scores, q), like(rows, q)


def _run_reference(
    op: str,
    function: Callable[..., np.ndarray | tuple[np.ndarray, ...]],
    q: Array,
    d: Tokens,
    cu_seqlens_q: Array,
    cu_seqlens_d: Array,
    *rest: object,
) -> object:
    query, docs = plain_operands(op, q, d)
    offsets = to_numpy(op, "cu_seqlens_q", cu_seqlens_q), to_numpy(op, "cu_seqlens_d", cu_seqlens_d)
    result = function(query, docs, *offsets, *rest)
    return tuple(like(part, q) for part in result) if isinstance(result, tuple) else like(result, q)


def _maxsim_reference(q: Array, d: Tokens, cu_seqlens_q: Array, cu_seqlens_d: Array) -> object:
    return _run_reference("maxsim", reference.maxsim, q, d, cu_seqlens_q, cu_seqlens_d)


def _maxsim_pairs_reference(q: Array, d: Tokens, cu_seqlens_q: Array, cu_seqlens_d: Array, pairs: Array) -> object:
    numbers = to_numpy("maxsim_pairs", "pairs", pairs)
    return _run_reference("maxsim_pairs", reference.maxsim_pairs, q, d, cu_seqlens_q, cu_seqlens_d, numbers)


def _maxsim_topk_reference(q: Array, d: Tokens, cu_seqlens_q: Array, cu_seqlens_d: Array, k: int) -> object:
    return _run_reference("maxsim_topk", reference.maxsim_topk, q, d, cu_seqlens_q, cu_seqlens_d, k)
