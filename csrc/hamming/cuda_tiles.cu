// Many queries against all codes on tensor cores: every distance (hamming), or those within a query's limit.
//
// A block holds up to 8 warps' queries in registers, as one-bit fragments, and walks over tiles of codes, which come
// to shared memory in three stages of asynchronous copies. A warp takes its 16 * kRowTiles queries against 8 codes at
// a time: kSteps products of 256 bits. dist = |q| + |c| - 2 |q & c|; |c| is counted once a tile. The products start at
// -(|c| / 2), so that one comparison a pair with a bound of the query alone says whether the pair can be within its
// limit; the few that can are looked at exactly. Rows that the filter or the end of the codes excludes start so low
// that none can.
//
// Shared reads: 8 bytes a thread for kRowTiles products of 2 clocks (1024 bits: 256 bytes for 8 clocks). Rows of a
// tile lie kSteps | 1 times 32 bytes apart: four of them and their 32 bytes each cover all banks once.
// Bytes = n * code bytes * ceil(num_queries / (8 * kQueries)), products = num_queries / 16 * n / 8 * kSteps.
// Limit: memory up to some 64 queries, then tensor cores. Times: bench/gpu/codes.py.
#include "core/cuda_device.h"
#include "hamming/cuda.h"

namespace longspan::cuda {
namespace {

inline constexpr int kTileThreads = 256;
inline constexpr int kTileWarps = kTileThreads / kWarp;
inline constexpr int kStages = 3;
inline constexpr int32_t kNoCode = 1 << 20;  // in place of a code's bit count: far from every query

template <int kSteps>
struct Shape {
    static constexpr int kRowTiles = kSteps <= 4 ? 4 : kSteps <= 8 ? 2 : 1;   // a's fragments: 64 registers at most
    static constexpr int kQueries = 16 * kRowTiles;                           // of a warp
    static constexpr int kCodes = kSteps <= 4 ? 128 : kSteps <= 8 ? 64 : 32;  // of a tile
    static constexpr int kStride = (kSteps | 1) * 32;                         // bytes between rows of a tile
    static constexpr int kStageBytes = kCodes * kStride;
    static constexpr size_t kWeights = size_t{kStages} * kStageBytes;  // offsets in shared memory
    static constexpr size_t kLimits = kWeights + kCodes * sizeof(int32_t);
    static constexpr size_t kBits = kLimits + size_t{kTileWarps} * kQueries * sizeof(Key);
    static constexpr size_t kEnd = kBits + size_t{kTileWarps} * kQueries * sizeof(int32_t);
};

struct TileArgs {
    Candidates search;
    AllPairs pairs;
    int64_t count;    // rows that are looked at, every step-th
    int copy_width;   // 16, 4 or 1 bytes
    int query_warps;  // 1, 2, 4 or 8 warps of a block have queries of their own; the others take other codes
    bool is_even;     // all pairs: two neighbours of out can be written at once
};

// Word `word` of a code or query, zeros past its end.
__device__ uint32_t word_of(const uint8_t* row, int bytes, int word) {
    uint32_t value = 0;
#pragma unroll 1
    for (int i = 0; i < 4; ++i) {
        const int at = 4 * word + i;
        if (at < bytes) value |= uint32_t{row[at]} << (8 * i);
    }
    return value;
}

// Asks for the codes of a tile. Rows past the last are left as they are.
template <int kSteps>
__device__ void load_tile(const TileArgs& args, int64_t tile, unsigned char* stage) {
    const Codes& codes = args.search.codes;
    const int width = args.copy_width, parts = codes.bytes / width;
    for (int i = static_cast<int>(threadIdx.x); i < Shape<kSteps>::kCodes * parts; i += kTileThreads) {
        const int code = i / parts, at = (i - code * parts) * width;
        const int64_t index = tile * Shape<kSteps>::kCodes + code;
        if (index >= args.count) return;  // and all that follow
        const uint8_t* from = codes.row(index * args.search.step) + at;
        unsigned char* to = stage + code * Shape<kSteps>::kStride + at;
        if (width == 16) {
            copy_async_16(to, from);
        } else if (width == 4) {
            copy_async_4(to, from);
        } else {
            *to = *from;
        }
    }
}

// weights[i] = set bits of code i of the tile, or kNoCode.
template <int kSteps>
__device__ void weigh_tile(const TileArgs& args, int64_t tile, const unsigned char* stage, int32_t* weights) {
    constexpr int kParts = kTileThreads / Shape<kSteps>::kCodes;  // threads to a code
    const int code = static_cast<int>(threadIdx.x) / kParts, part = static_cast<int>(threadIdx.x) % kParts;
    const auto* row = reinterpret_cast<const uint4*>(stage + code * Shape<kSteps>::kStride);
    int32_t bits = 0;
    for (int i = part; i < 2 * kSteps; i += kParts) {
        const uint4 words = row[i];
        bits += __popc(words.x) + __popc(words.y) + __popc(words.z) + __popc(words.w);
    }
    for (int offset = kParts / 2; offset > 0; offset /= 2) bits += __shfl_xor_sync(kFullWarp, bits, offset);
    if (part != 0) return;
    const int64_t index = tile * Shape<kSteps>::kCodes + code;
    const bool is_wanted = index < args.count && args.search.codes.may_find(index * args.search.step);
    weights[code] = is_wanted ? bits : kNoCode;
}

// A pair that may be within its limit: looked at exactly, and kept if it is.
__device__ void offer(const TileArgs& args, int64_t query, Key limit, int32_t distance, int64_t index) {
    const Key key = make_key(static_cast<uint32_t>(distance), index * args.search.step);
    if (key > limit) return;
    const uint32_t place = atomicAdd(&args.search.counts[query], 1u);
    if (place < args.search.capacity) args.search.candidates[query * args.search.capacity + place] = key;
}

__device__ void write_pair(const TileArgs& args, int64_t query, int64_t index, int32_t first, int32_t second) {
    if (query >= args.pairs.queries.count || index >= args.count) return;
    int32_t* out = args.pairs.out + query * args.pairs.out_stride + index;
    if (args.is_even && index + 1 < args.count) {
        *reinterpret_cast<int2*>(out) = int2{first, second};
        return;
    }
    out[0] = first;
    if (index + 1 < args.count) out[1] = second;
}

template <int kSteps, bool kAllPairs>
__global__ void __launch_bounds__(kTileThreads, 2) tile_kernel(const TileArgs args) {
    using S = Shape<kSteps>;
    unsigned char* shared = dynamic_shared();
    auto* weights = reinterpret_cast<int32_t*>(shared + S::kWeights);
    auto* all_limits = reinterpret_cast<Key*>(shared + S::kLimits);
    const Queries& queries = args.search.queries;
    const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
    const int group = lane / 4, quad = lane % 4;
    const int query_warp = warp % args.query_warps, code_warp = warp / args.query_warps;
    const int code_warps = kTileWarps / args.query_warps;
    const int64_t first_query = (int64_t{blockIdx.y} * args.query_warps + query_warp) * S::kQueries;
    Key* limits = all_limits + query_warp * S::kQueries;  // the same from every warp that has these queries
    int32_t* query_bits = reinterpret_cast<int32_t*>(shared + S::kBits) + query_warp * S::kQueries;

    // Zeros, for the bits between a code's last and a whole product.
    for (int i = static_cast<int>(threadIdx.x); i < kStages * S::kStageBytes / 16; i += kTileThreads) {
        reinterpret_cast<uint4*>(shared)[i] = uint4{0, 0, 0, 0};
    }
    if (!kAllPairs && code_warp == 0) {
        for (int i = lane; i < S::kQueries; i += kWarp) {
            limits[i] = first_query + i < queries.count ? args.search.limits[first_query + i] : 0;
        }
    }
    __syncthreads();

    // The warp's queries as fragments; their bit counts; what the sums of a pair within the limit reach at least:
    // dist <= limit means |q & c| - |c| / 2 >= (|q| - limit) / 2, and so do the whole numbers around.
    uint32_t a[S::kRowTiles][kSteps][4];
    int32_t least[S::kRowTiles][2];
#pragma unroll
    for (int m = 0; m < S::kRowTiles; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int place = 16 * m + 8 * half + group;
            const int64_t query = first_query + place;
            const bool is_one = query < queries.count;
            int32_t bits = 0;
#pragma unroll
            for (int step = 0; step < kSteps; ++step) {
#pragma unroll
                for (int side = 0; side < 2; ++side) {
                    const int word = 8 * step + 2 * quad + side;
                    const uint32_t value = is_one ? word_of(queries.row(query), args.search.codes.bytes, word) : 0;
                    a[m][step][half + 2 * side] = value;
                    bits += __popc(value);
                }
            }
            bits += __shfl_xor_sync(kFullWarp, bits, 1);
            bits += __shfl_xor_sync(kFullWarp, bits, 2);
            if (code_warp == 0 && quad == 0) query_bits[place] = bits;
            least[m][half] = 0;
            if (!kAllPairs) {
                const Key limit = limits[place] >> kRowBits;
                const int32_t most = 8 * args.search.codes.bytes;
                const int32_t bound = limit < static_cast<Key>(most) ? static_cast<int32_t>(limit) : most;
                least[m][half] = is_one ? (bits - bound + 1) >> 1 : 0x7fffffff;  // rounded up, also below zero
            }
        }
    }

