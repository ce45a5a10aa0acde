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
};

inline constexpr LinearVariant kF32Variants[] = {
#if LONGSPAN_X86
    {Isa::avx512, avx512::kPanel, avx512::linear_f32},
    {Isa::avx2, avx2::kPanel, avx2::linear_f32},
#endif
    {Isa::portable, portable::kPanel, portable::linear_f32}};

inline constexpr LinearVariant kBf16Variants[] = {
#if LONGSPAN_X86
    {Isa::avx512_bf16, avx512_bf16::kPanel, avx512_bf16::linear_bf16},
    {Isa::avx512, avx512::kPanel, avx512::linear_bf16},
    {Isa::avx2, avx2::kPanel, avx2::linear_bf16},
#endif
    {Isa::portable, portable::kPanel, portable::linear_bf16}};

inline constexpr LinearVariant kI8Variants[] = {
#if LONGSPAN_X86
    {Isa::avx512_vnni, avx512_vnni::kPanel, avx512_vnni::linear_i8},
    {Isa::avx512, avx512::kPanel, avx512::linear_i8},
    {Isa::avx2, avx2::kPanel, avx2::linear_i8},
#endif
    {Isa::portable, portable::kPanel, portable::linear_i8}};

inline constexpr Variant<QuantizeFn> kQuantizeVariants[] = {
#if LONGSPAN_X86
    {Isa::avx512, avx512::quantize_rows},
    {Isa::avx2, avx2::quantize_rows},
#endif
    {Isa::portable, portable::quantize_rows}};

inline const LinearVariant& variant_for(Dtype dtype, Isa isa) {
    std::span<const LinearVariant> variants = kF32Variants;
    if (dtype == Dtype::bf16) variants = kBf16Variants;
    if (dtype == Dtype::i8) variants = kI8Variants;
    return pick_variant(variants, isa);
}

}  // namespace longspan
