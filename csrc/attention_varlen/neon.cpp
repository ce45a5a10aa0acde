#include "attention_varlen/transpose_neon.h"

#include "attention_varlen/kernel.h"

#include "attention_varlen/plain_level.h"
