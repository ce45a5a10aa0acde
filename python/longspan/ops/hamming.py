"""hamming and hamming_topk: distances between binary codes, and the nearest ones."""

from __future__ import annotations

import numpy as np

from longspan import _core, reference
from longspan.ops.arrays import Array, dtype_of, host_values, like, to_numpy
from longspan.ops.border import kernel_input, run_reference
from longspan.ops.checks import check_array, check_axes
from longspan.ops.dispatch import Backend, Op, only_on_request, unless

MAX_CUDA_BYTES = 512  # of a code


def _refuses_cuda(
    q: Array, codes: Array, *args: object, tie_ranks: Array | None = None, **kwargs: object
) -> str | None:
    """The filter may be anywhere: its few bits are brought along."""
    if (reason := unless(device="cuda")(q, codes)) is not None:
        return reason
    if codes.shape[1] > MAX_CUDA_BYTES:
        return f"codes must have at most {MAX_CUDA_BYTES} bytes, got {codes.shape[1]}"
    return None if tie_ranks is None else "takes no tie_ranks"


HAMMING: Op[Array] = Op(
    "hamming",
    (
        Backend("cpu", "ops.hamming:_hamming_cpu", unless(device="cpu")),
        Backend("cuda", "ops.cuda:hamming", _refuses_cuda),
        Backend("reference", "ops.hamming:_hamming_reference", only_on_request),
    ),
)
HAMMING_TOPK: Op[tuple[Array, Array]] = Op(
    "hamming_topk",
    (
        Backend("cpu", "ops.hamming:_hamming_topk_cpu", unless(device="cpu")),
        Backend("cuda", "ops.cuda:hamming_topk", _refuses_cuda),
        Backend("reference", "ops.hamming:_hamming_topk_reference", only_on_request),
    ),
)


def hamming(q: Array, codes: Array, *, backend: str = "auto") -> Array:
    """Count the bits in which each query differs from each code.

    Args:
        q: (nq, bytes) uint8.
        codes: (n, bytes) uint8; any number of bytes from 1 to 2,097,151, on a GPU to 512.
        backend: "auto" or one of `HAMMING.names`.
    Returns: (nq, n) int32.
    Raises: ValueError, an input breaks a line above; BackendError, all backends refused, with each reason.
    """
    _check_codes("hamming", q, codes)
    return HAMMING(q, codes, backend=backend)


def hamming_topk(
    q: Array,
    codes: Array,
    k: int,
    *,
    filter: Array | None = None,
    tie_ranks: Array | None = None,
    backend: str = "auto",
) -> tuple[Array, Array]:
    """Find the k codes nearest to each query, exactly, in the order (distance, row).

    The codes are read from memory once for every 64 queries.

    Args:
        q: (nq, bytes) uint8.
        codes: (n, bytes) uint8; any number of bytes from 1 to 2,097,151, on a GPU to 512.
        k: from 1 to n.
        filter: which rows may be found, or None for all: (n,) bool, or the same as (ceil(n / 8),) uint8 bits, most
            significant first (np.packbits).
        tie_ranks: (n,) int64, a permutation of 0 .. n - 1, or None. Given, codes at the same distance go by their
            rank instead of their row, and the result holds ranks instead of rows.
        backend: "auto" or one of `HAMMING_TOPK.names`.
    Returns: distances (nq, k) int32 and rows (nq, k) int64; fewer than k columns only where `filter` lets fewer pass.
        Where `filter` is on a GPU nobody waits to count what it lets pass: there are always k columns, and past that
        they hold distance 2^31 - 1 and row -1.
    Raises: ValueError, an input breaks a line above; BackendError, all backends refused, with each reason.
    """
    if tie_ranks is not None:
        check_axes("hamming_topk", "codes", codes, ("n", "bytes"))
        check_axes("hamming_topk", "tie_ranks", tie_ranks, (codes.shape[0],))
        _check_dtype("hamming_topk", "tie_ranks", tie_ranks, "int64")
        _check_permutation(tie_ranks, codes.shape[0])
    return topk_of_ranked(q, codes, k, filter=filter, tie_ranks=tie_ranks, backend=backend)


