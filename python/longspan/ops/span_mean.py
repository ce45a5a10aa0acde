"""span_mean: the mean of any spans of packed rows, as late chunking pools its chunks."""

from __future__ import annotations

import numpy as np

from longspan import _core, reference
from longspan.integers import checked_int
from longspan.ops.arrays import Array, dtype_of, host_values, like
from longspan.ops.border import kernel_input, run_kernel, run_reference
from longspan.ops.checks import check_axes, check_out
from longspan.ops.dispatch import GPU_FLOATS, Backend, Op, only_on_request, unless, unless_plain_cuda, unless_torch

SPAN_MEAN: Op[Array] = Op(
    "span_mean",
    (
        Backend("cpu", "ops.span_mean:_span_mean_cpu", unless(device="cpu", dtypes=("float32",))),
        Backend("cuda", "ops.cuda:span_mean", unless_plain_cuda(dtypes=GPU_FLOATS)),
        Backend("triton", "kernels.span_mean:span_mean", unless_torch(dtypes=GPU_FLOATS)),
        Backend("reference", "ops.span_mean:_span_mean_reference", only_on_request),
    ),
)


def span_mean(
    hidden: Array,
    spans: Array,
    *,
    truncate_dim: int | None = None,
    normalize: bool = False,
    drop_invalid: bool = False,
    out: Array | None = None,
    backend: str = "auto",
) -> Array:
    """Average the rows of each span; cut the means to `truncate_dim` values; bring them to unit length.

    out[s] = mean of hidden[spans[s, 0] : spans[s, 1], :truncate_dim], divided by max(its length, 1e-12) if `normalize`.

    Args:
        hidden: (total_tokens, dim) f32; on a GPU also f16 or bf16.
        spans: (num_spans, 2) int32, half-open [start, end) rows of `hidden`, none empty. They may overlap, nest, and
            come in any order. On a GPU their values are not checked: that would wait for it.
        truncate_dim: keep this many leading values, 1 to dim; None for all. The others are not read.
        normalize: whether rows of the result have unit length; a mean of zeros stays zeros.
        drop_invalid: leave out spans that are empty or reach outside `hidden`, instead of refusing them.
        out: f32 of the result's shape, to write to, or None for a new array; must not be `hidden`.
        backend: "auto" or one of `SPAN_MEAN.names`.
    Returns: (num_spans, truncate_dim or dim) f32, without the rows of spans left out; `out` if it was given. A span's
        mean depends on its own rows alone, on the CPU bit for bit.
    Raises: ValueError, an input breaks a line above; BackendError, all backends refused, with each reason.
    Source: Late Chunking, arXiv:2409.04701.
    """
    check_axes("span_mean", "hidden", hidden, ("total_tokens", "dim"))
    check_axes("span_mean", "spans", spans, ("num_spans", 2))
    if truncate_dim is not None:
        truncate_dim = checked_int("span_mean: truncate_dim", truncate_dim)
        if not 1 <= truncate_dim <= hidden.shape[1]:
            raise ValueError(f"span_mean: truncate_dim must be from 1 to {hidden.shape[1]}, got {truncate_dim}")
    normalize = bool(normalize)
    kept = _checked_spans(spans, hidden.shape[0], drop_invalid)
    if out is not None:
        check_axes("span_mean", "out", out, (kept.shape[0], truncate_dim or hidden.shape[1]))
        check_out("span_mean", out, {"hidden": hidden})
    return SPAN_MEAN(hidden, kept, truncate_dim=truncate_dim, normalize=normalize, out=out, backend=backend)


def _checked_spans(spans: Array, total: int, drop_invalid: bool) -> Array:
    """`spans`, or those of them that are good."""
    rows = host_values("span_mean", "spans", spans)
    if dtype_of(spans) != "int32":
        raise ValueError(f"span_mean: spans must be int32, got {dtype_of(spans)}")
    if rows is None:
        if drop_invalid:
            raise ValueError(
                "span_mean: drop_invalid needs the spans' values; give NumPy or CPU spans, or drop them first"
            )
        return spans
    good = (rows[:, 0] >= 0) & (rows[:, 0] < rows[:, 1]) & (rows[:, 1] <= total)
    if good.all():
        return spans
    if drop_invalid:
        return like(rows[good], spans)
    at = int(np.flatnonzero(~good)[0])
    start, end = rows[at].tolist()
    what = f"is empty, ({start}, {end})" if start >= end else f"reaches outside the {total} rows, ({start}, {end})"
    raise ValueError(f"span_mean: spans[{at}] {what}; drop_invalid=True leaves such spans out")


def _span_mean_cpu(
    hidden: Array, spans: Array, *, truncate_dim: int | None, normalize: bool, out: Array | None
) -> Array:
    rows = kernel_input("span_mean", "hidden", hidden)
    bounds = kernel_input("span_mean", "spans", spans)
    shape = (len(bounds), truncate_dim or rows.shape[1])
    return run_kernel("span_mean", lambda result: _core.span_mean(rows, bounds, normalize, result), shape, out, hidden)


def _span_mean_reference(
    hidden: Array, spans: Array, *, truncate_dim: int | None, normalize: bool, out: Array | None
) -> Array:
    options = {"truncate_dim": truncate_dim, "normalize": normalize}
    return run_reference("span_mean", reference.span_mean, hidden, spans, **options, out=out)
