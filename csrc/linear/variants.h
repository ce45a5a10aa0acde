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
    {Isa::portable, portable::kF32, portable::linear_f32, portable::stage_f32, portable::saturate}};

inline constexpr LinearVariant kBf16Variants[] = {
#if LONGSPAN_X86
    {Isa::avx512_bf16, avx512_bf16::kBf16, avx512_bf16::linear_bf16, avx512_bf16::stage_bf16, avx512_bf16::saturate},
    {Isa::avx512, avx512::kBf16, avx512::linear_bf16, avx512::stage_bf16, avx512::saturate},
    {Isa::avx2, avx2::kBf16, avx2::linear_bf16, avx2::stage_bf16, avx2::saturate},
#endif
    {Isa::portable, portable::kBf16, portable::linear_bf16, portable::stage_bf16, portable::saturate}};

inline constexpr LinearVariant kI8Variants[] = {
#if LONGSPAN_X86
    {Isa::avx512_bf16, avx512_bf16::kI8, avx512_bf16::linear_i8, avx512_bf16::stage_i8, avx512_bf16::saturate},
    {Isa::avx512_vnni, avx512_vnni::kI8, avx512_vnni::linear_i8, avx512_vnni::stage_i8, avx512_vnni::saturate},
    {Isa::avx512, avx512::kI8, avx512::linear_i8, avx512::stage_i8, avx512::saturate},
    {Isa::avx_vnni, avx_vnni::kI8, avx_vnni::linear_i8, avx_vnni::stage_i8, avx_vnni::saturate},
    {Isa::avx2, avx2::kI8, avx2::linear_i8, avx2::stage_i8, avx2::saturate},
#endif
    {Isa::portable, portable::kI8, portable::linear_i8, portable::stage_i8, portable::saturate}};

inline const LinearVariant& variant_for(Dtype dtype, Isa isa) {
    std::span<const LinearVariant> variants = kF32Variants;
    if (dtype == Dtype::bf16) variants = kBf16Variants;
    if (dtype == Dtype::i8) variants = kI8Variants;
    return pick_variant(variants, isa);
}

}  // namespace longspan
