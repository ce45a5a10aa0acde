// attention_varlen's Hopper kernels, compiled for the emulator, behind plain C functions for ctypes; beside them the
// pieces that are host code too. A function that can fail returns null, or the words of the exception.
#define LONGSPAN_CUDA_EMULATED 1
#include "attention_varlen/cuda_sm90.cu"
#include "attention_varlen/cuda_sm90_tiles.cu"
#include "guarded.h"

namespace {

using namespace longspan;

// Kernels that break a rule, for the emulator's own test. Two warpgroups; the first thread of all sets up a barrier.
struct Broken {
    int kind;  // 0: none is broken
    cuda::TensorMap map;
};

void broken_kernel(const Broken args) {
    unsigned char* memory = cuda::dynamic_shared();
    memory += (cuda::kPatternBytes - cuda::shared_address(memory) % cuda::kPatternBytes) % cuda::kPatternBytes;
    auto* barrier = reinterpret_cast<uint64_t*>(memory + 8192);
    const int thread = static_cast<int>(threadIdx.x);
    if (thread == 0) {
        if (args.kind != 1) cuda::barrier_init(barrier, 1);
        if (args.kind != 2) cuda::publish_barriers();
    }
    __syncthreads();
    if (thread == 0) {
        cuda::barrier_expect(barrier, args.kind == 3 ? 8192 + 16 : 8192);
        if (args.kind == 4) cuda::barrier_arrive(barrier);
        cuda::copy_box(memory + (args.kind == 5 ? 64 : 0), &args.map, barrier, 0, 0, 0);
    }
    cuda::barrier_wait(barrier, 0);
    if (args.kind == 6) cuda::named_barrier_sync(1, thread < 128 ? 256 : 512);
    if (args.kind == 7 && thread < 128) cuda::named_barrier_sync(1, 256);
    float sums[32];
    const uint32_t address = cuda::shared_address(memory);
    const uint64_t matrix = cuda::describe(address + (args.kind == 8 && thread == 130 ? 1024 : 0), 0, 1024);
    if (args.kind != 9) cuda::start_products();
    cuda::multiply_shared<cuda::Half, false>(sums, matrix, args.kind == 10 ? matrix & ~(3ull << 62) : matrix);
    cuda::end_products();
    if (args.kind != 11) cuda::wait_for_products<0>();
}

}  // namespace

extern "C" {

void seed(unsigned order, int multiprocessors) {
    emulator::machine().order.seed(order);
    emulator::machine().multiprocessors = multiprocessors;
}

const char* broken(int kind, const uint16_t* rows) {
    return guarded([&] {
        const auto plan = cuda::plan_tensor_map("rows", {rows, 64, 1, 64, 64, 64}, cuda::Float::f16, 64);
        const Broken args{kind, cuda::encode_tensor_map("rows", plan)};
        cuda::launch("broken", broken_kernel, dim3(1), 256, 8192 + 1024 + 8, nullptr, args);
    });
}

// Each of q, k, v, out: address, and sizes[] = total, heads, head_dim, row stride, head stride.
const char* attention_varlen(const void* q, const int64_t* q_sizes, const void* k, const int64_t* k_sizes,
                             const void* v, const int64_t* v_sizes, void* out, const int64_t* out_sizes, int dtype,
                             const int32_t* cu_seqlens_q, const int32_t* cu_seqlens_k, int64_t num_sequences,
                             const float* slopes, float softmax_scale, int is_causal, float* lse) {
    return guarded([&] {
        const auto rows = [](const void* data, const int64_t* s) {
            return cuda::PackedRows{data, s[0], s[1], s[2], s[3], s[4]};
        };
        const size_t size = cuda::attention_workspace(q_sizes[0], num_sequences);
        std::vector<cuda::Tile> workspace(size / sizeof(cuda::Tile) + 1);
        std::memset(workspace.data(), 0xa5, workspace.size() * sizeof(cuda::Tile));
        cuda::attention_varlen({rows(q, q_sizes), rows(k, k_sizes), rows(v, v_sizes), rows(out, out_sizes),
                                static_cast<cuda::Float>(dtype), lse, slopes, cu_seqlens_q, cu_seqlens_k, num_sequences,
                                softmax_scale, is_causal != 0, workspace.data()},
                               nullptr);
    });
}

// The list that the kernel works through: (row, rows, low, start_k, len_k, num_blocks) a tile. Returns their number.
int64_t list_tiles(const int32_t* cu_seqlens_q, const int32_t* cu_seqlens_k, int32_t num_sequences, int is_causal,
                   int32_t* tiles) {
    const int64_t slots = cuda::num_slots(cu_seqlens_q[num_sequences], num_sequences);
    std::vector<cuda::Tile> workspace(static_cast<size_t>(slots) + 1);
    auto* list = reinterpret_cast<cuda::TileList*>(workspace.data());
    cuda::list_tiles({cu_seqlens_q, cu_seqlens_k, num_sequences, static_cast<int32_t>(slots), is_causal != 0, list},
                     nullptr);
    for (int32_t i = 0; i < list->count; ++i) std::memcpy(tiles + 6 * i, &list->tiles[i], 6 * sizeof(int32_t));
    return list->count;
}

// As a Sight, and 8 if half of the block is enough.
int sight_of(int block, int low, int rows, int len_k, int is_causal, int is_biased) {
    const cuda::Outlook outlook{low, rows, len_k, is_causal != 0, is_biased != 0};
    return static_cast<int>(outlook.sight_of(block)) + (outlook.needs_half(block) ? 8 : 0);
}

uint32_t swizzled(uint32_t address) {
    return cuda::swizzled(address);
}
uint64_t describe(uint32_t address, uint32_t across, uint32_t down) {
    return cuda::describe(address, across, down);
}
uint64_t further(uint64_t descriptor, uint32_t bytes) {
    return cuda::further(descriptor, bytes);
}

// Rows and columns of a thread's 64 sums, and of the 64 values of its operand of four steps.
void fragments(int thread, int32_t* sums, int32_t* operand) {
    for (int i = 0; i < 64; ++i) {
        sums[2 * i] = cuda::sum_row(thread, i);
        sums[2 * i + 1] = cuda::sum_column(thread, i);
        operand[2 * i] = cuda::operand_row(thread, i / 2);
        operand[2 * i + 1] = cuda::operand_column(thread, i / 2, i % 2);
    }
}

uint32_t pack_pair(float low, float high, int is_half) {
    return is_half != 0 ? cuda::pack_pair<cuda::Half>(low, high) : cuda::pack_pair<cuda::Bfloat16>(low, high);
}

// What a block of the kernel takes of shared memory.
int64_t shared_bytes(int head_dim) {
    return static_cast<int64_t>(head_dim == 128 ? cuda::Shared<128>::kBytes : cuda::Shared<64>::kBytes);
}
}
