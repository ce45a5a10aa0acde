"""PEFT: adapters chosen by the row of a batch, as `adapter_names` of its forward does."""

from __future__ import annotations

import numpy as np
import torch
from peft import LoraConfig, get_peft_model

from ..case import Contestant, Setting


class _Layer(torch.nn.Module):  # type: ignore[misc]  # torch is not looked into
    """One product, with a name that an adapter can point at."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None) -> None:
        super().__init__()
        self.product = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        with torch.no_grad():
            self.product.weight.copy_(torch.from_numpy(weight))
            if bias is not None:
                self.product.bias.copy_(torch.from_numpy(bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (rows, in) to (rows, out)."""
        return self.product(x)


def linear_lora(
    setting: Setting,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    lora_a: np.ndarray,
    lora_b: np.ndarray,
    lora_ids: np.ndarray,
) -> list[Contestant]:
    """A layer with its adapters; which row has which is given by names, and sorting them out is within the time."""
    return [_adapted(setting, x, _Layer(weight, bias), lora_a, lora_b, lora_ids, 1.0)]


def multi_lora(
    setting: Setting, x: np.ndarray, lora_a: np.ndarray, lora_b: np.ndarray, lora_ids: np.ndarray, scaling: float
) -> list[Contestant]:
    """The adapters' delta alone: its product's own weight is zero, and its time is within."""
    layer = _Layer(np.zeros((lora_b.shape[1], x.shape[1]), np.float32), None)
    return [_adapted(setting, x, layer, lora_a, lora_b, lora_ids, scaling)]


def _adapted(
    setting: Setting,
    x: np.ndarray,
    layer: _Layer,
    lora_a: np.ndarray,
    lora_b: np.ndarray,
    lora_ids: np.ndarray,
    scaling: float,
) -> Contestant:
    torch.set_num_threads(setting.threads)
    rank = lora_a.shape[1]
    config = LoraConfig(r=rank, lora_alpha=scaling * rank, target_modules=["product"], lora_dropout=0.0)
    model = get_peft_model(layer, config, adapter_name="0")
    for number in range(1, len(lora_a)):
        model.add_adapter(str(number), config)
    product = model.base_model.model.product
    with torch.no_grad():
        for number in range(len(lora_a)):
            product.lora_A[str(number)].weight.copy_(torch.from_numpy(lora_a[number]))
            product.lora_B[str(number)].weight.copy_(torch.from_numpy(lora_b[number]))
    model.eval()
    rows = torch.from_numpy(x)
    names = ["__base__" if number < 0 else str(number) for number in lora_ids.tolist()]

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return model(rows, adapter_names=names)

    return Contestant("peft", run, read=lambda out: out.numpy())
