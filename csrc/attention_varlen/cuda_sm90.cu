// attention_varlen for sm_90a: FlashAttention-3's division of work (arXiv:2407.08608), packed rows, symmetric ALiBi.
//   shapes as in cuda_sm90.h; scores and sums stay in registers, in base 2 and f32
// Grid: one block a multiprocessor, which takes tiles of 128 queries of one sequence and head from a list, longest
// first; tiles of a head next to each other, as they share its keys in the L2 cache. 384 threads:
//   warpgroup 0   warp 0: one thread asks the copy engine for queries, keys and values, some blocks ahead.
//                 warp 1: overwrites with zeros the values behind a sequence's last key, which are its neighbour's:
//                 they have weight 0, but 0 times infinity or NaN would be NaN.
//   others        64 queries each. A block's scores and the block before's sums over values are multiplied together,
//                 and while one warpgroup's products run the other takes its softmax: they issue in turn.
// FLOPs = 4 * head_dim * (pairs in the blocks that are met) a head. Bytes from L2 = 2 * head_dim * (q and out + (k + v)
// * tiles of a sequence) a head: with 128 queries to a tile 128 FLOPs a byte, from memory far more.
// Limit: tensor cores, and at head_dim 64 with ALiBi the instructions of the softmax (README.md). Times:
// bench/gpu/attention.py. No GPU has run it yet.
#include "attention_varlen/cuda_sm90.h"

#include "attention_varlen/cuda_sm90_attend.h"
#include "attention_varlen/cuda_sm90_load.h"

namespace longspan::cuda {
namespace {

// Lets a tile pass that has no queries for this warpgroup.
template <class S>
__device__ __forceinline__ void let_pass(const S& shared, const Tile& tile, Ring<S::kStages>& keys, Ring<1>& queries) {
    auto& barriers = *shared.barriers;
    if (tile.num_blocks == 0) return;
    barrier_wait(&barriers.queries_full, queries.phase());
    warp_arrives(&barriers.queries_empty);
    queries.advance();
#pragma unroll 1
    for (int32_t block = 0; block < tile.num_blocks; ++block, keys.advance()) {
        barrier_wait(&barriers.keys_full[keys.stage()], keys.phase());
        warp_arrives(&barriers.keys_empty[keys.stage()]);
        barrier_wait(&barriers.values_full[keys.stage()], keys.phase());
        warp_arrives(&barriers.values_empty[keys.stage()]);
    }
}

template <class T, int kHeadDim, bool kBiased>
__device__ __forceinline__ void consume(const KernelArgs& args, const Shared<kHeadDim>& shared, int warpgroup) {
    Ring<kTileStages> tiles;
    Ring<Shared<kHeadDim>::kStages> keys;
    Ring<1> queries;
    if (warpgroup == 1) named_barrier_arrive(1, 2 * kWarpgroup);  // the first turn is warpgroup 0's
    for (;;) {
        const Tile tile = next_tile(shared, tiles);
        if (tile.rows == 0) return;
        if (tile.rows > warpgroup * kQueryRows) {
            attend<T, kHeadDim, kBiased>(args, shared, tile, warpgroup, keys, queries);
        } else {
            let_pass(shared, tile, keys, queries);
        }
    }
}

template <class T, int kHeadDim, bool kBiased>
__global__ void __launch_bounds__(kBlockThreads, 1) attention_kernel(const __grid_constant__ KernelArgs args) {
    const Shared<kHeadDim> shared(dynamic_shared());
    if (threadIdx.x == 0) init_barriers(shared);
    __syncthreads();
    if (threadIdx.x < kWarpgroup) {
        keep_registers<kProducerRegisters>();
        if (threadIdx.x == 0) produce(args, shared);
        if (threadIdx.x / kWarp == 1) cut_values(shared);
    } else {
        take_registers<kConsumerRegisters>();
        consume<T, kHeadDim, kBiased>(args, shared, same_in_warp(static_cast<int>(threadIdx.x) / kWarpgroup) - 1);
    }
}

template <class T, int kHeadDim, bool kBiased>
void launch_attention(const KernelArgs& args, dim3 grid, Stream stream) {
    launch("attention_varlen", attention_kernel<T, kHeadDim, kBiased>, grid, kBlockThreads, Shared<kHeadDim>::kBytes,
           stream, args);
}

}  // namespace

void attention_varlen(const Attention& args, Stream stream) {
    const PackedRows &q = args.q, &k = args.k;
    if (q.total == 0 || args.num_sequences == 0) return;
    require_hopper("attention_varlen");
    const int64_t slots = num_slots(q.total, args.num_sequences);
    if (slots * q.heads > kMostItems) reject("attention_varlen: more than ", kMostItems, " tiles of queries and heads");
    auto* list = static_cast<TileList*>(args.workspace);
    const auto map = [&](const char* name, const PackedRows& rows, uint32_t box) {
        return encode_tensor_map("attention_varlen", plan_tensor_map(name, rows, args.dtype, box));
    };
    KernelArgs kernel{};
    kernel.q = map("attention_varlen: q", q, kTileQueries);
    const bool has_keys = k.total > 0;  // else nothing is asked of the maps
    kernel.k = has_keys ? map("attention_varlen: k", k, kBlockKeys) : kernel.q;
    kernel.v = has_keys ? map("attention_varlen: v", args.v, kBlockKeys) : kernel.q;
    const TensorMapPlan out = plan_tensor_map("attention_varlen: out", args.out, args.dtype, kTileQueries);
    kernel.out = const_cast<void*>(out.data);
    kernel.out_row_stride = static_cast<int64_t>(out.strides[1] / 2);
    kernel.out_head_stride = static_cast<int64_t>(out.strides[0] / 2);
    kernel.lse = args.lse;
    kernel.lse_head_stride = q.total;
    kernel.slopes = args.slopes;
    kernel.list = list;
    kernel.scale = args.softmax_scale * 1.4426950408889634f;
    kernel.num_heads = static_cast<int32_t>(q.heads);
    kernel.group = static_cast<int32_t>(q.heads / k.heads);
    kernel.is_causal = args.is_causal;
    list_tiles({args.cu_seqlens_q, args.cu_seqlens_k, static_cast<int32_t>(args.num_sequences),
                static_cast<int32_t>(slots), args.is_causal, list},
               stream);
    const int64_t blocks = num_multiprocessors(), items = slots * q.heads;
    const dim3 grid(static_cast<unsigned>(items < blocks ? items : blocks));
    const bool is_wide = q.head_dim == 128, is_half = args.dtype == Float::f16, is_biased = args.slopes != nullptr;
    const auto run =
        is_half
            ? (is_wide ? (is_biased ? launch_attention<Half, 128, true> : launch_attention<Half, 128, false>)
                       : (is_biased ? launch_attention<Half, 64, true> : launch_attention<Half, 64, false>))
            : (is_wide ? (is_biased ? launch_attention<Bfloat16, 128, true> : launch_attention<Bfloat16, 128, false>)
                       : (is_biased ? launch_attention<Bfloat16, 64, true> : launch_attention<Bfloat16, 64, false>));
    run(kernel, grid, stream);
}

}  // namespace longspan::cuda
