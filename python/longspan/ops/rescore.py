"""rescore: candidates of a coarse search, scored again with the float query."""

from __future__ import annotations

import numpy as np

from longspan import _core, reference
from longspan.integers import checked_int
from longspan.ops.arrays import Array, dtype_of, like, to_numpy
from longspan.ops.border import kernel_input
from longspan.ops.checks import check_array, check_axes
from longspan.ops.dispatch import Backend, Op, only_on_request, unless

RESCORE: Op[tuple[Array, Array]] = Op(
    "rescore",
    (
        Backend("cpu", "ops.rescore:_rescore_cpu", unless(device="cpu", dtypes=("float32",))),
        Backend("reference", "ops.rescore:_rescore_reference", only_on_request),
    ),
)


def rescore(
    q: Array,
    candidates: Array,
    documents: Array,
    *,
    scales: Array | None = None,
    k: int | None = None,
    backend: str = "auto",
) -> tuple[Array, Array]:
    """Score each query's candidates by the dot product, and return the best, in the order (score falling, row rising).

    score = <q, d> for float documents, <q, d> * scale for int8 ones, and for codes <q, s> with s = +1 where a bit is
    set and -1 where it is not: the asymmetric product, which needs nothing stored beside the codes.

    Args:
        q: (nq, dim) f32.
        candidates: (nq, m) int64 rows of `documents`; a row that stands twice comes out twice.
        documents: (n, dim) f32, (n, dim) int8, or (n, ceil(dim / 8)) uint8 codes, most significant bit first.
        scales: (n,) f32 with int8 documents, None with others.
        k: how many to keep, from 0 to m; None keeps all.
        backend: "auto" or one of `RESCORE.names`.
    Returns: scores (nq, k) f32 and rows (nq, k) int64. A pair's score does not depend on what else is scored.
    Raises: ValueError, an input breaks a line above, or a score is NaN; BackendError, all backends refused.
    """
    check_axes("rescore", "q", q, ("nq", "dim"))
    if q.shape[1] < 1:
        raise ValueError("rescore: q must have at least one column, got 0")
    check_axes("rescore", "candidates", candidates, (q.shape[0], "m"))
    if dtype_of(candidates) != "int64":
        raise ValueError(f"rescore: candidates must be int64, got {dtype_of(candidates)}")
    _check_documents(q, documents, scales)
    m = candidates.shape[1]
    kept = m if k is None else checked_int("rescore: k", k)
    if not 0 <= kept <= m:
        raise ValueError(f"rescore: k must be from 0 to {m} (the candidates), got {k}")
    return RESCORE(q, candidates, documents, scales=scales, k=kept, backend=backend)


def _check_documents(q: Array, documents: Array, scales: Array | None) -> None:
    check_array("rescore", "documents", documents)
    kind, dim = dtype_of(documents), q.shape[1]
    if "float" not in kind and kind not in ("int8", "uint8"):
        raise ValueError(f"rescore: documents must be float32, int8 or uint8 codes, got {kind}")
    check_axes("rescore", "documents", documents, ("n", (dim + 7) // 8 if kind == "uint8" else dim))
    if (scales is not None) != (kind == "int8"):
        raise ValueError(f"rescore: scales must be given with int8 documents and with no others, got {kind} documents")
    if scales is not None:
        check_axes("rescore", "scales", scales, (documents.shape[0],))


def _rescore_cpu(q: Array, candidates: Array, documents: Array, *, scales: Array | None, k: int) -> tuple[Array, Array]:
    stored = kernel_input("rescore", "documents", documents)
    kinds = [stored if stored.dtype == dtype else None for dtype in (np.float32, np.int8, np.uint8)]
    scores, rows = np.empty((q.shape[0], k), np.float32), np.empty((q.shape[0], k), np.int64)
    _core.rescore(
        kernel_input("rescore", "q", q),
        kernel_input("rescore", "candidates", candidates),
        kinds[0],
        kinds[1],
        kernel_input("rescore", "scales", scales),
        kinds[2],
        scores,
        rows,
    )
    return like(scores, q), like(rows, q)


def _rescore_reference(
    q: Array, candidates: Array, documents: Array, *, scales: Array | None, k: int
) -> tuple[Array, Array]:
    scores, rows = reference.rescore(
        to_numpy("rescore", "q", q),
        to_numpy("rescore", "candidates", candidates),
        to_numpy("rescore", "documents", documents),
        scales=None if scales is None else to_numpy("rescore", "scales", scales),
        k=k,
    )
    return like(scores, q), like(rows, q)
