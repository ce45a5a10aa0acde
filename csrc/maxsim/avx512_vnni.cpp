#define LONGSPAN_ISA avx512_vnni

#include "maxsim/lanes_avx512.h"

#include "maxsim/kernel.h"
