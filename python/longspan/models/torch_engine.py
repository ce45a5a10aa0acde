"""The engine of a GPU: torch tensors, our Triton kernels, and cuBLAS through torch for the matrix products.

Activations and matrices have the compute type; norms, tables of positions, sums, softmax and pooled vectors are
float32. Nothing waits for the device before `to_host`, so batches queue up there while the host prepares the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
import torch

from longspan.activations import Activation, Gate
from longspan.batch import PackedBatch
from longspan.kernels.linear import DenseLinear, DenseLora, dense_linear
from longspan.kernels.multi_lora import launch_table_lora
from longspan.models.engine import Batch, OpsEngine
from longspan.models.parts import EncoderWeights, Product
from longspan.ops import pool_mean, span_mean
from longspan.vectors import SMALLEST_NORM


@dataclass(frozen=True, slots=True, eq=False)
class TableLora:
    """All tasks' adapters of the word embeddings: rows (n, vocab_size, rank), expand (n, hidden, rank), its scaling
    within, and token_type (n, hidden), which every token gets."""

    rows: torch.Tensor
    expand: torch.Tensor
    token_type: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)


class TorchEngine(OpsEngine):
    """Computes on one device, on torch's current stream.

    Args:
        device: such as "cuda" or "cuda:1"; "cpu" runs the kernels in Triton's interpreter, for tests.
        dtype: "bfloat16", "float16" or "float32".
    """

    batches_ahead = 2
    batch_tokens = 16384  # what fills a large GPU

    def __init__(self, device: str, dtype: str) -> None:
        super().__init__()
        self.device: Final = torch.device(device)
        self.dtype = dtype
        self._type: Final[torch.dtype] = getattr(torch, dtype)

    def describe(self, weights: EncoderWeights) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "Triton's interpreter"
        return f"triton kernels ({name}), {self.dtype}"

    def _upload(self, values: np.ndarray, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A copy on the device, which the host does not wait for."""
        tensor = torch.from_numpy(np.array(values))  # out of a mapped, read-only file
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, dtype, non_blocking=True)

    def pack(
        self, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray | None] | None = None, gate: Gate | None = None
    ) -> DenseLinear:
        bias = None
        if biases is not None and any(part is not None for part in biases):
            zeros = (np.zeros(len(weight), np.float32) for weight in weights)
            bias = np.concatenate([none if part is None else part for part, none in zip(biases, zeros, strict=True)])
        weight = torch.cat([self._upload(part, self._type) for part in weights])
        return DenseLinear(weight, None if bias is None else self._upload(bias, self._type), gate)

    def pack_lora(self, lora_a: np.ndarray, lora_b: np.ndarray, scaling: float, base: DenseLinear) -> DenseLora:
        a, b = self._upload(lora_a * np.float32(scaling), self._type), self._upload(lora_b, self._type)
        return DenseLora(a, b, torch.ones(len(a), device=self.device))

    def table_adapters(self, rows: np.ndarray, expand: np.ndarray, token_type: np.ndarray) -> TableLora:  # type: ignore[override]  # `adapt_lookup` gets it back
        return TableLora(*(self._upload(part, self._type) for part in (rows, expand, token_type)))

    def table(self, values: np.ndarray) -> torch.Tensor:
        return self._upload(values, self._type)

    def vector(self, values: np.ndarray) -> torch.Tensor:
        return self._upload(values, torch.float32)

    def place(self, values: np.ndarray | torch.Tensor) -> torch.Tensor:
        return values if isinstance(values, torch.Tensor) else self._upload(values)

    def place_batch(self, batch: Batch) -> Batch:
        arrays = {field.name: getattr(batch, field.name) for field in fields(batch) if field.name != "indices"}
        return replace(batch, **{name: self._upload(a) for name, a in arrays.items() if isinstance(a, np.ndarray)})

    def to_host(self, values: np.ndarray | torch.Tensor) -> np.ndarray:
        return values.float().cpu().numpy() if isinstance(values, torch.Tensor) else values

    def empty(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=self._type, device=self.device)

    def embed(self, batch: PackedBatch, weights: EncoderWeights, position_offset: int, *, out: torch.Tensor) -> None:
        torch.index_select(weights.word_embeddings, 0, batch.ids, out=out)
        if weights.position_embeddings is not None:
            out += weights.position_embeddings[batch.positions + position_offset]
        if weights.token_type is not None:
            out += weights.token_type

    def adapt_lookup(  # type: ignore[override]
        self, adapters: TableLora, ids: torch.Tensor, lora_ids: torch.Tensor, x: torch.Tensor
    ) -> None:
        of_table = torch.where(lora_ids < len(adapters.rows), lora_ids, -1)  # later ones adapt no table
        launch_table_lora(x, ids, of_table, adapters.rows, adapters.expand, adapters.token_type)

    def multiply(
        self,
        x: torch.Tensor,
        product: Product,
        lora_ids: torch.Tensor | None,
        *,
        out: torch.Tensor,
        activation: Activation | None = None,
        residual: torch.Tensor | None = None,
    ) -> None:
        lora = None if lora_ids is None else product.lora
        how = {"activation": activation, "residual": residual, "lora": lora, "lora_ids": lora_ids}
        dense_linear(x.to(self._type), product.weight, **how, out=out)

    def pool_mean(self, hidden: torch.Tensor, cu_seqlens: np.ndarray) -> torch.Tensor:
        return pool_mean(hidden, self.place(cu_seqlens))

    def span_mean(self, hidden: torch.Tensor, spans: np.ndarray) -> torch.Tensor:
        return span_mean(hidden, self.place(spans))

    def copied(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors.clone(memory_format=torch.contiguous_format)

    def unit_length(self, vectors: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(vectors.float(), dim=1, eps=SMALLEST_NORM)
