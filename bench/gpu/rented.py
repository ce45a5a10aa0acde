"""The commands for a GPU that is rented by the minute: each some steps in order, what decides first, at most 9 minutes.

    python -m bench.gpu.rented prove|test|profile [--out DIR] [--dry] [--only STEP] [--minutes 9]

prove     what the machine is; modules, built if they are not there; each kernel at a real shape; whole models against
          their goldens; figures of models, then of kernels
test      every GPU test, then those of the kernel for sm_90a, then its contests
profile   one batch under torch's profiler and Nsight Compute; compute-sanitizer over what failed, or a short list

Each step is a process group of its own with a time limit: a trap or a hang costs its step, and what is over its time
is ended with its children. DIR keeps all as it comes: steps.jsonl (one line a step), smoke.jsonl (a kernel),
tests.jsonl (a test), gpu-*.json (figures), STEP.log. --dry runs such steps without a GPU, in Triton's interpreter and
at tiny sizes.

What `make gpu-pack` has made in build/take-along on another machine is used where it fits: compiled modules, a cache of
Triton's kernels, peers' wheels.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACK: Final = ROOT / "build" / "take-along"
MINUTES: Final = 9.0
TAIL: Final = 1500  # characters of a step's output in its line


@dataclass(frozen=True, slots=True)
class Step:
    """A shell command and its limit in seconds. `dry` is what stands for it without a GPU; None leaves it out. `unless`
    is a step that makes it needless where it succeeds."""

    name: str
    command: str
    limit: float
    dry: str | None = None
    unless: str = ""


PYTEST: Final = (
    '{python} -m pytest -q -W default -m "not emulator" -o timeout_method=thread --timeout 120 --durations=20 {workers}'
)
GOLDENS: Final = (
    "tests/kernels/test_torch_engine.py tests/kernels/test_torch_graphs.py tests/gpu/test_engine_on_device.py"
)
SM90_TESTS: Final = "tests/gpu/test_cuda_attention.py tests/kernels/test_attention_varlen_sm90.py"


def bench(part: str, limit: float) -> Step:
    """A part of `bench.gpu`, its figures in a file of its own."""
    command = f"{{python}} -m bench.gpu --only {part} --json {{out}}/gpu-{part}.json"
    return Step(part, command, limit, f"{command} --dry" if part in {"streams", "products", "adapters"} else None)


MODULES: Final = (
    Step("modules", "{python} -c 'from longspan import _core, _cuda'", 15, "{python} -c 'from longspan import _core'"),
    Step("build", "make build-gpu GPU_PYTHON={python}", 220, "true", unless="modules"),
)
PLANS: Final[Mapping[str, tuple[Step, ...]]] = {
    "prove": (
        Step("facts", "{python} -m bench.gpu.facts", 20, "{python} -m bench.gpu.facts"),
        Step(
            "modules", "{python} -c 'from longspan import _core, _cuda'", 15, "{python} -c 'from longspan import _core'"
        ),
        Step("build", "make build-gpu GPU_PYTHON={python}", 220, "true", unless="modules"),
        Step(
            "smoke",
            "{python} -m bench.gpu.smoke --json {out}/smoke.jsonl",
            100,
            "{python} -m bench.gpu.smoke --json {out}/smoke.jsonl --dry --jobs 2 --only norm",
        ),
        Step(
            "goldens",
            f"{PYTEST} {GOLDENS}",
            90,
            f"{PYTEST} tests/kernels/test_torch_engine.py -k 'test_every_family and (bert-minilm or jina-v3)'",
        ),
        bench("encode", 170),
        bench("streams", 30),
        bench("products", 40),
        bench("adapters", 40),
        bench("attention", 90),
        bench("codes", 50),
        bench("late_interaction", 40),
        bench("sparse", 25),
    ),
    "test": (
        Step(
            "modules", "{python} -c 'from longspan import _core, _cuda'", 15, "{python} -c 'from longspan import _core'"
        ),
        Step("build", "make build-gpu GPU_PYTHON={python}", 220, "true", unless="modules"),
        Step(
            "tests",
            f"{PYTEST} tests/gpu tests/kernels --ignore tests/kernels/test_attention_varlen_sm90.py "
            "--ignore tests/gpu/test_cuda_attention.py",
            400,
            f"{PYTEST} tests/gpu/test_machine_code.py",
        ),
        Step("sm90 tests", f"{PYTEST} {SM90_TESTS}", 100),
        bench("attention_sm90", 70),
    ),
    "profile": (
        Step(
            "modules", "{python} -c 'from longspan import _core, _cuda'", 15, "{python} -c 'from longspan import _core'"
        ),
        Step("build", "make build-gpu GPU_PYTHON={python}", 220, "true", unless="modules"),
        Step(
            "torch profiler",
            "{python} -m bench.gpu.profile --json {out}/profile.jsonl",
            120,
            "{python} -m bench.gpu.profile --json {out}/profile.jsonl --dry",
        ),
        Step(
            "ncu",
            "ncu --clock-control none --target-processes all --set base --launch-count 12 --csv "
            "--log-file {out}/ncu.csv {python} -m bench.gpu.smoke --here attention_alibi",
            90,
        ),
        Step(
            "sanitizer",
            "PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 1 {python} -m pytest -q -W default "
            "-m 'not emulator' {failed}",
            280,
        ),
    ),
}


def environment(out: Path, dry: bool) -> dict[str, str]:
    """What the steps run in; what was taken along comes first."""
    paths = [str(ROOT / "python"), str(ROOT), *map(str, unpacked_wheels())]
    if os.environ.get("PYTHONPATH"):
        paths.append(os.environ["PYTHONPATH"])
    kept = {name: value for name, value in os.environ.items() if name != "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"}
    cache = PACK / "triton-cache"
    more = {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "LONGSPAN_TEST_LINES": str(out / "tests.jsonl"),
        "LONGSPAN_TEST_THREADS": "2",
    }
    if cache.is_dir() and not dry:
        more["TRITON_CACHE_DIR"] = str(cache)
    if dry:
        more["TRITON_INTERPRET"] = "1"
    return {**kept, **more}


def unpacked_wheels() -> list[Path]:
    """Folders of the peers' wheels, which are plain Python."""
    folders = []
    for wheel in sorted((PACK / "wheels").glob("*.whl")):
        folder = PACK / "wheels" / wheel.stem
        if not folder.is_dir():
            with zipfile.ZipFile(wheel) as file:
                file.extractall(folder)
        folders.append(folder)
    return folders


