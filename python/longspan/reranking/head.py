"""A reranker's head, loaded: from hidden states to the numbers that score a pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import Norm, Product
from longspan.models.spec import PoolingMode
from longspan.ops.activations import Activation
from longspan.packing.batch import PackedBatch
from longspan.packing.selection import Selection
from longspan.pipeline.head import HeadLayer
from longspan.pipeline.head import load_head as load_layers
from longspan.pipeline.pooling import Pooling, num_parts, pool, pooling_mode
from longspan.reranking.head_map import HeadLayer as NamedLayer
from longspan.reranking.head_map import HeadMap


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A tail of the pipeline: (hidden, batch, selection) -> (rows, labels), where the engine computes."""

    pooling: PoolingMode
    out: Product
    dense: Product | None
    activation: Activation
    norm: Norm | None
    norm_eps: float
    engine: OpsEngine
    pools_late: bool = False  # behind `dense`

    @property
    def num_labels(self) -> int:
        """Numbers that it gives for a pair."""
        return self.out.weight.out_features

    def __call__(self, hidden: np.ndarray, batch: PackedBatch, selection: Selection) -> np.ndarray:
        """See the class."""
        engine, x = self.engine, hidden
        if not self.pools_late:
            x = pool(x, batch, selection, self.pooling, engine)
        if self.dense is not None:
            source, x = x, engine.empty(len(x), self.dense.weight.out_features)
            engine.multiply(source, self.dense, None, activation=self.activation, out=x)
        if self.pools_late:  # `out` has no activation, so that it may follow
            x = pool(x, batch, selection, self.pooling, engine)
        if self.norm is not None:
            source, x = x, engine.empty(*x.shape)
            engine.norm(source, self.norm, "layer_norm", self.norm_eps, out=x)
        logits = engine.empty(len(x), self.num_labels)
        engine.multiply(x, self.out, None, out=logits)
        return logits


@dataclass(frozen=True, slots=True, eq=False)
class ModulesHead:
    """The same of a checkpoint whose head modules.json lists: a Pooling, then layers, the last of which scores."""

    pooling: Pooling
    layers: tuple[HeadLayer, ...]
    num_labels: int
    engine: OpsEngine

    @classmethod
    def load(cls, checkpoint: Checkpoint, hidden_size: int, engine: OpsEngine) -> ModulesHead:
        """Read and check it; products are packed in float32, whatever the compute type is. Raises: CheckpointError."""
        pooling = pooling_mode(checkpoint, "mean")
        width = hidden_size * num_parts(pooling)
        layers = load_layers(checkpoint, width, engine, exactly=True)
        return cls(pooling, layers, layers[-1].width(width), engine)

    def __call__(self, hidden: np.ndarray, batch: PackedBatch, selection: Selection) -> np.ndarray:
        """See `Head`."""
        x = pool(hidden, batch, selection, self.pooling, self.engine)
        for layer in self.layers:
            x = layer.apply(x, self.engine)
        return x


def load_head(checkpoint: Checkpoint, names: HeadMap, hidden_size: int, engine: OpsEngine) -> Head:
    """Read and check what `names` lists; products are packed in float32, whatever the compute type is.

    Raises: CheckpointError, naming the tensor, if one is missing, has a shape that does not fit the one before it, or
        holds NaN or infinity.
    """
    width, dense, norm = hidden_size, None, None
    if names.dense is not None:
        dense = _product(checkpoint, names.dense, width, engine)
        width = dense.weight.out_features
    if names.norm is not None:
        bias = None if names.norm.bias is None else engine.vector(_vector(checkpoint, names.norm.bias, width))
        norm = Norm(engine.vector(_vector(checkpoint, names.norm.weight, width)), bias)
    out = _product(checkpoint, names.out, width, engine)
    return Head(names.pooling, out, dense, names.activation, norm, names.norm_eps, engine, names.pools_late)


def row_head(row: np.ndarray, engine: OpsEngine) -> Head:
    """The head of a decoder whose score is h_last . row, (hidden_size,) f32."""
    return Head("lasttoken", Product(engine.pack_exactly(row[None], None)), None, "tanh", None, 0.0, engine)


def _product(checkpoint: Checkpoint, layer: NamedLayer, width: int, engine: OpsEngine) -> Product:
    shape = checkpoint.shape(layer.weight)
    if len(shape) != 2 or shape[0] < 1 or shape[1] != width:
        raise CheckpointError(f"{checkpoint.folder}: tensor {layer.weight} must be (any, {width}), got {shape}")
    weight = finite(checkpoint, layer.weight)
    bias = None if layer.bias is None else _vector(checkpoint, layer.bias, shape[0])
    return Product(engine.pack_exactly(weight, bias))


def _vector(checkpoint: Checkpoint, name: str, size: int) -> np.ndarray:
    if checkpoint.shape(name) != (size,):
        raise CheckpointError(f"{checkpoint.folder}: tensor {name} must be ({size},), got {checkpoint.shape(name)}")
    return finite(checkpoint, name)


def finite_rows(checkpoint: Checkpoint, name: str, rows: list[int], shape: tuple[int, int]) -> np.ndarray:
    """Some rows of a table of this shape, f32; CheckpointError if it has another, or they hold NaN or infinity."""
    if checkpoint.shape(name) != shape:
        raise CheckpointError(f"{checkpoint.folder}: tensor {name} must be {shape}, got {checkpoint.shape(name)}")
    values = checkpoint.read(name)[rows]
    checkpoint.require_finite(name, values)
    return values


def finite(checkpoint: Checkpoint, name: str) -> np.ndarray:
    """The tensor as f32; CheckpointError if it holds NaN or infinity."""
    values = checkpoint.read(name)
    checkpoint.require_finite(name, values)
    return values
