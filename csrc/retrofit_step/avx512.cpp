#include "core/simd_avx512.h"

#include "retrofit_step/kernel.h"
