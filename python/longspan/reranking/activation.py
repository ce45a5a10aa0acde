"""From logits to scores, as a cross-encoder's files or its caller say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError

ActivationName = Literal["identity", "sigmoid"]
# A name, or the caller's own function of the logits, (n, labels) f32, in the shape that it is given.
ActivationFn: TypeAlias = "ActivationName | Callable[[np.ndarray], np.ndarray]"

# The last part of a dotted path. Nothing is imported by what a file says.
NAMES: Final[dict[str, ActivationName]] = {"Identity": "identity", "Sigmoid": "sigmoid"}
TORCH: Final = "torch."


def default_activation(checkpoint: Checkpoint, num_labels: int) -> ActivationName:
    """What the files ask for; where they say nothing sigmoid for one label, and the logits for several.

    Raises: CheckpointError, they ask for a function that is not known here.
    """
    path = checkpoint.activation_fn
    if path is None:
        return "sigmoid" if num_labels == 1 else "identity"
    name = path.rpartition(".")[2]
    if not path.startswith(TORCH) or name not in NAMES:
        known = ", ".join(f"torch.nn.{name}" for name in NAMES)
        raise CheckpointError(f"{checkpoint.folder}: the activation of the scores must be one of {known}, got {path!r}")
    return NAMES[name]


def checked_activation(caller: str, activation: ActivationFn | None, default: ActivationName) -> ActivationFn:
    """The caller's, or the model's where it gives none; ValueError for a name that is not known."""
    if activation is None:
        return default
    if isinstance(activation, str) and activation.lower() in ("identity", "sigmoid"):
        return "sigmoid" if activation.lower() == "sigmoid" else "identity"
    if not callable(activation):
        raise ValueError(f"{caller}: activation_fn must be 'identity', 'sigmoid' or a function, got {activation!r}")
    return activation


def activated(logits: np.ndarray, activation: ActivationFn) -> np.ndarray:
    """(n, labels) f32 of the same shape."""
    if activation == "identity":
        return logits
    if activation == "sigmoid":
        return (1 / (1 + np.exp(-logits.astype(np.float64).clip(-700, 700)))).astype(np.float32)
    assert not isinstance(activation, str)
    scores = np.asarray(activation(logits), np.float32)
    if scores.shape != logits.shape:
        raise ValueError(f"activation_fn must keep the shape {logits.shape} of the logits, got {scores.shape}")
    return scores


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the labels of each row, (n, labels) f32."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
