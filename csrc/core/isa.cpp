#include "core/isa.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/cpu_features.h"
#include "core/error.h"

namespace longspan {
namespace {

const CpuFeatures& machine() {
    static const CpuFeatures features = cpu_features();
    return features;
}

bool has(Isa isa) {
    const CpuFeatures& features = machine();
    switch (isa) {
        case Isa::portable:
            return true;
        case Isa::avx2:
            return features.avx2;
        case Isa::avx_vnni:
            return features.avx_vnni;
        case Isa::avx512:
            return features.avx512;
        case Isa::avx512_vnni:
            return features.avx512_vnni;
        case Isa::avx512_bf16:
            return features.avx512_bf16;
        case Isa::avx512_fp16:
            return LONGSPAN_AVX512_FP16 && features.avx512_fp16;
        case Isa::amx:
            return features.amx;
        case Isa::neon:
            return features.neon;
        case Isa::neon_dotprod:
            return features.neon_dotprod;
        case Isa::neon_i8mm:
            return features.neon_i8mm;
        case Isa::amx_avx512_fp16:
        case Isa::amx_emulated:
            return true;
    }
    return false;
}

// It and all levels that it adds to.
bool is_available(Isa isa) {
    return isa == Isa::portable || (has(isa) && is_available(level_of(isa).base) && is_available(level_of(isa).also));
}

std::string list(const std::vector<Isa>& isas) {
    std::string names;
    for (const Isa isa : isas) names += (names.empty() ? "" : ", ") + std::string(name_of(isa));
    return names;
}

Isa parse(std::string_view name, std::string_view origin) {
    for (size_t i = 0; i < std::size(kIsaLevels); ++i) {
        if (kIsaLevels[i].name != name) continue;
        if (is_available(static_cast<Isa>(i))) return static_cast<Isa>(i);
        reject(origin, " asks for ", name, ", which this machine lacks; it has ", list(available_isas()));
    }
    reject(origin, " must be one of ", list(available_isas()), ", got '", name, "'");
}

constexpr int kUnset = -1;
std::atomic<int> forced_isa{kUnset};

// The best level, but where it is a choice between BF16 and FP16: the first one, if its products are not slow.
Isa preferred_isa() {
    const Isa best = available_isas().back();
    if (best == Isa::avx512_bf16 && machine().has_slow_bf16) return Isa::avx512_vnni;
    const bool has_fast_bf16 = is_available(Isa::avx512_bf16) && !machine().has_slow_bf16;
    return best == Isa::avx512_fp16 && has_fast_bf16 ? Isa::avx512_bf16 : best;
}

Isa from_environment() {
    const char* name = std::getenv("LONGSPAN_ISA");
    return name != nullptr && *name != '\0' ? parse(name, "LONGSPAN_ISA") : preferred_isa();
}

}  // namespace

std::vector<Isa> available_isas() {
    std::vector<Isa> isas;
    for (size_t i = 0; i < std::size(kIsaLevels); ++i) {
        const Isa isa = static_cast<Isa>(i);
        if (is_available(isa) && isa != Isa::amx_emulated) isas.push_back(isa);
    }
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
