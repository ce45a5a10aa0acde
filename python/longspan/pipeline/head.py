"""What follows pooling: the checkpoint's own layers, truncation, normalisation, in that order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.modules import ModuleEntry
from longspan.checkpoint.safetensors_folder import SafetensorsFolder
from longspan.errors import CheckpointError
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import Norm, Product
from longspan.ops.activations import Activation

DENSE_ACTIVATIONS: Final[dict[str, Activation | None]] = {
    "Identity": None,
    "Tanh": "tanh",
    "ReLU": "relu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Sigmoid": "tanh",  # sigmoid(u) = tanh(u / 2) / 2 + 1 / 2
}
NORM_EPS: Final = 1e-5  # torch's LayerNorm


class HeadLayer(Protocol):
    """One module behind pooling."""

    def width(self, before: int) -> int:
        """Values of a vector that has gone through it."""

    def apply(self, x: np.ndarray, engine: OpsEngine) -> np.ndarray:
        """(rows, before) -> (rows, width) in new memory, where `engine` computes."""


@dataclass(frozen=True, slots=True)
class Dense:
    """One Dense module: activation(x W^T + bias), and with a residual + x R^T, or + x where the widths agree."""

    product: Product
    activation: Activation | None
    is_sigmoid: bool = False  # weights and bias are halved then, and the activation is tanh
    residual: Product | None = None
    adds_input: bool = False

    @classmethod
    def load(cls, module: ModuleEntry, engine: OpsEngine, *, exactly: bool = False) -> Dense:
        """Read and pack it, `exactly` in float32 whatever the compute type is; CheckpointError where its files disagree
        or ask for what is not supported."""
        config = module.config
        name = config.get_str("activation_function", "torch.nn.modules.activation.Tanh").rpartition(".")[2]
        if name not in DENSE_ACTIVATIONS:
            known = ", ".join(DENSE_ACTIVATIONS)
            raise CheckpointError(f"{config.source}: 'activation_function' must be one of {known}, got {name!r}")
        shape = (config.get_int("out_features"), config.get_int("in_features"))
        wanted: dict[str, tuple[int, ...]] = {"linear.weight": shape}
        if config.get_bool("bias", True):
            wanted["linear.bias"] = shape[:1]
        has_residual, keeps_width = config.get_bool("use_residual", False), shape[0] == shape[1]
        if has_residual and not keeps_width:
            wanted["residual.weight"] = shape
        parts = _read_tensors(module, wanted)
        residual = parts.pop("residual.weight", None)
        is_sigmoid = name == "Sigmoid"
        if is_sigmoid:
            parts = {tensor: values * np.float32(0.5) for tensor, values in parts.items()}

        def packed(weight: np.ndarray, bias: np.ndarray | None) -> Product:
            if exactly:
                return Product(engine.pack_exactly(weight, bias))
            return Product(engine.pack([weight], None if bias is None else [bias]))

        return cls(
            packed(parts["linear.weight"], parts.get("linear.bias")),
            DENSE_ACTIVATIONS[name],
            is_sigmoid,
            None if residual is None else packed(residual, None),
            has_residual and keeps_width,
        )

    def width(self, before: int) -> int:
        """See `HeadLayer`."""
        return self.product.weight.out_features

    def apply(self, x: np.ndarray, engine: OpsEngine) -> np.ndarray:
        """See `HeadLayer`."""
        vectors = engine.empty(len(x), self.product.weight.out_features)
        added = x if self.adds_input else None
        if self.residual is not None:
            added = engine.empty(*vectors.shape)
            engine.multiply(x, self.residual, None, out=added)
        if not self.is_sigmoid:
            engine.multiply(x, self.product, None, activation=self.activation, residual=added, out=vectors)
            return vectors
        engine.multiply(x, self.product, None, activation=self.activation, out=vectors)
        vectors = vectors * 0.5 + 0.5
        return vectors if added is None else vectors + added


@dataclass(frozen=True, slots=True, eq=False)
class HeadNorm:
    """One LayerNorm module."""

    norm: Norm

    @classmethod
    def load(cls, module: ModuleEntry, engine: OpsEngine) -> HeadNorm:
        """Read it; CheckpointError where its files disagree."""
        shape = (module.config.get_int("dimension"),)
        parts = _read_tensors(module, {"norm.weight": shape, "norm.bias": shape})
        return cls(Norm(engine.vector(parts["norm.weight"]), engine.vector(parts["norm.bias"])))

    def width(self, before: int) -> int:
        """See `HeadLayer`."""
        return before

    def apply(self, x: np.ndarray, engine: OpsEngine) -> np.ndarray:
        """See `HeadLayer`."""
        vectors = engine.empty(*x.shape)
        engine.norm(x, self.norm, "layer_norm", NORM_EPS, out=vectors)
        return vectors


@dataclass(frozen=True, slots=True)
class UnitLength:
    """One Normalize module before others; one at the end is `Checkpoint.has_normalize`."""

    def width(self, before: int) -> int:
        """See `HeadLayer`."""
        return before

    def apply(self, x: np.ndarray, engine: OpsEngine) -> np.ndarray:
        """See `HeadLayer`."""
        return engine.unit_length(x)


def load_head(checkpoint: Checkpoint, width: int, engine: OpsEngine, *, exactly: bool = False) -> tuple[HeadLayer, ...]:
    """The modules behind pooling, whose vectors are `width` wide; `exactly` as `Dense.load`.

    Raises: CheckpointError, one takes vectors of another width, or its files are not right.
    """
    layers: list[HeadLayer] = []
    for module in checkpoint.head:
        if module.kind == "Normalize":
            layers.append(UnitLength())
            continue
        is_norm = module.kind == "LayerNorm"
        name = "dimension" if is_norm else "in_features"
        if module.config.get_int(name) != width:
            got = module.config.get_int(name)
            raise CheckpointError(
                f"{module.config.source}: {name!r} must be {width}, the width of what comes, got {got}"
            )
        layer: HeadLayer = HeadNorm.load(module, engine) if is_norm else Dense.load(module, engine, exactly=exactly)
        width = layer.width(width)
        layers.append(layer)
    return tuple(layers)


def _read_tensors(module: ModuleEntry, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The module's tensors, these and no others, of these shapes, finite."""
    tensors = SafetensorsFolder.open(module.folder)
    if set(tensors.names) != set(wanted):
        raise CheckpointError(f"{module.folder}: must hold {', '.join(wanted)}, got {', '.join(tensors.names)}")
    for tensor, want in wanted.items():
        if tensors.shape(tensor) != want:
            raise CheckpointError(f"{module.folder}: {tensor} must be {want}, got {tensors.shape(tensor)}")
    parts = {tensor: tensors.read(tensor) for tensor in wanted}
    for tensor, values in parts.items():
        tensors.require_finite(tensor, values)
    return parts


def finish(
    vectors: np.ndarray, head: Sequence[HeadLayer], engine: OpsEngine, *, truncate_dim: int | None, normalize: bool
) -> np.ndarray:
    """(rows, dim) -> (rows, truncate_dim or the head's own width) in new memory, both where `engine` computes."""
    for layer in head:
        vectors = layer.apply(vectors, engine)
    vectors = vectors[:, :truncate_dim]
    return engine.unit_length(vectors) if normalize else engine.copied(vectors)
