#include "maxsim/lanes_avx512.h"

#include "maxsim/kernel.h"
