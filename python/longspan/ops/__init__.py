"""The operations, on NumPy arrays or torch tensors; each has a plain version in `longspan.reference`."""

from longspan._core import PackedLinear, PackedLora
from longspan.ops.attention_varlen import attention_varlen
from longspan.ops.binarize import binarize
from longspan.ops.hamming import hamming, hamming_topk
from longspan.ops.layer_norm import layer_norm, rms_norm
from longspan.ops.linear import linear, pack_linear
from longspan.ops.maxsim import maxsim, maxsim_pairs, maxsim_topk
from longspan.ops.maxsim_tokens import Bfloat16Tokens, Int8Tokens, to_bfloat16, to_int8
from longspan.ops.multi_lora import multi_lora, pack_lora
from longspan.ops.pool_logits import pool_logits
from longspan.ops.pool_mean import pool_mean
from longspan.ops.rescore import rescore
from longspan.ops.retrofit_step import group_sums, retrofit_step
from longspan.ops.span_mean import span_mean

__all__ = [
    "Bfloat16Tokens",
    "Int8Tokens",
    "PackedLinear",
    "PackedLora",
    "attention_varlen",
    "binarize",
    "group_sums",
    "hamming",
    "hamming_topk",
    "layer_norm",
    "linear",
    "maxsim",
    "maxsim_pairs",
    "maxsim_topk",
    "multi_lora",
    "pack_linear",
    "pack_lora",
    "pool_logits",
    "pool_mean",
    "rescore",
    "retrofit_step",
    "rms_norm",
    "span_mean",
    "to_bfloat16",
    "to_int8",
]
