#include "core/simd_avx512.h"

#include "pool_mean/kernel.h"
