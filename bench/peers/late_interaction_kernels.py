"""late-interaction-kernels: MaxSim in Triton, for NVIDIA GPUs."""

from __future__ import annotations

import late_interaction_kernels
import numpy as np
import torch

from ..case import Contestant, Setting
from . import AbsentError


def maxsim(setting: Setting, query: np.ndarray, docs: np.ndarray) -> list[Contestant]:
    """query (tokens, dim), docs (n, tokens, dim) f32; in float16 on the device, as its documentation measures it."""
    if not torch.cuda.is_available():
        raise AbsentError("it needs a CUDA device")
    asked = torch.from_numpy(query)[None].half().cuda()
    rows = torch.from_numpy(docs).half().cuda()

    def run() -> torch.Tensor:
        scores = late_interaction_kernels.maxsim(asked, rows)
        torch.cuda.synchronize()
        return scores

    return [Contestant("late-interaction-kernels", run, "float16", lambda scores: scores[0].float().cpu().numpy())]
