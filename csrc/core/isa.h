// The instruction sets that kernels are compiled for, and the one that this process uses.
#pragma once

#include <iterator>
#include <string_view>
#include <vector>

// The one place that asks for the architecture.
#if defined(__x86_64__) || (defined(_M_X64) && !defined(_M_ARM64EC))
#define LONGSPAN_X86 1
#else
#define LONGSPAN_X86 0
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
#define LONGSPAN_ARM64 1
#else
#define LONGSPAN_ARM64 0
#endif
// GCC 11 has no AVX512-FP16: CMakeLists.txt asks the compiler, and leaves the level out where it has none.
#ifndef LONGSPAN_AVX512_FP16
#define LONGSPAN_AVX512_FP16 0
#endif

namespace longspan {

// Levels, in order of preference, worst first.
//   avx2          AVX2, FMA and F16C (Haswell, Zen 1)
//   avx_vnni      and AVX-VNNI (Alder Lake, Zen 5). Not part of the levels below: Ice Lake and Zen 4 lack it
//   avx512        avx2 and F, BW, DQ, VL (Skylake-X)
//   avx512_vnni   and VNNI, VPOPCNTDQ, BITALG (Ice Lake)
//   avx512_bf16   and BF16 (Sapphire Rapids, Zen 4)
//   avx512_fp16   avx512_vnni and FP16 (Sapphire Rapids): not BF16, whose products are slow where these are there
//   amx           avx512_bf16 and AMX's tiles, their int8 and bf16 products (Sapphire Rapids)
//   amx_avx512_fp16  amx and avx512_fp16 (not AMX-FP16, products of tiles of halves)
//   neon          what every 64-bit Arm has
//   neon_dotprod  and SDOT, UDOT (Neoverse N1, Apple M1)
//   neon_i8mm     and I8MM and BF16 (Neoverse V1 and N2, Apple M2)
//   amx_emulated  AMX's kernels with tiles that plain C++ plays: for tests, on any machine, where it is asked for by
//   name
enum class Isa {
    portable,
    avx2,
    avx_vnni,
    avx512,
    avx512_vnni,
    avx512_bf16,
    avx512_fp16,
    amx,
    amx_avx512_fp16,
    neon,
    neon_dotprod,
    neon_i8mm,
    amx_emulated
};

struct IsaLevel {
    std::string_view name;
    Isa base;                  // the level that it adds to
    Isa also = Isa::portable;  // and another one
};

inline constexpr IsaLevel kIsaLevels[] = {{"portable", Isa::portable},
                                          {"avx2", Isa::portable},
                                          {"avx_vnni", Isa::avx2},
                                          {"avx512", Isa::avx2},
                                          {"avx512_vnni", Isa::avx512},
                                          {"avx512_bf16", Isa::avx512_vnni},
                                          {"avx512_fp16", Isa::avx512_vnni},
                                          {"amx", Isa::avx512_bf16},
                                          {"amx_avx512_fp16", Isa::amx, Isa::avx512_fp16},
                                          {"neon", Isa::portable},
                                          {"neon_dotprod", Isa::neon},
                                          {"neon_i8mm", Isa::neon_dotprod},
                                          {"amx_emulated", Isa::portable}};

constexpr const IsaLevel& level_of(Isa isa) {
    return kIsaLevels[static_cast<size_t>(isa)];
}
constexpr std::string_view name_of(Isa isa) {
    return level_of(isa).name;
}

// Whether a machine at this level runs kernels of the other one.
constexpr bool includes(Isa isa, Isa other) {
    if (isa == other) return true;
    return isa != Isa::portable && (includes(level_of(isa).base, other) || includes(level_of(isa).also, other));
}

// What this machine can run, worst first; never empty.
std::vector<Isa> available_isas();

// The level in force: the best that pays on this machine, or the one that LONGSPAN_ISA names. Throws
// std::invalid_argument if LONGSPAN_ISA names none, or one that this machine lacks.
Isa active_isa();

// Forces a level for the whole process (tests). Throws std::invalid_argument like active_isa.
void set_isa(std::string_view name);

// The entry of `variants` (best first) that the level allows. Every table ends with a portable entry, so one is found.
template <class Table>
constexpr const auto& pick_variant(const Table& variants, Isa isa) {
    for (const auto& variant : variants) {
        if (includes(isa, variant.isa)) return variant;
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
