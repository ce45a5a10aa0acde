// list_tiles: one block. Each thread looks at every 1024th slot, counts its tile by the blocks of keys that it meets,
// and, once all are counted, writes it behind those that meet more. Tiles that meet kClasses - 1 blocks or more are a
// class; within a class the order is that of the atomics, and no result depends on it.
// Bytes = 32 a slot, and two binary searches a slot in offsets that the cache holds. Limit: latency, some microseconds.
#include "attention_varlen/cuda_sm90.h"
#include "core/cuda_device.h"

namespace longspan::cuda {
namespace {

inline constexpr int kListThreads = 1024;
inline constexpr int kClasses = 256;

__device__ int class_of(const Tile& tile) {
    return tile.num_blocks < kClasses ? kClasses - 1 - tile.num_blocks : 0;
}

__global__ void __launch_bounds__(kListThreads) list_tiles_kernel(const ListTiles args) {
    auto* places = reinterpret_cast<uint32_t*>(dynamic_shared());  // (kClasses,): counts, then where the next one goes
    uint32_t* scratch = places + kClasses;
    const int thread = static_cast<int>(threadIdx.x);
    if (thread < kClasses) places[thread] = 0;
    __syncthreads();
    for (int32_t slot = thread; slot < args.num_slots; slot += kListThreads) {
        const Tile tile = tile_of(args.cu_seqlens_q, args.cu_seqlens_k, args.num_sequences, args.is_causal, slot);
        if (tile.rows > 0) atomicAdd(&places[class_of(tile)], 1u);
    }
    __syncthreads();
    uint32_t total = 0;
    const uint32_t before = block_sum_before(thread < kClasses ? places[thread] : 0u, scratch, total);
    if (thread < kClasses) places[thread] = before;
    if (thread == 0) {
        args.list->count = static_cast<int32_t>(total);
        args.list->taken = 0;
    }
    __syncthreads();
    for (int32_t slot = thread; slot < args.num_slots; slot += kListThreads) {
        const Tile tile = tile_of(args.cu_seqlens_q, args.cu_seqlens_k, args.num_sequences, args.is_causal, slot);
        if (tile.rows > 0) args.list->tiles[atomicAdd(&places[class_of(tile)], 1u)] = tile;
    }
}

}  // namespace

void list_tiles(const ListTiles& args, Stream stream) {
    constexpr size_t kShared = (kClasses + 33) * sizeof(uint32_t);
    launch("attention_varlen", list_tiles_kernel, dim3(1), kListThreads, kShared, stream, args);
}

}  // namespace longspan::cuda
