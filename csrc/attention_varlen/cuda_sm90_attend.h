// The kernel's other warpgroups: 64 queries of a tile each, products, softmax and what is written.
#pragma once

#include "attention_varlen/cuda_sm90_shared.h"
#include "attention_varlen/cuda_sm90_softmax.h"

namespace longspan::cuda {
namespace {

// Whose turn it is to issue products: a token that goes round the warpgroups that have queries in the tile.
struct Turn {
    int warpgroup, active;

    __device__ __forceinline__ void wait() const {
        if (active > 1) named_barrier_sync(1 + warpgroup, 2 * kWarpgroup);
    }
    __device__ __forceinline__ void pass() const {
        if (active > 1) named_barrier_arrive(1 + (warpgroup + 1 == active ? 0 : warpgroup + 1), 2 * kWarpgroup);
    }
};

// Scores of 64 queries and the first keys of a block, two for each of kCount, still to be waited for.
template <class T, class S, int kCount>
__device__ __forceinline__ void multiply_keys(float (&scores)[kCount], uint32_t queries, uint32_t keys) {
    const uint64_t a = describe(queries, 0, kPatternBytes), b = describe(keys, 0, kPatternBytes);
    touch(scores);
    start_products();
    multiply_shared<T, false>(scores, a, b);
#pragma unroll
    for (uint32_t step = 1; step < 4 * S::kParts; ++step) {
        const uint32_t part = step / 4, column = step % 4 * 32;  // 16 values are 32 bytes
        multiply_shared<T, true>(scores, further(a, part * S::kQueryPart + column),
                                 further(b, part * S::kKeyPart + column));
    }
    end_products();
}

// Adds the weighted values of a block's first kKeys, still to be waited for.
template <class T, class S, int kKeys, int kCount, int kWords>
__device__ __forceinline__ void multiply_values(float (&sums)[kCount], uint32_t (&weights)[kWords], uint32_t values) {
    const uint64_t b = describe(values, S::kKeyPart, kPatternBytes);
    touch(sums);
    touch(weights);
    start_products();
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
        multiply_registers<T>(sums, weights + 4 * step, further(b, static_cast<uint32_t>(step) * 16 * kSwizzleBytes));
    }
    end_products();
}

// Multiplies the sums of each row, unless no row of the warp has a new maximum: times 1 changes no bit.
template <int kCount>
__device__ __forceinline__ void fade_sums(float (&sums)[kCount], const float (&fade)[2]) {
    if (!__any_sync(kFullWarp, fade[0] != 1.0f || fade[1] != 1.0f)) return;
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] *= fade[i / 2 % 2];
}

// The sums divided by the rows' totals, and their logarithms, of the rows that are in the tile.
template <class T, int kHeadDim, int kCount>
__device__ __forceinline__ void store(const KernelArgs& args, const Tile& tile, int warpgroup, RowPair& rows,
                                      const float (&sums)[kCount]) {
    const int thread = static_cast<int>(threadIdx.x) % kWarpgroup, quarter = thread % 4;
#pragma unroll
    for (int lower = 0; lower < 2; ++lower) {
        const float total = sum_of_four(rows.total[lower]);
        const bool saw_none = total == 0.0f;
        const float inverse = 1.0f / (saw_none ? 1.0f : total);
        const int row = warpgroup * kQueryRows + sum_row(thread, 2 * lower);
        const bool is_one = row < tile.rows;
        T* out = static_cast<T*>(args.out) + int64_t{tile.row + row} * args.out_row_stride +
                 int64_t{tile.head} * args.out_head_stride;
#pragma unroll
        for (int part = 0; part < kHeadDim / 32; ++part) {
            uint32_t words[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int at = 16 * part + 4 * i + 2 * lower;
                words[i] = pack_pair<T>(sums[at] * inverse, sums[at + 1] * inverse);
            }
            transpose_four(words, quarter);  // 16 bytes of a row to a thread
            if (is_one) {
                *reinterpret_cast<uint4*>(out + 32 * part + 8 * quarter) =
                    uint4{words[0], words[1], words[2], words[3]};
            }
        }
        if (args.lse != nullptr && is_one && quarter == 0) {
            const float lse = saw_none ? __builtin_inff() : rows.best[lower] + log2f(total);
            args.lse[int64_t{tile.head} * args.lse_head_stride + tile.row + row] = lse;
        }
    }
}

// A warpgroup's 64 queries of a tile, from the first block of keys to the last.
template <class T, int kHeadDim, bool kBiased>
struct Attend {
    using S = Shared<kHeadDim>;
    using Keys = Ring<S::kStages>;
    static constexpr bool kTermsStay = kBiased && kHeadDim == 64;  // with 128 the sums take their registers

    const S& shared;
    const Scoring scoring;
    const Turn turn;
    const uint32_t queries;
    KeyTerms<kBlockKeys / 4, kTermsStay> terms;
    RowPair rows{{minus_infinity(), minus_infinity()}, {0.0f, 0.0f}};
    float sums[kHeadDim / 2], fade[2];
    uint32_t weights[kBlockKeys / 4];

