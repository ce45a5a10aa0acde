"""What follows pooling: the checkpoint's own dense layers, truncation, normalisation, in that order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan import ops
from longspan._core import PackedLinear
from longspan.checkpoint import ModuleEntry
from longspan.errors import CheckpointError
from longspan.ops.linear import Activation, pack_linear
from longspan.safetensors_folder import SafetensorsFolder

SMALLEST_NORM: Final = 1e-12  # a shorter vector is divided by this: zeros stay zeros
DENSE_ACTIVATIONS: Final[dict[str, Activation | None]] = {
    "Identity": None,
    "Tanh": "tanh",
    "ReLU": "relu",
    "GELU": "gelu",
}


@dataclass(frozen=True, slots=True)
class Dense:
    """One Dense module: activation(x W^T + bias)."""

    weight: PackedLinear
    activation: Activation | None

    @classmethod
    def load(cls, module: ModuleEntry) -> Dense:
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
        return cls(pack_linear([parts["linear.weight"]], bias), DENSE_ACTIVATIONS[name])


def finish(vectors: np.ndarray, dense: tuple[Dense, ...], *, truncate_dim: int | None, normalize: bool) -> np.ndarray:
    """(rows, dim) f32 -> (rows, truncate_dim or the head's own width) f32, C-contiguous."""
    for layer in dense:
        vectors = np.asarray(ops.linear(vectors, layer.weight, activation=layer.activation))
    vectors = np.ascontiguousarray(vectors[:, :truncate_dim])
    return unit_length(vectors) if normalize else vectors


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Each row of (rows, dim) divided by its length; a row of zeros stays."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return vectors / np.maximum(lengths, vectors.dtype.type(SMALLEST_NORM))[:, None]
