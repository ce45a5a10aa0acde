// Selecting the least in a block of threads: by histogram, since distances are small integers, and by digits of a key.
#pragma once

#include "hamming/cuda_codes.h"

namespace longspan::cuda {

inline constexpr int kScratch = 40;  // 32-bit words of shared memory: 33 for sums, then a Selection
inline constexpr int kDigitBits = 8;
inline constexpr int kDigits = 1 << kDigitBits;
inline constexpr int kKeyBits = 48;  // in use: 13 of distance, 32 of row

// The k least of some integers: all below `threshold`, which are `below` many, and `at` many of those equal to it.
struct Selection {
    uint32_t threshold;
    uint32_t below;
    uint32_t at;  // 0 where there are no integers at all
};

// Where the k least lie in a histogram of `bins` counts, k >= 1; all where they are fewer. Every thread of the block
// must call it, after a barrier behind the histogram's last change; it ends with one.
__device__ inline Selection select_in_histogram(const uint32_t* histogram, int bins, uint32_t k, uint32_t* scratch) {
    const int thread = static_cast<int>(threadIdx.x);
    const int each = divide_up(bins, static_cast<int>(blockDim.x));
    const int first = thread * each < bins ? thread * each : bins;
    const int last = first + each < bins ? first + each : bins;
    uint32_t own = 0, total = 0;
    for (int bin = first; bin < last; ++bin) own += histogram[bin];
    uint32_t before = block_sum_before(own, scratch, total);
    auto* selection = reinterpret_cast<Selection*>(scratch + 33);
    const uint32_t wanted = k < total ? k : total;
    if (thread == 0 && wanted == 0) *selection = {0, 0, 0};
    if (before < wanted && wanted <= before + own) {  // one thread
        int bin = first;
        while (before + histogram[bin] < wanted) before += histogram[bin++];
        *selection = {static_cast<uint32_t>(bin), before, wanted - before};
    }
    __syncthreads();
    const Selection found = *selection;
    __syncthreads();
    return found;
}

// The k-th least of `count` keys, 1 <= k <= count, digit by digit from the highest. `histogram` has kDigits counts of
// shared memory. Bytes = 8 * count * kKeyBits / kDigitBits. Every thread of the block must call it.
__device__ inline Key kth_least(const Key* keys, int64_t count, uint32_t k, uint32_t* histogram, uint32_t* scratch) {
    Key prefix = 0, known = 0;
    for (int shift = kKeyBits - kDigitBits; shift >= 0; shift -= kDigitBits) {
        for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += static_cast<int>(blockDim.x)) histogram[i] = 0;
        __syncthreads();
        for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
            const Key key = keys[i];
            if ((key & known) == prefix) atomicAdd(&histogram[key >> shift & (kDigits - 1)], 1u);
        }
        __syncthreads();
        const Selection digit = select_in_histogram(histogram, kDigits, k, scratch);
        k = digit.at;
        prefix |= static_cast<Key>(digit.threshold) << shift;
        known |= static_cast<Key>(kDigits - 1) << shift;
    }
    return prefix;
}

// Appends the keys of a tile's rows below the threshold, in any order. `distances` are those of rows (first + i) *
// step; `found` (shared memory) counts the keys written so far.
__device__ inline void take_below(const uint16_t* distances, int count, int64_t step, int64_t first, uint32_t threshold,
                                  Key* keys, uint32_t* found) {
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kRowThreads) {
        if (distances[i] < threshold) keys[atomicAdd(found, 1u)] = make_key(distances[i], (first + i) * step);
    }
}

// Takes a tile's rows at the threshold, in order of rows, until selection.at of them are taken, to their places behind
// those below. `ties` counts rows at the threshold in the tiles before, and then in this one too. keys may be null;
// *kth, where it is not, becomes the last that is taken. Every thread of the block must call it; ends with a barrier.
__device__ inline void take_ties(const uint16_t* distances, int count, int64_t step, int64_t first,
                                 const Selection& selection, uint32_t& ties, Key* keys, Key* kth, uint32_t* scratch) {
    const int begin = static_cast<int>(threadIdx.x) * kRowsPerThread;
    const int end = begin + kRowsPerThread < count ? begin + kRowsPerThread : count;
    uint32_t own = 0, in_tile = 0;
    for (int i = begin; i < end; ++i) own += distances[i] == selection.threshold ? 1 : 0;
    uint32_t rank = ties + block_sum_before(own, scratch, in_tile);
    for (int i = begin; i < end && rank < selection.at; ++i) {
        if (distances[i] != selection.threshold) continue;
        const Key key = make_key(selection.threshold, (first + i) * step);
        if (keys != nullptr) keys[selection.below + rank] = key;
        if (kth != nullptr && rank == selection.at - 1) *kth = key;
        ++rank;
    }
    ties += in_tile;
    __syncthreads();
}

}  // namespace longspan::cuda
