"""What `linear` may do with its sums: the names that the op, the models and the GPU's kernels share."""

from __future__ import annotations

from typing import Literal

Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "tanh"]
Gate = Literal["first", "second"]  # the half of a gated layer's outputs that goes through the activation