    // 32 bits hold a tile's number, as kMaxRows does a row's.
    const int tiles = static_cast<int>(divide_up<int64_t>(args.count, S::kCodes)), stride = static_cast<int>(gridDim.x);
    for (int stage = 0; stage < kStages - 1; ++stage) {
        const int tile = static_cast<int>(blockIdx.x) + stage * stride;
        if (tile < tiles) load_tile<kSteps>(args, tile, shared + stage * S::kStageBytes);
        commit_copies();
    }
    int stage = 0;
    for (int tile = static_cast<int>(blockIdx.x); tile < tiles; tile += stride) {
        wait_for_copies<kStages - 2>();
        __syncthreads();  // this tile is here, for all; and nobody reads the one before any more
        const int next = tile + (kStages - 1) * stride;
        if (next < tiles) load_tile<kSteps>(args, next, shared + (stage + kStages - 1) % kStages * S::kStageBytes);
        commit_copies();
        const unsigned char* codes = shared + stage * S::kStageBytes;
        weigh_tile<kSteps>(args, tile, codes, weights);
        __syncthreads();
#pragma unroll 1
        for (int eight = code_warp; eight < S::kCodes / 8; eight += code_warps) {
            const unsigned char* row = codes + (8 * eight + group) * S::kStride + 8 * quad;
            const int2 weight = *reinterpret_cast<const int2*>(weights + 8 * eight + 2 * quad);
            const int32_t low[2] = {kAllPairs ? 0 : -(weight.x >> 1), kAllPairs ? 0 : -(weight.y >> 1)};
            const int32_t start[4] = {low[0], low[1], low[0], low[1]};
            int32_t sums[S::kRowTiles][4];
#pragma unroll
            for (int step = 0; step < kSteps; ++step) {
                const uint2 b = *reinterpret_cast<const uint2*>(row + 32 * step);
#pragma unroll
                for (int m = 0; m < S::kRowTiles; ++m) {
                    if (step == 0) {
                        add_common_bits(sums[m], a[m][step], b, start);
                    } else {
                        add_common_bits(sums[m], a[m][step], b, sums[m]);
                    }
                }
            }
            const int64_t index = int64_t{tile} * S::kCodes + 8 * eight + 2 * quad;
            if (kAllPairs) {
#pragma unroll
                for (int m = 0; m < S::kRowTiles; ++m) {
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const int place = keep_inside(16 * m + 8 * half + group);
                        const int32_t bits = query_bits[place];
                        write_pair(args, first_query + place, index, bits + weight.x - 2 * sums[m][2 * half],
                                   bits + weight.y - 2 * sums[m][2 * half + 1]);
                    }
                }
                continue;
            }
            bool is_any = false;
#pragma unroll
            for (int m = 0; m < S::kRowTiles; ++m) {
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int32_t greater =
                        sums[m][2 * half] > sums[m][2 * half + 1] ? sums[m][2 * half] : sums[m][2 * half + 1];
                    is_any = is_any || greater >= least[m][half];
                }
            }
            if (!__any_sync(kFullWarp, is_any)) continue;  // together: products need the whole warp
#pragma unroll
            for (int m = 0; m < S::kRowTiles; ++m) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    if (sums[m][i] < least[m][i / 2]) continue;
                    const int place = keep_inside(16 * m + 8 * (i / 2) + group);
                    const int32_t odd = (i % 2 == 0 ? weight.x : weight.y) & 1;
                    offer(args, first_query + place, limits[place], query_bits[place] - 2 * sums[m][i] + odd,
                          index + i % 2);
                }
            }
            __syncwarp();
        }
        stage = (stage + 1) % kStages;
    }
    wait_for_copies<0>();
}

