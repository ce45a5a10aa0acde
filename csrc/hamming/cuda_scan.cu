// hamming_topk for one query, at memory speed, without a limit on k.
//
//   1 measure   each block reads its run of rows once; distances (2 bytes a row) and their histogram stay behind
//   2 choose    one block: the distance up to which the k nearest reach, and how many they are at it
//   3 collect   rows below it, in any order, from the distances; each block counts its rows at it
//   4 settle    rows at it, in order of rows, each block after those of the blocks before
//
// Bytes = n * (code bytes + 2) in step 1, where the time goes: 1024-bit codes leave 98.5 % of the bandwidth to the
// codes. Steps 3 and 4 read 2 bytes a row, from L2 up to some 20 M rows. XOR, popcount and add for each 4 bytes: an
// H100 delivers 14 bytes a clock and multiprocessor, and counts 64. Every thread has 4 rows' 16 bytes in flight, 5
// blocks of 256 threads to a multiprocessor: 80 KB, where 4 TB/s at 700 ns ask for 21 KB of each.
// Times: bench/gpu/codes.py.
#include "hamming/cuda_select.h"

namespace longspan::cuda {
namespace {

struct ScanState {
    Selection selection;
    uint32_t found;  // keys below the threshold that have been written
};

struct ScanArgs {
    Scan scan;
    uint32_t* histogram;  // (8 * bytes + 1,), zero at first
    ScanState* state;
    uint32_t* ties;       // (blocks,)
    uint16_t* distances;  // (n,)
};

struct Run {
    int64_t first, last;
};

__device__ Run run_of_block(const ScanArgs& args) {
    const int64_t first = blockIdx.x * args.scan.rows_per_block, last = first + args.scan.rows_per_block;
    return {first, last < args.scan.codes.n ? last : args.scan.codes.n};
}

struct MeasureSpace {
    size_t query, distances, end;
    __host__ __device__ explicit MeasureSpace(int bytes) {
        query = divide_up<size_t>((8 * static_cast<size_t>(bytes) + 1) * sizeof(uint32_t), 16) * 16;
        distances = divide_up<size_t>(query + static_cast<size_t>(bytes), 16) * 16;
        end = distances + kTileRows * sizeof(uint16_t);
    }
};

template <class Part>
__global__ void __launch_bounds__(kRowThreads, kScanBlocks) measure_kernel(const ScanArgs args) {
    unsigned char* shared = dynamic_shared();
    const Codes& codes = args.scan.codes;
    const MeasureSpace space(codes.bytes);
    auto* histogram = reinterpret_cast<uint32_t*>(shared);
    const auto* query = reinterpret_cast<const Part*>(shared + space.query);
    auto* distances = reinterpret_cast<uint16_t*>(shared + space.distances);
    const int bins = 8 * codes.bytes + 1;
    for (int i = static_cast<int>(threadIdx.x); i < bins; i += kRowThreads) histogram[i] = 0;
    load_query(args.scan.query, codes.bytes, shared + space.query);
    __syncthreads();
    const Run run = run_of_block(args);
    for (int64_t first = run.first; first < run.last; first += kTileRows) {
        const int count = static_cast<int>(run.last - first < kTileRows ? run.last - first : kTileRows);
        distances_of_tile(codes, query, 1, first, count, distances);
        __syncthreads();
        for (int i = static_cast<int>(threadIdx.x); i < count; i += kRowThreads) {
            const uint16_t distance = distances[i];
            args.distances[first + i] = distance;
            if (distance != kFiltered) atomicAdd(&histogram[distance], 1u);
        }
        __syncthreads();
    }
    for (int i = static_cast<int>(threadIdx.x); i < bins; i += kRowThreads) {
        if (histogram[i] != 0) atomicAdd(&args.histogram[i], histogram[i]);
    }
}

__global__ void __launch_bounds__(kRowThreads) choose_kernel(const ScanArgs args) {
    auto* scratch = reinterpret_cast<uint32_t*>(dynamic_shared());
    const int bins = 8 * args.scan.codes.bytes + 1;
    const auto k = static_cast<uint32_t>(args.scan.k);
    const Selection selection = select_in_histogram(args.histogram, bins, k, scratch);
    if (threadIdx.x == 0) *args.state = {selection, 0};
}

__global__ void __launch_bounds__(kRowThreads) collect_kernel(const ScanArgs args) {
    auto* scratch = reinterpret_cast<uint32_t*>(dynamic_shared());
    const Run run = run_of_block(args);
    const uint32_t threshold = args.state->selection.threshold;
    uint32_t own = 0, total = 0;
    const auto look_at = [&](uint32_t distance, int64_t row) {
        own += distance == threshold ? 1 : 0;
        if (distance < threshold) args.scan.keys[atomicAdd(&args.state->found, 1u)] = make_key(distance, row);
    };
    int64_t row = run.first + 8 * int64_t{threadIdx.x};  // whole reads of 16 bytes: runs start at multiples of 1024
    for (; row + 8 <= run.last; row += 8 * kRowThreads) {
        const uint4 eight = *reinterpret_cast<const uint4*>(args.distances + row);
        const uint32_t words[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            look_at(words[i] & 0xffff, row + 2 * i);
            look_at(words[i] >> 16, row + 2 * i + 1);
        }
    }
    for (; row < run.last; ++row) look_at(args.distances[row], row);  // at most one thread has some left
    block_sum_before(own, scratch, total);
    if (threadIdx.x == 0) args.ties[blockIdx.x] = total;
}

__global__ void __launch_bounds__(kRowThreads) settle_kernel(const ScanArgs args) {
    auto* scratch = reinterpret_cast<uint32_t*>(dynamic_shared());
    const Selection selection = args.state->selection;
    uint32_t part = 0, before = 0;
    for (uint32_t block = threadIdx.x; block < blockIdx.x; block += kRowThreads) part += args.ties[block];
    block_sum_before(part, scratch, before);
    if (blockIdx.x == 0) {
        for (int64_t i = int64_t{selection.below} + selection.at + threadIdx.x; i < args.scan.k; i += kRowThreads) {
            args.scan.keys[i] = kNoKey;
        }
    }
    const Run run = run_of_block(args);
    uint32_t left = args.ties[blockIdx.x];
    for (int64_t first = run.first; left > 0 && before < selection.at && first < run.last; first += kTileRows) {
        const int count = static_cast<int>(run.last - first < kTileRows ? run.last - first : kTileRows);
        const uint32_t ties = before;
        take_ties(args.distances + first, count, 1, first, selection, before, args.scan.keys, nullptr, scratch);
        left -= before - ties;
    }
}

}  // namespace

void scan(const Scan& args, Stream stream) {
    const HistogramSpace space(args.codes.bytes, args.codes.n, args.blocks);
    const ScanArgs steps{args, reinterpret_cast<uint32_t*>(args.workspace + space.histogram),
                         reinterpret_cast<ScanState*>(args.workspace + space.state),
                         reinterpret_cast<uint32_t*>(args.workspace + space.ties),
                         reinterpret_cast<uint16_t*>(args.workspace + space.distances)};
    const auto grid = dim3(static_cast<unsigned>(args.blocks));
    const int width = read_width(args.codes);
    fill_bytes("hamming_topk", steps.histogram, 0, space.state, stream);
    launch("hamming_topk",
           width == 16  ? measure_kernel<uint4>
           : width == 4 ? measure_kernel<uint32_t>
                        : measure_kernel<uint8_t>,
           grid, kRowThreads, MeasureSpace(args.codes.bytes).end, stream, steps);
    constexpr size_t kSums = kScratch * sizeof(uint32_t);
    launch("hamming_topk", choose_kernel, dim3(1), kRowThreads, kSums, stream, steps);
    launch("hamming_topk", collect_kernel, grid, kRowThreads, kSums, stream, steps);
    launch("hamming_topk", settle_kernel, grid, kRowThreads, kSums, stream, steps);
}

}  // namespace longspan::cuda
