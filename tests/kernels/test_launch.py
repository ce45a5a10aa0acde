"""`Launcher`: what Triton's own binding of arguments would compile anew for is told apart, and nothing else is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kernel_cases import ON_GPU, torch  # isort: skip  # skips where torch or triton is not installed
from longspan.kernels import launch
from longspan.kernels.launch import Launcher

ROOT = Path(__file__).resolve().parents[2]
X = torch.zeros(64)


class Compiled:
    """As Triton gives out a kernel."""

    function, packed_metadata = "function", "metadata"

    def __init__(self, ran: list[tuple[object, ...]]) -> None:
        self.ran = ran

    def run(self, *args: object) -> None:
        self.ran.append(args)


class Kernel:
    """Compiles nothing; says what it was asked for."""

    def __init__(self) -> None:
        self.compiled: list[tuple[object, ...]] = []
        self.ran: list[tuple[object, ...]] = []

    def run(self, *args: object, grid: object, warmup: bool, **options: object) -> Compiled:
        assert warmup and options["enable_fp_fusion"] is True
        self.compiled.append(args)
        return Compiled(self.ran)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(launch, "launches_fast", lambda tensor: True)
    monkeypatch.setattr(launch, "stream_of", lambda device: 77)
    return Kernel()


def test_addresses_go_to_the_compiled_kernel(kernel: Kernel) -> None:
    Launcher(kernel)((3, 2), (X, None), (5,), (7, 0.5), ("a", 16), 4)
    [arguments] = kernel.ran
    assert arguments == (
        *(3, 2, 1, 77, "function", "metadata", None, None, None),
        *(X.data_ptr(), None, 5, 7, 0.5, "a", 16),
    )


def test_what_is_compiled_anew(kernel: Kernel) -> None:
    launcher = Launcher(kernel)
    given = {"tensors": (X, X, None), "varying": (5,), "fixed": (7, None), "constants": (True,), "num_warps": 4}

    def compiles(**changes: object) -> bool:
        before = len(kernel.compiled)
        launcher((1,), **{**given, **changes})
        return len(kernel.compiled) > before

    assert compiles() and not compiles()
    assert not compiles(varying=(6,)) and not compiles(tensors=(X, X[16:], None)), "of the same kind"
    other = {
        "a dtype": {"tensors": (X, X.half(), None)},
        "what is None": {"tensors": (X, X, X)},
        "an address": {"tensors": (X, X[1:], None)},
        "another address": {"tensors": (X[1:], X, None)},
        "a number": {"fixed": (8, None)},
        "None for a number": {"fixed": (None, None)},
        "a constant": {"constants": (False,)},
        "warps": {"num_warps": 8},
        "stages": {"num_stages": 2},
        "a number of 64 bits": {"varying": (2**31,)},
    }
    for what, changes in other.items():
        assert compiles(**changes), what
        assert not compiles(**changes), what
    assert len(kernel.ran) == 4 + 2 * len(other)


def test_a_prepared_launch_keeps_its_tensors(kernel: Kernel) -> None:
    tensor = torch.zeros(32)
    address = tensor.data_ptr()
    run = Launcher(kernel).prepared((2,), (tensor,), (), (), (), 4)
    assert kernel.ran == []
    del tensor
    taken = [torch.zeros(32) for _ in range(8)]
    run()
    run()
    assert len(kernel.ran) == 2 and all(args[9] == address for args in kernel.ran)
    assert address not in [each.data_ptr() for each in taken]


@pytest.mark.skipif(ON_GPU, reason="measured without a GPU")
def test_host_time_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command runs, and a layer launches what it should: Triton compiles for sm_90 without a GPU."""
    environment = {"PYTHONPATH": f"{ROOT / 'python'}:{ROOT}", "PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    command = [sys.executable, "-m", "bench.gpu.host_time", "--seconds", "0.05"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [round(line["launches_a_layer"]) for line in lines] == [4, 5, 9]
    assert all(line["products_a_layer"] == 4 and line["layer_us"] > 0 for line in lines)
