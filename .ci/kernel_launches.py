"""The launches that `compile_kernels.py` compiles: every kernel with the dtypes and shapes that real models bring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from longspan.kernels import (
    attention_varlen,
    attention_varlen_forward,
    embed,
    gated,
    layer_norm,
    maxsim,
    maxsim_kernel,
    multi_lora,
    pool_logits,
    pool_mean,
    product,
    retrofit_step,
    rope,
    span_mean,
)

F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32
TOKENS = 1024
OFFSETS = torch.arange(0, TOKENS + 1, 512, dtype=torch.int32)
SPANS = torch.stack([OFFSETS[:-1], OFFSETS[1:]], 1).contiguous()


@dataclass(frozen=True, slots=True)
class Case:
    """A call that launches kernels; `hot`: none of them may spill."""

    name: str
    call: Callable[[], object]
    hot: bool = True


def rows(*shape: int, dtype: torch.dtype = BF16) -> torch.Tensor:
    """Memory alone: nothing reads it."""
    return torch.empty(shape, dtype=dtype)


def attention(
    name: str,
    head_dim: int,
    *,
    dtype: torch.dtype = BF16,
    kv_heads: int = 8,
    config: attention_varlen_forward.Config | None = None,
    offsets: torch.Tensor = OFFSETS,
    hot: bool = True,
    **options: object,
) -> Case:
    nothing = {"slopes": None, "cos": None, "sin": None, "interleaved": False, "bias_table": None}
    nothing |= {"rotary_by_key": False, "causal": False}
    given = {**nothing, "window": None, "softmax_scale": None, "out": None, **options}

    def call() -> None:
        q, k = rows(TOKENS, 8, head_dim, dtype=dtype), rows(TOKENS, kv_heads, head_dim, dtype=dtype)
        attention_varlen.attention_varlen(q, k, k, offsets, offsets, **given, config=config)

    return Case(f"attention {head_dim} {name} {str(dtype)[6:]}", call, hot)


def attention_backward(head_dim: int, dtype: torch.dtype) -> Case:
    def call() -> None:
        q, lse = rows(TOKENS, 8, head_dim, dtype=dtype), rows(8, TOKENS, dtype=F32)
        options = attention_varlen_forward.Options(1.0, slopes=rows(8, dtype=F32), window_right=0)
        attention_varlen.attend_backward(q, q, q, q, q, lse, OFFSETS, OFFSETS, options)

    return Case(f"attention {head_dim} backward {str(dtype)[6:]}", call, hot=False)


def rope_tables(half: int) -> dict[str, torch.Tensor]:
    return {"cos": rows(8192, half, dtype=F32), "sin": rows(8192, half, dtype=F32)}


def rope_by_key(half: int) -> dict[str, object]:
    """The tables of vision towers and of M-RoPE."""
    return {"cos": rows(TOKENS, half, dtype=F32), "sin": rows(TOKENS, half, dtype=F32), "rotary_by_key": True}


def norms(dim: int, dtype: torch.dtype) -> Case:
    def call() -> None:
        x, weight = rows(TOKENS, dim, dtype=dtype), rows(dim, dtype=dtype)
        layer_norm.layer_norm(x, weight, weight, eps=1e-5, residual=x, out=None)
        layer_norm.rms_norm(x, weight, eps=1e-5, residual=None, out=None)

    return Case(f"norms {dim} {str(dtype)[6:]}", call)


def means(dim: int, dtype: torch.dtype) -> Case:
    def call() -> None:
        hidden = rows(TOKENS, dim, dtype=dtype)
        span_mean.span_mean(hidden, SPANS, truncate_dim=None, normalize=True, out=None)
        pool_mean.pool_mean(hidden, OFFSETS)
        span_mean._span_mean_backward_op(rows(2, dim, dtype=F32), hidden, SPANS, False)

    return Case(f"means {dim} {str(dtype)[6:]}", call)


def activations(width: int, gate: str | None, dtype: torch.dtype) -> Case:
    def call() -> None:
        u = rows(TOKENS, width if gate is None else 2 * width, dtype=dtype)
        for activation in ("gelu", "gelu_tanh", "silu"):
            gated.gated(u, rows(u.shape[1], dtype=dtype), activation=activation, gate=gate)

    return Case(f"gated {width} {gate} {str(dtype)[6:]}", call)


def products(gate: str | None, dtype: torch.dtype) -> Case:
    def call() -> None:
        for depth, width, activation in ((768, 3072, "gelu"), (1040, 4096, "gelu_tanh"), (1024, 3072, "silu")):
            outputs = width if gate is None else 2 * width
            x, weight, out = (
                rows(*shape, dtype=dtype) for shape in ((TOKENS, depth), (outputs, depth), (TOKENS, width))
            )
            bias = rows(outputs, dtype=dtype) if activation == "gelu" else None
            residual = rows(TOKENS, width, dtype=dtype) if activation == "silu" else None
            product.launch_product(x, weight, bias, activation, gate, residual, out)

    return Case(f"product {gate} {str(dtype)[6:]}", call)


def adapters(rank: int, dtype: torch.dtype) -> Case:
    def call() -> None:
        x, out, ids = rows(TOKENS, 1024, dtype=dtype), rows(TOKENS, 3072, dtype=dtype), rows(TOKENS, dtype=torch.int32)
        lora_a, lora_b = rows(5, rank, 1024, dtype=dtype), rows(5, 3072, rank, dtype=dtype)
        multi_lora.launch_multi_lora(out, x, lora_a, lora_b, ids, rows(5, dtype=F32))
        added = -(-5 * rank // 16) * 16
        wide = rows(TOKENS, 1024 + added, dtype=dtype)
        multi_lora.launch_shrink(wide[:, :1024], rows(added, 1024, dtype=dtype), rank, ids, wide[:, 1024:])
        tables = embed.TableLora(
            rows(5, 1000, rank, dtype=dtype), rows(5, rank, 1024, dtype=dtype), rows(5, 1024, dtype=dtype)
        )
        norm, word = (rows(1024, dtype=F32), rows(1024, dtype=F32)), rows(1000, 1024, dtype=dtype)
        embed.embed(ids, word, x, token_type=norm[0], lora_ids=ids, adapters=tables, norm=norm, eps=1e-5)

    return Case(f"adapters {rank} {str(dtype)[6:]}", call, hot=dtype != F32)


def embeddings(dim: int, dtype: torch.dtype) -> Case:
    def call() -> None:
        ids, table = rows(TOKENS, dtype=torch.int32), rows(1000, dim, dtype=dtype)
        out, norm = rows(TOKENS, dim, dtype=dtype), (rows(dim, dtype=F32), rows(dim, dtype=F32))
        embed.embed(ids, table, out, positions=ids, places=table, token_type=norm[0], norm=norm, eps=1e-12)
        embed.embed(ids, table, out)

    return Case(f"embed {dim} {str(dtype)[6:]}", call)


def rotations(head_dim: int, interleaved: bool) -> Case:
    def call() -> None:
        tables, ids = rope_tables(head_dim // 2), rows(TOKENS, dtype=torch.int32)
        qkv = rows(TOKENS, 36, head_dim)
        rope.rotate(qkv[:, :24], ids, tables["cos"], tables["sin"], interleaved=interleaved)

    return Case(f"rotate {head_dim} {'interleaved ' if interleaved else ''}bfloat16", call)


def listed(name: str, head_dim: int, dtype: torch.dtype = BF16, **options: object) -> Case:
    """As the engine calls attention: tiles listed, several sequences in some of them."""

    def call() -> None:
        arch = attention_varlen_forward.architecture(torch.device("cpu"))
        window = options.get("window_left") is not None
        for is_short in (False, True):
            config = attention_varlen_forward.tile_config(dtype, head_dim, arch, is_short, False, window)
            spans = rows(TOKENS, 2, dtype=torch.int32) if is_short else None
            tiles = attention_varlen_forward.Tiles(rows(24, 4, dtype=torch.int32), spans, config.block_m)
            q, out = rows(TOKENS, 24, head_dim, dtype=dtype), rows(TOKENS, 8, head_dim, dtype=dtype)
            given = attention_varlen_forward.Options(0.125, **options)
            parts = (q[:, :8], q[:, 8:16], q[:, 16:], OFFSETS, OFFSETS)
            attention_varlen_forward.prepared_attention(*parts, given, out, None, config, tiles)()

    return Case(f"attention {head_dim} listed {name} {str(dtype)[6:]}", call)


def scores(name: str, dim: int, q_dtype: torch.dtype, d_dtype: torch.dtype, num_queries: int) -> Case:
    """`num_queries` of 32 tokens, documents of 256."""

    def call() -> None:
        q, d = rows(32 * num_queries, dim, dtype=q_dtype), rows(4096, dim, dtype=d_dtype)
        offsets = torch.arange(0, len(q) + 1, 32, dtype=torch.int32), torch.arange(0, 4097, 256, dtype=torch.int32)
        scales = rows(4096, dtype=F32) if d_dtype == torch.int8 else None
        maxsim._run(q, d, scales, *offsets, None)
        maxsim._run(q, d, scales, *offsets, rows(64, 2, dtype=torch.int32))
        if name == "":
            maxsim.block_keys(rows(num_queries, 100_000, dtype=F32))
        if name == "wide":
            out = rows(num_queries, 16, dtype=F32)
            maxsim_kernel.launch_maxsim(q, d, scales, *offsets, None, out, maxsim_kernel.WIDE_DOC)
        if name == "backward":
            maxsim.launch_backward(rows(num_queries, 16, dtype=F32), q, d, scales, *offsets)

    hot = name not in ("backward", "wide") and q_dtype != F32 and dim <= 256
    return Case(f"maxsim {dim} {num_queries} {name} {str(q_dtype)[6:]} {str(d_dtype)[6:]}", call, hot)


def attention_cases() -> list[Case]:
    slopes, table = rows(8, dtype=F32), rows(8, 255, dtype=F32)
    short = torch.arange(0, TOKENS + 1, 32, dtype=torch.int32)
    cases = []
    for head_dim in (32, 64, 96, 128):
        cases += [
            attention("plain", head_dim),
            attention("alibi", head_dim, slopes=slopes),
            attention("alibi", head_dim, slopes=slopes, dtype=F16),
            attention("rope once, causal, grouped", head_dim, kv_heads=2, causal=True, **rope_tables(head_dim // 2)),
            attention("rope on load", head_dim, offsets=short, **rope_tables(head_dim // 2)),
            attention("window", head_dim, window=(128, 128)),
        ]
    cases += [
        *(
            listed(name, dim, **more)
            for dim in (32, 64, 96, 128)
            for name, more in (
                ("plain", {}),
                ("alibi", {"slopes": slopes}),
                ("window", {"window_left": 64, "window_right": 64}),
                ("causal", {"window_right": 0}),
            )
        ),
        listed("table", 64, bias_table=table),
        attention("alibi, short", 64, slopes=slopes, offsets=short),
        attention("table", 64, bias_table=table),
        attention("interleaved on load", 64, offsets=short, interleaved=True, **rope_tables(16)),
        attention("2-d rope once, interleaved", 64, interleaved=True, **rope_by_key(32)),
        attention("2-d rope once, halves", 64, **rope_by_key(32)),
        attention("2-d rope once", 80, **rope_by_key(40)),
        attention("2-d rope on load", 80, offsets=short, **rope_by_key(40)),
        attention("m-rope once, causal, grouped", 128, kv_heads=2, causal=True, **rope_by_key(64)),
        attention("plain", 64, dtype=F32, hot=False),
        attention("plain", 256, hot=False),
    ]
    for head_dim, configs in attention_varlen_forward.CONFIGS.items():
        for config in configs[1:]:
            tile = f"{config.block_m}x{config.block_n} {config.warps}w {config.stages}s"
            cases.append(attention(f"alibi {tile}", head_dim, slopes=slopes, config=config, hot=False))
    return [*cases, attention_backward(64, BF16), attention_backward(128, BF16), attention_backward(64, F32)]


def pooled_logits(dtype: torch.dtype) -> Case:
    """SPLADE of BERT's shape."""
    kinds = (("max", "log1p"), ("sum", "log1p"), ("max", "log1p_twice"), ("max", None))

    def call() -> None:
        x, weight, bias = rows(TOKENS, 768, dtype=dtype), rows(30522, 768, dtype=dtype), rows(30522, dtype=dtype)
        for pooling, saturation in kinds if dtype == BF16 else kinds[:1]:
            pool_logits.pool_logits(x, weight, OFFSETS, bias, pooling=pooling, saturation=saturation)

    return Case(f"pool_logits {str(dtype)[6:]}", call)


