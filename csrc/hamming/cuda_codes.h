// Reading codes in a block of threads: distances between one query, in shared memory, and a run of rows.
#pragma once

#include "core/cuda_device.h"
#include "hamming/cuda.h"

namespace longspan::cuda {

inline constexpr int kRowThreads = 256;        // threads of the blocks that read rows for one query
inline constexpr int kRowsInFlight = 4;        // a thread asks for that many rows' parts before it needs the first
inline constexpr uint16_t kFiltered = 0xffff;  // in place of a distance: the filter says no
inline constexpr int kRowsPerThread = kTileRows / kRowThreads;
static_assert(8 * kMaxCodeBytes < kFiltered);

// How many threads share a row of `parts` reads: as many as keep busy for three quarters of their steps, so that what
// they read lies side by side.
__host__ __device__ inline int lanes_for(int parts) {
    int lanes = kWarp;
    while (lanes > 1 && 4 * parts < 3 * divide_up(parts, lanes) * lanes) lanes /= 2;
    return lanes;
}

__device__ inline int differing_bits(uint8_t a, uint8_t b) {
    return __popc(static_cast<unsigned>(a ^ b));
}
__device__ inline int differing_bits(uint32_t a, uint32_t b) {
    return __popc(a ^ b);
}
__device__ inline int differing_bits(const uint4& a, const uint4& b) {
    return __popc(a.x ^ b.x) + __popc(a.y ^ b.y) + __popc(a.z ^ b.z) + __popc(a.w ^ b.w);
}

// Copies a query to shared memory; a barrier must follow.
__device__ inline void load_query(const uint8_t* query, int bytes, unsigned char* shared) {
    for (int i = static_cast<int>(threadIdx.x); i < bytes; i += static_cast<int>(blockDim.x)) shared[i] = query[i];
}

// distances[i] between `query` and row (first + i) * step, i < count <= kTileRows, or kFiltered; a barrier must follow.
// Part is what is read at once: 16, 4 or 1 bytes. Rows that may not be found are not read. Bytes = count * code bytes.
template <class Part>
__device__ void distances_of_tile(const Codes& codes, const Part* query, int64_t step, int64_t first, int count,
                                  uint16_t* distances) {
    const int parts = codes.bytes / static_cast<int>(sizeof(Part));
    const int lanes = lanes_for(parts), lane = static_cast<int>(threadIdx.x) & (lanes - 1);
    const int group = static_cast<int>(threadIdx.x) / lanes, groups = kRowThreads / lanes;
    for (int base = 0; base < count; base += groups * kRowsInFlight) {  // the same for all threads: shuffles follow
        const Part* rows[kRowsInFlight];
        int sums[kRowsInFlight];
#pragma unroll
        for (int i = 0; i < kRowsInFlight; ++i) {
            const int at = base + i * groups + group;
            const int64_t row = (first + at) * step;
            const bool is_read = at < count && codes.may_find(row);
            rows[i] = is_read ? reinterpret_cast<const Part*>(codes.row(row)) : nullptr;
            sums[i] = 0;
        }
        for (int part = lane; part < parts; part += lanes) {
            const Part wanted = query[part];
            Part found[kRowsInFlight];
#pragma unroll
            for (int i = 0; i < kRowsInFlight; ++i) found[i] = rows[i] == nullptr ? wanted : __ldcs(rows[i] + part);
#pragma unroll
            for (int i = 0; i < kRowsInFlight; ++i) sums[i] += differing_bits(found[i], wanted);
        }
        for (int offset = lanes / 2; offset > 0; offset /= 2) {
#pragma unroll
            for (int i = 0; i < kRowsInFlight; ++i) sums[i] += __shfl_xor_sync(kFullWarp, sums[i], offset);
        }
        if (lane != 0) continue;
#pragma unroll
        for (int i = 0; i < kRowsInFlight; ++i) {
            const int at = base + i * groups + group;
            if (at < count) distances[at] = rows[i] == nullptr ? kFiltered : static_cast<uint16_t>(sums[i]);
        }
    }
}

}  // namespace longspan::cuda
