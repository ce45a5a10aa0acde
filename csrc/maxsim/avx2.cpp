#include "maxsim/lanes_avx2.h"

#include "maxsim/kernel.h"
