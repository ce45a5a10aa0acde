"""The commands for a GPU that is rented by the minute: each some steps in order, what decides first, at most 9 minutes.

    python -m bench.gpu.rented prove|test|profile [--out DIR] [--dry] [--only STEP] [--minutes 9] [--failed FILE]

prove     what the machine is; modules, built if they are not there; each kernel at a real shape; whole models against
          their goldens; figures of models, then of kernels
test      every GPU test, then those of the kernel for sm_90a, then its contests
profile   one batch under torch's profiler and Nsight Compute; compute-sanitizer over what failed, or a short list

Each step has processes of its own and a time limit: a trap or a hang costs its step, and all that a step has started
ends with it. DIR, or OUT in the environment, keeps all as it comes, in few files: steps.jsonl (a line a step), log.txt
(what they printed), smoke.jsonl (a kernel), tests.jsonl (a test), rows.jsonl (a case of a bench), gpu-PLAN.json
(figures, joined after each part), profile.jsonl, ncu.csv. --dry runs such steps without a GPU, in Triton's interpreter
and at tiny sizes.

What `make gpu-pack` has made on another machine is used where it fits: `take_along.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from bench.gpu.steps import Step, add_line, run_step
from bench.gpu.take_along import ROOT, Taken, unpack
from bench.results import joined_reports, write_report

MINUTES: Final = 9.0
PARTS: Final = ROOT / "build" / "rented-parts"  # each bench's own figures, before they are joined
CUDA: Final = Path("/usr/local/cuda/bin")  # where nvcc is looked for beside PATH
ROOM: Final = 4 << 30  # bytes of a folder for temporary files: checkpoints of random weights lie there

PYTEST: Final = (
    "{python} -m pytest -q -p no:cacheprovider -W default -m 'not emulator' --durations=20 {timeout} {workers}"
)
GOLDENS: Final = (
    "tests/kernels/test_torch_engine.py tests/kernels/test_torch_graphs.py tests/gpu/test_engine_on_device.py"
)
SM90_TESTS: Final = "tests/gpu/test_cuda_attention.py tests/kernels/test_attention_varlen_sm90.py"
PROFILED: Final = "attention_alibi attention_groups gated linear_adapters product"  # smoke's names


def bench(part: str, limit: float) -> Step:
    """A part of `bench.gpu`, its figures in a file of its own."""
    files = f"--json {{parts}}/gpu-{part}.json --lines {{out}}/rows.jsonl"
    command = f"{{python}} -m bench.gpu --only {part} {files}"
    return Step(part, command, limit, f"{command} --dry" if part in {"streams", "products", "adapters"} else None)


# A first import of torch on a cold disk takes half a minute. Without nvcc there is no _cuda, but all else.
READY: Final = (
    Step("modules", "{python} -c 'from longspan import _core, _cuda'", 60, "{python} -c 'from longspan import _core'"),
    Step("build", "make build-gpu GPU_PYTHON={python}", 220, "true", unless=("modules",)),
    Step(
        "build without CUDA",
        "{python} -c 'from longspan import _core' || "
        "make build-gpu GPU_PYTHON={python} GPU_CUDA=OFF GPU_BUILD=build/gpu-core",
        150,
        unless=("modules", "build"),
    ),
)
PLANS: Final[Mapping[str, tuple[Step, ...]]] = {
    "prove": (
        Step("facts", "{python} -m bench.gpu.facts", 60, "{python} -m bench.gpu.facts"),
        *READY,
        Step(
            "smoke",
            "{python} -m bench.gpu.smoke --json {out}/smoke.jsonl",
            120,
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
        bench("sparse", 25),
        bench("late_interaction", 60),  # whose peers try many kernels before they answer
    ),
    "test": (
        *READY,
        Step(
            "tests",
            f"{PYTEST} tests/gpu tests/kernels --ignore tests/kernels/test_attention_varlen_sm90.py "
            "--ignore tests/gpu/test_cuda_attention.py",
            340,
            f"{PYTEST} tests/gpu/test_machine_code.py",
        ),
        Step("sm90 tests", f"{PYTEST} {SM90_TESTS}", 100),
        bench("attention_sm90", 70),
    ),
    "profile": (
        *READY,
        Step(
            "torch profiler",
            "{python} -m bench.gpu.profile --json {out}/profile.jsonl",
            120,
            "{python} -m bench.gpu.profile --json {out}/profile.jsonl --dry",
        ),
        Step(
            "ncu",
            f"for kernel in {PROFILED}; do ncu --clock-control none --target-processes all --set base --csv "
            "--kernel-name 'regex:attention|gated|shrink|product' --launch-count 2 "
            "{python} -m bench.gpu.smoke --here $kernel >> {out}/ncu.csv || exit; done",
            120,
        ),
        Step(
            "sanitizer",
            "PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 1 {python} -m pytest -q "
            "-p no:cacheprovider -W default -m 'not emulator' {timeout} {failed}",
            280,
        ),
    ),
}


def environment(out: Path, dry: bool, taken: Taken) -> dict[str, str]:
    """What the steps run in; what was taken along comes first."""
    paths = [str(ROOT / "python"), str(ROOT), *map(str, taken.paths)]
    if os.environ.get("PYTHONPATH"):
        paths.append(os.environ["PYTHONPATH"])
    kept = {name: value for name, value in os.environ.items() if name != "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"}
    more = {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        "LONGSPAN_TEST_LINES": str(out / "tests.jsonl"),
        "LONGSPAN_TEST_THREADS": "2",
    }
    if taken.cache is not None and not dry:
        more["TRITON_CACHE_DIR"] = str(taken.cache)
    if dry:
        more["TRITON_INTERPRET"] = "1"
    return {**kept, **of_a_bare_machine(), **more}


def of_a_bare_machine() -> dict[str, str]:
    """What a machine's environment may lack: nvcc, and the ninja and CMake of this Python, on the path; a home, where
    compilers keep caches; a folder for temporary files that has room."""
    tools = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent), str(CUDA)]
    known = os.environ.get("PATH", os.defpath).split(os.pathsep)
    path = [*known, *(tool for tool in tools if tool not in known and Path(tool).is_dir())]
    found = {"PATH": os.pathsep.join(path), "TMPDIR": str(roomy_folder())}
    if not os.environ.get("HOME"):
        found["HOME"] = found["TMPDIR"]
    if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        found["USER"] = "gpu"  # torch's compiler asks for a name
    return found


def roomy_folder() -> Path:
    """For temporary files: the usual folder, or, where it is small, the one below build if that has more room."""
    own, usual = ROOT / "build" / "tmp", None
    with suppress(OSError):
        usual = Path(tempfile.gettempdir())
        if shutil.disk_usage(usual).free >= ROOM:
            return usual
    with suppress(OSError):
        own.mkdir(parents=True, exist_ok=True)
        if usual is None or shutil.disk_usage(own).free > shutil.disk_usage(usual).free:
            return own
    return usual or Path("/tmp")


def folder_of_parts() -> Path:
    """Empty of earlier figures; elsewhere where the tree cannot be written to."""
    try:
        PARTS.mkdir(parents=True, exist_ok=True)
        for old in PARTS.glob("gpu-*.json"):
            old.unlink()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="longspan-parts-", dir=roomy_folder()))
    return PARTS


def failed_tests(file: Path) -> str:
    """Those of an earlier command, for compute-sanitizer; a short list if there are none."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    failed = [str(line["test"]) for line in lines if line["outcome"] == "failed"][:20]
    if not failed:
        return "tests/gpu tests/kernels -k 'on_device and (few or strides or bad_spans or awkward) or layouts'"
    return " ".join(map(shlex.quote, failed))