template <int kSteps>
void launch_tiles(TileArgs args, bool is_all_pairs, const char* what, Stream stream) {
    using S = Shape<kSteps>;
    const int64_t warps = divide_up<int64_t>(args.search.queries.count, S::kQueries);
    args.query_warps = 1;
    while (args.query_warps < kTileWarps && args.query_warps < warps) args.query_warps *= 2;
    const int64_t tiles = divide_up<int64_t>(args.count, S::kCodes), rows = divide_up<int64_t>(warps, args.query_warps);
    const int64_t most = divide_up<int64_t>(2 * num_multiprocessors(), rows);  // blocks that run at once
    const dim3 grid(static_cast<unsigned>(tiles < most ? tiles : most), static_cast<unsigned>(rows));
    launch(what, is_all_pairs ? tile_kernel<kSteps, true> : tile_kernel<kSteps, false>, grid, kTileThreads, S::kEnd,
           stream, args);
}

void launch_any(const TileArgs& args, bool is_all_pairs, const char* what, Stream stream) {
    const int steps = divide_up(args.search.codes.bytes, 32);
    const auto run = steps == 1   ? launch_tiles<1>
                     : steps == 2 ? launch_tiles<2>
                     : steps == 3 ? launch_tiles<3>
                     : steps == 4 ? launch_tiles<4>
                     : steps <= 6 ? launch_tiles<6>
                     : steps <= 8 ? launch_tiles<8>
                                  : launch_tiles<16>;
    run(args, is_all_pairs, what, stream);
}

}  // namespace

