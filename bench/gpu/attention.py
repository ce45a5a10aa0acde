"""attention_varlen beside torch's SDPA and FlexAttention: uniform and ragged batches, ALiBi, causal grouped heads.

On a Hopper GPU the CUDA kernel ("longspan sm_90a") is a contestant in a part of its own, `attention_sm90`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import flex_attention

from bench.gpu.contest import OURS, Call, Row, Setting, contest
from longspan import ops
from longspan.kernels.attention_varlen import attention_varlen
from longspan.kernels.attention_varlen_forward import CONFIGS, Config

try:  # torch 2.10 and newer
    from torch.nn.attention.varlen import varlen_attn
except ImportError:
    varlen_attn = None

TARGETS = {512: 340, 4096: 400, 16384: 430}  # TFLOP/s on an H100, head_dim 64, ALiBi
FLEX = 4096  # the one length that FlexAttention is compiled for: it takes half a minute
LIMIT = 1e-2  # of bf16, relative to the truth's norm
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def ours(
    rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    lengths: list[int],
    slopes: torch.Tensor | None = None,
    causal: bool = False,
    config: Config | None = None,
) -> Call:
    """The op on packed rows (total, heads, head_dim)."""
    offsets = torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32, device=rows[0].device)
    nothing = {
        "cos": None,
        "sin": None,
        "interleaved": False,
        "rotary_by_key": False,
        "bias_table": None,
        "window": None,
    }
    options = {**nothing, "slopes": slopes, "causal": causal, "softmax_scale": None, "out": None, "config": config}
    return lambda: attention_varlen(*rows, offsets, offsets, **options)


def sm90(
    setting: Setting,
    rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    lengths: list[int],
    slopes: torch.Tensor | None = None,
    causal: bool = False,
) -> dict[str, Call]:
    """The CUDA kernel on the same rows; nothing in the interpreter, or where another part has it. Where it refuses, its
    reason is printed."""
    if setting.dry or not setting.is_last:
        return {}
    offsets = torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32, device=rows[0].device)
    options = {"slopes": slopes, "causal": causal, "backend": "cuda_sm90"}
    return {"longspan sm_90a": lambda: ops.attention_varlen(*rows, offsets, offsets, **options)}


def padded(rows: tuple[torch.Tensor, ...], length: int) -> list[torch.Tensor]:
    """The same rows as (batch, heads, length, head_dim), as peers take them."""
    return [x.unflatten(0, (-1, length)).transpose(1, 2).contiguous() for x in rows]


def packed(call: Call) -> Call:
    """A peer's result as packed rows, outside of what matters: a transposed view."""
    return lambda: call().transpose(1, 2).flatten(0, 1)


def sdpa(backend: SDPBackend, rows: list[torch.Tensor], causal: bool, grouped: bool) -> Call:
    def call() -> torch.Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(*rows, is_causal=causal, enable_gqa=grouped)

    return packed(call)


