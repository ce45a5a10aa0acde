"""Compile every CUDA kernel for every architecture, without a GPU, and report what each takes of it.

    python .ci/compile_cuda.py [--match hamming] [--arch 90a] [--json FILE]

Registers, stack and spills are the assembler's own words (nvcc -Xptxas -v). A kernel that spills registers fails: too
many for the blocks that its launch bounds ask for are spilled too. So does one whose tensor-core products are made to
wait for each other, or whose setmaxnreg is ignored. Where nvdisasm is (in a toolkit, or beside Triton), the kernels in
INSTRUCTIONS must hold what stands there, and no path may write what an asynchronous product still reads. Exit status 1
if one fails, or does not compile; 0 with a line that says so where there is no nvcc. Files named *_sm90* are for sm_90a
alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine_code import hazards, products

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURES = ("80", "90a", "100")
FLAGS = ("-std=c++20", "-O3", "-Xptxas", "-v", "-cubin", f"-I{ROOT / 'csrc'}")

# What the machine code of a file's kernels must hold: wgmma, bulk tensor copies, mbarriers, setmaxnreg; and must not.
INSTRUCTIONS = {"csrc/attention_varlen/cuda_sm90.cu": ("HGMMA", "UTMALDG", "SYNCS", "USETMAXREG")}
LOCAL_MEMORY = ("LDL", "STL")

ENTRY = re.compile(r"Compiling entry function '(?P<name>\w+)'")
STACK = re.compile(r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes")
USED = re.compile(r"Used (?P<registers>\d+) registers")
# "wgmma.mma_async instructions are serialized due to ...", "setmaxnreg ignored ...".
LOSS = re.compile(r"\(C75\d\d\) (?P<words>.*)")
OPCODE = re.compile(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?\w+\s+)?(?P<name>[A-Z][A-Z0-9]*)", re.MULTILINE)
# The kernel's own name and its template arguments, in a mangled name.
KERNEL = re.compile(r"\d(?P<kernel>[a-z][a-z_]*_kernel)(?:I(?P<arguments>\w+?)EEv)?")


@dataclass(frozen=True, slots=True)
class Report:
    """What a compiled kernel takes; sizes in bytes a thread."""

    kernel: str
    file: str
    arch: str
    registers: int
    stack: int
    spills: int


def parse(output: str, file: str, arch: str) -> list[Report]:
    """The kernels that the assembler reports on."""
    reports = []
    name = stack = None
    for line in output.splitlines():
        if found := ENTRY.search(line):
            name = found["name"]
        elif found := STACK.search(line):
            stack = found
        elif (found := USED.search(line)) and name is not None and stack is not None:
            spills = int(stack["stores"]) + int(stack["loads"])
            reports.append(Report(short(name), file, arch, int(found["registers"]), int(stack["stack"]), spills))
            name = stack = None
    return reports


def short(mangled: str) -> str:
    """Such as tile_kernel<Li4ELb1> for a mangled name."""
    found = KERNEL.search(mangled)
    if found is None:
        return mangled
    return found["kernel"] + (f"<{found['arguments']}>" if found["arguments"] else "")


def losses(output: str) -> list[str]:
    """What the assembler says that it could not do as the source asks, each once."""
    return sorted({found["words"] for found in LOSS.finditer(output)})


def missing(code: str, wanted: tuple[str, ...]) -> list[str]:
    """What is wrong with disassembled code: instructions that are not there, and local memory that is used."""
    names = {found["name"] for found in OPCODE.finditer(code)}
    wrong = [f"no {name} in the machine code" for name in wanted if name not in names]
    return wrong + [f"{name} in the machine code" for name in LOCAL_MEMORY if name in names]


def find_disassembler() -> str | None:
    """nvdisasm's path."""
    triton = importlib.util.find_spec("triton")
    places = [] if triton is None else [str(Path(str(triton.origin)).parent / "backends" / "nvidia" / "bin")]
    return shutil.which("nvdisasm") or shutil.which("nvdisasm", path=":".join(places))


def compile_file(nvcc: str, path: Path, arch: str) -> list[Report]:
    """Raises: RuntimeError, it does not compile, or not as it was meant; with what the compiler says."""
    name = str(path.relative_to(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        target, binary = f"-gencode=arch=compute_{arch},code=sm_{arch}", str(Path(folder) / "out.cubin")
        command = [nvcc, *FLAGS, target, "-o", binary, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{name} for sm_{arch}:\n{done.stderr}")
        wrong = losses(done.stdout + done.stderr)
        if name in INSTRUCTIONS and (tool := find_disassembler()) is not None:
            code = subprocess.run([tool, "-c", binary], capture_output=True, text=True, check=True).stdout
            wrong += missing(code, INSTRUCTIONS[name]) + hazards(code)
            wrong += [] if products(code) else ["no product with an operand in registers in the machine code"]
    if wrong:
        raise RuntimeError(f"{name} for sm_{arch}:\n" + "\n".join(wrong))
    return parse(done.stdout + done.stderr, name, arch)


def architectures_of(path: Path, asked: str | None) -> list[str]:
    """Those that a file is compiled for."""
    own = ("90a",) if "_sm90" in path.name else ARCHITECTURES
    return [arch for arch in own if asked in (None, arch)]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--match", default="", help="only files whose path holds this")
    parser.add_argument("--arch", choices=ARCHITECTURES, help="only this one")
    parser.add_argument("--json", type=Path, help="where to keep the reports")
    options = parser.parse_args()
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        print("no nvcc: the CUDA kernels are not compiled here")
        return 0
    reports: list[Report] = []
    failed = 0
    print(f"{'registers':>9} {'stack':>6} {'spills':>6}  kernel")
    for path in sorted(path for path in (ROOT / "csrc").glob("*/cuda*.cu") if options.match in str(path)):
        for arch in architectures_of(path, options.arch):
            started = time.monotonic()
            try:
                found = compile_file(nvcc, path, arch)
            except RuntimeError as error:
                print(f"FAILED {error}")
                failed += 1
                continue
            print(f"{path.relative_to(ROOT)}, sm_{arch}, {time.monotonic() - started:.0f} s", flush=True)
            for report in found:
                verdict = "  SPILLS" if report.spills else ""
                print(f"{report.registers:>9} {report.stack:>6} {report.spills:>6}  {report.kernel}{verdict}")
            failed += sum(1 for report in found if report.spills)
            reports += found
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(report) for report in reports], indent=2) + "\n", encoding="utf-8")
    if not reports:
        print("no kernel was found in what the assembler says")
        failed += 1
    print(f"{len(reports)} kernels, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
