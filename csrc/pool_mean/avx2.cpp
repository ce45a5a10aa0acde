#include "core/simd_avx2.h"

#include "pool_mean/kernel.h"
