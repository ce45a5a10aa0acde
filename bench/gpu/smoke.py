"""Every GPU kernel once at a real shape: does it run at all, is it right, does it give the same bits 50 times?

    python -m bench.gpu.smoke [--json FILE] [--only NAME] [--jobs 8] [--dry]

Each kernel has a process of its own, some of them at a time: a trap or a hang costs its kernel alone. FILE gets one
line of JSON a kernel as soon as it has ended: `kernel`, `outcome` (right, wrong, differs, failed, hangs), `error` (|out
- truth| / |truth|), `limit`, `milliseconds` of a call once it is compiled, `first_seconds` with compiling. The CUDA
kernel for sm_90a comes last, alone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Final

from bench.gpu.steps import add_line

REPEATS: Final = 50
LIMIT: Final = 60  # seconds for a kernel, compiling included
LAST: Final = ("attention_sm90",)


def cases(setting: Any) -> dict[str, Callable[[], tuple[Callable[[], Any], Any, float]]]:
    """By name: what makes (call, truth, largest relative error)."""
    from bench.gpu import smoke_cases

    return smoke_cases.cases(setting)


def names(dry: bool) -> list[str]:
    """In the order in which they run. The cases are not imported: a process that launches others has no CUDA."""
    from bench.gpu.smoke_names import NAMES

    return [name for name in NAMES if not (dry and name in LAST)]


def run_one(name: str, dry: bool) -> dict[str, object]:
    """In this process. Returns: the line."""
    if dry:
        os.environ["TRITON_INTERPRET"] = "1"
    import torch

    from bench.gpu.contest import Setting

    torch.manual_seed(0)
    torch.set_float32_matmul_precision("highest")
    setting = Setting("cpu" if dry else "cuda", dry)
    started = time.perf_counter()
    call, truth, limit = cases(setting)[name]()

    def wait() -> None:
        if not dry:
            torch.cuda.synchronize()

    first = call().clone()
    wait()
    first_seconds = time.perf_counter() - started
    truth = truth.double()
    norm = float(truth.norm())
    error = float((first.double() - truth).norm()) / (norm if norm > 0 else 1.0)
    outcome = "right" if first.shape == truth.shape and error <= limit else "wrong"  # NaN is wrong
    repeats = 2 if dry else REPEATS
    started = time.perf_counter()
    different = [turn for turn in range(repeats) if not torch.equal(call(), first)]
    wait()
    if different and outcome == "right":
        outcome = "differs"
    return {
        "kernel": name,
        "outcome": outcome,
        "error": error,
        "limit": limit,
        "different": len(different),
        "milliseconds": round((time.perf_counter() - started) / repeats * 1e3, 3),
        "first_seconds": round(first_seconds, 2),
    }


def run_apart(name: str, dry: bool) -> dict[str, object]:
    """In a process of its own, which is ended when its time is over."""
    command = [sys.executable, "-m", "bench.gpu.smoke", "--here", name, *(["--dry"] if dry else [])]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, start_new_session=True, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            said, wrong = process.communicate(timeout=LIMIT * (5 if dry else 1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return {"kernel": name, "outcome": "hangs", "why": f"not done after {LIMIT} s"}
    line = said.strip().rpartition("\n")[2]
    if process.returncode == 0 and line.startswith("{"):
        found: dict[str, object] = json.loads(line)
        return found
    why = [each for each in wrong.splitlines() if each.strip()][-1:] or [f"status {process.returncode}"]
    return {"kernel": name, "outcome": "failed", "why": why[0][:300]}


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns: 0 if all are right and the same each time; 1 else."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.smoke", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the lines there as well")
    parser.add_argument("--only", metavar="NAME", help="kernels whose name holds this")
    parser.add_argument("--jobs", type=int, default=8, help="processes at a time (8)")
    parser.add_argument("--dry", action="store_true", help="tiny sizes in Triton's interpreter")
    parser.add_argument("--here", metavar="NAME", help="this kernel, in this process")
    options = parser.parse_args(argv)
    if options.here:
        print(json.dumps(run_one(options.here, options.dry)))
        return 0
    chosen = [name for name in names(options.dry) if (options.only or "") in name]
    if not chosen:
        print(f"error: no kernel is named like {options.only}", file=sys.stderr)
        return 2
    bad = 0

    def tell(line: dict[str, object]) -> None:
        nonlocal bad
        bad += line["outcome"] != "right"
        print(json.dumps(line), flush=True)
        add_line(options.json, line)

    together = [name for name in chosen if name not in LAST]
    with ThreadPoolExecutor(options.jobs) as pool:
        for done in as_completed([pool.submit(run_apart, name, options.dry) for name in together]):
            tell(done.result())
    for name in chosen:
        if name in LAST:
            tell(run_apart(name, options.dry))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