def retrofit(dim: int, has_all: bool) -> Case:
    def call() -> None:
        indices, weights = rows(8192, dtype=torch.int32), rows(8192, dtype=F32)
        indptr, vectors = torch.arange(0, 8193, 8), rows(TOKENS, dim, dtype=F32)
        nothing = dict.fromkeys(("base", "anchor", "sums", "sum_indptr", "sum_indices", "sum_weights", "scale"))
        if has_all:
            one = rows(TOKENS, dtype=F32)
            nothing = {"base": vectors, "anchor": one, "sums": rows(8, dim, dtype=F32), "sum_indptr": indptr}
            nothing |= {"sum_indices": indices, "sum_weights": weights, "scale": one}
        squares = rows(TOKENS, dtype=torch.float64) if has_all else None
        divisor = None if has_all else rows(TOKENS, dtype=F32)
        given = (vectors, indptr, indices, weights)
        retrofit_step.retrofit_step(*given, **nothing, divisor=divisor, squares=squares, out=None)
        retrofit_step.group_sums(vectors, indptr[:9], indices[:64], scale=nothing["scale"], out=None)

    return Case(f"retrofit {dim} {'all' if has_all else 'plain'}", call)


CASES: list[Case] = [
    *attention_cases(),
    *(norms(dim, dtype) for dim in (128, 768, 1024) for dtype in (F16, BF16, F32)),
    *(activations(3072, gate, dtype) for gate in (None, "first", "second") for dtype in (BF16, F32)),
    *(products(gate, dtype) for gate in (None, "first", "second") for dtype in (F16, BF16, F32)),
    *(embeddings(dim, dtype) for dim in (768, 1024) for dtype in (BF16, F32)),
    *(rotations(dim, interleaved) for dim in (64, 128) for interleaved in (False, True)),
    *(adapters(rank, dtype) for rank in (4, 32) for dtype in (F16, BF16, F32)),
    *(
        scores("", 128, dtype, other, n)
        for dtype, other in ((F16, F16), (BF16, BF16), (F16, torch.int8))
        for n in (1, 32)
    ),
    scores("", 96, F16, F16, 32),
    scores("", 768, F16, F16, 32),
    scores("wide", 128, BF16, BF16, 32),
    scores("backward", 128, F16, F16, 32),
    scores("", 128, F32, F16, 32),
    *(pooled_logits(dtype) for dtype in (F16, BF16, F32)),
    *(retrofit(dim, has_all) for dim in (384, 768) for has_all in (False, True)),
    *(means(dim, dtype) for dim in (768, 1024) for dtype in (BF16, F32)),
]
