"""The compiled kernels. Call them through `longspan.ops`, which checks what they are given."""

from collections.abc import Sequence

import numpy as np

def isa() -> str: ...
def available_isas() -> list[str]: ...
def set_isa(name: str) -> None: ...
def num_threads() -> int: ...
def set_num_threads(limit: int) -> int: ...
def layer_norm(
    x: np.ndarray,
    residual: np.ndarray | None,
    weight: np.ndarray,
    bias: np.ndarray | None,
    eps: float,
    is_centred: bool,
    out: np.ndarray,
) -> None: ...
def pool_mean(hidden: np.ndarray, cu_seqlens: np.ndarray, out: np.ndarray) -> None: ...
def attention_varlen(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    cu_seqlens_q: np.ndarray,
    cu_seqlens_k: np.ndarray,
    slopes: np.ndarray | None,
    cos: np.ndarray | None,
    sin: np.ndarray | None,
    interleaved: bool,
    bias_table: np.ndarray | None,
    left: int | None,
    right: int | None,
    softmax_scale: float,
    out: np.ndarray,
    dtype: str = "float32",
    rotary_by_key: bool = False,
) -> None: ...
def attention_reads_bf16() -> bool: ...
def multiplies_bf16() -> bool: ...
def linear(
    x: np.ndarray,
    weight: PackedLinear,
    activation: str | None,
    residual: np.ndarray | None,
    out: np.ndarray,
    lora: PackedLora | None = None,
    lora_ids: np.ndarray | None = None,
) -> None: ...
def pool_logits(
    x: np.ndarray, weight: PackedLinear, cu_seqlens: np.ndarray, is_sum: bool, saturation: int, out: np.ndarray
) -> None: ...
def multi_lora(
    x: np.ndarray,
    lora_a: np.ndarray,
    lora_b: np.ndarray,
    lora_ids: np.ndarray,
    scaling: Sequence[float],
    out: np.ndarray,
) -> None: ...
def binarize(x: np.ndarray, thresholds: np.ndarray | None, codes: np.ndarray) -> None: ...
def embed(
    words: np.ndarray,
    ids: np.ndarray,
    places: np.ndarray | None,
    positions: np.ndarray | None,
    offset: int,
    token_type: np.ndarray | None,
    out: np.ndarray,
    token_types: np.ndarray | None = None,
    types: np.ndarray | None = None,
) -> None: ...
def hamming(queries: np.ndarray, codes: np.ndarray, out: np.ndarray) -> None: ...
def hamming_topk(
    queries: np.ndarray,
    codes: np.ndarray,
    filter: np.ndarray | None,
    tie_ranks: np.ndarray | None,
    distances: np.ndarray,
    rows: np.ndarray,
) -> None: ...
def rescore(
    queries: np.ndarray,
    candidates: np.ndarray,
    vectors: np.ndarray | None,
    levels: np.ndarray | None,
    scales: np.ndarray | None,
    codes: np.ndarray | None,
    scores: np.ndarray,
    rows: np.ndarray,
) -> None: ...
def retrofit_step(
    vectors: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    weights: np.ndarray,
    base: np.ndarray | None,
    anchor: np.ndarray | None,
    sums: np.ndarray | None,
    sum_indptr: np.ndarray | None,
    sum_indices: np.ndarray | None,
    sum_weights: np.ndarray | None,
    scale: np.ndarray | None,
    divisor: np.ndarray | None,
    squares: np.ndarray | None,
    out: np.ndarray,
) -> None: ...
def group_sums(
    vectors: np.ndarray, indptr: np.ndarray, indices: np.ndarray, scale: np.ndarray | None, out: np.ndarray
) -> None: ...
def span_mean(hidden: np.ndarray, spans: np.ndarray, normalize: bool, out: np.ndarray) -> None: ...
def invert(
    offsets: np.ndarray, terms: np.ndarray, values: np.ndarray, dim: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]: ...
def posting_rows(postings: tuple[object, ...], block: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...
def posting_lists(postings: tuple[object, ...], terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...
def postings_topk(
    postings: tuple[object, ...],
    offsets: np.ndarray,
    terms: np.ndarray,
    values: np.ndarray,
    wanted: np.ndarray | None,
    ranks: np.ndarray | None,
    scores: np.ndarray,
    rows: np.ndarray,
) -> None: ...
def maxsim(
    q: np.ndarray,
    d: np.ndarray,
    format: str,
    scales: np.ndarray | None,
    cu_seqlens_q: np.ndarray,
    cu_seqlens_d: np.ndarray,
    out: np.ndarray,
) -> None: ...
def maxsim_pairs(
    q: np.ndarray,
    d: np.ndarray,
    format: str,
    scales: np.ndarray | None,
    cu_seqlens_q: np.ndarray,
    cu_seqlens_d: np.ndarray,
    pairs: np.ndarray,
    out: np.ndarray,
) -> None: ...
def maxsim_topk(
    q: np.ndarray,
    d: np.ndarray,
    format: str,
    scales: np.ndarray | None,
    cu_seqlens_q: np.ndarray,
    cu_seqlens_d: np.ndarray,
    scores: np.ndarray,
    rows: np.ndarray,
) -> None: ...

class PackedLinear:
    def __init__(
        self, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray | None], gate: str | None, dtype: str
    ) -> None: ...
    def unpack(self) -> tuple[np.ndarray, np.ndarray]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def in_features(self) -> int: ...
    @property
    def out_features(self) -> int: ...
    @property
    def gate(self) -> str | None: ...
    @property
    def isa(self) -> str: ...
    @property
    def nbytes(self) -> int: ...

class PackedLora:
    def __init__(
        self, lora_a: np.ndarray, lora_b: np.ndarray, scaling: Sequence[float], base: PackedLinear
    ) -> None: ...
    def unpack(self) -> tuple[np.ndarray, np.ndarray]: ...
    @property
    def num_adapters(self) -> int: ...
    @property
    def rank(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def nbytes(self) -> int: ...

class RowChain:
    def __init__(self, num_bound: int) -> None: ...
    def multiply(
        self,
        source: int,
        weight: PackedLinear,
        lora: PackedLora | None,
        residual: int | None,
        target: int,
        activation: str | None = None,
    ) -> None: ...
    def mlp(
        self,
        source: int,
        up: PackedLinear,
        up_lora: PackedLora | None,
        activation: str | None,
        down: PackedLinear,
        down_lora: PackedLora | None,
        residual: int | None,
        target: int,
    ) -> None: ...
    def norm(
        self,
        source: int,
        weight: np.ndarray,
        bias: np.ndarray | None,
        eps: float,
        is_centred: bool,
        residual: int | None,
        target: int,
        first_column: int,
        columns: int,
    ) -> None: ...
    def add(self, source: int, residual: int, target: int) -> None: ...
    def run(self, bound: Sequence[np.ndarray], lora_ids: np.ndarray | None = None) -> None: ...
