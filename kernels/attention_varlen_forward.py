"""The forward pass of attention_varlen on a GPU: which tiles it takes, and its launch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from longspan.kernels.attention_varlen_kernel import attention_varlen_kernel
from longspan.kernels.launch import LAUNCH, architecture, num_tiles, on_device, power_of_2
from longspan.kernels.rope import rope

LOG2_E = 1.4426950408889634
ROTATE_ON_LOAD = 256  # mean keys a sequence; longer ones are rotated once, before, not once for each tile of queries


@dataclass(frozen=True, slots=True)
class Config:
    """A tile of queries by a tile of keys, warps, and stages of the loads' pipeline: of most blocks, and of those with
    masks. Without a pipeline these leave registers enough for a second program on a Hopper multiprocessor."""

    block_m: int
    block_n: int
    warps: int
    stages: int
    edge_stages: int = 1


@dataclass(frozen=True, slots=True)
class Options:
    """What a call of the op asks for beside its rows; as `longspan.ops.attention_varlen`, limits instead of a mask."""

    softmax_scale: float
    slopes: torch.Tensor | None = None
    bias_table: torch.Tensor | None = None
    cos: torch.Tensor | None = None
    sin: torch.Tensor | None = None
    interleaved: bool = False
    rotary_by_key: bool = False
    window_left: int | None = None  # keys seen before a query's own place; None is all
    window_right: int | None = None


# By head_dim rounded up, the best guess first: what `config=None` takes. The rest are what a bench may try.
CONFIGS: dict[int, tuple[Config, ...]] = {
    32: (Config(128, 64, 4, 3), Config(128, 128, 8, 3), Config(64, 64, 4, 3)),
    64: (Config(128, 64, 8, 3), Config(128, 64, 8, 3, 3), Config(128, 128, 8, 3), Config(64, 64, 4, 3)),
    128: (Config(128, 64, 8, 3), Config(128, 64, 8, 3, 3), Config(128, 128, 8, 2), Config(128, 32, 8, 4)),
    256: (Config(64, 32, 4, 2),),
}
# Without wgmma the accumulators of a tile take more registers; and sm_86 and sm_89 have 99 KB of shared memory.
AMPERE: dict[int, Config] = {
    32: Config(128, 64, 4, 3, 3),
    64: Config(128, 64, 8, 3, 3),
    128: Config(64, 32, 4, 3, 3),
    256: Config(32, 32, 4, 2),
}
SHORT = 64  # mean queries a sequence up to which tiles have 64 rows


def config_for(q: torch.Tensor, num_sequences: int, rotates_on_load: bool = False) -> Config:
    """The tile sizes of a call that names none; known from shapes alone, so that nothing waits for the GPU."""
    if q.dtype == torch.float32:  # no tensor cores, twice the registers
        return Config(32, 32, 4, 2)
    block_d = power_of_2(q.shape[-1], 32)
    arch = architecture(q)
    config = AMPERE[block_d] if arch < 90 else CONFIGS[block_d][0]
    if arch >= 100:
        config = replace(config, edge_stages=config.stages)
    if block_d <= 64 and q.shape[0] <= SHORT * num_sequences:
        config = replace(config, block_m=64, warps=4)
    if rotates_on_load:  # four loads for each tile of keys: a pipeline of them does not fit in shared memory
        config = Config(64, 32, 4, 1, 1)
    return config


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    options: Options,
    out: torch.Tensor,
    lse: torch.Tensor | None = None,
    config: Config | None = None,
) -> None:
    """Fill `out`, and `lse` if it is given; arguments as in the kernel's header."""
    total_q, num_heads, head_dim = q.shape
    num_sequences = cu_seqlens_q.shape[0] - 1
    if total_q == 0 or num_sequences == 0:
        return
    cos, sin = options.cos, options.sin
    rotates_on_load = cos is not None and k.shape[0] <= ROTATE_ON_LOAD * num_sequences
    with on_device(q):
        if cos is not None and sin is not None and not rotates_on_load:
            k = rope(
                k, cu_seqlens_k, cu_seqlens_k, cos, sin, interleaved=options.interleaved, by_key=options.rotary_by_key
            )
        config = config or config_for(q, num_sequences, rotates_on_load)
        table = options.bias_table
        if table is not None and architecture(q) < 90:  # its entries would be read ahead into shared memory too
            config = replace(config, edge_stages=1)
        attention_varlen_kernel[(num_tiles(total_q, num_sequences, config.block_m), num_heads)](
            q,
            k,
            v,
            out,
            lse,
            cu_seqlens_q,
            cu_seqlens_k,
            options.slopes,
            table,
            cos,
            sin,
            num_sequences,
            options.softmax_scale * LOG2_E,
            options.window_left,
            options.window_right,
            0 if table is None else table.shape[1] // 2,
            0 if cos is None else cos.shape[0],
            *q.stride()[:2],
            *k.stride()[:2],
            *v.stride()[:2],
            *out.stride()[:2],
            0 if lse is None else lse.stride(0),
            0 if table is None else table.stride(0),
            0 if cos is None else cos.stride(0),
            GROUP=num_heads // k.shape[1],
            HALF=0 if cos is None else cos.shape[1],
            INTERLEAVED=options.interleaved,
            ROTARY_BY_KEY=options.rotary_by_key,
            ROTATE_K=rotates_on_load,
            LAST_FIRST=options.window_right == 0,
            HEAD_DIM=head_dim,
            BLOCK_D=power_of_2(head_dim, 16),
            BLOCK_M=config.block_m,
            BLOCK_N=config.block_n,
            EDGE_STAGES=config.edge_stages,
            num_warps=config.warps,
            num_stages=config.stages,
            **LAUNCH,
        )
