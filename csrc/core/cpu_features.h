// What the processor has and the operating system lets us use, for isa.cpp: one field for each level of Isa, true where
// the level's own instructions are there.
#pragma once

namespace longspan {

struct CpuFeatures {
    bool avx2 = false, avx_vnni = false, avx512 = false, avx512_vnni = false, avx512_bf16 = false, avx512_fp16 = false;
    bool amx = false;
    bool has_slow_bf16 = false;  // dpbf16 makes fewer products a second than a multiply-add of floats
    bool neon = false, neon_dotprod = false, neon_i8mm = false;
};

// Asks the system for leave to use AMX's tiles where they are there; else without effect.
CpuFeatures cpu_features();

}  // namespace longspan
