"""The truth: each op in plain NumPy, slow and short, in the dtype that it is given (float64 in, float64 maths)."""

from longspan.reference.attention_varlen import attention_varlen
from longspan.reference.binarize import binarize
from longspan.reference.hamming import hamming, hamming_topk
from longspan.reference.layer_norm import layer_norm, rms_norm
from longspan.reference.linear import linear
from longspan.reference.maxsim import maxsim, maxsim_pairs, maxsim_topk
from longspan.reference.multi_lora import multi_lora
from longspan.reference.pool_logits import pool_logits
from longspan.reference.pool_mean import pool_mean
from longspan.reference.postings import sparse_scores, sparse_topk
from longspan.reference.rescore import rescore
from longspan.reference.retrofit_step import group_sums, retrofit_step
from longspan.reference.span_mean import span_mean, span_mean_backward

__all__ = [
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
    "pool_logits",
    "pool_mean",
    "rescore",
    "retrofit_step",
    "rms_norm",
    "span_mean",
    "span_mean_backward",
    "sparse_scores",
    "sparse_topk",
]
