"""maxsim-cpu: late interaction on libxsmm."""

from __future__ import annotations

import maxsim_cpu
import numpy as np

from ..case import Contestant, Setting


def maxsim(setting: Setting, query: np.ndarray, docs: np.ndarray) -> list[Contestant]:
    """query (tokens, dim), docs (n, tokens, dim) f32. Its threads are Rayon's: RAYON_NUM_THREADS, or all cores."""
    return [Contestant("maxsim-cpu", lambda: maxsim_cpu.maxsim_scores(query, docs))]