def topk_of_ranked(
    q: Array,
    codes: Array,
    k: int,
    *,
    filter: Array | None,
    tie_ranks: Array | None,
    backend: str = "auto",
) -> tuple[Array, Array]:
    """`hamming_topk`, where the caller knows that `tie_ranks` are a permutation: an index does, of its own."""
    _check_codes("hamming_topk", q, codes)
    n = codes.shape[0]
    if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or not 1 <= k <= n:
        raise ValueError(f"hamming_topk: k must be from 1 to {n} (the number of codes), got {k!r}")
    bits = None if filter is None else _filter_bits(filter, n)
    if isinstance(bits, np.ndarray):
        k = min(int(k), _count_bits(bits, n))
    return HAMMING_TOPK(q, codes, int(k), filter=bits, tie_ranks=tie_ranks, backend=backend)


def _check_permutation(tie_ranks: Array, n: int) -> None:
    ranks = host_values("hamming_topk", "tie_ranks", tie_ranks)
    if ranks is None or not n:
        return
    low, high = int(ranks.min()), int(ranks.max())
    if low < 0 or high >= n:
        raise ValueError(f"hamming_topk: tie_ranks must be from 0 to {n - 1}, got {low if low < 0 else high}")
    is_taken = np.zeros(n, np.bool_)
    is_taken[ranks] = True
    if not is_taken.all():
        raise ValueError(f"hamming_topk: tie_ranks must be a permutation, rank {int(is_taken.argmin())} is missing")


def _check_codes(op: str, q: Array, codes: Array) -> None:
    for name, array in (("codes", codes), ("q", q)):
        check_array(op, name, array)
        _check_dtype(op, name, array, "uint8")
        check_axes(op, name, array, ("n", "bytes") if name == "codes" else ("nq", codes.shape[1]))
    if codes.shape[1] < 1:
        raise ValueError(f"{op}: codes must have at least one byte, got 0")


def _check_dtype(op: str, name: str, array: Array, dtype: str) -> None:
    if dtype_of(array) != dtype:
        raise ValueError(f"{op}: {name} must be {dtype}, got {dtype_of(array)}")


def _filter_bits(filter: Array, n: int) -> Array:
    """(ceil(n / 8),) uint8, most significant bit first; a filter on a GPU as it came."""
    values = host_values("hamming_topk", "filter", filter)
    kind, shape = dtype_of(filter), tuple(filter.shape)
    if kind == "bool" and shape == (n,):
        return filter if values is None else np.packbits(values)
    if kind == "uint8" and shape == ((n + 7) // 8,):
        return filter if values is None else np.ascontiguousarray(values)
    raise ValueError(f"hamming_topk: filter must be ({n},) bool or ({(n + 7) // 8},) uint8 bits, got {shape} {kind}")


def _count_bits(bits: np.ndarray, n: int) -> int:
    """How many of the first n bits are set."""
    counts = np.bincount(bits, minlength=256)
    total = int(counts @ np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1))
    rest = n % 8
    return total - (int(bits[-1]) & (0xFF >> rest)).bit_count() if rest else total


def _hamming_cpu(q: Array, codes: Array) -> Array:
    queries, rows = kernel_input("hamming", "q", q), kernel_input("hamming", "codes", codes)
    out = np.empty((len(queries), len(rows)), np.int32)
    _core.hamming(queries, rows, out)
    return like(out, q)


def _hamming_reference(q: Array, codes: Array) -> Array:
    return run_reference("hamming", reference.hamming, q, codes, out=None)


def _hamming_topk_cpu(
    q: Array, codes: Array, k: int, *, filter: np.ndarray | None, tie_ranks: Array | None
) -> tuple[Array, Array]:
    queries, stored = kernel_input("hamming_topk", "q", q), kernel_input("hamming_topk", "codes", codes)
    ranks = kernel_input("hamming_topk", "tie_ranks", tie_ranks)
    distances, rows = np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.int64)
    if k > 0 and len(queries) > 0:
        _core.hamming_topk(queries, stored, filter, ranks, distances, rows)
    return like(distances, q), like(rows, q)


def _hamming_topk_reference(
    q: Array, codes: Array, k: int, *, filter: np.ndarray | None, tie_ranks: Array | None
) -> tuple[Array, Array]:
    queries, stored = to_numpy("hamming_topk", "q", q), to_numpy("hamming_topk", "codes", codes)
    ranks = None if tie_ranks is None else to_numpy("hamming_topk", "tie_ranks", tie_ranks)
    distances, rows = reference.hamming_topk(queries, stored, k, filter=filter, tie_ranks=ranks)
    return like(distances, q), like(rows, q)