def flex(setting: Setting, rows: list[torch.Tensor], slopes: torch.Tensor) -> Call:
    run: Callable[..., torch.Tensor] = flex_attention if setting.dry else torch.compile(flex_attention, dynamic=False)

    def alibi(score: torch.Tensor, _b: object, h: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        return score - slopes[h] * (i - j).abs()

    return packed(lambda: run(*rows, score_mod=alibi))


def truth_of(rows: list[torch.Tensor], slopes: torch.Tensor | None, causal: bool) -> torch.Tensor:
    """In f32 by plain matrix products, one sequence and one head at a time; packed rows."""
    q, k, v = rows
    out = torch.empty(q.shape, dtype=torch.float32, device=q.device)
    places = torch.arange(q.shape[2], device=q.device)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            of_keys = h * k.shape[1] // q.shape[1]
            scores = q[b, h].float() @ k[b, of_keys].float().T / math.sqrt(q.shape[3])
            if slopes is not None:
                scores -= slopes[h] * (places[:, None] - places).abs()
            if causal:
                scores.masked_fill_(places > places[:, None], -torch.inf)
            out[b, h] = scores.softmax(-1) @ v[b, of_keys].float()
    return out.transpose(1, 2).flatten(0, 1)


def uniform(setting: Setting) -> Iterator[Row]:
    """ALiBi at head_dim 64, 16k tokens in all; SDPA runs without a bias."""
    total, heads = setting.size(16384, 128), setting.size(12, 2)
    slopes = 2.0 ** -torch.arange(1, heads + 1, device=setting.device)
    for real, target in TARGETS.items():
        length = setting.size(real, 64)
        rows = tuple(setting.normal(total, heads, 64) for _ in range(3))
        wide = padded(rows, length)
        work = {"work": 4.0 * total * length * heads * 64, "unit": "TFLOP/s", "limit": LIMIT}
        with_bias = {
            OURS: ours(rows, [length] * (total // length), slopes),
            **sm90(setting, rows, [length] * (total // length), slopes),
        }
        goal = f"H100: >= {target} TFLOP/s"
        yield from contest(
            setting, f"attention 64 ALiBi {real}", with_bias, truth_of(wide, slopes, False), **work, target=goal
        )
        calls = {OURS: ours(rows, [length] * (total // length))}
        calls |= sm90(setting, rows, [length] * (total // length))
        calls |= {f"SDPA {name}": sdpa(backend, wide, False, False) for name, backend in BACKENDS.items()}
        plain = truth_of(wide, None, False)
        yield from contest(setting, f"attention 64 {real}", calls, plain, **work, target=">= SDPA")


def ragged(setting: Setting) -> Iterator[Row]:
    """Lognormal lengths beside 256 for all: what raggedness costs per FLOP."""
    heads, total = setting.size(12, 2), setting.size(16384, 300)
    slopes = 2.0 ** -torch.arange(1, heads + 1, device=setting.device)
    lengths = ragged_lengths(total)
    for name, of in (("256", [setting.size(256, 64)] * max(1, total // 256)), ("16..512", lengths)):
        rows = tuple(setting.normal(sum(of), heads, 64) for _ in range(3))
        pairs = float(np.square(np.array(of, float)).sum())
        bounds = np.cumsum([0, *of])
        truths = [truth_of(padded(tuple(x[a:b] for x in rows), b - a), slopes, False) for a, b in pairwise(bounds)]
        goal = "" if name == "256" else ">= 0.85x the rate of 256"
        calls = {OURS: ours(rows, of, slopes)} | sm90(setting, rows, of, slopes)
        how = {"work": 4 * pairs * heads * 64, "unit": "TFLOP/s", "limit": LIMIT, "target": goal}
        yield from contest(setting, f"attention 64 ALiBi lengths {name}", calls, torch.cat(truths), **how)


def causal(setting: Setting) -> Iterator[Row]:
    """head_dim 128, causal, four query heads to a key head."""
    total, heads = setting.size(16384, 128), setting.size(16, 4)
    for real in (2048, 8192):
        length = setting.size(real, 64)
        rows = (setting.normal(total, heads, 128), *(setting.normal(total, heads // 4, 128) for _ in range(2)))
        wide = padded(rows, length)
        calls = {OURS: ours(rows, [length] * (total // length), causal=True)}
        calls |= sm90(setting, rows, [length] * (total // length), causal=True)
        calls |= {f"SDPA {name}": sdpa(backend, wide, True, True) for name, backend in BACKENDS.items()}
        how = {"work": 2.0 * total * (length + 1) * heads * 128, "unit": "TFLOP/s", "limit": LIMIT, "target": ">= SDPA"}
        yield from contest(setting, f"attention 128 causal grouped {real}", calls, truth_of(wide, None, True), **how)


def varlen(setting: Setting) -> Iterator[Row]:
    """Ragged lengths without a bias beside torch's own packed attention, which has none."""
    heads, total = setting.size(12, 2), setting.size(16384, 300)
    lengths = ragged_lengths(total)
    rows = tuple(setting.normal(sum(lengths), heads, 64) for _ in range(3))
    bounds = np.cumsum([0, *lengths])
    truths = [truth_of(padded(tuple(x[a:b] for x in rows), b - a), None, False) for a, b in pairwise(bounds)]
    calls = {OURS: ours(rows, lengths)}
    if not setting.dry and varlen_attn is not None:
        offsets = torch.tensor(bounds, dtype=torch.int32, device=rows[0].device)
        longest = max(lengths)
        calls["torch varlen_attn"] = lambda: varlen_attn(*rows, offsets, offsets, longest, longest)
    work = 4 * float(np.square(np.array(lengths, float)).sum()) * heads * 64
    how = {"work": work, "unit": "TFLOP/s", "limit": LIMIT, "target": ">= torch's"}
    yield from contest(setting, "attention 64 lengths 16..512, no bias", calls, torch.cat(truths), **how)


def ragged_lengths(total: int) -> list[int]:
    """Lognormal ones from 16 to 512, of some more tokens in all."""
    drawn = np.clip(np.random.default_rng(0).lognormal(4.7, 0.9, 1000), 16, 512).astype(int)
    found: list[int] = drawn[: int(np.searchsorted(np.cumsum(drawn), total)) + 1].tolist()
    return found


def configs(setting: Setting) -> Iterator[Row]:
    """Every tile size for ALiBi at length 4k: the first is the default, a faster one should take its place."""
    total, heads = setting.size(16384, 128), setting.size(12, 2)
    slopes = 2.0 ** -torch.arange(1, heads + 1, device=setting.device)
    length = setting.size(4096, 64)
    for head_dim in (64, 128):
        rows = tuple(setting.normal(total, heads, head_dim) for _ in range(3))
        truth = truth_of(padded(rows, length), slopes, False)
        default, *others = CONFIGS[head_dim]
        calls = {OURS: ours(rows, [length] * (total // length), slopes, config=default)}
        for other in others:
            tile = f"{other.block_m}x{other.block_n} {other.warps}w {other.stages}s {other.edge_stages}e"
            calls[tile] = ours(rows, [length] * (total // length), slopes, config=other)
        how = {"work": 4.0 * total * length * heads * head_dim, "unit": "TFLOP/s", "limit": LIMIT}
        yield from contest(setting, f"attention {head_dim} ALiBi 4096, tiles", calls, truth, **how)


def compiled(setting: Setting) -> Iterator[Row]:
    """FlexAttention with ALiBi, whose compiling takes half a minute: last, as it may take what time is left."""
    total, heads, length = setting.size(16384, 128), setting.size(12, 2), setting.size(FLEX, 64)
    slopes = 2.0 ** -torch.arange(1, heads + 1, device=setting.device)
    rows = tuple(setting.normal(total, heads, 64) for _ in range(3))
    wide = padded(rows, length)
    calls = {OURS: ours(rows, [length] * (total // length), slopes), "FlexAttention": flex(setting, wide, slopes)}
    how = {"work": 4.0 * total * length * heads * 64, "unit": "TFLOP/s", "limit": LIMIT}
    case = f"attention 64 ALiBi {FLEX} beside FlexAttention"
    yield from contest(setting, case, calls, truth_of(wide, slopes, False), **how, target="1.3x FlexAttention")


def rows(setting: Setting) -> Iterator[Row]:
    """All of it."""
    for part in (uniform, ragged, varlen, causal, configs, compiled):
        yield from part(setting)