def words(out: Path, dry: bool, parts: Path = PARTS) -> dict[str, str]:
    """What the commands' words in braces stand for. Plugins of pytest are asked for where they are installed."""
    timeout = "-o timeout_method=thread --timeout 120" if find_spec("pytest_timeout") else ""
    workers = "-n 12" if not dry and find_spec("xdist") else ""
    files = {"out": shlex.quote(str(out)), "parts": shlex.quote(str(parts))}
    return {"python": shlex.quote(sys.executable), **files, "timeout": timeout, "workers": workers}


def join_parts(parts: Path, to: Path) -> None:
    """The figures that there are by now, as one file."""
    files = sorted(parts.glob("gpu-*.json"))
    try:
        if files:
            write_report(to, joined_reports(files))
    except (OSError, ValueError) as error:
        print(f"not written to {to}: {error}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns: 0 if every step that ran succeeded; 1 else."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.rented", description=__doc__.partition("\n")[0])
    parser.add_argument("plan", choices=PLANS)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ROOT / "build" / "rented")))
    parser.add_argument("--only", metavar="STEP", help="steps whose name holds this")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all of it (9)")
    parser.add_argument("--failed", type=Path, metavar="FILE", help="tests.jsonl of an earlier command (DIR's)")
    parser.add_argument("--dry", action="store_true", help="without a GPU")
    options = parser.parse_args(argv)
    until = time.monotonic() + 60 * options.minutes
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {options.out}: {error.strerror}; name a folder that can be written to")
    out, parts = options.out.resolve(), folder_of_parts()
    taken = unpack()
    if taken.modules or taken.notes:
        told = {"taken": taken.modules, "kernels": taken.kernels, "wheels": len(taken.paths), "notes": taken.notes}
        print(json.dumps(told), flush=True)
    env, asked = environment(out, options.dry, taken), words(out, options.dry, parts)
    asked["failed"] = failed_tests(options.failed or out / "tests.jsonl")
    succeeded: set[str] = set()
    worst = 0
    for step in PLANS[options.plan]:
        command = step.dry if options.dry else step.command
        left = until - time.monotonic()
        if command is None or succeeded & {*step.unless} or (options.only or "") not in step.name:
            continue
        if left < 5:
            line: dict[str, object] = {"step": step.name, "status": None, "why": "no time was left"}
        else:
            for name, word in asked.items():
                command = command.replace(f"{{{name}}}", word)
            limit = min(10 * step.limit if options.dry else step.limit, left)
            line = run_step(step, command, limit, out / "log.txt", env, ROOT)
            join_parts(parts, out / f"gpu-{options.plan}.json")
            if line["status"] == 0:
                succeeded.add(step.name)
            elif step.name != "modules":  # which are built then
                worst = 1
        add_line(out / "steps.jsonl", {"plan": options.plan, **line})
        print(json.dumps({name: value for name, value in line.items() if name != "tail"}), flush=True)
        if line.get("status") not in (0, None):
            print("    " + "\n    ".join(str(line["tail"]).splitlines()[-8:]), flush=True)
    return worst


if __name__ == "__main__":
    sys.exit(main())
