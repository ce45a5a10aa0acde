"""flash-maxsim: MaxSim in Triton, for NVIDIA GPUs."""

from __future__ import annotations

import flash_maxsim
import numpy as np
import torch

from ..case import Contestant, Setting
from . import AbsentError


def maxsim(setting: Setting, query: np.ndarray, docs: np.ndarray) -> list[Contestant]:
    """query (tokens, dim), docs (n, tokens, dim) f32; in float16 on the device, as its documentation measures it."""
    if not torch.cuda.is_available():
        raise AbsentError("it needs a CUDA device")
    asked, rows = torch.from_numpy(query).half().cuda(), torch.from_numpy(docs).half().cuda()

    def run() -> torch.Tensor:
        scores = flash_maxsim.flash_maxsim(asked, rows)
        torch.cuda.synchronize()
        return scores

    return [Contestant("flash-maxsim", run, "float16", lambda scores: scores.float().cpu().numpy())]
