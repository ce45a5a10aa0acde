"""The forward pass of attention_varlen on a GPU: which tiles it takes, and its launch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from longspan.kernels.attention_varlen_kernel import attention_varlen_kernel
from longspan.kernels.launch import Launcher, architecture, num_tiles, on_device, power_of_2
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


@dataclass(frozen=True, slots=True)
class Tiles:
    """Tiles of `rows` queries at most, listed on the host: as the kernel's header has them. `spans` (total, 2) int32 is
    given if some tile holds several sequences."""

    list: torch.Tensor
    spans: torch.Tensor | None
    rows: int


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


def config_for(q: torch.Tensor, num_sequences: int, rotates_on_load: bool = False, has_window: bool = False) -> Config:
    """The tile sizes of a call that names none; known from shapes alone, so that nothing waits for the GPU."""
    is_short = q.shape[0] <= SHORT * num_sequences
    return tile_config(q.dtype, q.shape[-1], architecture(q.device), is_short, rotates_on_load, has_window)


@functools.cache
def tile_config(
    dtype: torch.dtype,
    head_dim: int,
    arch: int,
    is_short: bool,
    rotates_on_load: bool = False,
    has_window: bool = False,
) -> Config:
    """`config_for`, of what it looks at."""
    if dtype == torch.float32:  # no tensor cores, twice the registers
        return Config(32, 32, 4, 2)
    block_d = power_of_2(head_dim, 32)
    config = AMPERE[block_d] if arch < 90 else CONFIGS[block_d][0]
    # With a window most blocks of keys are edges, so these need a pipeline.
    if has_window and 90 <= arch < 100:
        config = replace(config, edge_stages=2)
    if arch >= 100 and head_dim != 80:  # whose masks take registers too: with stages for them it spills
        config = replace(config, edge_stages=config.stages)
    if is_short and block_d <= 128:  # without wgmma the masks of several sequences in a tile want more registers
        has_room = block_d == 32 or (block_d == 64 and arch >= 90)
        config = replace(config, block_m=64, warps=4 if has_room else 8)
        if block_d > 64 and arch != 90:
            config = replace(config, block_n=32)
    if rotates_on_load:  # four loads for each tile of keys: a pipeline of them does not fit in shared memory
        config = Config(64, 32, 8 if arch < 90 and block_d == 128 else 4, 1, 1)
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
    tiles: Tiles | None = None,
) -> None:
    """Fill `out`, and `lse` if it is given; arguments as in the kernel's header. `tiles` are for rows that are their
    own keys: cu_seqlens_k is cu_seqlens_q."""
    total_q, num_sequences = q.shape[0], cu_seqlens_q.shape[0] - 1
    if total_q == 0 or num_sequences == 0:
        return
    cos, sin = options.cos, options.sin
    rotates_on_load = cos is not None and k.shape[0] <= ROTATE_ON_LOAD * num_sequences
    with on_device(q):
        if cos is not None and sin is not None and not rotates_on_load:
            how = {"interleaved": options.interleaved, "by_key": options.rotary_by_key}
            k = rope(k, cu_seqlens_k, cu_seqlens_k, cos, sin, **how)
        has_window = options.window_left is not None
        config = config or config_for(q, num_sequences, rotates_on_load, has_window)
        if tiles is not None:
            config = replace(config, block_m=tiles.rows)
        rows = (q, k, v, cu_seqlens_q, cu_seqlens_k)
        prepared_attention(*rows, options, out, lse, config, tiles, rotates_on_load=rotates_on_load)()


ATTENTION = Launcher(attention_varlen_kernel)


def prepared_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    options: Options,
    out: torch.Tensor,
    lse: torch.Tensor | None,
    config: Config,
    tiles: Tiles | None,
    *,
    rotates_on_load: bool = False,
) -> Callable[[], object]:
    """`attend` on the current device, of rows that are there, to be launched by a call, as often as wanted; keys are
    rotated by then, or rotated on load."""
    total_q, num_heads, head_dim = q.shape
    num_sequences = cu_seqlens_q.shape[0] - 1
    table, cos, left, right = options.bias_table, options.cos, options.window_left, options.window_right
    edge_stages = config.edge_stages
    if table is not None and architecture(q.device) < 90:  # its entries would be read ahead into shared memory too
        edge_stages = 1
    count = num_tiles(total_q, num_sequences, config.block_m) if tiles is None else tiles.list.shape[0]
    listed = (None, None) if tiles is None else (tiles.list, tiles.spans)
    tensors = (q, k, v, out, lse, cu_seqlens_q, cu_seqlens_k, options.slopes, table, cos, options.sin, *listed)
    varying = (num_sequences, 0 if cos is None else cos.shape[0], 0 if lse is None else lse.stride(0))
    reach = 0 if table is None else table.shape[1] // 2
    numbers = (options.softmax_scale * LOG2_E, left, right, reach, *q.stride()[:2], *k.stride()[:2])
    numbers += (*v.stride()[:2], *out.stride()[:2])
    numbers += (0 if table is None else table.stride(0), 0 if cos is None else cos.stride(0))
    half, block_d = 0 if cos is None else cos.shape[1], power_of_2(head_dim, 16)
    tile = (head_dim, block_d, config.block_m, config.block_n, edge_stages)
    turns = (half, options.interleaved, options.rotary_by_key, rotates_on_load)
    constants = (num_heads // k.shape[1], *turns, right == 0, *tile)
    stages = {"num_warps": config.warps, "num_stages": config.stages}
    return ATTENTION.prepared((count, num_heads), tensors, varying, numbers, constants, **stages)
