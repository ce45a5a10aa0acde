"""Adapters by row beside merged weights and a product for each adapter: a mixed batch of five tasks, v3's shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from bench.gpu.contest import OURS, Call, Row, Setting, contest
from longspan.kernels.linear import DenseLinear, DenseLora, dense_linear, widened
from longspan.kernels.multi_lora import launch_multi_lora

TASKS = 5
SHAPES = {"qkv": (1024, 3072), "out": (1024, 1024), "up": (1024, 4096), "down": (4096, 1024)}  # in, out


def peft(
    setting: Setting, x: torch.Tensor, weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, ids: torch.Tensor
) -> dict[str, Call]:
    """PEFT's own mixed batch, `adapter_names` of its forward; nothing where it is not installed or fails, or in the dry
    run."""
    if setting.dry:
        return {}
    try:
        return {"peft": peft_call(x, weight, a, b, ids)}
    except Exception as error:  # a peer of another version must not cost us our own figures
        print(f"adapters: peft left out, {type(error).__name__}: {error}")
        return {}


def peft_call(
    x: torch.Tensor, weight: torch.Tensor, a: torch.Tensor, b: torch.Tensor, ids: torch.Tensor
) -> Callable[[], torch.Tensor]:
    """Its layer with these adapters, called on these rows."""
    from peft import LoraConfig, get_peft_model

    layer = torch.nn.ModuleDict({"product": torch.nn.Linear(x.shape[1], weight.shape[0], bias=False)})
    layer.to(x.device, x.dtype)["product"].weight.data = weight
    config = LoraConfig(r=a.shape[1], lora_alpha=a.shape[1], target_modules=["product"], lora_dropout=0.0)
    model = get_peft_model(layer, config, adapter_name="0")
    for number in range(1, len(a)):
        model.add_adapter(str(number), config)
    adapted = model.base_model.model["product"].to(x.device, x.dtype)
    for number in range(len(a)):
        adapted.lora_A[str(number)].weight.data = a[number]
        adapted.lora_B[str(number)].weight.data = b[number]
    names = [str(number) for number in ids.tolist()]

    @torch.inference_mode()
    def run() -> torch.Tensor:
        found: torch.Tensor = adapted(x, adapter_names=names)
        return found

    return run


def rows(setting: Setting) -> Iterator[Row]:
    """One layer's four products, each with its adapters."""
    tokens = setting.size(16384, 70)
    text = setting.size(128, 8)  # tokens of a text, which has one task
    ids = (torch.arange(tokens, device=setting.device) // text % TASKS).to(torch.int32)
    ones = torch.ones(TASKS, device=setting.device)
    for rank in (4, 32):
        for name, (wide_in, wide_out) in SHAPES.items():
            n_in, n_out = setting.size(wide_in, 64), setting.size(wide_out, 96)
            x, weight = setting.normal(tokens, n_in), setting.normal(n_out, n_in) * n_in**-0.5
            lora_a = setting.normal(TASKS, rank, n_in) * n_in**-0.5
            lora_b = setting.normal(TASKS, n_out, rank) * rank**-0.5

            def behind(x=x, weight=weight, a=lora_a, b=lora_b) -> torch.Tensor:
                out = x @ weight.T
                launch_multi_lora(out, x, a, b, ids, ones)
                return out

            # As the engine does: adapters in the product's depth, in memory that has room for them.
            layer, lora = DenseLinear(weight.clone(), None, None), DenseLora(lora_a, lora_b, ones)
            lora.fold(layer)
            memory = x.new_empty((tokens, n_in + lora.added))
            memory[:, :n_in] = x

            result = x.new_empty((tokens, n_out))

            def by_row(rows=memory[:, :n_in], layer=layer, lora=lora, out=result) -> torch.Tensor:
                how = {"activation": None, "residual": None, "lora": lora, "lora_ids": ids}
                dense_linear(rows, layer, **how, out=out, wide=widened(rows, lora.added) if lora.added else None)
                return out

            # As PEFT does: for each adapter the rows that have it, out of the batch and back; which, is known before.
            index = [torch.nonzero(ids == task)[:, 0] for task in range(TASKS)]

            def by_adapter(x=x, weight=weight, a=lora_a, b=lora_b, index=index) -> torch.Tensor:
                out = x @ weight.T
                for task in range(TASKS):
                    out.index_add_(0, index[task], x[index[task]] @ a[task].T @ b[task].T)
                return out

            merged = x.float() @ weight.float().T
            truth = merged.clone()
            for task in range(TASKS):
                truth[index[task]] += x[index[task]].float() @ lora_a[task].float().T @ lora_b[task].float().T
            calls = {
                OURS: by_row,
                "merged": lambda x=x, weight=weight: x @ weight.T,
                "added behind": behind,
                "adapter by adapter": by_adapter,
                **peft(setting, x, weight, lora_a, lora_b, ids),
            }
            how: dict[str, Any] = {"work": 2.0 * tokens * n_in * n_out, "unit": "TFLOP/s", "limit": 2e-2}
            case, goal = f"adapters rank {rank} {name}", "<= 1.05x merged weights' time"
            yield from contest(setting, case, calls, truth, **how, target=goal, truths={"merged": merged})
