// What all parts of the kernel share: arguments, shared memory, barriers, the tiles in turn.
#pragma once

#include "attention_varlen/cuda_sm90.h"
#include "core/cuda_sm90.h"

namespace longspan::cuda {
namespace {

inline constexpr int kTileStages = 2;
inline constexpr int kBlockThreads = kWarpgroup * (1 + kConsumers);
inline constexpr int kConsumerWarps = kConsumers * kWarpgroup / kWarp;
// Of 168 at the start, 384 times: a multiple of 8 below 65536 / 384.
inline constexpr int kProducerRegisters = 40;
inline constexpr int kConsumerRegisters = 232;
static_assert(kProducerRegisters + kConsumers * kConsumerRegisters <= (1 + kConsumers) * 168);

struct KernelArgs {
    TensorMap q, k, v;
    void* out;
    int64_t out_row_stride, out_head_stride;  // in values
    float* lse;
    int64_t lse_head_stride;
    const float* slopes;
    TileList* list;
    float scale;  // softmax_scale * log2(e)
    int32_t num_heads, group;
    bool is_causal;
};

// A block's shared memory: boxes of 64 columns, one behind the other, for each tile of rows.
template <int kHeadDim>
struct Shared {
    static constexpr int kStages = kHeadDim == 64 ? 4 : 2;  // of keys, and of values: what there is room for
    static constexpr uint32_t kParts = kHeadDim * 2 / kSwizzleBytes;
    static constexpr uint32_t kQueryPart = kTileQueries * kSwizzleBytes, kQueryBytes = kParts * kQueryPart;
    static constexpr uint32_t kKeyPart = kBlockKeys * kSwizzleBytes, kKeyBytes = kParts * kKeyPart;

    struct Barriers {
        uint64_t queries_full, queries_empty;
        uint64_t keys_full[kStages], keys_empty[kStages];
        uint64_t values_full[kStages], values_empty[kStages];
        uint64_t values_landed[kStages];  // those of a sequence's last block, before they are full
        uint64_t tile_full[kTileStages], tile_empty[kTileStages];
    };

    unsigned char *queries, *keys, *values;
    Barriers* barriers;
    Tile* tiles;  // (kTileStages,)

    static constexpr size_t kBytes =
        kPatternBytes + kQueryBytes + 2 * kStages * kKeyBytes + kTileStages * sizeof(Tile) + sizeof(Barriers);

    __device__ explicit Shared(unsigned char* memory) {
        const uint32_t address = shared_address(memory);
        queries = memory + (divide_up(address, kPatternBytes) * kPatternBytes - address);
        keys = queries + kQueryBytes;
        values = keys + kStages * kKeyBytes;
        tiles = reinterpret_cast<Tile*>(values + kStages * kKeyBytes);
        barriers = reinterpret_cast<Barriers*>(tiles + kTileStages);
    }
};

template <class S>
__device__ __forceinline__ void init_barriers(const S& shared) {
    auto& barriers = *shared.barriers;
    barrier_init(&barriers.queries_full, 1);
    barrier_init(&barriers.queries_empty, kConsumerWarps);
    for (int stage = 0; stage < S::kStages; ++stage) {
        barrier_init(&barriers.keys_full[stage], 1);
        barrier_init(&barriers.keys_empty[stage], kConsumerWarps);
        barrier_init(&barriers.values_full[stage], 1);
        barrier_init(&barriers.values_empty[stage], kConsumerWarps);
        barrier_init(&barriers.values_landed[stage], 1);
    }
    for (int stage = 0; stage < kTileStages; ++stage) {
        barrier_init(&barriers.tile_full[stage], 1);
        barrier_init(&barriers.tile_empty[stage], kConsumerWarps + 1);
    }
    publish_barriers();
}

// One arrival for a warp, when all of it is done.
__device__ __forceinline__ void warp_arrives(uint64_t* barrier) {
    __syncwarp();
    if (threadIdx.x % kWarp == 0) barrier_arrive(barrier);
}

// The block's next tile, for a warp; one of no rows is the last.
template <class S>
__device__ __forceinline__ Tile next_tile(const S& shared, Ring<kTileStages>& tiles) {
    barrier_wait(&shared.barriers->tile_full[tiles.stage()], tiles.phase());
    Tile tile = shared.tiles[tiles.stage()];
    tile.rows = same_in_warp(tile.rows);
    tile.num_blocks = same_in_warp(tile.num_blocks);
    warp_arrives(&shared.barriers->tile_empty[tiles.stage()]);
    tiles.advance();
    return tile;
}

}  // namespace
}  // namespace longspan::cuda
