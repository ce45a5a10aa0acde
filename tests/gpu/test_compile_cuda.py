"""What .ci/compile_cuda.py reads in the assembler's report."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

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


def test_registers_and_spills_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("compile_cuda", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where dataclasses look for their annotations' names
    spec.loader.exec_module(module)
    tile, results = module.parse(REPORT, "a.cu", "90a")
    assert (tile.kernel, tile.registers, tile.stack, tile.spills) == ("tile_kernel<Li4ELb0E>", 128, 104, 348)
    assert (results.kernel, results.registers, results.stack, results.spills) == ("results_kernel", 32, 0, 0)
