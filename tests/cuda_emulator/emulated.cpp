// The GPU's kernels and launchers, compiled for the emulator, behind plain C functions for ctypes. Arguments are as in
// csrc's launchers; a function returns null, or the words of the exception.
#define LONGSPAN_CUDA_EMULATED 1
#include "binarize/cuda.cu"
#include "guarded.h"
#include "hamming/cuda.cu"
#include "hamming/cuda_scan.cu"
#include "hamming/cuda_select.cu"
#include "hamming/cuda_tiles.cu"
#include "span_mean/cuda.cu"

namespace {

using namespace longspan;

// Kernels that break a rule, for the emulator's own test: a barrier that one thread skips, a warp exchange without its
// last lane, and values read before a barrier makes them good. Each thread writes its left neighbour's number to out.
struct Broken {
    int kind;  // 0: none is broken
    int32_t* out;
};

void broken_kernel(const Broken args) {
    auto* shared = reinterpret_cast<int32_t*>(cuda::dynamic_shared());
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    if (args.kind == 2 && thread % cuda::kWarp != cuda::kWarp - 1) cuda::warp_sum(1);
    shared[thread] = thread;
    if (args.kind != 3 && (args.kind != 1 || thread != 5)) __syncthreads();
    args.out[thread] = shared[(thread + threads - 1) % threads];
}

cuda::Codes codes_of(const uint8_t* data, int64_t stride, int64_t n, int32_t bytes, const uint8_t* filter) {
    return {data, stride, n, bytes, filter};
}

}  // namespace

extern "C" {

void seed(unsigned order, int multiprocessors) {
    emulator::machine().order.seed(order);
    emulator::machine().multiprocessors = multiprocessors;
}

const char* broken(int kind, int32_t* out) {
    return guarded([&] { cuda::launch("broken", broken_kernel, dim3(1), 64, 256, nullptr, Broken{kind, out}); });
}

const char* binarize(const void* x, int dtype, int64_t rows, int64_t dim, int64_t stride, const float* thresholds,
                     uint8_t* codes) {
    return guarded([&] {
        cuda::binarize({x, static_cast<cuda::Float>(dtype), rows, dim, stride, thresholds, codes, (dim + 7) / 8},
                       nullptr);
    });
}

const char* span_mean(const void* hidden, int dtype, int64_t total, int64_t dim, int64_t stride, const int32_t* spans,
                      int64_t num_spans, int normalize, float* out, int64_t out_dim, int64_t out_stride) {
    return guarded([&] {
        cuda::span_mean({hidden, static_cast<cuda::Float>(dtype), total, dim, stride, spans, num_spans, out, out_dim,
                         out_stride, normalize != 0},
                        nullptr);
    });
}

const char* hamming(const uint8_t* queries, int64_t query_stride, int64_t num_queries, const uint8_t* codes,
                    int64_t stride, int64_t n, int32_t bytes, int32_t* out, int64_t out_stride) {
    return guarded([&] {
        cuda::all_pairs(
            {{queries, query_stride, num_queries}, codes_of(codes, stride, n, bytes, nullptr), out, out_stride},
            nullptr);
    });
}

// route: -1 as planned, else 0, 1, 2 as cuda::Route (a plan is made for that one). `capacity` above 0 replaces the
// planned one, so that candidates overflow. *taken becomes the route.
const char* hamming_topk(const uint8_t* queries, int64_t query_stride, int64_t num_queries, const uint8_t* codes,
                         int64_t stride, int64_t n, int32_t bytes, const uint8_t* filter, int64_t k, int64_t capacity,
                         int32_t* distances, int64_t* rows, int* taken) {
    return guarded([&] {
        cuda::TopkPlan plan = cuda::plan_topk(num_queries, n, bytes, k, cuda::num_multiprocessors());
        if (capacity > 0) plan.capacity = capacity;
        *taken = static_cast<int>(plan.route);
        // No byte of the workspace may matter before it is written.
        std::vector<unsigned char> workspace(plan.workspace + 256, 0xa5);
        auto* aligned = workspace.data() + (256 - reinterpret_cast<uintptr_t>(workspace.data()) % 256) % 256;
        std::vector<cuda::Key> keys(static_cast<size_t>(num_queries * k), 0xa5a5a5a5a5a5a5a5);
        cuda::nearest(
            {{queries, query_stride, num_queries}, codes_of(codes, stride, n, bytes, filter), k, keys.data(), aligned},
            plan, nullptr);
        const bool is_sorted = k > cuda::kMaxSorted;
        if (is_sorted) {
            for (int64_t i = 0; i < num_queries; ++i) std::sort(keys.begin() + i * k, keys.begin() + (i + 1) * k);
        }
        cuda::results({keys.data(), num_queries, k, is_sorted, distances, rows}, nullptr);
    });
}

int64_t topk_plan(int64_t num_queries, int64_t n, int32_t bytes, int64_t k, int multiprocessors, int64_t* fields) {
    const cuda::TopkPlan plan = cuda::plan_topk(num_queries, n, bytes, k, multiprocessors);
    fields[0] = static_cast<int64_t>(plan.route);
    fields[1] = plan.blocks;
    fields[2] = plan.rows_per_block;
    fields[3] = plan.capacity;
    fields[4] = plan.group;
    fields[5] = static_cast<int64_t>(plan.workspace);
    for (int level = 0; level < plan.num_levels; ++level) fields[6 + level] = plan.steps[level];
    return plan.num_levels;
}

int lanes_for(int parts) {
    return cuda::lanes_for(parts);
}

float half_to_float(uint16_t bits) {
    return cuda::to_float(cuda::Half{bits});
}
}
