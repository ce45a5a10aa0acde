"""The operations, on NumPy arrays or torch tensors; each has a plain version in `longspan.reference`."""

from longspan._core import PackedLinear
from longspan.ops.attention_varlen import attention_varlen
from longspan.ops.layer_norm import layer_norm, rms_norm
from longspan.ops.linear import linear, pack_linear
from longspan.ops.pool_mean import pool_mean

__all__ = ["PackedLinear", "attention_varlen", "layer_norm", "linear", "pack_linear", "pool_mean", "rms_norm"]
