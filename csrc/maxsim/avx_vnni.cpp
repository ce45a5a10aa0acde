#define LONGSPAN_ISA avx_vnni

#include "maxsim/lanes_avx2.h"

#include "maxsim/kernel.h"
