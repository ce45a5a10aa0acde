"""linear on a GPU: the product by cuBLAS through torch, what surrounds it by our kernels."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch

from longspan.kernels.gated import launch_gated
from longspan.kernels.multi_lora import launch_multi_lora, prepared_shrink
from longspan.kernels.product import is_fused, launch_product
from longspan.ops.activations import Activation, Gate

DEPTH = 16  # columns that adapters add to a product's depth are a multiple of it, so that rows stay aligned
MOST_ADDED = 4  # adapters are folded in where they add at most this part of the depth: a fourth
# What cuBLAS does to a product before it rounds it, by `torch._addmm_activation`'s use_gelu: its GELU is tanh's.
EPILOGUES: dict[str | None, bool] = {"gelu_tanh": True, "relu": False}


@dataclass(slots=True, eq=False)
class DenseLinear:
    """A layer's weight (out_rows, in_features) in its compute type, its bias (out_rows,) in the same type or None, and
    which half of a gated pair the activation is for."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    gate: Gate | None
    turned: torch.Tensor = field(init=False)  # the weight as products take it, (in_features, out_rows)

    def __post_init__(self) -> None:
        self.turned = self.weight.T

    @property
    def in_features(self) -> int:
        """Values of a row that comes in."""
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        """Values of a row that goes out: of a gated layer half the weight's rows."""
        return self.weight.shape[0] // (1 if self.gate is None else 2)


@dataclass(slots=True, eq=False)
class DenseLora:
    """n adapters of a layer: a (n, rank, in_features), the scaling within, and b (n, out_rows, rank).

    Where they are few columns, they are made part of the product: x becomes [x, s] and the weight [W, B], B all
    adapters' b side by side, and s what their a make of x, with zeros for the adapters that a row has not. Then a mixed
    batch is one product that is a little deeper, instead of a second pass over its result.
    """

    a: torch.Tensor
    b: torch.Tensor
    ones: torch.Tensor  # (n,) f32, the scaling that is left
    added: int = 0  # columns of s; 0 where adapters are not folded in
    shrink: torch.Tensor | None = None  # (added, in_features), all a below each other, then zeros
    turned: torch.Tensor | None = None  # [W, B] as products take it, (in_features + added, out_rows)

    @property
    def rank(self) -> int:
        """Columns of an adapter."""
        return self.a.shape[1]

    def fold(self, base: DenseLinear) -> None:
        """Fold the adapters into `base`, whose weight then lies in the same memory."""
        n, rank, in_features = self.a.shape
        added = -(-n * rank // DEPTH) * DEPTH
        if added * MOST_ADDED > in_features:
            return
        out_rows = base.weight.shape[0]
        whole = base.weight.new_zeros((out_rows, in_features + added))
        whole[:, :in_features] = base.weight
        whole[:, in_features : in_features + n * rank] = self.b.permute(1, 0, 2).reshape(out_rows, n * rank)
        self.shrink = base.weight.new_zeros((added, in_features))
        self.shrink[: n * rank] = self.a.reshape(n * rank, in_features)
        self.added, self.turned = added, whole.T
        base.weight = whole[:, :in_features]
        base.turned = base.weight.T

    def merged(self, base: DenseLinear, number: int) -> DenseLinear:
        """`base` with one adapter added to its weight, in f32 and then rounded."""
        delta = self.b[number].float() @ self.a[number].float()
        return DenseLinear((base.weight.float() + delta).to(base.weight.dtype), base.bias, base.gate)

    def unpack(self) -> tuple[object, object]:
        """a, with the scaling, and b, as NumPy arrays of f32."""
        return self.a.float().cpu().numpy(), self.b.float().cpu().numpy()


def widened(x: torch.Tensor, added: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows with so many columns of the memory behind them, and these columns."""
    rows, width = x.shape
    whole = x.as_strided((rows, width + added), (x.stride(0), 1))
    return whole, whole[:, width:]


def dense_linear(
    x: torch.Tensor,
    layer: DenseLinear,
    *,
    activation: Activation | None,
    residual: torch.Tensor | None,
    lora: DenseLora | None,
    lora_ids: torch.Tensor | None,
    out: torch.Tensor,
    wide: tuple[torch.Tensor, torch.Tensor] | None = None,
    kept: dict[Hashable, Callable[..., object]] | None = None,
) -> None:
    """As `longspan.ops.linear`, into `out`, of tensors in the layer's compute type, on the current device.

    A layer that has only a bias, or only a residual, leaves it to cuBLAS, which adds it before it rounds, and so do
    activations that cuBLAS has. What else follows the product is one pass over it; or, where `is_fused` says so, is
    done to the product's tiles by a kernel of our own.

    Args:
        wide: x with the `DenseLora.added` columns behind its rows, which are of the same memory and may be written to,
            and these columns; they let the adapters be part of the product.
        kept: launches of earlier layers on the same tensors, and room for those of this one.
    """
    if out.numel() == 0:
        return
    turned = layer.turned
    if wide is not None and lora is not None and lora_ids is not None and lora.shrink is not None:
        assert lora.turned is not None
        key = id(wide[1]), id(lora_ids), lora.rank
        shrink = None if kept is None else kept.get(key)
        if shrink is None:
            shrink = prepared_shrink(x, lora.shrink, lora.rank, lora_ids, wide[1])
            if kept is not None:
                kept[key] = shrink
        shrink(lora.shrink)
        x, turned, lora = wide[0], lora.turned, None
    if activation is None and layer.gate is None:
        if residual is None:
            torch.mm(x, turned, out=out) if layer.bias is None else torch.addmm(layer.bias, x, turned, out=out)
        else:
            torch.addmm(residual, x, turned, out=out)
            if layer.bias is not None:
                out += layer.bias
        if lora is not None and lora_ids is not None:
            launch_multi_lora(out, x, lora.a, lora.b, lora_ids, lora.ones)
        return
    if lora is None and is_fused(x):
        launch_product(x, turned.T, layer.bias, activation, layer.gate, residual, out)
        return
    is_plain = lora is None and layer.gate is None and residual is None
    if is_plain and layer.bias is not None and activation in EPILOGUES and x.is_cuda:
        torch._addmm_activation(layer.bias, x, turned, use_gelu=EPILOGUES[activation], out=out)
        return
    wide = torch.mm(x, turned)
    if lora is not None and lora_ids is not None:
        launch_multi_lora(wide, x, lora.a, lora.b, lora_ids, lora.ones)
    launch_gated(wide, layer.bias, activation, layer.gate, residual, out)
