// What linear needs beside the portable F32 to play AMX's kernels on any machine (amx_emulated.cpp): words of two bf16
// or four bytes as they are.
#pragma once

#include "linear/lanes_portable.h"
#include "linear/words.h"

namespace longspan::LONGSPAN_ISA {
namespace {

struct Bf16Product {
    static constexpr int kParts = 1;
    static void stage(const float* x, int64_t count, Word* staged) {
        for (int64_t i = 0; i < count; i += 2) {
            const float values[2] = {x[i], i + 1 < count ? x[i + 1] : 0.0f};
            staged[i / 2] = word_of(Dtype::bf16, values, 1.0f);
        }
    }
};

struct Int8Product {
    static constexpr int kParts = 1;
    template <int>
    static I32 load(const Word* p) {
        return I32::load(p);
    }
    static I32 add(I32 sum, I32 x, I32 w) {
        for (int i = 0; i < F32::kLanes; ++i) {
            for (int shift = 0; shift < 32; shift += 8) {
                const int product =
                    static_cast<uint8_t>(x.v[i] >> shift) * static_cast<int8_t>(w.v[i] >> shift & 0xffu);
                sum.v[i] += static_cast<uint32_t>(product);
            }
        }
        return sum;
    }
    template <int>
    static Word part(Word x) {
        return x;
    }
};

}  // namespace
}  // namespace longspan::LONGSPAN_ISA
