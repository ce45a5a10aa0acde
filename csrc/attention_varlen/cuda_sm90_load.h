// The kernel's first warpgroup: what brings queries, keys and values.
#pragma once

#include "attention_varlen/cuda_sm90_shared.h"

namespace longspan::cuda {
namespace {

template <class S>
__device__ __forceinline__ void load(unsigned char* to, uint32_t part_bytes, const TensorMap* map, uint64_t* barrier,
                                     int head, int row) {
    barrier_expect(barrier, S::kParts * part_bytes);
    for (uint32_t part = 0; part < S::kParts; ++part) {
        copy_box(to + part * part_bytes, map, barrier, static_cast<int>(part * kSwizzleBytes / 2), head, row);
    }
}

// One thread: hands out tiles and asks for what they need.
template <class S>
__device__ __forceinline__ void produce(const KernelArgs& args, const S& shared) {
    auto& barriers = *shared.barriers;
    Ring<kTileStages> tiles;
    Ring<S::kStages> keys;
    Ring<1> queries;
    prefetch_map(&args.q);
    prefetch_map(&args.k);
    prefetch_map(&args.v);
    const int32_t count = args.list->count, items = count * args.num_heads;
    int32_t item = static_cast<int32_t>(blockIdx.x);
    for (;; tiles.advance()) {
        Tile tile{};
        if (item < items) {
            tile = args.list->tiles[item % count];
            tile.head = item / count;
            item = static_cast<int32_t>(gridDim.x) + atomicAdd(&args.list->taken, 1);
        }
        barrier_wait(&barriers.tile_empty[tiles.stage()], tiles.phase() ^ 1);
        shared.tiles[tiles.stage()] = tile;
        barrier_arrive(&barriers.tile_full[tiles.stage()]);
        if (tile.rows == 0) return;
        if (tile.num_blocks == 0) continue;
        barrier_wait(&barriers.queries_empty, queries.phase() ^ 1);
        load<S>(shared.queries, S::kQueryPart, &args.q, &barriers.queries_full, tile.head, tile.row);
        queries.advance();
        const int kv_head = tile.head / args.group;
#pragma unroll 1
        for (int32_t block = 0; block < tile.num_blocks; ++block, keys.advance()) {
            const uint32_t stage = keys.stage(), place = stage * S::kKeyBytes;
            const int row = tile.start_k + block * kBlockKeys;
            barrier_wait(&barriers.keys_empty[stage], keys.phase() ^ 1);
            load<S>(shared.keys + place, S::kKeyPart, &args.k, &barriers.keys_full[stage], kv_head, row);
            const bool is_cut = (block + 1) * kBlockKeys > tile.len_k;
            uint64_t* landed = is_cut ? &barriers.values_landed[stage] : &barriers.values_full[stage];
            barrier_wait(&barriers.values_empty[stage], keys.phase() ^ 1);
            load<S>(shared.values + place, S::kKeyPart, &args.v, landed, kv_head, row);
        }
    }
}

// One warp: zeros behind the last value of each sequence.
template <class S>
__device__ __forceinline__ void cut_values(const S& shared) {
    auto& barriers = *shared.barriers;
    Ring<kTileStages> tiles;
    Ring<S::kStages> keys;
    uint32_t phases = 0;  // of values_landed, a bit a stage
    for (;;) {
        const Tile tile = next_tile(shared, tiles);
        if (tile.rows == 0) return;
        if (tile.num_blocks == 0) continue;
        keys.advance(static_cast<uint32_t>(tile.num_blocks) - 1);
        const int valid = tile.len_k - (tile.num_blocks - 1) * kBlockKeys;
        if (valid < kBlockKeys) {
            const uint32_t stage = keys.stage();
            barrier_wait(&barriers.values_landed[stage], phases >> stage & 1);
            phases ^= 1u << stage;
            constexpr int kVectors = kSwizzleBytes / 16;  // of a row, which swizzling does not leave
#pragma unroll 1
            for (uint32_t part = 0; part < S::kParts; ++part) {
                auto* rows = reinterpret_cast<uint4*>(shared.values + stage * S::kKeyBytes + part * S::kKeyPart);
                const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll 1
                for (int i = valid * kVectors + lane; i < kBlockKeys * kVectors; i += kWarp) {
                    rows[i] = uint4{0, 0, 0, 0};
                }
            }
            publish_writes();
            warp_arrives(&barriers.values_full[stage]);
        }
        keys.advance();
    }
}

}  // namespace
}  // namespace longspan::cuda
