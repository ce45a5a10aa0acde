#include "core/simd_avx512.h"

#include "span_mean/kernel.h"
