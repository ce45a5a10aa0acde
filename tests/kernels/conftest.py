"""The kernels' tests run on a CUDA device where there is one, else in Triton's interpreter, on the CPU."""

from __future__ import annotations

import os
from importlib.util import find_spec

if find_spec("torch") and find_spec("triton"):
    import torch

    # Read when a kernel's module is first imported, so before any test file is.
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
