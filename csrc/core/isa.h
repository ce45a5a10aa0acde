// The instruction sets that kernels are compiled for, and the one that this process uses.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#if defined(__x86_64__) || defined(_M_X64)
#define LONGSPAN_X86 1  // the one place that asks for the architecture
#else
#define LONGSPAN_X86 0
#endif

namespace longspan {

// In order of preference, worst first: each level includes those before it.
//   avx2          with FMA and F16C (Haswell, Zen 1)
//   avx512        F, BW, DQ, VL (Skylake-X)
//   avx512_vnni   and VNNI, VPOPCNTDQ, BITALG (Ice Lake)
//   avx512_bf16   and BF16 (Sapphire Rapids, Zen 4)
enum class Isa { portable, avx2, avx512, avx512_vnni, avx512_bf16 };

inline constexpr std::array<std::string_view, 5> kIsaNames = {"portable", "avx2", "avx512", "avx512_vnni",
                                                              "avx512_bf16"};

inline std::string_view name_of(Isa isa) {
    return kIsaNames[static_cast<size_t>(isa)];
}

// What this machine and this build can run, worst first; never empty.
std::vector<Isa> available_isas();

// The level in force: the best available, or the one that LONGSPAN_ISA names. Throws std::invalid_argument if
// LONGSPAN_ISA names none, or one that this machine lacks.
Isa active_isa();

// Forces a level for the whole process (tests). Throws std::invalid_argument like active_isa.
void set_isa(std::string_view name);

// The entry of `variants` (best first) that the level allows. Every table ends with a portable entry, so one is found.
template <class Table>
const auto& pick_variant(const Table& variants, Isa isa) {
    for (const auto& variant : variants) {
        if (variant.isa <= isa) return variant;
    }
    return variants[std::size(variants) - 1];
}

// One row of an op's dispatch table.
template <class Function>
struct Variant {
    Isa isa;
    Function* run;
};

}  // namespace longspan
