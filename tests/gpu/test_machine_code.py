"""What .ci/machine_code.py finds in disassembled code: writes to what an asynchronous product still reads."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "machine_code.py"
HEAD = '\t.section\t.text.a_kernel,"ax",@progbits\n.text.a_kernel:\n'
PACK = "F2FP.BF16.F32.PACK_AB R123, R5, R4"
FENCE = "WARPGROUP.ARRIVE"
PRODUCT = "HGMMA.64x64x16.F32.BF16 R88, R120, gdesc[UR4].tnspB, R88"
LAST = "HGMMA.64x64x16.F32.BF16 R88, R124, gdesc[UR4].tnspB, R88, gsb0"
OTHER = "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR16], RZ, !UPT, gsb0"
WAIT, WAIT_ONE = "WARPGROUP.DEPBAR.LE gsb0, 0x0", "WARPGROUP.DEPBAR.LE gsb0, 0x1"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("machine_code", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def code(*lines: str) -> str:
    """A kernel of these instructions and labels, as nvdisasm prints them."""
    place, text = 0, HEAD
    for line in lines:
        if line.endswith(":"):
            text += f"{line}\n"
        else:
            text += f"        /*{place:04x}*/                   {line} ;\n"
            place += 16
    return text


def test_what_is_right(script: ModuleType) -> None:
    loop = code(".L_x_0:", PACK, FENCE, PRODUCT, LAST, "MUFU.EX2 R9, R9", WAIT, "@P0 BRA `(.L_x_0)", "EXIT")
    assert script.products(loop) == 2 and script.hazards(loop) == []
    later = code(PACK, FENCE, PRODUCT, LAST, FENCE, OTHER, WAIT_ONE, PACK, WAIT, "EXIT")
    assert script.hazards(later) == [], "all but the last group are done, and the product is of the first"


@pytest.mark.parametrize(
    "write",
    [
        PACK,
        "LDS.128 R120, [R3]",
        "IMAD.WIDE R122, R3, R4, R6",
        "CS2R R122, SRZ",
        "SHFL.BFLY PT, R121, R2, 0x1, 0x1f",
        "LOP3.LUT P0, R120, R2, R3, RZ, 0xc0, !PT",
        "@!P0 MOV R120, R2",
    ],
)
def test_a_write_before_the_wait(script: ModuleType, write: str) -> None:
    [found] = script.hazards(code(PACK, FENCE, PRODUCT, LAST, write, WAIT, "EXIT"))
    assert found.startswith("a_kernel: ") and "may still read" in found


def test_a_group_that_is_not_waited_for_yet(script: ModuleType) -> None:
    code_of = code(PACK, FENCE, OTHER, FENCE, PRODUCT, LAST, WAIT_ONE, PACK, WAIT, "EXIT")
    [found] = script.hazards(code_of)
    assert "may still read" in found


def test_a_write_on_one_path_of_two(script: ModuleType) -> None:
    lines = [FENCE, PRODUCT, LAST, "@P1 BRA `(.L_x_1)", WAIT, "EXIT", ".L_x_1:", PACK, WAIT, "EXIT"]
    assert len(script.hazards(code(*lines))) == 1


def test_a_write_behind_the_fence(script: ModuleType) -> None:
    [found] = script.hazards(code(FENCE, PACK, PRODUCT, LAST, WAIT, "EXIT"))
    assert "behind the fence" in found


@pytest.mark.parametrize("line", ["ST.E.128 [R120.64], R4", "BAR.SYNC R121, 0x100", "FSETP.GT P0, PT, R120, R3, PT"])
def test_what_only_reads(script: ModuleType, line: str) -> None:
    assert script.hazards(code(PACK, FENCE, PRODUCT, LAST, line, WAIT, "EXIT")) == []


COPY, BARRIER = "LDGSTS.E.BYPASS.128 [R9], desc[UR14][R24.64], P5", "BAR.SYNC.DEFER_BLOCKING 0x0"


@pytest.mark.parametrize("write", [COPY, "@!P5 STS [R0], R145", "STSM.16.M88.4 [R172+0xc000], R60"])
def test_memory_that_another_warpgroup_still_reads(script: ModuleType, write: str) -> None:
    [found] = script.hazards(code(FENCE, OTHER, BARRIER, WAIT, write, "EXIT"))
    assert "another warpgroup" in found
    assert script.hazards(code(FENCE, OTHER, BARRIER, WAIT, write, "EXIT"), warpgroups=1) == []
    loop = (".L_x_0:", FENCE, OTHER, BARRIER, COPY, WAIT, "@P0 BRA `(.L_x_0)", "EXIT")
    assert script.hazards(code(*loop)) == [], "what comes before the wait goes elsewhere, and a barrier follows it"
    assert len(script.hazards(code(*loop[:4], WAIT, COPY, *loop[6:]))) == 1


def test_memory_behind_a_barrier_of_its_own(script: ModuleType) -> None:
    for lines in (
        (OTHER, BARRIER, WAIT, BARRIER, COPY),
        (OTHER, WAIT, COPY),  # no barrier between: the compiler has not forgotten the reads
        (OTHER, BARRIER, WAIT_ONE, COPY, WAIT),  # a group that is not waited for yet
    ):
        assert script.hazards(code(FENCE, *lines, "EXIT")) == [], lines
