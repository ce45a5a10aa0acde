#include "core/simd_avx2.h"

#include "linear/kernel.h"
