"""The CUDA kernels. Call them through `longspan.ops`, which checks what they are given.

Tensors come as DLPack capsules on one CUDA device, `stream` as the address of a cudaStream_t.
"""

MAX_CODE_BYTES: int
MAX_SORTED: int

def attention_varlen_workspace(total_q: int, num_sequences: int) -> int: ...
def attention_varlen(
    q: object,
    k: object,
    v: object,
    cu_seqlens_q: object,
    cu_seqlens_k: object,
    slopes: object | None,
    softmax_scale: float,
    causal: bool,
    workspace: object,
    out: object,
    lse: object | None,
    stream: int,
) -> None: ...
def binarize(x: object, thresholds: object | None, codes: object, stream: int) -> None: ...
def hamming(q: object, codes: object, out: object, stream: int) -> None: ...
def hamming_topk_workspace(q: object, codes: object, k: int) -> int: ...
def hamming_topk(
    q: object,
    codes: object,
    filter: object | None,
    keys: object,
    workspace: object,
    stream: int,
) -> None: ...
def hamming_results(keys: object, is_sorted: bool, distances: object, rows: object, stream: int) -> None: ...
def span_mean(hidden: object, spans: object, normalize: bool, out: object, stream: int) -> None: ...
