#include "core/cpu_features.h"

#include <cstdint>

#include "core/isa.h"

#if LONGSPAN_X86 && defined(_MSC_VER)
#include <intrin.h>
#elif LONGSPAN_X86
#include <cpuid.h>
#endif
#if LONGSPAN_X86 && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if LONGSPAN_ARM64 && defined(__linux__)
#include <sys/auxv.h>
#elif LONGSPAN_ARM64 && defined(__APPLE__)
#include <sys/sysctl.h>
#elif LONGSPAN_ARM64 && defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#endif

namespace longspan {
namespace {

#if LONGSPAN_X86
struct CpuidWords {
    uint32_t eax, ebx, ecx, edx;
};

CpuidWords cpuid(uint32_t leaf, uint32_t subleaf) {
    CpuidWords words{};
#ifdef _MSC_VER
    int out[4];
    __cpuidex(out, static_cast<int>(leaf), static_cast<int>(subleaf));
    words = {uint32_t(out[0]), uint32_t(out[1]), uint32_t(out[2]), uint32_t(out[3])};
#else
    __get_cpuid_count(leaf, subleaf, &words.eax, &words.ebx, &words.ecx, &words.edx);
#endif
    return words;
}

// The register states that the operating system saves: a CPU flag without them is a trap.
uint64_t saved_states() {
#ifdef _MSC_VER
    return _xgetbv(0);
#else
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t{high} << 32) | low;
#endif
}

constexpr bool has_bits(uint64_t word, uint64_t mask) {
    return (word & mask) == mask;
}

// Linux gives a process the tiles' 8 KiB of state when it asks (Documentation/arch/x86/xstate.rst). An error, of an old
// kernel or a small sigaltstack, means that there are none.
bool ask_for_tiles() {
#ifdef __linux__
    constexpr long kRequestState = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, kRequestState, kTileData) == 0;
#else
    return false;
#endif
}

CpuFeatures machine_features() {
    CpuFeatures found;
    if (cpuid(0, 0).eax < 7) return found;
    const CpuidWords basic = cpuid(1, 0), extended = cpuid(7, 0);
    const CpuidWords more = extended.eax >= 1 ? cpuid(7, 1) : CpuidWords{};
    constexpr uint32_t kFma = 1u << 12, kPopcnt = 1u << 23, kOsxsave = 1u << 27, kAvx = 1u << 28,
                       kF16c = 1u << 29;                                                                // leaf 1, ecx
    constexpr uint32_t kAvx2 = 1u << 5, kF = 1u << 16, kDq = 1u << 17, kBw = 1u << 30, kVl = 1u << 31;  // leaf 7, ebx
    constexpr uint32_t kVnni = 1u << 11, kBitalg = 1u << 12, kVpopcntdq = 1u << 14;                     // leaf 7, ecx
    constexpr uint32_t kTileBf16 = 1u << 22, kFp16 = 1u << 23, kTile = 1u << 24, kTileInt8 = 1u << 25;  // leaf 7, edx
    constexpr uint32_t kAvxVnni = 1u << 4, kBf16 = 1u << 5;                                             // leaf 7.1, eax
    constexpr uint64_t kYmmState = 0x6, kZmmState = 0xe6, kTileState = 0x60000;
    if (!has_bits(basic.ecx, kOsxsave)) return found;
    const uint64_t states = saved_states();
    const bool has_ymm = has_bits(states, kYmmState), has_zmm = has_bits(states, kZmmState);
    found.avx2 = has_ymm && has_bits(basic.ecx, kFma | kPopcnt | kAvx | kF16c) && has_bits(extended.ebx, kAvx2);
    found.avx_vnni = has_ymm && has_bits(more.eax, kAvxVnni);
    found.avx512 = has_zmm && has_bits(extended.ebx, kF | kDq | kBw | kVl);
    found.avx512_vnni = has_zmm && has_bits(extended.ecx, kVnni | kBitalg | kVpopcntdq);
    found.avx512_bf16 = has_zmm && has_bits(more.eax, kBf16);
    found.avx512_fp16 = has_zmm && has_bits(extended.edx, kFp16);
    // Intel's cores before AMX's tiles are used: half as many FLOPs as with floats (bench/ops/dpbf16_ceiling.cpp beside
    // fma_ceiling.cpp on Emerald Rapids: 90 and 187 GFLOP/s). AMD's make twice as many.
    constexpr uint32_t kGenu = 0x756e6547;  // "GenuineIntel" begins so
    found.has_slow_bf16 = cpuid(0, 0).ebx == kGenu;
    found.amx =
        has_bits(states, kTileState) && has_bits(extended.edx, kTile | kTileInt8 | kTileBf16) && ask_for_tiles();
#ifdef LONGSPAN_PLAYS_TILES
    found.amx = found.avx512_bf16;
#endif
    return found;
}
#elif LONGSPAN_ARM64 && defined(__linux__)
CpuFeatures machine_features() {
    constexpr unsigned long kDotprod = 1ul << 20, kI8mm = 1ul << 13, kBf16 = 1ul << 14;  // asm/hwcap.h
    CpuFeatures found;
    found.neon = true;
    found.neon_dotprod = (getauxval(AT_HWCAP) & kDotprod) != 0;
    found.neon_i8mm = (getauxval(AT_HWCAP2) & (kI8mm | kBf16)) == (kI8mm | kBf16);
    return found;
}
#elif LONGSPAN_ARM64 && defined(__APPLE__)
bool has_feature(const char* name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}

CpuFeatures machine_features() {
    CpuFeatures found;
    found.neon = true;
    found.neon_dotprod = has_feature("hw.optional.arm.FEAT_DotProd");
    found.neon_i8mm = has_feature("hw.optional.arm.FEAT_I8MM") && has_feature("hw.optional.arm.FEAT_BF16");
    return found;
}
#elif LONGSPAN_ARM64 && defined(_WIN32)
CpuFeatures machine_features() {
    constexpr unsigned long kDotprod = 43;  // PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE; I8MM it does not tell everywhere
    CpuFeatures found;
    found.neon = true;
    found.neon_dotprod = IsProcessorFeaturePresent(kDotprod) != 0;
    return found;
}
#else
CpuFeatures machine_features() {
    return {};
}
#endif

}  // namespace

CpuFeatures cpu_features() {
    return machine_features();
}

}  // namespace longspan
