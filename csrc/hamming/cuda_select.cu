// Selection with one block a query: over all rows, over candidates, and the results in order.
#include "hamming/cuda_select.h"

namespace longspan::cuda {
namespace {

// Shared memory: a histogram of distances (or digits), room for sums, a counter, the query, a tile's distances.
struct SelectSpace {
    size_t scratch, counter, query, distances, end;
    __host__ __device__ explicit SelectSpace(int bytes) {
        const size_t bins = 8 * static_cast<size_t>(bytes) + 1;
        scratch = (bins > kDigits ? bins : kDigits) * sizeof(uint32_t);
        counter = scratch + kScratch * sizeof(uint32_t);
        query = divide_up<size_t>(counter + sizeof(uint32_t), 16) * 16;
        distances = divide_up<size_t>(query + static_cast<size_t>(bytes), 16) * 16;
        end = distances + kTileRows * sizeof(uint16_t);
    }
};

// The k nearest of query blockIdx.x among every step-th row: the distances' histogram says up to which distance, a
// second look takes the rows. Bytes = 2 * rows * code bytes, from one multiprocessor: for few rows.
template <class Part>
__device__ void select_rows(const Whole& args) {
    unsigned char* shared = dynamic_shared();
    const SelectSpace space(args.codes.bytes);
    auto* histogram = reinterpret_cast<uint32_t*>(shared);
    auto* scratch = reinterpret_cast<uint32_t*>(shared + space.scratch);
    auto* found = reinterpret_cast<uint32_t*>(shared + space.counter);
    const auto* query = reinterpret_cast<const Part*>(shared + space.query);
    auto* distances = reinterpret_cast<uint16_t*>(shared + space.distances);
    const int64_t number = blockIdx.x, rows = divide_up(args.codes.n, args.step);
    const int bins = 8 * args.codes.bytes + 1;
    for (int i = static_cast<int>(threadIdx.x); i < bins; i += kRowThreads) histogram[i] = 0;
    if (threadIdx.x == 0) *found = 0;
    load_query(args.queries.row(number), args.codes.bytes, shared + space.query);
    __syncthreads();
    for (int64_t first = 0; first < rows; first += kTileRows) {
        const int count = static_cast<int>(rows - first < kTileRows ? rows - first : kTileRows);
        distances_of_tile(args.codes, query, args.step, first, count, distances);
        __syncthreads();
        for (int i = static_cast<int>(threadIdx.x); i < count; i += kRowThreads) {
            if (distances[i] != kFiltered) atomicAdd(&histogram[distances[i]], 1u);
        }
        __syncthreads();
    }
    const Selection selection = select_in_histogram(histogram, bins, static_cast<uint32_t>(args.k), scratch);
    const int64_t total = int64_t{selection.below} + selection.at;
    Key* keys = args.keys == nullptr ? nullptr : args.keys + number * args.k;
    Key* kth = nullptr;
    if (args.limits != nullptr) {
        if (total < args.k) {
            if (threadIdx.x == 0) args.limits[number] = kNoKey;
            return;
        }
        kth = args.limits + number;
    }
    uint32_t ties = 0;  // the same in all threads
    for (int64_t first = 0; first < rows; first += kTileRows) {
        if (keys == nullptr && ties >= selection.at) return;
        const int count = static_cast<int>(rows - first < kTileRows ? rows - first : kTileRows);
        distances_of_tile(args.codes, query, args.step, first, count, distances);
        __syncthreads();
        if (keys != nullptr) take_below(distances, count, args.step, first, selection.threshold, keys, found);
        take_ties(distances, count, args.step, first, selection, ties, keys, kth, scratch);
    }
    if (keys == nullptr) return;
    for (int64_t i = total + threadIdx.x; i < args.k; i += kRowThreads) keys[i] = kNoKey;
}

template <class Part>
__global__ void __launch_bounds__(kRowThreads, 4) whole_kernel(const Whole args) {
    select_rows<Part>(args);
}

// Candidates of one query: the k-th least by digits, then those not after it.
template <class Part>
__global__ void __launch_bounds__(kRowThreads, 4) shrink_kernel(const Shrink args) {
    const int64_t number = blockIdx.x;
    const int64_t seen = args.counts[number];
    const int64_t count = seen < args.capacity ? seen : args.capacity;
    const Key* candidates = args.candidates + number * args.capacity;
    if (args.whole.keys != nullptr && seen > args.capacity) {
        select_rows<Part>(args.whole);
        return;
    }
    unsigned char* shared = dynamic_shared();
    const SelectSpace space(args.whole.codes.bytes);
    auto* histogram = reinterpret_cast<uint32_t*>(shared);
    auto* scratch = reinterpret_cast<uint32_t*>(shared + space.scratch);
    auto* found = reinterpret_cast<uint32_t*>(shared + space.counter);
    const int64_t k = args.whole.k;
    if (args.whole.limits != nullptr) {
        if (count < k) return;
        const Key kth = kth_least(candidates, count, static_cast<uint32_t>(k), histogram, scratch);
        if (threadIdx.x == 0) args.whole.limits[number] = kth;
        return;
    }
    Key* keys = args.whole.keys + number * k;
    Key kth = kNoKey;
    if (count > k) kth = kth_least(candidates, count, static_cast<uint32_t>(k), histogram, scratch);
    if (threadIdx.x == 0) *found = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < count; i += kRowThreads) {
        if (candidates[i] <= kth) keys[atomicAdd(found, 1u)] = candidates[i];
    }
    for (int64_t i = count + threadIdx.x; i < k; i += kRowThreads) keys[i] = kNoKey;
}

// Puts a query's keys in order in shared memory: bitonic, padded with kNoKey to `size`, a power of two.
__device__ void sort_keys(Key* keys, int size) {
    for (int run = 2; run <= size; run *= 2) {
        for (int distance = run / 2; distance > 0; distance /= 2) {
            for (int i = static_cast<int>(threadIdx.x); i < size / 2; i += static_cast<int>(blockDim.x)) {
                const int low = 2 * i - (i & (distance - 1)), high = low + distance;
                const bool is_rising = (low & run) == 0;
                const Key a = keys[low], b = keys[high];
                if ((a > b) == is_rising) {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
            __syncthreads();
        }
    }
}

__device__ void write_result(Key key, int32_t* distance, int64_t* row) {
    const bool is_one = key != kNoKey;
    *distance = is_one ? static_cast<int32_t>(key >> kRowBits) : 0x7fffffff;
    *row = is_one ? static_cast<int64_t>(key & ((Key{1} << kRowBits) - 1)) : -1;
}

// Grid (num_queries,). Bytes = 20 * k a query; the sort takes log2(k)^2 / 2 steps in shared memory.
__global__ void __launch_bounds__(kRowThreads) results_kernel(const Results args) {
    const int64_t first = blockIdx.x * args.k;
    if (args.is_sorted) {
        for (int64_t i = first + threadIdx.x; i < first + args.k; i += kRowThreads) {
            write_result(args.keys[i], args.distances + i, args.rows + i);
        }
        return;
    }
    auto* keys = reinterpret_cast<Key*>(dynamic_shared());
    const int k = static_cast<int>(args.k);
    int size = 1;
    while (size < k) size *= 2;
    for (int i = static_cast<int>(threadIdx.x); i < size; i += kRowThreads) {
        keys[i] = i < k ? args.keys[first + i] : kNoKey;
    }
    __syncthreads();
    sort_keys(keys, size);
    for (int i = static_cast<int>(threadIdx.x); i < k; i += kRowThreads) {
        write_result(keys[i], args.distances + first + i, args.rows + first + i);
    }
}

template <class Args>
void launch_by_width(const Codes& codes, void (*by_16)(Args), void (*by_4)(Args), void (*by_1)(Args), int64_t blocks,
                     Stream stream, const Args& args) {
    const int width = read_width(codes);
    launch("hamming_topk",
           width == 16  ? by_16
           : width == 4 ? by_4
                        : by_1,
           dim3(static_cast<unsigned>(blocks)), kRowThreads, SelectSpace(codes.bytes).end, stream, args);
}

}  // namespace

void select_whole(const Whole& args, Stream stream) {
    launch_by_width<Whole>(args.codes, whole_kernel<uint4>, whole_kernel<uint32_t>, whole_kernel<uint8_t>,
                           args.queries.count, stream, args);
}

void shrink(const Shrink& args, Stream stream) {
    launch_by_width<Shrink>(args.whole.codes, shrink_kernel<uint4>, shrink_kernel<uint32_t>, shrink_kernel<uint8_t>,
                            args.whole.queries.count, stream, args);
}

void results(const Results& args, Stream stream) {
    size_t size = 1;
    while (size < static_cast<size_t>(args.k)) size *= 2;
    launch("hamming_topk", results_kernel, dim3(static_cast<unsigned>(args.num_queries)), kRowThreads,
           args.is_sorted ? 0 : size * sizeof(Key), stream, args);
}

}  // namespace longspan::cuda
