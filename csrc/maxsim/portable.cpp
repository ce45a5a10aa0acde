#include "maxsim/lanes_portable.h"

#include "maxsim/kernel.h"
