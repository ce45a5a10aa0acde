"""Compile every Triton kernel for every architecture, without a GPU, and report what each takes of it.

    python .ci/compile_kernels.py [--match attention] [--arch 90] [--json FILE]

Each case below calls a launcher on CPU tensors of a real model's shapes; launches are caught before they start, so that
what is compiled is what a GPU would be given: dtypes, which integers are multiples of 16, tile sizes. Registers, stack
and shared memory are cuobjdump's. A kernel without arrays of its own has a stack only for spilled registers: a case
that is hot fails if it has one, and so does one for sm_90 in which something may be written that an asynchronous
product still reads (machine_code.py). Exit status 1 if one does, or does not compile.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

sys.path.insert(0, str(Path(__file__).resolve().parent))
from kernel_launches import CASES, Case
from machine_code import hazards

ARCHITECTURES = (80, 90, 100)
SAMPLE = 3  # one in so many of what is not for sm_90
ASKS_ARCHITECTURE = ("attention_varlen_forward", "product")  # kernels whose tiles depend on it
# Bytes of shared memory that a block may have; what runs on sm_80 also runs on sm_86 and sm_89, which have least.
SHARED = {80: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024}
TYPES = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int8: "*i8",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


@dataclass(frozen=True, slots=True)
class Launch:
    """A kernel's name, what it was called with, and how it is to be compiled."""

    case: Case
    kernel: JITFunction
    arguments: dict[str, object]
    options: dict[str, object]

    def source(self) -> ASTSource:
        """What the compiler takes: as a launch would specialise it."""
        signature, constants, hints = {}, {}, {}
        for place, parameter in enumerate(self.kernel.params):
            value = self.arguments[parameter.name]
            signature[parameter.name] = _type_of(value, parameter.is_constexpr, parameter.do_not_specialize)
            if signature[parameter.name] == "constexpr":
                constants[(place,)] = value
            elif (
                not parameter.do_not_specialize and isinstance(value, int | torch.Tensor) and _address(value) % 16 == 0
            ):
                hints[(place,)] = [["tt.divisibility", 16]]
        return ASTSource(self.kernel, signature, constants, hints)


@dataclass(frozen=True, slots=True)
class Report:
    """What a compiled kernel takes; all sizes in bytes, shared memory a block, stack a thread."""

    kernel: str
    case: str
    arch: int
    registers: int
    stack: int
    shared: int
    warps: int
    seconds: float
    hot: bool
    error: str = ""

    @property
    def fails(self) -> bool:
        """Whether it keeps a change from landing."""
        return bool(self.error) or self.shared > SHARED[self.arch] or (self.hot and self.stack > 0)

    @property
    def note(self) -> str:
        """What is wrong with it, or may be."""
        if self.shared > SHARED[self.arch]:
            return "TOO MUCH SHARED MEMORY"
        return self.error or ("SPILLS" if self.fails else "spills" if self.stack else "")


def _type_of(value: object, is_constexpr: bool, is_general: bool) -> str:
    if is_constexpr or value is None or (type(value) is int and value == 1 and not is_general):
        return "constexpr"
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype]
    if isinstance(value, float):
        return "fp32"
    if not isinstance(value, int):
        raise TypeError(f"no kernel takes {value!r}")
    return "i32" if -(2**31) <= value < 2**31 else "i64"


def _address(value: int | torch.Tensor) -> int:
    return value.data_ptr() if isinstance(value, torch.Tensor) else value


def launches_of(case: Case, arch: int) -> Iterator[Launch]:
    """The launches that a case makes on that architecture; none of them starts."""
    caught: list[Launch] = []

    def catch(kernel: JITFunction, *args: object, grid: object, warmup: bool, **named: object) -> None:
        names = [parameter.name for parameter in kernel.params]
        given = dict(zip(names, args)) | {name: value for name, value in named.items() if name in names}
        caught.append(Launch(case, kernel, given, {name: named[name] for name in named if name not in names}))

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(JITFunction, "run", catch))
        for module in ASKS_ARCHITECTURE:
            patches.enter_context(mock.patch(f"longspan.kernels.{module}.architecture", return_value=arch))
        case.call()
    yield from caught


def compile_for(launch: Launch, arch: int) -> Report:
    """Compile, and look at the result."""
    started = time.perf_counter()
    about = {"kernel": launch.kernel.fn.__name__.strip("_"), "case": launch.case.name, "arch": arch}
    try:
        compiled = triton.compile(launch.source(), target=GPUTarget("cuda", arch, 32), options=launch.options)
    except Exception as error:
        return Report(**about, registers=0, stack=0, shared=0, warps=0, seconds=0, hot=True, error=repr(error)[:300])
    registers, stack = _resources(compiled.asm["cubin"])
    shared, warps = compiled.metadata.shared, compiled.metadata.num_warps
    found = hazards(_machine_code(compiled.asm["cubin"]), warps // 4) if arch == 90 else []
    seconds = round(time.perf_counter() - started, 1)
    return Report(
        **about,
        registers=registers,
        stack=stack,
        shared=shared,
        warps=warps,
        seconds=seconds,
        hot=launch.case.hot,
        error="; ".join(found)[:300],
    )


def _machine_code(cubin: bytes) -> str:
    """As nvdisasm prints it."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run([tool, "-c", file.name], check=True, capture_output=True, text=True).stdout


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers and stack bytes of a thread."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        says = subprocess.run([tool, "-res-usage", file.name], check=True, capture_output=True, text=True).stdout
    registers, stack = re.findall(r"(?:REG|STACK):(\d+)", says)
    return int(registers), int(stack)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--match", default="", help="cases whose name holds this")
    parser.add_argument("--arch", type=int, action="append", help=f"architectures; all of {ARCHITECTURES} if not given")
    parser.add_argument("--sample", action="store_true", help=f"of what is not for sm_90, one in {SAMPLE}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    options = parser.parse_args()
    work: dict[tuple[object, ...], tuple[Launch, int]] = {}
    for case in (case for case in CASES if options.match in case.name):
        for arch in options.arch or ARCHITECTURES:
            for launch in launches_of(case, arch):
                source, name = launch.source(), launch.kernel.fn.__name__
                parts = (case.hot, arch, name, source.signature, source.constants, source.attrs, launch.options)
                work.setdefault(tuple(map(str, parts)), (launch, arch))
    if options.sample:
        work = {key: each for at, (key, each) in enumerate(work.items()) if each[1] == 90 or at % SAMPLE == 0}
    print(f"{'kernel':<32} {'case':<44} sm  regs stack  shared warps  s")
    reports = []
    with ThreadPoolExecutor(2) as pool:
        for report in pool.map(lambda pair: compile_for(*pair), work.values()):
            reports.append(report)
            print(
                f"{report.kernel:<32} {report.case:<44} {report.arch:<3} {report.registers:>4} {report.stack:>5} "
                f"{report.shared:>7} {report.warps:>5} {report.seconds:>4} {report.note}",
                flush=True,
            )
    if options.json is not None:
        versions = {"torch": torch.__version__, "triton": triton.__version__}
        body = {
            "command": "python .ci/compile_kernels.py",
            **versions,
            "kernels": [asdict(report) for report in reports],
        }
        options.json.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    failed = [report for report in reports if report.fails]
    print(f"compile_kernels: {len(reports)} kernels compiled, {len(failed)} failed")
    return 1 if failed or not reports else 0


if __name__ == "__main__":
    sys.exit(main())
