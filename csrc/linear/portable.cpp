#include "core/simd_portable.h"

#include "linear/kernel.h"
