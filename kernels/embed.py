"""Embeddings on a GPU in one kernel: tables, adapters and the norm that follows them."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from longspan.kernels.launch import Launcher, divided_up, power_of_2

TILE = 4096  # values that a program holds, unless one row alone has more


@dataclass(frozen=True, slots=True, eq=False)
class TableLora:
    """All tasks' adapters of the word embeddings: rows (n, vocab_size, rank), expand (n, rank, dim) with the scaling
    within, and token_type (n, dim), which every token gets."""

    rows: torch.Tensor
    expand: torch.Tensor
    token_type: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)


# embed: out[r] = norm(word[ids[r]] + places[positions[r] + offset] + token_type + adapter t's part), t = lora_ids[r];
# the part is expand[t]^T rows[t, ids[r]] + adapter_type[t]; rows with -1, or a t beyond the tables, have none.
#   word (vocab_size, dim) T   places (positions, dim) T   token_type, weight, bias (dim,) f32   ids, positions,
#   lora_ids (num_rows,) int32   rows (n, vocab_size, rank) T   expand (n, rank, dim) T   adapter_type (n, dim) T
#   out (num_rows, dim) T; all sums in f32, rounded once; whatever may be None is left out
# Grid (ceil(num_rows / ROWS),): a program holds ROWS whole rows.
# Bytes = sizeof(T) * num_rows * dim * (2, 3 with places), and of adapters (rank + 1) * dim from the L2 cache a row;
# FLOPs about 10 a value: under 3 per byte. Limit: memory. On an H200, 16384 tokens of 768: 75 MB, 20 us expected,
# instead of five or six kernels that move 200 MB.
@triton.jit(do_not_specialize=["num_rows"])
def _embed_kernel(
    out_ptr,
    ids_ptr,
    word_ptr,
    positions_ptr,
    places_ptr,
    token_type_ptr,
    lora_ids_ptr,
    rows_ptr,
    expand_ptr,
    adapter_type_ptr,
    weight_ptr,
    bias_ptr,
    num_rows,
    dim,
    offset,
    num_adapters,
    rank,
    eps,
    stride_out,
    stride_word,
    stride_places,
    stride_rows_n,
    stride_rows_v,
    stride_expand_n,
    stride_type_n,
    CENTRED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    row_ok = row < num_rows
    column = tl.arange(0, BLOCK_DIM)
    in_row = column < dim
    mask = row_ok[:, None] & in_row[None, :]
    token = tl.load(ids_ptr + row, mask=row_ok, other=0).to(tl.int64)
    z = tl.load(word_ptr + token[:, None] * stride_word + column[None, :], mask=mask, other=0.0).to(tl.float32)
    if places_ptr is not None:
        place = tl.load(positions_ptr + row, mask=row_ok, other=0).to(tl.int64) + offset
        z += tl.load(places_ptr + place[:, None] * stride_places + column[None, :], mask=mask, other=0.0).to(tl.float32)
    if token_type_ptr is not None:
        z += tl.load(token_type_ptr + column, mask=in_row, other=0.0).to(tl.float32)[None, :]
    if lora_ids_ptr is not None:
        adapter = tl.load(lora_ids_ptr + row, mask=row_ok, other=-1).to(tl.int64)
        adapts = (adapter >= 0) & (adapter < num_adapters)
        own = mask & adapts[:, None]
        part = adapter_type_ptr + adapter[:, None] * stride_type_n + column[None, :]
        z += tl.load(part, mask=own, other=0.0).to(tl.float32)
        for r in range(0, rank):
            shrunk = tl.load(rows_ptr + adapter * stride_rows_n + token * stride_rows_v + r, mask=adapts, other=0.0)
            part = expand_ptr + adapter[:, None] * stride_expand_n + r * dim + column[None, :]
            z += shrunk.to(tl.float32)[:, None] * tl.load(part, mask=own, other=0.0).to(tl.float32)
    if weight_ptr is not None:
        if CENTRED:
            mean = tl.sum(z, axis=1) / dim
            z = tl.where(mask, z - mean[:, None], 0.0)
        scale = tl.div_rn(1.0, tl.sqrt_rn(tl.sum(z * z, axis=1) / dim + eps))
        z = z * scale[:, None] * tl.load(weight_ptr + column, mask=in_row, other=0.0).to(tl.float32)[None, :]
        if bias_ptr is not None:
            z += tl.load(bias_ptr + column, mask=in_row, other=0.0).to(tl.float32)[None, :]
    tl.store(out_ptr + row[:, None] * stride_out + column[None, :], z.to(out_ptr.dtype.element_ty), mask=mask)


EMBED = Launcher(_embed_kernel)


def embed(
    ids: torch.Tensor,
    word: torch.Tensor,
    out: torch.Tensor,
    *,
    positions: torch.Tensor | None = None,
    places: torch.Tensor | None = None,
    offset: int = 0,
    token_type: torch.Tensor | None = None,
    lora_ids: torch.Tensor | None = None,
    adapters: TableLora | None = None,
    norm: tuple[torch.Tensor, torch.Tensor | None] | None = None,
    eps: float = 0.0,
    centred: bool = True,
) -> None:
    """As the kernel's header, on the current device, into `out`, whose last axis is contiguous, as all others' are.

    Args:
        positions: of `places`; both or neither.
        lora_ids: of `adapters`; both or neither.
        norm: weight and bias, or None for no norm; `centred` for layer_norm, else rms_norm, which has no bias.
    """
    num_rows, dim = out.shape
    if num_rows == 0:
        return
    rows, block, warps = _tile_of(dim)
    weight, bias = (None, None) if norm is None else norm
    parts: tuple[torch.Tensor | None, ...] = (None, None, None, None)
    numbers: tuple[int, ...] = (0, 0, 0)
    num_adapters = rank = 0
    if adapters is not None and lora_ids is not None:
        num_adapters, _, rank = adapters.rows.shape
        parts = (lora_ids, adapters.rows, adapters.expand, adapters.token_type)
        numbers = (*adapters.rows.stride()[:2], adapters.expand.stride(0))
    tensors = (out, ids, word, positions, places, token_type, *parts, weight, bias)
    strides = (out.stride(0), word.stride(0), 0 if places is None else places.stride(0), *numbers)
    fixed = (dim, offset, num_adapters, rank, eps, *strides, dim if adapters is not None else 0)
    EMBED((divided_up(num_rows, rows),), tensors, (num_rows,), fixed, (centred, rows, block), num_warps=warps)


@functools.cache
def _tile_of(dim: int) -> tuple[int, int, int]:
    """(rows, columns) of a program's tile, and its warps."""
    block = power_of_2(dim, 16)
    rows = max(1, TILE // block)
    return rows, block, min(16, max(4, rows * block // 1024))