def place_modules() -> list[str]:
    """Copy modules of this Python that were taken along to where they are imported from. Returns: their names."""
    import sysconfig

    suffix = str(sysconfig.get_config_var("EXT_SUFFIX"))
    placed = []
    for module in sorted((PACK / "modules").glob(f"*{suffix}")):
        target = ROOT / "python" / "longspan" / module.name
        if not target.exists() or target.stat().st_size != module.stat().st_size:
            shutil.copy2(module, target)
        placed.append(module.name)
    return placed


def failed_tests(out: Path) -> str:
    """Those of an earlier command, for compute-sanitizer; a short list if there are none."""
    file = out / "tests.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    failed = [str(line["test"]) for line in lines if line["outcome"] == "failed"][:20]
    if not failed:
        return "tests/gpu tests/kernels -k 'on_device and (few or strides or bad_spans or awkward) or layouts'"
    return " ".join(map(shlex.quote, failed))


def run_step(step: Step, command: str, limit: float, out: Path, env: Mapping[str, str]) -> dict[str, object]:
    """Run it, with its output in a file. Returns: its line."""
    log, started = out / f"{step.name.replace(' ', '-')}.log", time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        how = {"cwd": ROOT, "env": dict(env), "stdout": file, "stderr": subprocess.STDOUT, "start_new_session": True}
        process = subprocess.Popen(["bash", "-c", command], **how)  # type: ignore[call-overload]
        timed_out = False
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            timed_out = True
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return {
        "step": step.name,
        "status": process.returncode,
        "timed_out": timed_out,
        "seconds": round(time.monotonic() - started, 1),
        "limit": round(limit, 1),
        "tail": log.read_text(encoding="utf-8", errors="replace")[-TAIL:],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns: 0 if every step that ran succeeded; 1 else."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.rented", description=__doc__.partition("\n")[0])
    parser.add_argument("plan", choices=PLANS)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ROOT / "build" / "rented")))
    parser.add_argument("--only", metavar="STEP", help="steps whose name holds this")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all of it (9)")
    parser.add_argument("--dry", action="store_true", help="without a GPU")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    out, until = options.out.resolve(), time.monotonic() + 60 * options.minutes
    if placed := place_modules():
        print(f"taken along: {', '.join(placed)}", flush=True)
    env = environment(out, options.dry)
    workers = "-n 12" if not options.dry and has_xdist() else ""
    words = {"python": shlex.quote(sys.executable), "out": shlex.quote(str(out)), "workers": workers}
    succeeded: set[str] = set()
    worst = 0
    for step in PLANS[options.plan]:
        command = step.dry if options.dry else step.command
        left = until - time.monotonic()
        if command is None or step.unless in succeeded or (options.only or "") not in step.name:
            continue
        if left < 5:
            line: dict[str, object] = {"step": step.name, "status": None, "why": "no time was left"}
        else:
            command = command.replace("{failed}", failed_tests(out))
            for name, word in words.items():
                command = command.replace(f"{{{name}}}", word)
            line = run_step(step, command, min(10 * step.limit if options.dry else step.limit, left), out, env)
            if line["status"] == 0:
                succeeded.add(step.name)
            elif step.name != "modules":  # which are built then
                worst = 1
        with (out / "steps.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"plan": options.plan, **line}) + "\n")
        shown = {name: value for name, value in line.items() if name != "tail"}
        print(json.dumps(shown), flush=True)
        if line.get("status") not in (0, None):
            print("    " + "\n    ".join(str(line["tail"]).splitlines()[-8:]), flush=True)
    return worst


def has_xdist() -> bool:
    """Whether pytest can run in several processes."""
    import importlib.util

    return importlib.util.find_spec("xdist") is not None


if __name__ == "__main__":
    sys.exit(main())
