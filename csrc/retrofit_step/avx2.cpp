#include "core/simd_avx2.h"

#include "retrofit_step/kernel.h"
