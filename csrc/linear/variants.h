// The table of kernels: for each dtype, best first, what an instruction set has.
#pragma once

#include <span>

#include "core/isa.h"
#include "linear/linear.h"

namespace longspan {

struct LinearVariant {
    Isa isa;
    PanelShape panel;
    LinearFn* run;
    StageFn* stage;
    SaturateFn* saturate;
};

inline constexpr LinearVariant kF32Variants[] = {
#if LONGSPAN_X86
    {Isa::avx512, avx512::kF32, avx512::linear_f32, avx512::stage_f32, avx512::saturate},
    {Isa::avx2, avx2::kF32, avx2::linear_f32, avx2::stage_f32, avx2::saturate},
#endif
#if LONGSPAN_ARM64
    {Isa::neon, neon::kF32, neon::linear_f32, neon::stage_f32, neon::saturate},
#endif
    {Isa::portable, portable::kF32, portable::linear_f32, portable::stage_f32, portable::saturate}};

inline constexpr LinearVariant kBf16Variants[] = {
#if LONGSPAN_X86
    {Isa::amx, amx::kBf16, amx::linear_bf16, amx::stage_bf16, amx::saturate},
    {Isa::avx512_bf16, avx512_bf16::kBf16, avx512_bf16::linear_bf16, avx512_bf16::stage_bf16, avx512_bf16::saturate},
    {Isa::avx512, avx512::kBf16, avx512::linear_bf16, avx512::stage_bf16, avx512::saturate},
    {Isa::avx2, avx2::kBf16, avx2::linear_bf16, avx2::stage_bf16, avx2::saturate},
#endif
#if LONGSPAN_ARM64
    {Isa::neon_i8mm, neon_i8mm::kBf16, neon_i8mm::linear_bf16, neon_i8mm::stage_bf16, neon_i8mm::saturate},
    {Isa::neon, neon::kBf16, neon::linear_bf16, neon::stage_bf16, neon::saturate},
#endif
    {Isa::amx_emulated, amx_emulated::kBf16, amx_emulated::linear_bf16, amx_emulated::stage_bf16,
     amx_emulated::saturate},
    {Isa::portable, portable::kBf16, portable::linear_bf16, portable::stage_bf16, portable::saturate}};

inline constexpr LinearVariant kI8Variants[] = {
#if LONGSPAN_X86
    {Isa::amx, amx::kI8, amx::linear_i8, amx::stage_i8, amx::saturate},
    {Isa::avx512_bf16, avx512_bf16::kI8, avx512_bf16::linear_i8, avx512_bf16::stage_i8, avx512_bf16::saturate},
    {Isa::avx512_vnni, avx512_vnni::kI8, avx512_vnni::linear_i8, avx512_vnni::stage_i8, avx512_vnni::saturate},
    {Isa::avx512, avx512::kI8, avx512::linear_i8, avx512::stage_i8, avx512::saturate},
    {Isa::avx_vnni, avx_vnni::kI8, avx_vnni::linear_i8, avx_vnni::stage_i8, avx_vnni::saturate},
    {Isa::avx2, avx2::kI8, avx2::linear_i8, avx2::stage_i8, avx2::saturate},
#endif
#if LONGSPAN_ARM64
    {Isa::neon_i8mm, neon_i8mm::kI8, neon_i8mm::linear_i8, neon_i8mm::stage_i8, neon_i8mm::saturate},
    {Isa::neon_dotprod, neon_dotprod::kI8, neon_dotprod::linear_i8, neon_dotprod::stage_i8, neon_dotprod::saturate},
    {Isa::neon, neon::kI8, neon::linear_i8, neon::stage_i8, neon::saturate},
#endif
    {Isa::amx_emulated, amx_emulated::kI8, amx_emulated::linear_i8, amx_emulated::stage_i8, amx_emulated::saturate},
    {Isa::portable, portable::kI8, portable::linear_i8, portable::stage_i8, portable::saturate}};

#if LONGSPAN_X86
// Whether AMX's tiles give what the kernels without them give; tried once (tiles_check.cpp).
bool tiles_agree();
#endif

inline const LinearVariant& variant_for(Dtype dtype, Isa isa) {
#if LONGSPAN_X86
    if (includes(isa, Isa::amx) && dtype != Dtype::f32 && !tiles_agree()) isa = Isa::avx512_bf16;
#endif
    std::span<const LinearVariant> variants = kF32Variants;
    if (dtype == Dtype::bf16) variants = kBf16Variants;
    if (dtype == Dtype::i8) variants = kI8Variants;
    return pick_variant(variants, isa);
}

}  // namespace longspan
