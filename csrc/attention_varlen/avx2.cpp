#include "attention_varlen/lanes_avx2.h"

#include "attention_varlen/kernel.h"

#include "attention_varlen/plain_level.h"
