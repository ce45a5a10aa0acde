"""What .ci/compile_cuda.py reads in the assembler's report."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "compile_cuda.py"

REPORT = """
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN8longspan4cuda46_GLOBAL__N__efe7e9ba_13_cuda_tiles_cu_6dd276f911tile_kernelILi4ELb0EEEvNS1_8TileArgsE' for 'sm_90a'
ptxas info    : Function properties for _ZN8longspan4cuda46_GLOBAL__N__efe7e9ba_13_cuda_tiles_cu_6dd276f911tile_kernelILi4ELb0EEEvNS1_8TileArgsE
    104 bytes stack frame, 108 bytes spill stores, 240 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers, 104 bytes cumulative stack size
ptxas info    : Compile time = 123.456 ms
ptxas info    : Compiling entry function '_ZN8longspan4cuda47_GLOBAL__N__4a727cc3_14_cuda_select_cu_d5ba5c8014results_kernelENS0_7ResultsE' for 'sm_90a'
ptxas info    : Function properties for _ZN8longspan4cuda47_GLOBAL__N__4a727cc3_14_cuda_select_cu_d5ba5c8014results_kernelENS0_7ResultsE
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers
"""  # noqa: E501


SERIALIZED = """
ptxas info    : (C7511) Potential Performance Loss: wgmma.mma_async instructions are serialized due to insufficient register resources for the wgmma pipeline in the function 'a_kernel'
ptxas info    : (C7508) Potential Performance Loss: 'setmaxnreg' ignored to maintain minimum register requirements.
"""  # noqa: E501

CODE = """
        /*0340*/                   USETMAXREG.TRY_ALLOC.CTAPOOL UP0, 0xe8 ;
        /*0c60*/              @!P0 HGMMA.64x128x16.F32.BF16 R24, gdesc[UR12], RZ, !UPT ;
        /*0c70*/                   SYNCS.ARRIVE.TRANS64 RZ, [R3+URZ], R4 ;
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("compile_cuda", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look for their annotations' names
    spec.loader.exec_module(module)
    return module


def test_registers_and_spills_are_read(script: ModuleType) -> None:
    tile, results = script.parse(REPORT, "a.cu", "90a")
    assert (tile.kernel, tile.registers, tile.stack, tile.spills) == ("tile_kernel<Li4ELb0E>", 128, 104, 348)
    assert (results.kernel, results.registers, results.stack, results.spills) == ("results_kernel", 32, 0, 0)


def test_what_the_assembler_could_not_do_is_read(script: ModuleType) -> None:
    assert script.losses(REPORT) == []
    ignored, serialized = sorted(script.losses(2 * SERIALIZED))
    assert "serialized due to insufficient register" in serialized and "'setmaxnreg' ignored" in ignored


def test_machine_code_is_read(script: ModuleType) -> None:
    assert script.missing(CODE, ("HGMMA", "SYNCS", "USETMAXREG")) == []
    spilled = CODE + "        /*0c80*/               @P1 LDL.64 R2, [R1+0x8] ;\n"
    assert script.missing(spilled, ("UTMALDG",)) == ["no UTMALDG in the machine code", "LDL in the machine code"]


def test_files_of_one_architecture(script: ModuleType) -> None:
    assert script.architectures_of(Path("cuda_sm90_tiles.cu"), None) == ["90a"]
    assert script.architectures_of(Path("cuda_sm90.cu"), "80") == []
    assert script.architectures_of(Path("cuda.cu"), None) == ["80", "90a", "100"]
