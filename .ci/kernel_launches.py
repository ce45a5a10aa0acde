"""The launches that `compile_kernels.py` compiles: every kernel with the dtypes and shapes that real models bring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from longspan.kernels import attention_varlen, attention_varlen_forward, layer_norm, pool_mean, span_mean

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
    nothing = {"slopes": None, "cos": None, "sin": None, "interleaved": False, "bias_table": None, "causal": False}
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
        attention("alibi, short", 64, slopes=slopes, offsets=short),
        attention("table", 64, bias_table=table),
        attention("interleaved on load", 64, offsets=short, interleaved=True, **rope_tables(16)),
        attention("plain", 64, dtype=F32, hot=False),
        attention("plain", 256, hot=False),
    ]
    for head_dim, configs in attention_varlen_forward.CONFIGS.items():
        for config in configs[1:]:
            tile = f"{config.block_m}x{config.block_n} {config.warps}w {config.stages}s"
            cases.append(attention(f"alibi {tile}", head_dim, slopes=slopes, config=config, hot=False))
    return [*cases, attention_backward(64, BF16), attention_backward(128, BF16), attention_backward(64, F32)]


CASES: list[Case] = [
    *attention_cases(),
    *(norms(dim, dtype) for dim in (128, 768, 1024) for dtype in (F16, BF16, F32)),
    *(means(dim, dtype) for dim in (768, 1024) for dtype in (BF16, F32)),
]