void find_candidates(const Candidates& args, Stream stream) {
    TileArgs tiles{};
    tiles.search = args;
    tiles.count = divide_up(args.codes.n, args.step);
    tiles.copy_width = read_width(args.codes);
    launch_any(tiles, false, "hamming_topk", stream);
}

void all_pairs(const AllPairs& args, Stream stream) {
    constexpr int64_t kMostQueries = 1 << 20;  // a grid has 65535 rows of blocks at most, of 128 queries at least
    TileArgs tiles{};
    tiles.search.codes = args.codes;
    tiles.search.step = 1;
    tiles.count = args.codes.n;
    tiles.copy_width = read_width(args.codes);
    tiles.is_even = reinterpret_cast<uintptr_t>(args.out) % 8 == 0 && args.out_stride % 2 == 0;
    for (int64_t first = 0; first < args.queries.count; first += kMostQueries) {
        const int64_t left = args.queries.count - first;
        tiles.pairs = args;
        tiles.pairs.out = args.out + first * args.out_stride;
        tiles.pairs.queries = {args.queries.row(first), args.queries.row_stride,
                               left < kMostQueries ? left : kMostQueries};
        tiles.search.queries = tiles.pairs.queries;
        launch_any(tiles, true, "hamming", stream);
    }
}

}  // namespace longspan::cuda
