"""layer_norm and rms_norm, with the residual add fused."""

from __future__ import annotations

from longspan import _core, reference
from longspan.ops.arrays import Array
from longspan.ops.border import kernel_input, run_kernel, run_reference
from longspan.ops.checks import check_array, check_axes, check_out, check_positive
from longspan.ops.dispatch import GPU_FLOATS, Backend, Op, only_on_request, unless, unless_torch

LAYER_NORM: Op[Array] = Op(
    "layer_norm",
    (
        Backend("cpu", "ops.layer_norm:_layer_norm_cpu", unless(device="cpu", dtypes=("float32",))),
        Backend("triton", "kernels.layer_norm:layer_norm", unless_torch(dtypes=GPU_FLOATS)),
        Backend("reference", "ops.layer_norm:_layer_norm_reference", only_on_request),
    ),
)
RMS_NORM: Op[Array] = Op(
    "rms_norm",
    (
        Backend("cpu", "ops.layer_norm:_rms_norm_cpu", unless(device="cpu", dtypes=("float32",))),
        Backend("triton", "kernels.layer_norm:rms_norm", unless_torch(dtypes=GPU_FLOATS)),
        Backend("reference", "ops.layer_norm:_rms_norm_reference", only_on_request),
    ),
)


def layer_norm(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    eps: float,
    residual: Array | None = None,
    out: Array | None = None,
    backend: str = "auto",
) -> Array:
    """Normalise each row to mean 0 and variance 1, then scale and shift it.

    out = (z - mean(z)) / sqrt(mean((z - mean(z))^2) + eps) * weight + bias, with z = x + residual.

    Args:
        x: (rows, dim) f32, on a GPU also f16 or bf16; or (rows, groups, dim) to normalise each group by itself, as a
            head of attention.
        weight: (dim,), dtype and device of `x`.
        bias: (dim,) or None for no shift.
        eps: added to the variance; above 0.
        residual: of x's shape, or None; added to `x` first.
        out: of x's shape, to write to, or None for a new array; may be `x` or `residual`.
        backend: "auto" or one of `LAYER_NORM.names`.
    Returns: an array of x's shape, `out` if it was given.
    Raises: ValueError, an input breaks a line above; BackendError, all backends refused, with each reason.
    Source: Layer Normalization, arXiv:1607.06450.
    """
    _check("layer_norm", x, weight, bias, eps, residual, out)
    return LAYER_NORM(x, weight, bias, eps=eps, residual=residual, out=out, backend=backend)


def rms_norm(
    x: Array,
    weight: Array,
    *,
    eps: float,
    residual: Array | None = None,
    out: Array | None = None,
    backend: str = "auto",
) -> Array:
    """Divide each row by its root mean square, then scale it.

    out = z / sqrt(mean(z^2) + eps) * weight, with z = x + residual.

    Args: as `layer_norm`, without `bias`.
    Returns: an array of x's shape, `out` if it was given.
    Raises: ValueError, an input breaks a line above; BackendError, all backends refused, with each reason.
    Source: Root Mean Square Layer Normalization, arXiv:1910.07467.
    """
    _check("rms_norm", x, weight, None, eps, residual, out)
    return RMS_NORM(x, weight, eps=eps, residual=residual, out=out, backend=backend)


def _check(
    op: str, x: Array, weight: Array, bias: Array | None, eps: float, residual: Array | None, out: Array | None
) -> None:
    check_array(op, "x", x)
    check_axes(op, "x", x, ("rows", "groups", "dim") if len(x.shape) == 3 else ("rows", "dim"))
    dim = x.shape[-1]
    check_axes(op, "weight", weight, (dim,))
    if bias is not None:
        check_axes(op, "bias", bias, (dim,))
    for name, array in (("residual", residual), ("out", out)):
        if array is not None:
            check_axes(op, name, array, tuple(x.shape))
    check_out(op, out, {"x": x, "residual": residual, "weight": weight, "bias": bias}, may_be=("x", "residual"))
    check_positive(op, "eps", eps)


def _norm_cpu(
    op: str, x: Array, weight: Array, bias: Array | None, eps: float, residual: Array | None, out: Array | None
) -> Array:
    inputs = (
        kernel_input(op, "x", x),
        kernel_input(op, "residual", residual),
        kernel_input(op, "weight", weight),
        kernel_input(op, "bias", bias),
        eps,
        op == "layer_norm",
    )
    return run_kernel(op, lambda result: _core.layer_norm(*inputs, result), tuple(x.shape), out, x)


def _layer_norm_cpu(
    x: Array, weight: Array, bias: Array | None, *, eps: float, residual: Array | None, out: Array | None
) -> Array:
    return _norm_cpu("layer_norm", x, weight, bias, eps, residual, out)


def _rms_norm_cpu(x: Array, weight: Array, *, eps: float, residual: Array | None, out: Array | None) -> Array:
    return _norm_cpu("rms_norm", x, weight, None, eps, residual, out)


def _layer_norm_reference(
    x: Array, weight: Array, bias: Array | None, *, eps: float, residual: Array | None, out: Array | None
) -> Array:
    return run_reference("layer_norm", reference.layer_norm, x, weight, bias, eps=eps, residual=residual, out=out)


def _rms_norm_reference(x: Array, weight: Array, *, eps: float, residual: Array | None, out: Array | None) -> Array:
    return run_reference("rms_norm", reference.rms_norm, x, weight, eps=eps, residual=residual, out=out)
