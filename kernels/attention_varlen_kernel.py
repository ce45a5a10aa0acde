"""The forward kernel of attention_varlen on a GPU: one pass over the keys of a sequence for a tile of its queries."""

from __future__ import annotations

import triton
import triton.language as tl

from longspan.kernels.launch import find_sequence
from longspan.kernels.rope import load_rows


@triton.jit
def bounds_of(low, high, len_k, window_left, window_right, reach, BIASED: tl.constexpr, BLOCK_N: tl.constexpr):
    """Blocks of keys for queries that stand at low .. high: (first, full, near, far, full_end, end).

    Blocks first .. end hold every key that some query sees. All queries see all keys of full .. full_end. Of these,
    in blocks before `near` and from `far` on, every key is at least `reach` before or behind every query, so that
    the bias is a term of the key plus a term of the query (plus a constant).
    """
    first, full, end, full_end = 0, 0, tl.cdiv(len_k, BLOCK_N), len_k // BLOCK_N
    if window_left is not None:
        first = tl.maximum(low - window_left, 0) // BLOCK_N
        full = tl.cdiv(tl.maximum(high - window_left, 0), BLOCK_N)
    if window_right is not None:
        end = tl.cdiv(tl.minimum(tl.maximum(high + window_right + 1, 0), len_k), BLOCK_N)
        full_end = tl.minimum(tl.maximum(low + window_right + 1, 0), len_k) // BLOCK_N
    end = tl.maximum(end, first)
    full = tl.minimum(tl.maximum(full, first), end)
    full_end = tl.minimum(tl.maximum(full_end, full), end)
    near, far = full, full
    if BIASED:
        near = tl.minimum(tl.maximum(tl.maximum(low - reach + 1, 0) // BLOCK_N, full), full_end)
        far = tl.minimum(tl.maximum(tl.cdiv(tl.maximum(high + reach, 0), BLOCK_N), near), full_end)
    return first, full, near, far, full_end, end


@triton.jit
def edge_block(turn, first, full, near, far, full_end):
    """The turn-th block that needs masks or the bias of each pair: those outside full .. full_end, and near .. far."""
    block = first + turn
    block = tl.where(block >= full, block - full + near, block)
    return tl.where((turn >= full - first) & (block >= far), block - far + full_end, block)


@triton.jit
def edge_scores(scores, i, j, lowest, limit, slope, table_ptr, reach, window_left, window_right):
    """Base-2 scores (queries, keys) with the bias of each pair; -inf where a query does not see a key: one outside of
    lowest .. limit, a number or one for each query, or of its window. `lowest` may be None."""
    ahead = j[None, :] - i[:, None]
    if slope is not None:
        scores -= slope * tl.abs(ahead).to(tl.float32)
    if table_ptr is not None:
        entry = tl.minimum(tl.maximum(ahead, -reach), reach) + reach
        scores += tl.load(table_ptr + entry).to(tl.float32) * 1.4426950408889634
    if lowest is None:
        visible = (j < limit)[None, :]
    else:
        visible = (j[None, :] >= lowest[:, None]) & (j[None, :] < limit[:, None])
    if window_left is not None:
        visible &= ahead >= -window_left
    if window_right is not None:
        visible &= ahead <= window_right
    return tl.where(visible, scores, float("-inf"))


# attention_varlen: softmax(q k^T * scale + bias) v within each packed sequence; see longspan/ops/attention_varlen.py.
#   q, out (total_q, heads, head_dim) T   k, v (total_k, heads / GROUP, head_dim) T   lse (heads, total_q) f32, base 2
# Grid (tiles of BLOCK_M queries, heads), tiles of a head next to each other: they share its keys in the L2 cache. A
# tile finds its sequence by counting offsets; or a list says it, (tiles, 4) int32: first query and their number, first
# key and their number, of packed rows; no queries where there is no tile. Negative: the tile holds several whole
# sequences, whose queries see the keys from spans[query, 0] to spans[query, 1], packed rows too (block-diagonal).
# Scores stay in registers in base 2 and f32; a block of keys that all see needs no mask, and one that lies wholly
# before or behind the queries takes ALiBi as a term of the key, its other half being a term of the query that joins
# the row's maximum: one multiply-add a score instead of three operations.
# FLOPs = 4 * heads * head_dim * (pairs seen). Bytes = sizeof(T) * (2 q + (k + v) * tiles a sequence, from L2).
# Limit: tensor cores, and beside them exp2 (16 a cycle an SM): at head_dim 64 both take the same time.
@triton.jit(do_not_specialize=["num_sequences", "max_position", "stride_lse_h"])
def attention_varlen_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    out_ptr,
    lse_ptr,
    cu_seqlens_q_ptr,
    cu_seqlens_k_ptr,
    slopes_ptr,
    table_ptr,
    cos_ptr,
    sin_ptr,
    tiles_ptr,
    spans_ptr,
    num_sequences,
    max_position,
    stride_lse_h,
    scale,  # softmax_scale * log2(e)
    window_left,
    window_right,
    reach,  # the table's max_distance; 0 without one
    stride_q_t,
    stride_q_h,
    stride_k_t,
    stride_k_h,
    stride_v_t,
    stride_v_h,
    stride_out_t,
    stride_out_h,
    stride_table_h,
    stride_cos,
    GROUP: tl.constexpr,
    HALF: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    ROTARY_BY_KEY: tl.constexpr,  # a row of the tables for each key of the pack, else for each place in a sequence
    ROTATE_K: tl.constexpr,
    LAST_FIRST: tl.constexpr,  # causal: a sequence's last tiles are its longest, so they start first
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    EDGE_STAGES: tl.constexpr,
):
    BIASED: tl.constexpr = slopes_ptr is not None or table_ptr is not None
    tile = tl.program_id(0)
    if LAST_FIRST:
        tile = tl.num_programs(0) - 1 - tile
    lowest, limit = None, None
    if tiles_ptr is not None:
        start_q = tl.load(tiles_ptr + tile * 4)
        len_q = tl.load(tiles_ptr + tile * 4 + 1)
        if len_q == 0:
            return
        start_k = tl.load(tiles_ptr + tile * 4 + 2)
        len_k = tl.load(tiles_ptr + tile * 4 + 3)
        is_group = len_k < 0
        len_k = tl.abs(len_k)
        rows = tl.arange(0, BLOCK_M)
        low = start_q - start_k
        i = rows + low
        limit = len_k
        if spans_ptr is not None:
            span = spans_ptr + (start_q + rows) * 2
            in_group = rows < tl.where(is_group, len_q, 0)
            lowest = tl.load(span, mask=in_group, other=0) - tl.where(in_group, start_k, 0)
            limit = tl.load(span + 1, mask=in_group, other=0) - tl.where(in_group, start_k, 0)
            limit = tl.where(in_group, limit, len_k)
    else:
        sequence, tile = find_sequence(cu_seqlens_q_ptr, num_sequences, tile, BLOCK_M)
        start_q = tl.load(cu_seqlens_q_ptr + sequence)
        len_q = tl.load(cu_seqlens_q_ptr + sequence + 1) - start_q
        if tile * BLOCK_M >= len_q:
            return
        start_k = tl.load(cu_seqlens_k_ptr + sequence)
        len_k = tl.load(cu_seqlens_k_ptr + sequence + 1) - start_k
        rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
        low = tile * BLOCK_M + len_k - len_q
        i = rows + len_k - len_q
        limit = len_k
    head = tl.program_id(1).to(tl.int64)
    high = tl.minimum(low + BLOCK_M, len_k) - 1
    q_ptr += start_q.to(tl.int64) * stride_q_t + head * stride_q_h
    k_ptr += start_k.to(tl.int64) * stride_k_t + head // GROUP * stride_k_h
    v_ptr += start_k.to(tl.int64) * stride_v_t + head // GROUP * stride_v_h
    table_start = 0
    if ROTARY_BY_KEY:
        table_start = start_k
    q = load_rows(
        q_ptr,
        rows,
        len_q,
        stride_q_t,
        cos_ptr,
        sin_ptr,
        i,
        table_start,
        max_position,
        stride_cos,
        HALF,
        INTERLEAVED,
        False,
        HEAD_DIM,
        BLOCK_D,
    )
    cos_k_ptr = None
    if ROTATE_K:
        cos_k_ptr = cos_ptr
    slope = None
    if slopes_ptr is not None:
        slope = tl.load(slopes_ptr + head).to(tl.float32) * 1.4426950408889634
    if table_ptr is not None:
        table_ptr += head * stride_table_h
    first, full, near, far, full_end, end = bounds_of(
        low, high, len_k, window_left, window_right, reach, BIASED, BLOCK_N
    )
    if spans_ptr is not None:  # each block of a group's keys needs masks
        full = tl.where(is_group, first, full)
        near = tl.where(is_group, first, near)
        far = tl.where(is_group, first, far)
        full_end = tl.where(is_group, first, full_end)
    d = tl.arange(0, BLOCK_D)
    in_head = (d < HEAD_DIM)[None, :]
    best = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)

    for turn in range(0, full_end - full - (far - near)):
        block = full + turn
        block = tl.where(block >= near, block + far - near, block)
        j = block * BLOCK_N + tl.arange(0, BLOCK_N)
        if ROTATE_K:
            k = load_rows(
                k_ptr,
                j,
                len_k,
                stride_k_t,
                cos_k_ptr,
                sin_ptr,
                j,
                table_start,
                max_position,
                stride_cos,
                HALF,
                INTERLEAVED,
                False,
                HEAD_DIM,
                BLOCK_D,
            )
        elif HEAD_DIM == BLOCK_D:
            k = tl.load(k_ptr + j.to(tl.int64)[:, None] * stride_k_t + d[None, :])
        else:
            k = tl.load(k_ptr + j.to(tl.int64)[:, None] * stride_k_t + d[None, :], mask=in_head, other=0.0)
        products = tl.dot(q, tl.trans(k), input_precision="ieee")
        if HEAD_DIM == BLOCK_D:
            v = tl.load(v_ptr + j.to(tl.int64)[:, None] * stride_v_t + d[None, :])
        else:
            v = tl.load(v_ptr + j.to(tl.int64)[:, None] * stride_v_t + d[None, :], mask=in_head, other=0.0)
        if BIASED:
            # Places relative to the tile's first query: what is far has no weight, what is near rounds as it should.
            key_term = tl.zeros((BLOCK_N,), tl.float32)
            query_term = tl.zeros((BLOCK_M,), tl.float32)
            if slope is not None:
                rising = tl.where(block < near, slope, -slope)
                key_term += rising * (j - low).to(tl.float32)
                query_term -= rising * (i - low).to(tl.float32)
            if table_ptr is not None:
                outermost = tl.load(table_ptr + tl.where(block < near, 0, 2 * reach)).to(tl.float32)
                key_term += outermost * 1.4426950408889634
            scores = products * scale + key_term[None, :]
            best_now = tl.maximum(best, tl.max(scores, axis=1) + query_term)
            weights = tl.exp2(scores - (best_now - query_term)[:, None])
        else:
            best_now = tl.maximum(best, tl.max(products, axis=1) * scale)
            weights = tl.exp2(products * scale - best_now[:, None])
        fade = tl.exp2(best - best_now)
        total = total * fade + tl.sum(weights, axis=1)
        acc = tl.dot(weights.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
        best = best_now

    for turn in tl.range(0, full - first + far - near + end - full_end, num_stages=EDGE_STAGES):
        block = edge_block(turn, first, full, near, far, full_end)
        j = block * BLOCK_N + tl.arange(0, BLOCK_N)
        k = load_rows(
            k_ptr,
            j,
            len_k,
            stride_k_t,
            cos_k_ptr,
            sin_ptr,
            j,
            table_start,
            max_position,
            stride_cos,
            HALF,
            INTERLEAVED,
            False,
            HEAD_DIM,
            BLOCK_D,
        )
        v = tl.load(
            v_ptr + j.to(tl.int64)[:, None] * stride_v_t + d[None, :], mask=(j < len_k)[:, None] & in_head, other=0.0
        )
        products = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        if spans_ptr is not None:  # no weight takes a neighbour's value away that is not finite: its scores tell of it
            spoilt = tl.sum(v.to(tl.float32) * 0.0, axis=1)
            v = tl.where((spoilt == 0.0)[:, None], v, 0.0)
            products += spoilt[None, :]
        scores = edge_scores(products, i, j, lowest, limit, slope, table_ptr, reach, window_left, window_right)
        best_now = tl.maximum(best, tl.max(scores, axis=1))
        shift = tl.where(best_now == float("-inf"), 0.0, best_now)  # no key seen so far: all weights are 0
        weights = tl.exp2(scores - shift[:, None])
        fade = tl.exp2(best - shift)
        total = total * fade + tl.sum(weights, axis=1)
        acc = tl.dot(weights.to(v.dtype), v, acc * fade[:, None], input_precision="ieee")
        best = best_now

    saw_none = total == 0
    out = acc * tl.div_rn(1.0, tl.where(saw_none, 1.0, total))[:, None]
    row_ok = rows < len_q
    place = (start_q + rows).to(tl.int64)[:, None] * stride_out_t + head * stride_out_h + d[None, :]
    tl.store(out_ptr + place, out.to(out_ptr.dtype.element_ty), mask=row_ok[:, None] & in_head)
    if lse_ptr is not None:  # +inf where nothing is seen: exp2(score - lse) is 0 there
        lse = tl.where(saw_none, float("inf"), best + tl.log2(tl.where(saw_none, 1.0, total)))
        tl.store(lse_ptr + head * stride_lse_h + start_q + rows, lse, mask=row_ok)
