"""The truth: each op in plain NumPy, slow and short, in the dtype that it is given (float64 in, float64 maths)."""

from longspan.reference.attention_varlen import attention_varlen
from longspan.reference.layer_norm import layer_norm, rms_norm
from longspan.reference.linear import linear
from longspan.reference.pool_mean import pool_mean

__all__ = ["attention_varlen", "layer_norm", "linear", "pool_mean", "rms_norm"]
