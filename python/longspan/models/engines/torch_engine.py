"""The engine of a GPU: torch tensors, our Triton kernels, and cuBLAS through torch for the matrix products.

Activations and matrices have the compute type; norms, tables of positions, sums, softmax and pooled vectors are
float32. Nothing waits for the device before a result is fetched, so batches queue up there while the host prepares the
next. Weights are copied before anything runs, and waited for: any stream may use them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
import torch

from longspan.kernels.linear import DenseLinear, DenseLora, dense_linear
from longspan.kernels.multi_lora import launch_table_lora
from longspan.models.engines.engine import Batch, Fetch, OpsEngine, Pass
from longspan.models.engines.torch_copies import copies_for
from longspan.models.engines.torch_graphs import CudaRecorder, Graphs, Recorder
from longspan.models.engines.workspace import Workspace
from longspan.models.parts import EncoderWeights, Experts, Product
from longspan.ops import pool_mean, span_mean
from longspan.ops.activations import Activation, Gate
from longspan.packing.batch import PackedBatch
from longspan.packing.buckets import bucket_for
from longspan.packing.selection import Selection
from longspan.vectors.unit_length import SMALLEST_NORM


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
        cuda_graphs: whether small batches run as CUDA graphs.
        recorder: what makes graphs; None for CUDA's own on a GPU, and for none elsewhere.
    """

    computes_on_host = False
    batches_ahead = 2
    batch_tokens = 16384  # what fills a large GPU

    def __init__(self, device: str, dtype: str, *, cuda_graphs: bool = True, recorder: Recorder | None = None) -> None:
        super().__init__()
        self.device: Final = _numbered(torch.device(device))
        self.dtype = dtype
        self._type: Final[torch.dtype] = getattr(torch, dtype)
        self._copies: Final = copies_for(self.device)
        if recorder is None and self.device.type == "cuda":
            recorder = CudaRecorder(self.device)
        self._graphs: Graphs | None = None
        if cuda_graphs and recorder is not None:
            self._graphs = Graphs(self._copies, recorder, self.device)

    def describe(self, weights: EncoderWeights) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "Triton's interpreter"
        return f"triton kernels ({name}), {self.dtype}"

    def _upload(self, values: np.ndarray, dtype: torch.dtype | None = None) -> torch.Tensor:
        """A copy on the device, which the host has waited for."""
        return torch.from_numpy(np.array(values)).to(self.device, dtype)  # an array, out of a mapped, read-only file

    def pack(
        self, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray | None] | None = None, gate: Gate | None = None
    ) -> DenseLinear:
        bias = None
        if biases is not None and any(part is not None for part in biases):
            zeros = (np.zeros(len(weight), np.float32) for weight in weights)
            bias = np.concatenate([none if part is None else part for part, none in zip(biases, zeros, strict=True)])
        weight = self._upload(np.concatenate([*weights]), self._type)
        return DenseLinear(weight, None if bias is None else self._upload(bias, self._type), gate)

    def pack_exactly(self, weight: np.ndarray, bias: np.ndarray | None) -> DenseLinear:
        return self.pack([weight], [bias])  # rows and weights have one type here

    def pack_lora(self, lora_a: np.ndarray, lora_b: np.ndarray, scaling: float, base: DenseLinear) -> DenseLora:
        a, b = self._upload(lora_a * np.float32(scaling), self._type), self._upload(lora_b, self._type)
        return DenseLora(a, b, self._upload(np.ones(len(lora_a), np.float32)))

    def table_adapters(self, rows: np.ndarray, expand: np.ndarray, token_type: np.ndarray) -> TableLora:  # type: ignore[override]  # `adapt_lookup` gets it back
        return TableLora(*(self._upload(part, self._type) for part in (rows, expand, token_type)))

    def table(self, values: np.ndarray) -> torch.Tensor:
        return self._upload(values, self._type)

    def vector(self, values: np.ndarray) -> torch.Tensor:
        return self._upload(values, torch.float32)

    def place(self, values: np.ndarray | torch.Tensor) -> torch.Tensor:
        return values if isinstance(values, torch.Tensor) else self._upload(values)

    def place_batch(self, batch: Batch) -> Batch:
        return replace(batch, **dict(zip(_arrays(batch), self._copies.send([*_arrays(batch).values()]))))

    def start(self, work: Pass, batch: PackedBatch, selection: Selection, workspace: Workspace) -> Fetch:
        with self._plainly():
            bucket = bucket_for(len(batch.ids), len(batch.indices)) if selection.fills and batch.fills else None
            if self._graphs is not None and bucket is not None:
                fetch = self._replay(self._graphs, work, batch.filled(bucket), selection.filled(bucket))
                if fetch is not None:
                    return fetch
            batch, selection = self._placed(batch, selection, self._copies.send(_all_arrays(batch, selection)))
            return self._copies.fetch(work.run(batch, selection, workspace))

    def _replay(self, graphs: Graphs, work: Pass, batch: PackedBatch, selection: Selection) -> Fetch | None:
        """`start` of a batch that was filled up, as a graph."""

        def launch(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
            return work.run(*self._placed(batch, selection, tensors), Workspace(self.empty))

        kind = type(batch), *_arrays(batch), *_arrays(selection)
        return graphs.start((work.key, kind), _all_arrays(batch, selection), launch, selection.num_results)

    def _placed(self, batch: Batch, selection: Selection, tensors: Sequence[torch.Tensor]) -> tuple[Batch, Selection]:
        """Both with `tensors` in the place of their arrays, which `_all_arrays` has listed."""
        of_batch, of_selection = _arrays(batch), _arrays(selection)
        batch = replace(batch, **dict(zip(of_batch, tensors)))
        return batch, replace(selection, **dict(zip(of_selection, tensors[len(of_batch) :])))

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """On this device; and whatever the caller has told torch, tensors are such as any other call may write to."""
        with torch.inference_mode(False), torch.no_grad():
            if self.device.type != "cuda":
                yield
                return
            with torch.cuda.device(self.device):
                yield

    def to_host(self, values: np.ndarray | torch.Tensor) -> np.ndarray:
        return values.float().cpu().numpy() if isinstance(values, torch.Tensor) else values

    def empty(self, *shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=self._type, device=self.device)

    def embed(self, batch: PackedBatch, weights: EncoderWeights, position_offset: int, *, out: torch.Tensor) -> None:
        torch.index_select(weights.word_embeddings, 0, batch.ids, out=out)
        if weights.position_embeddings is not None:
            out += weights.position_embeddings[batch.positions + position_offset]
        if batch.types is not None:
            out += self._token_types(weights)[batch.types]
        elif weights.token_type is not None:
            out += weights.token_type

    def put(self, values: torch.Tensor, rows: torch.Tensor | None, *, out: torch.Tensor) -> None:
        out[slice(None) if rows is None else rows] = values.to(out.dtype)

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

    def add(self, x: torch.Tensor, residual: torch.Tensor, *, out: torch.Tensor) -> None:
        torch.add(x, residual, out=out)

    def scale(self, x: torch.Tensor, factor: float) -> None:
        x.mul_(factor)

    def route(self, x: torch.Tensor, experts: Experts, activation: Activation, *, out: torch.Tensor) -> None:
        """All experts see all rows, and those that a row does not take count nothing: how many rows each has is known
        on the device alone, and asking would wait for it."""
        logits = self.empty(len(x), len(experts.up))
        self.multiply(x, experts.router, None, out=logits)
        likely, chosen = torch.softmax(logits.float(), 1).topk(experts.top_k, 1)
        weights = torch.zeros_like(logits, dtype=torch.float32).scatter_(1, chosen, likely)
        total = torch.zeros_like(x, dtype=torch.float32) + experts.bias
        for number, (up, down) in enumerate(zip(experts.up, experts.down, strict=True)):
            inner, made = self.empty(len(x), up.weight.out_features), self.empty(*x.shape)
            self.multiply(x, up, None, activation=activation, out=inner)
            self.multiply(inner, down, None, out=made)
            total += made * weights[:, number, None]
        out.copy_(total)

    def pool_mean(self, hidden: torch.Tensor, cu_seqlens: np.ndarray) -> torch.Tensor:
        return pool_mean(hidden, self.place(cu_seqlens))

    def pool_max(self, hidden: torch.Tensor, cu_seqlens: torch.Tensor) -> torch.Tensor:
        lengths = (cu_seqlens[1:] - cu_seqlens[:-1]).long()
        return torch.segment_reduce(hidden.float(), "max", lengths=lengths, axis=0, initial=-torch.inf).masked_fill(
            lengths[:, None] == 0, 0
        )

    def side_by_side(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat([part.float() for part in parts], dim=1)

    def floats(self, values: torch.Tensor) -> torch.Tensor:
        return values.float()

    def span_mean(self, hidden: torch.Tensor, spans: np.ndarray) -> torch.Tensor:
        return span_mean(hidden, self.place(spans))

    def copied(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors.clone(memory_format=torch.contiguous_format)

    def unit_length(self, vectors: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(vectors.float(), dim=1, eps=SMALLEST_NORM)


def _numbered(device: torch.device) -> torch.device:
    """The device with its number: "cuda" is the one that is current now, whichever is current later."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _arrays(record: PackedBatch | Selection) -> dict[str, np.ndarray]:
    """What of a record belongs on the device: all its arrays but the rows' places in the caller's order."""
    values = {field.name: getattr(record, field.name) for field in fields(record) if field.name != "indices"}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def _all_arrays(batch: PackedBatch, selection: Selection) -> list[np.ndarray]:
    return [*_arrays(batch).values(), *_arrays(selection).values()]
