#include "core/isa.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/error.h"

#if LONGSPAN_X86
#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cpuid.h>
#endif
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

Isa best_of_machine() {
    if (cpuid(0, 0).eax < 7) return Isa::portable;
    const CpuidWords basic = cpuid(1, 0);
    const CpuidWords extended = cpuid(7, 0);
    constexpr uint32_t kFma = 1u << 12, kOsxsave = 1u << 27, kAvx = 1u << 28, kF16c = 1u << 29;         // leaf 1, ecx
    constexpr uint32_t kAvx2 = 1u << 5, kF = 1u << 16, kDq = 1u << 17, kBw = 1u << 30, kVl = 1u << 31;  // leaf 7, ebx
    constexpr uint32_t kVnni = 1u << 11, kBitalg = 1u << 12, kVpopcntdq = 1u << 14;                     // leaf 7, ecx
    constexpr uint32_t kBf16 = 1u << 5;                                                                 // leaf 7.1, eax
    constexpr uint64_t kYmmState = 0x6, kZmmState = 0xe6;
    if (!has_bits(basic.ecx, kFma | kOsxsave | kAvx | kF16c) || !has_bits(extended.ebx, kAvx2)) return Isa::portable;
    const uint64_t states = saved_states();
    if (!has_bits(states, kYmmState)) return Isa::portable;
    if (!has_bits(states, kZmmState) || !has_bits(extended.ebx, kF | kDq | kBw | kVl)) return Isa::avx2;
    if (!has_bits(extended.ecx, kVnni | kBitalg | kVpopcntdq)) return Isa::avx512;
    const bool has_bf16 = extended.eax >= 1 && has_bits(cpuid(7, 1).eax, kBf16);
    return has_bf16 ? Isa::avx512_bf16 : Isa::avx512_vnni;
}
#else
Isa best_of_machine() {
    return Isa::portable;
}
#endif

Isa parse(std::string_view name, std::string_view origin) {
    const Isa best = best_of_machine();
    for (size_t i = 0; i < kIsaNames.size(); ++i) {
        if (kIsaNames[i] != name) continue;
        if (static_cast<Isa>(i) > best) {
            reject(origin, " asks for ", name, ", which this machine lacks; its best is ", name_of(best));
        }
        return static_cast<Isa>(i);
    }
    reject(origin, " must be portable, avx2, avx512, avx512_vnni or avx512_bf16, got '", name, "'");
}

constexpr int kUnset = -1;
std::atomic<int> forced_isa{kUnset};

Isa from_environment() {
    const char* name = std::getenv("LONGSPAN_ISA");
    return name != nullptr && *name != '\0' ? parse(name, "LONGSPAN_ISA") : best_of_machine();
}

}  // namespace

std::vector<Isa> available_isas() {
    std::vector<Isa> isas;
    for (int i = 0; i <= static_cast<int>(best_of_machine()); ++i) isas.push_back(static_cast<Isa>(i));
    return isas;
}

Isa active_isa() {
    const int forced = forced_isa.load(std::memory_order_relaxed);
    if (forced != kUnset) return static_cast<Isa>(forced);
    static const Isa chosen = from_environment();
    return chosen;
}

void set_isa(std::string_view name) {
    forced_isa.store(static_cast<int>(parse(name, "set_isa")));
}

}  // namespace longspan
