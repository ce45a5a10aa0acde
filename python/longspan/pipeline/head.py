"""What follows pooling: the checkpoint's own dense layers, truncation, normalisation, in that order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan.checkpoint.checkpoint import ModuleEntry
from longspan.checkpoint.safetensors_folder import SafetensorsFolder
from longspan.errors import CheckpointError
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import Product
from longspan.ops.activations import Activation

DENSE_ACTIVATIONS: Final[dict[str, Activation | None]] = {
    "Identity": None,
    "Tanh": "tanh",
    "ReLU": "relu",
    "GELU": "gelu",
}


@dataclass(frozen=True, slots=True)
class Dense:
    """One Dense module: activation(x W^T + bias)."""

    product: Product
    activation: Activation | None

    @classmethod
    def load(cls, module: ModuleEntry, engine: OpsEngine) -> Dense:
        """Read and pack it; CheckpointError where its files disagree or ask for what is not supported."""
        config = module.config
        name = config.get_str("activation_function", "torch.nn.modules.activation.Tanh").rpartition(".")[2]
        if name not in DENSE_ACTIVATIONS:
            known = ", ".join(DENSE_ACTIVATIONS)
            raise CheckpointError(f"{config.source}: 'activation_function' must be one of {known}, got {name!r}")
        shape = (config.get_int("out_features"), config.get_int("in_features"))
        tensors = SafetensorsFolder.open(module.folder)
        wanted = (
            {"linear.weight": shape, "linear.bias": shape[:1]}
            if config.get_bool("bias", True)
            else {"linear.weight": shape}
        )
        if set(tensors.names) != set(wanted):
            raise CheckpointError(f"{module.folder}: must hold {', '.join(wanted)}, got {', '.join(tensors.names)}")
        for tensor, want in wanted.items():
            if tensors.shape(tensor) != want:
                raise CheckpointError(f"{module.folder}: {tensor} must be {want}, got {tensors.shape(tensor)}")
        parts = {tensor: tensors.read(tensor) for tensor in wanted}
        for tensor, values in parts.items():
            tensors.require_finite(tensor, values)
        bias = [parts["linear.bias"]] if "linear.bias" in parts else None
        return cls(Product(engine.pack([parts["linear.weight"]], bias)), DENSE_ACTIVATIONS[name])


def finish(
    vectors: np.ndarray, dense: tuple[Dense, ...], engine: OpsEngine, *, truncate_dim: int | None, normalize: bool
) -> np.ndarray:
    """(rows, dim) -> (rows, truncate_dim or the head's own width) in new memory, both where `engine` computes."""
    for layer in dense:
        x, vectors = vectors, engine.empty(len(vectors), layer.product.weight.out_features)
        engine.multiply(x, layer.product, None, activation=layer.activation, out=vectors)
    vectors = vectors[:, :truncate_dim]
    return engine.unit_length(vectors) if normalize else engine.copied(vectors)
