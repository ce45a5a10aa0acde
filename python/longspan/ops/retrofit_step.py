"""retrofit_step: one step of RETRO over a sparse graph; group_sums: what its corrections need."""

from __future__ import annotations

import numpy as np

from longspan import _core, reference
from longspan.ops.arrays import Array, dtype_of, host_values, to_numpy
from longspan.ops.border import kernel_input, run_kernel, run_reference
from longspan.ops.checks import check_array, check_axes
from longspan.ops.dispatch import Backend, Op, only_on_request, unless, unless_torch

RETROFIT_STEP: Op[Array] = Op(
    "retrofit_step",
    (
        Backend("cpu", "ops.retrofit_step:_retrofit_step_cpu", unless(device="cpu", dtypes=("float32", "float64"))),
        Backend("triton", "kernels.retrofit_step:retrofit_step", unless_torch(dtypes=("float32", "float64"))),
        Backend("reference", "ops.retrofit_step:_retrofit_step_reference", only_on_request),
    ),
)
GROUP_SUMS: Op[Array] = Op(
    "group_sums",
    (
        Backend("cpu", "ops.retrofit_step:_group_sums_cpu", unless(device="cpu", dtypes=("float32",))),
        Backend("triton", "kernels.retrofit_step:group_sums", unless_torch(dtypes=("float32",))),
        Backend("reference", "ops.retrofit_step:_group_sums_reference", only_on_request),
    ),
)


def retrofit_step(
    vectors: Array,
    indptr: Array,
    indices: Array,
    weights: Array,
    *,
    base: Array | None = None,
    anchor: Array | None = None,
    sums: Array | None = None,
    sum_indptr: Array | None = None,
    sum_indices: Array | None = None,
    sum_weights: Array | None = None,
    scale: Array | None = None,
    divisor: Array | None = None,
    squares: Array | None = None,
    out: Array | None = None,
    backend: str = "auto",
) -> Array:
    """Each row's weighted sum of its neighbours' rows, of its own base row and of sums over groups, divided.

    out[i] = ( anchor[i] base[i] + sum over k in [indptr[i], indptr[i + 1]) of weights[k] scale[j] vectors[j]
             + sum over k in [sum_indptr[i], sum_indptr[i + 1]) of sum_weights[k] sums[g] ) / divisor[i],
    with j = indices[k] and g = sum_indices[k]: W <- D^-1 (A W' + P W + corrections), P and the corrections sparse.

    Args:
        vectors: (n, dim) f32. Columns are independent: any of them may be given by themselves.
        indptr: (rows + 1,) int64, from 0, never falling.
        indices: (non-zeros,) int32, rows of `vectors`.
        weights: (non-zeros,) f32.
        base: (rows, dim) f32, read where `anchor` is not 0; or None, with `anchor`.
        anchor: (rows,) f32.
        sums: (groups, dim) f32, as `group_sums` gives; or None, with the next three.
        sum_indptr: (rows + 1,) int64.
        sum_indices: (corrections,) int32, rows of `sums`.
        sum_weights: (corrections,) f32.
        scale: (n,) f32, a factor of each row of `vectors`, as for rows that are to have unit length; None for 1.
        divisor: (rows,) f32; None for 1.
        squares: (rows,) f64, to which the sum of each row's squares is added; None where it is not wanted.
        out: (rows, dim) f32 to write to, none of the inputs; None for a new array.
        backend: "auto" or one of `RETROFIT_STEP.names`.
    Returns: (rows, dim) f32; `out` if it was given. A row depends on its own terms alone, on the CPU bit for bit.
    Raises: ValueError, an input breaks a line above (on a GPU the values of offsets and indices are not looked at);
        BackendError, all backends refused.
    Source: RETRO, arXiv:1911.12674.
    """
    check_axes("retrofit_step", "vectors", vectors, ("n", "dim"))
    check_array("retrofit_step", "weights", weights)
    _check_sparse("retrofit_step", "", indptr, indices, weights)
    rows, dim = indptr.shape[0] - 1, vectors.shape[1]
    _check_together("base", base, "anchor", anchor)
    if base is not None and anchor is not None:
        check_axes("retrofit_step", "base", base, (rows, dim))
        check_axes("retrofit_step", "anchor", anchor, (rows,))
    _check_together("sums", sums, "sum_indptr, sum_indices and sum_weights", sum_indptr, sum_indices, sum_weights)
    if sums is not None and sum_indptr is not None and sum_indices is not None and sum_weights is not None:
        check_axes("retrofit_step", "sums", sums, ("groups", dim))
        _check_sparse("retrofit_step", "sum_", sum_indptr, sum_indices, sum_weights)
        check_axes("retrofit_step", "sum_indptr", sum_indptr, (rows + 1,))
    for name, values, length in (
        ("scale", scale, vectors.shape[0]),
        ("divisor", divisor, rows),
        ("squares", squares, rows),
    ):
        if values is not None:
            check_axes("retrofit_step", name, values, (length,))
    if squares is not None and dtype_of(squares) != "float64":
        raise ValueError(f"retrofit_step: squares must be float64, got {dtype_of(squares)}")
    if out is not None:
        check_axes("retrofit_step", "out", out, (rows, dim))
    return RETROFIT_STEP(
        vectors,
        indptr,
        indices,
        weights,
        base=base,
        anchor=anchor,
        sums=sums,
        sum_indptr=sum_indptr,
        sum_indices=sum_indices,
        sum_weights=sum_weights,
        scale=scale,
        divisor=divisor,
        squares=squares,
        out=out,
        backend=backend,
    )


