// wgmma: a warpgroup's 64 rows times `kN` columns on the tensor cores, 16 values deep, while its threads go on. For .cu
// files of sm_90a. Source: PTX ISA 9.0, section 9.7.15.
//
//   start_products();                  registers written before are seen by the products
//   multiply...(sums, ...); ...        any number; sums += a * b
//   end_products();                    makes a group of them
//   wait_for_products<n>();            all but the last n groups are done
//   touch(sums);                       the compiler may not read them before
//
// Until then neither the sums nor operands in registers may be looked at or written. The compiler does not know that an
// operand in registers is still read, so it is touched twice: before start_products, so that what makes it is not moved
// behind the fence, and after the wait, so that its registers are nobody else's until then. .ci/machine_code.py looks.
//
// Where values lie: with w = warp of the four, g = lane / 4 and t = lane % 4, a thread holds sums of rows 16 w + g and
// 16 w + g + 8, columns 8 n + 2 t and 8 n + 2 t + 1: sums[4 n + 2 * (lower row) + (right column)]. A first operand in
// registers is four pairs a step: register 2 * (right half) + (lower row), columns 8 * (right half) + 2 t and the next.
// So the sums of 16 columns are, rounded and paired in order, the operand of a step.
#pragma once

#include <type_traits>

#include "core/cuda_sm90.h"

namespace longspan::cuda {

// Of sums[i] of a warpgroup's thread.
__host__ __device__ constexpr int sum_row(int thread, int i) {
    return thread / kWarp * 16 + thread % kWarp / 4 + i / 2 % 2 * 8;
}
__host__ __device__ constexpr int sum_column(int thread, int i) {
    return i / 4 * 8 + thread % 4 * 2 + i % 2;
}

// Of the lower (half 0) or upper 16 bits of register i of a first operand; 16 columns are a step of 4 registers.
__host__ __device__ constexpr int operand_row(int thread, int i) {
    return thread / kWarp * 16 + thread % kWarp / 4 + i % 2 * 8;
}
__host__ __device__ constexpr int operand_column(int thread, int i, int half) {
    return i / 4 * 16 + i / 2 % 2 * 8 + thread % 4 * 2 + half;
}

// A matrix in shared memory, as boxes of rows of 64 values lie there after a tensor copy: 128 bytes a row, swizzled.
// `address` is that of the matrix's first value before swizzling, in a box that starts at a multiple of kPatternBytes.
//   across: bytes from 64 columns to the next 64, of a matrix whose rows are the products' depth; else of no meaning
//   down:   bytes from 8 rows to the next 8
__host__ __device__ constexpr uint64_t describe(uint32_t address, uint32_t across, uint32_t down) {
    const auto field = [](uint32_t bytes) { return uint64_t{(bytes & 0x3ffffu) >> 4}; };
    constexpr uint64_t kSwizzle128 = 1;
    return field(address) | field(across) << 16 | field(down) << 32 | kSwizzle128 << 62;
}

// The same matrix `bytes` further on. An address in shared memory does not outgrow its field, so that one addition of
// 32 bits does.
__host__ __device__ constexpr uint64_t further(uint64_t descriptor, uint32_t bytes) {
    const uint32_t low = static_cast<uint32_t>(descriptor) + (bytes >> 4);
    return (descriptor & 0xffffffff00000000u) | low;
}

#if !LONGSPAN_CUDA_EMULATED

__device__ __forceinline__ void start_products() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void end_products() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void wait_for_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
template <int kCount>
__device__ __forceinline__ void touch(float (&sums)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}
template <int kCount>
__device__ __forceinline__ void touch(uint32_t (&operand)[kCount]) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(operand[i])::"memory");
}

// Only asm's own literals can name registers and types, hence macros; none of them leaves this file.
#define LONGSPAN_8(x, i)                                                                                        \
    "+f"(x[i]), "+f"(x[i + 1]), "+f"(x[i + 2]), "+f"(x[i + 3]), "+f"(x[i + 4]), "+f"(x[i + 5]), "+f"(x[i + 6]), \
        "+f"(x[i + 7])
#define LONGSPAN_32(x) LONGSPAN_8(x, 0), LONGSPAN_8(x, 8), LONGSPAN_8(x, 16), LONGSPAN_8(x, 24)
#define LONGSPAN_64(x) LONGSPAN_32(x), LONGSPAN_8(x, 32), LONGSPAN_8(x, 40), LONGSPAN_8(x, 48), LONGSPAN_8(x, 56)
#define LONGSPAN_NAMES_32                                                                                            \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, " \
    "%24, %25, %26, %27, %28, %29, %30, %31"
