"""The kernels of `bench.gpu.smoke`, in their order: what most models use first, what may trap last."""

NAMES = (
    "layer_norm", "rms_norm", "gated", "embed", "rotate", "attention", "attention_alibi", "attention_128",
    "attention_causal_grouped", "attention_window", "attention_table", "attention_listed", "attention_groups",
    "attention_rope_on_load", "attention_f32", "attention_backward", "shrink", "multi_lora", "linear_gelu_tanh",
    "linear_adapters", "product", "product_pair", "pool_mean", "span_mean", "pool_logits", "retrofit_step",
    "group_sums", "maxsim", "maxsim_int8", "maxsim_topk",
    "cuda_binarize", "cuda_span_mean", "cuda_hamming", "cuda_hamming_topk", "attention_sm90",
)  # fmt: skip