def group_sums(
    vectors: Array,
    indptr: Array,
    indices: Array,
    *,
    scale: Array | None = None,
    out: Array | None = None,
    backend: str = "auto",
) -> Array:
    """For each group the sum of its members' rows, added in f64.

    out[g] = sum over k in [indptr[g], indptr[g + 1]) of scale[j] vectors[j], j = indices[k].

    Args:
        vectors: (n, dim) f32.
        indptr: (groups + 1,) int64, from 0, never falling.
        indices: (members,) int32, rows of `vectors`.
        scale: (n,) f32, a factor of each row; None for 1.
        out: (groups, dim) f32 to write to; None for a new array.
        backend: "auto" or one of `GROUP_SUMS.names`.
    Returns: (groups, dim) f32; `out` if it was given. The same bits for any number of threads; a group without members
        has 0.
    Raises: ValueError, an input breaks a line above; BackendError, all backends refused.
    """
    check_axes("group_sums", "vectors", vectors, ("n", "dim"))
    _check_sparse("group_sums", "", indptr, indices, None)
    if scale is not None:
        check_axes("group_sums", "scale", scale, (vectors.shape[0],))
    if out is not None:
        check_axes("group_sums", "out", out, (indptr.shape[0] - 1, vectors.shape[1]))
    return GROUP_SUMS(vectors, indptr, indices, scale=scale, out=out, backend=backend)


def _check_sparse(op: str, prefix: str, indptr: Array, indices: Array, weights: Array | None) -> None:
    """The shapes and dtypes of a CSR matrix; what its offsets and indices may be is the kernel's matter."""
    check_axes(op, f"{prefix}indptr", indptr, ("rows + 1",))
    check_axes(op, f"{prefix}indices", indices, ("terms",))
    for name, array, dtype in ((f"{prefix}indptr", indptr, "int64"), (f"{prefix}indices", indices, "int32")):
        host_values(op, name, array)
        if dtype_of(array) != dtype:
            raise ValueError(f"{op}: {name} must be {dtype}, got {dtype_of(array)}")
    if indptr.shape[0] == 0:
        raise ValueError(f"{op}: {prefix}indptr must start with 0, got []")
    if weights is not None:
        check_axes(op, f"{prefix}weights", weights, (indices.shape[0],))


def _check_together(name: str, first: Array | None, names: str, *others: Array | None) -> None:
    if any((other is None) != (first is None) for other in others):
        raise ValueError(f"retrofit_step: {name} and {names} go together; give all of them, or none")


def _retrofit_step_cpu(
    vectors: Array, indptr: Array, indices: Array, weights: Array, *, squares: Array | None, out: Array | None,
    **others: Array | None,
) -> Array:  # fmt: skip
    def given(name: str, array: Array | None) -> np.ndarray | None:
        return kernel_input("retrofit_step", name, array)

    rows, offsets = kernel_input("retrofit_step", "vectors", vectors), kernel_input("retrofit_step", "indptr", indptr)
    columns = kernel_input("retrofit_step", "indices", indices)
    factors = kernel_input("retrofit_step", "weights", weights)
    base, anchor, sums = (given(name, others[name]) for name in ("base", "anchor", "sums"))
    sum_indptr, sum_indices, sum_weights = (given(n, others[n]) for n in ("sum_indptr", "sum_indices", "sum_weights"))
    scale, divisor = given("scale", others["scale"]), given("divisor", others["divisor"])
    counted = None if squares is None else to_numpy("retrofit_step", "squares", squares)
    more = (sums, sum_indptr, sum_indices, sum_weights, scale, divisor, counted)

    def run(result: np.ndarray) -> None:
        _core.retrofit_step(rows, offsets, columns, factors, base, anchor, *more, result)

    return run_kernel("retrofit_step", run, (len(offsets) - 1, rows.shape[1]), out, vectors)


def _retrofit_step_reference(vectors: Array, *arrays: Array, out: Array | None, **options: Array | None) -> Array:
    return run_reference("retrofit_step", reference.retrofit_step, vectors, *arrays, out=out, **options)


def _group_sums_cpu(vectors: Array, indptr: Array, indices: Array, *, scale: Array | None, out: Array | None) -> Array:
    rows, offsets = kernel_input("group_sums", "vectors", vectors), kernel_input("group_sums", "indptr", indptr)
    members, factors = kernel_input("group_sums", "indices", indices), kernel_input("group_sums", "scale", scale)
    shape = (indptr.shape[0] - 1, vectors.shape[1])
    return run_kernel(
        "group_sums", lambda result: _core.group_sums(rows, offsets, members, factors, result), shape, out, vectors
    )


def _group_sums_reference(
    vectors: Array, indptr: Array, indices: Array, *, scale: Array | None, out: Array | None
) -> Array:
    return run_reference("group_sums", reference.group_sums, vectors, indptr, indices, scale=scale, out=out)