    __device__ __forceinline__ Attend(const S& shared, const Scoring& scoring, const Turn& turn)
        : shared(shared),
          scoring(scoring),
          turn(turn),
          queries(shared_address(shared.queries) + static_cast<uint32_t>(turn.warpgroup) * kQueryRows * kSwizzleBytes),
          terms(scoring.slope, scoring.column) {
#pragma unroll
        for (int i = 0; i < kHeadDim / 2; ++i) sums[i] = 0.0f;
    }

    // Issues the products for the scores of the block at `keys`; the turn is kept.
    template <int kCount>
    __device__ __forceinline__ void ask_for_scores(float (&scores)[kCount], const Keys& keys) {
        barrier_wait(&shared.barriers->keys_full[keys.stage()], keys.phase());
        turn.wait();
        multiply_keys<T, S>(scores, queries, shared_address(shared.keys) + keys.stage() * S::kKeyBytes);
    }
    // Issues those of the weights with the values of the block at `values`.
    template <int kKeys>
    __device__ __forceinline__ void ask_for_sums(const Keys& values) {
        barrier_wait(&shared.barriers->values_full[values.stage()], values.phase());
        multiply_values<T, S, kKeys>(sums, weights, shared_address(shared.values) + values.stage() * S::kKeyBytes);
    }
    __device__ __forceinline__ void finish_sums(const Keys& values) {
        wait_for_products<0>();
        touch(sums);
        touch(weights);
        warp_arrives(&shared.barriers->values_empty[values.stage()]);
    }

    // Weights of the first block of keys.
    template <int kKeys>
    __device__ __forceinline__ void begin(const Keys& keys) {
        float scores[kKeys / 2];
        ask_for_scores(scores, keys);
        turn.pass();
        wait_for_products<0>();
        touch(scores);
        warp_arrives(&shared.barriers->keys_empty[keys.stage()]);
        weigh_block<kBiased, kKeys != kBlockKeys>(scores, rows, fade, scoring, terms, 0);
        pack_weights<T>(scores, weights);
    }
    // Weights of a block, while those of the one before are summed over its values.
    template <int kKeys>
    __device__ __forceinline__ void go_on(Keys& keys, int32_t block) {
        const Keys values = keys;
        keys.advance();
        float scores[kKeys / 2];
        ask_for_scores(scores, keys);
        ask_for_sums<kBlockKeys>(values);
        turn.pass();
        wait_for_products<1>();
        touch(scores);
        warp_arrives(&shared.barriers->keys_empty[keys.stage()]);
        weigh_block<kBiased, kKeys != kBlockKeys>(scores, rows, fade, scoring, terms, block);
        finish_sums(values);
        fade_sums(sums, fade);
        pack_weights<T>(scores, weights);
    }
    // The last block's sums.
    template <int kKeys>
    __device__ __forceinline__ void end(Keys& keys) {
        warp_arrives(&shared.barriers->queries_empty);
        ask_for_sums<kKeys>(keys);
        finish_sums(keys);
        keys.advance();
    }

    // Half a block has code of its own from end to end: products that are asked for in a branch would be waited for
    // at its end.
    __device__ __forceinline__ void run(int32_t num_blocks, Keys& keys, Ring<1>& tiles) {
        const int32_t last = num_blocks - 1;
        const bool needs_half = scoring.outlook.needs_half(last);
        const int32_t last_whole = needs_half ? last - 1 : last;
        barrier_wait(&shared.barriers->queries_full, tiles.phase());
        tiles.advance();
        if (last_whole < 0) {
            begin<kBlockKeys / 2>(keys);
            return end<kBlockKeys / 2>(keys);
        }
        begin<kBlockKeys>(keys);
#pragma unroll 1
        for (int32_t block = 1; block <= last_whole; ++block) go_on<kBlockKeys>(keys, block);
        if (!needs_half) return end<kBlockKeys>(keys);
        go_on<kBlockKeys / 2>(keys, last);
        end<kBlockKeys / 2>(keys);
    }
};

template <class T, int kHeadDim, bool kBiased>
__device__ __forceinline__ void attend(const KernelArgs& args, const Shared<kHeadDim>& shared, const Tile& tile,
                                       int warpgroup, Ring<Shared<kHeadDim>::kStages>& keys, Ring<1>& tiles) {
    const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
    const int own = tile.rows - warpgroup * kQueryRows;
    const Outlook outlook{tile.low + warpgroup * kQueryRows, own < kQueryRows ? own : kQueryRows, tile.len_k,
                          args.is_causal, kBiased};
    const float slope = kBiased ? args.slopes[tile.head] * 1.4426950408889634f : 0.0f;
    const Scoring scoring{outlook, args.scale, slope, sum_row(thread, 0), sum_column(thread, 0)};
    Attend<T, kHeadDim, kBiased> state(shared, scoring, Turn{warpgroup, divide_up(tile.rows, kQueryRows)});
    if (tile.num_blocks > 0) state.run(tile.num_blocks, keys, tiles);
    store<T, kHeadDim>(args, tile, warpgroup, state.rows, state.sums);
}

}  // namespace
}  // namespace longspan::cuda
