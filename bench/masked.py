"""Runs a command on a processor that seems to have no AVX-512: ours and every peer alike, whatever they honour.

    python -m bench.masked avx_vnni python -m longspan bench run encode --dtype int8
    python -m bench.masked avx2 python -m bench.ops.bench_attention_varlen --threads 1

ONNX Runtime, for one, has no setting for the instruction set, and libraries inside of others have settings of their
own. So CPUID itself answers less (masked_cpu.c): Linux on x86-64, on processors and hypervisors with "cpuid_fault" in
/proc/cpuinfo.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from .cache import kept

LEVELS: Final = ("avx2", "avx_vnni")
VARIABLE: Final = "LONGSPAN_MASKED_CPU"
SOURCE: Final = Path(__file__).with_name("masked_cpu.c")
FLAGS: Final = ("-O2", "-Wall", "-Wextra", "-shared", "-fPIC")


def masked_environment(level: str) -> dict[str, str]:
    """What a process must be started with to have no more than `level`, one of LEVELS.

    Raises: ValueError, the level is not known; OSError, CalledProcessError: there is no compiler, or it fails.
    """
    if level not in LEVELS:
        raise ValueError(f"masked: the level must be {' or '.join(LEVELS)}, got {level!r}")
    preloaded = [str(_library()), *filter(None, [os.environ.get("LD_PRELOAD")])]
    return {**os.environ, VARIABLE: level, "LD_PRELOAD": os.pathsep.join(preloaded)}


def _library() -> Path:
    compiler = os.environ.get("CC", "cc")

    def make(folder: Path) -> None:
        subprocess.run([compiler, *FLAGS, str(SOURCE), "-o", str(folder / "masked_cpu.so")], check=True)

    return kept("masked", (SOURCE.read_text("utf-8"), compiler, *FLAGS), make) / "masked_cpu.so"


def main(arguments: list[str]) -> int:
    """The command's exit code; 2 where it cannot be started."""
    if len(arguments) < 2:
        print(f"usage: python -m bench.masked {{{','.join(LEVELS)}}} COMMAND...", file=sys.stderr)
        return 2
    try:
        environment = masked_environment(arguments[0])
        return subprocess.run(arguments[1:], env=environment, check=False).returncode
    except (ValueError, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
