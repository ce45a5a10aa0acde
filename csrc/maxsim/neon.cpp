#include "maxsim/lanes_neon.h"

#include "maxsim/kernel.h"
