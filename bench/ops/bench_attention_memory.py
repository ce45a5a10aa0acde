"""What one call of attention on 8192 tokens with ALiBi adds to the peak of resident memory.

    python -m bench.ops.bench_attention_memory [--json FILE]

Each contestant in a fresh process that has called it on 8 tokens before. torch gets ALiBi as a tensor with a number for
every pair of tokens, which is how its attention takes a bias. Linux and macOS.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from typing import Final

import numpy as np

from ..case import ComputeType, Numerics, Setting
from ..command import new_report, run_command
from ..contest import our_name
from ..results import Entry, Report, Result
from ..run import child_environment
from ..table import result_text
from ..timing import Spread
from ..watch import Watch

BUDGET: Final = 6  # seconds of the short form, about
MODULE: Final = f"{__package__}.bench_attention_memory"
CHILD: Final = "--child"  # the module's first argument in the fresh processes
PEER: Final = "torch"
OURS: Final[Mapping[str, ComputeType]] = {our_name("float32"): "float32", our_name("bfloat16"): "bfloat16"}
TOKENS: Final = 8192
HEADS, HEAD_DIM = 12, 64


def use_memory(contestant: str) -> int:
    """Bytes that a call on TOKENS tokens adds to this process's peak: run it in a fresh one."""
    import resource

    call = _torch_with_bias if contestant == PEER else partial(_with_slopes, OURS[contestant])
    q = np.random.default_rng(0).standard_normal((TOKENS, HEADS, HEAD_DIM), np.float32)
    out = np.ones_like(q)
    slopes = (2.0 ** -np.arange(1, HEADS + 1)).astype(np.float32)
    call(q[:8], slopes, out[:8])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call(q, slopes, out)
    unit = 1 if sys.platform == "darwin" else 1024
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit


def _with_slopes(dtype: ComputeType, q: np.ndarray, slopes: np.ndarray, out: np.ndarray) -> None:
    from longspan import ops

    cu_seqlens = np.array([0, len(q)], np.int32)
    ops.attention_varlen(q, q, q, cu_seqlens, cu_seqlens, slopes=slopes, dtype=dtype, out=out)


def _torch_with_bias(q: np.ndarray, slopes: np.ndarray, out: np.ndarray) -> None:
    import torch

    heads = torch.from_numpy(q).transpose(0, 1).unsqueeze(0)
    positions = torch.arange(len(q), dtype=torch.float32)
    bias = torch.empty(1, len(slopes), len(q), len(q))
    for head, slope in enumerate(slopes.tolist()):
        torch.sub(positions, positions[:, None], out=bias[0, head]).abs_().mul_(-slope)
    with torch.inference_mode():
        result = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, attn_mask=bias)
    out[:] = result[0].transpose(0, 1).numpy()


def run(setting: Setting) -> Report:
    """The table."""
    watch = Watch.now()
    has_peer = importlib.util.find_spec(PEER) is not None and (setting.peers is None or PEER in setting.peers)
    contestants: dict[str, Numerics] = {**OURS, **({PEER: "float32"} if has_peer else {})}
    entries = []
    for name, numerics in contestants.items():
        command = [sys.executable, "-m", MODULE, CHILD, name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=child_environment())
        if done.returncode != 0:
            reason = f"it stopped with status {done.returncode}, as where memory does not suffice"
            entries.append(Entry(name, numerics, "MB", refused=reason))
        else:
            megabytes = int(done.stdout) * 1e-6
            entries.append(Entry(name, numerics, "MB", Spread.of([megabytes]), (megabytes,)))
    labels: dict[str, str | int] = {"heads": f"{HEADS} x {HEAD_DIM}", "position": "alibi", "tokens": TOKENS}
    result = Result("attention_memory", labels, tuple(entries))
    print(result_text(result))
    return new_report((result,), setting, watch)


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        print(use_memory(sys.argv[2]))
    else:
        sys.exit(run_command(MODULE, __doc__, run))
