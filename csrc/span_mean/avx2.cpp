#include "core/simd_avx2.h"

#include "span_mean/kernel.h"
