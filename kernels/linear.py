"""linear on a GPU: the product by cuBLAS through torch, what surrounds it by our kernels."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from longspan.kernels.gated import gated
from longspan.kernels.multi_lora import launch_multi_lora
from longspan.ops.activations import Activation, Gate


@dataclass(frozen=True, slots=True, eq=False)
class DenseLinear:
    """A layer's weight (out_rows, in_features) in its compute type, its bias (out_rows,) in the same type or None, and
    which half of a gated pair the activation is for."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    gate: Gate | None

    @property
    def in_features(self) -> int:
        """Values of a row that comes in."""
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        """Values of a row that goes out: of a gated layer half the weight's rows."""
        return self.weight.shape[0] // (1 if self.gate is None else 2)


@dataclass(frozen=True, slots=True, eq=False)
class DenseLora:
    """n adapters of a layer: a (n, rank, in_features), the scaling within, and b (n, out_rows, rank)."""

    a: torch.Tensor
    b: torch.Tensor
    ones: torch.Tensor  # (n,) f32, the scaling that is left

    def unpack(self) -> tuple[object, object]:
        """a, with the scaling, and b, as NumPy arrays of f32."""
        return self.a.float().cpu().numpy(), self.b.float().cpu().numpy()


def dense_linear(
    x: torch.Tensor,
    layer: DenseLinear,
    *,
    activation: Activation | None,
    residual: torch.Tensor | None,
    lora: DenseLora | None,
    lora_ids: torch.Tensor | None,
    out: torch.Tensor,
) -> None:
    """As `longspan.ops.linear`, into `out`, of tensors in the layer's compute type.

    A layer that has only a bias, or only a residual, leaves it to cuBLAS, which adds it before it rounds. What else
    follows the product is one pass over it.
    """
    weight = layer.weight.T
    if activation is None and layer.gate is None:
        if residual is None:
            torch.mm(x, weight, out=out) if layer.bias is None else torch.addmm(layer.bias, x, weight, out=out)
        else:
            torch.addmm(residual, x, weight, out=out)
            if layer.bias is not None:
                out += layer.bias
        if lora is not None and lora_ids is not None:
            launch_multi_lora(out, x, lora.a, lora.b, lora_ids, lora.ones)
        return
    wide = torch.mm(x, weight)
    if lora is not None and lora_ids is not None:
        launch_multi_lora(wide, x, lora.a, lora.b, lora_ids, lora.ones)
    gated(wide, layer.bias, activation=activation, gate=layer.gate, residual=residual, out=out)
