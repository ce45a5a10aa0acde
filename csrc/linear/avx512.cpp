#include "core/simd_avx512.h"

#include "linear/kernel.h"