#define LONGSPAN_NAMES_64                                                                                              \
    LONGSPAN_NAMES_32                                                                                                  \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, " \
    "%54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
// Both operands in shared memory, both with their rows along the depth; `flag` is 0 where the sums start anew.
#define LONGSPAN_SHARED(shape, type, names, values, a_, b_, flag)                                           \
    asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, " flag ", 0;\nwgmma.mma_async.sync.aligned." shape \
                 ".f32." type "." type " {" names "}, " a_ ", " b_ ", adds, 1, 1, 0, 0;\n}"                 \
                 : values                                                                                   \
                 : "l"(a), "l"(b), "r"(static_cast<int>(kAdds)))
// The first operand in registers, the second with its columns along the depth.
#define LONGSPAN_REGISTERS(shape, type, names, values, a0, a1, a2, a3, b_)                                        \
    asm volatile("wgmma.mma_async.sync.aligned." shape ".f32." type "." type " {" names "}, {" a0 ", " a1 ", " a2 \
                 ", " a3 "}, " b_ ", 1, 1, 1, 1;"                                                                 \
                 : values                                                                                         \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))

// sums (64, kN) = a (64, 16) * b (kN, 16)^T, added to what they were if kAdds; a and b by descriptors.
template <class T, bool kAdds, int kCount>
__device__ __forceinline__ void multiply_shared(float (&sums)[kCount], uint64_t a, uint64_t b) {
    static_assert(kCount == 32 || kCount == 64);
    if constexpr (kCount == 32 && std::is_same_v<T, Half>) {
        LONGSPAN_SHARED("m64n64k16", "f16", LONGSPAN_NAMES_32, LONGSPAN_32(sums), "%32", "%33", "%34");
    } else if constexpr (kCount == 32) {
        LONGSPAN_SHARED("m64n64k16", "bf16", LONGSPAN_NAMES_32, LONGSPAN_32(sums), "%32", "%33", "%34");
    } else if constexpr (std::is_same_v<T, Half>) {
        LONGSPAN_SHARED("m64n128k16", "f16", LONGSPAN_NAMES_64, LONGSPAN_64(sums), "%64", "%65", "%66");
    } else {
        LONGSPAN_SHARED("m64n128k16", "bf16", LONGSPAN_NAMES_64, LONGSPAN_64(sums), "%64", "%65", "%66");
    }
}

// sums (64, kN) += a (64, 16) * b (16, kN); `a` is a step's four registers, b by its descriptor.
template <class T, int kCount>
__device__ __forceinline__ void multiply_registers(float (&sums)[kCount], const uint32_t* a, uint64_t b) {
    static_assert(kCount == 32 || kCount == 64);
    if constexpr (kCount == 32 && std::is_same_v<T, Half>) {
        LONGSPAN_REGISTERS("m64n64k16", "f16", LONGSPAN_NAMES_32, LONGSPAN_32(sums), "%32", "%33", "%34", "%35", "%36");
    } else if constexpr (kCount == 32) {
        LONGSPAN_REGISTERS("m64n64k16", "bf16", LONGSPAN_NAMES_32, LONGSPAN_32(sums), "%32", "%33", "%34", "%35",
                           "%36");
    } else if constexpr (std::is_same_v<T, Half>) {
        LONGSPAN_REGISTERS("m64n128k16", "f16", LONGSPAN_NAMES_64, LONGSPAN_64(sums), "%64", "%65", "%66", "%67",
                           "%68");
    } else {
        LONGSPAN_REGISTERS("m64n128k16", "bf16", LONGSPAN_NAMES_64, LONGSPAN_64(sums), "%64", "%65", "%66", "%67",
                           "%68");
    }
}

#undef LONGSPAN_8
#undef LONGSPAN_32
#undef LONGSPAN_64
#undef LONGSPAN_NAMES_32
#undef LONGSPAN_NAMES_64
#undef LONGSPAN_SHARED
#undef LONGSPAN_REGISTERS

#endif

}  // namespace longspan::cuda

#if LONGSPAN_CUDA_EMULATED
#include "cuda_emulator_wgmma.h"
#endif
