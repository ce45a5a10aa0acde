"""`Launcher`: what Triton's own binding of arguments would compile anew for is told apart, and nothing else is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
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


class Loading(Compiled):
    """As Triton loads a kernel: the way to launch it is there before the function is."""

    def __init__(self, ran: list[tuple[object, ...]]) -> None:
        super().__init__(ran)
        self.function, self.is_begun = None, False  # type: ignore[assignment]

    @property
    def run(self) -> object:  # type: ignore[override]
        if not self.is_begun:
            self.is_begun = True
            time.sleep(0.1)  # the driver loads it, other threads go on
            self.function = "function"
        return lambda *args: self.ran.append(args)


def test_threads_that_launch_a_kernel_for_the_first_time(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    loading = Loading(kernel.ran)
    monkeypatch.setattr(kernel, "run", lambda *_, **__: loading)
    launcher = Launcher(kernel)
    threads = [threading.Thread(target=launcher, args=((1,), (X,), (), (), (), 4)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [arguments[4] for arguments in kernel.ran] == ["function"] * 4


# Each kernel twice: by Triton's own launch and by ours. What arrives is the grid, the threads, and each parameter.
ARRIVING = """
import ctypes, json, sys
from pathlib import Path
import torch
from bench.gpu import no_device
from longspan.kernels import embed, layer_norm, launch, pool_logits, rope

driver, library = no_device.own_driver(Path(sys.argv[1]))
no_device.fake_device(driver)


class Launch(ctypes.Structure):
    names = ("width", "height", "depth", "threads", "shared")
    _fields_ = [*((name, ctypes.c_uint64) for name in names), ("parameters", ctypes.c_uint64 * 64)]


library.launch_at.restype = ctypes.POINTER(Launch)
half, x = torch.float16, torch.zeros(40, 64, dtype=torch.float16)
ids, vector = torch.zeros(40, dtype=torch.int32), torch.zeros(64)
calls = {  # and how many bytes each parameter has: addresses, what varies, other numbers but those that are 1 or None
    "norm": (lambda: layer_norm.launch_norm(x, vector, None, 1e-5, None, x, centred=True), [8] * 3 + [4] * 4),
    "embed": (
        lambda: embed.embed(ids, x, x, positions=ids, places=x, offset=1, norm=(vector, vector), eps=1e-5),
        [8] * 7 + [4] * 11,
    ),
    "rotate": (lambda: rope.rotate(x.view(40, 2, 32), None, x[:, :16], x[:, :16], interleaved=True), [8] * 3 + [4] * 6),
    "finish": (lambda: pool_logits.FINISH((3,), (vector,), (64,), (), (1, 1024), 4), [8, 4]),
}
found = {}
for name, (call, sizes) in calls.items():
    library.expect_parameters(len(sizes))
    for fast in (False, True):
        launch.launches_fast = lambda tensor: fast
        call()
        made = library.launch_at(library.launches_made() - 1).contents
        masked = [value & (2 ** (8 * size) - 1) for value, size in zip(made.parameters, sizes)]
        found.setdefault(name, []).append([*(getattr(made, each) for each in Launch.names), *masked])
print(json.dumps({"found": found, "launches": library.launches_made(), "x": x.data_ptr()}))
"""


def test_another_layers_weights(kernel: Kernel) -> None:
    first, second, odd = torch.zeros(64), torch.zeros(64), torch.zeros(65)[1:]
    run = Launcher(kernel).prepared((2,), (X, first, None, X), (3,), (), ("a",), 4, free=(1,))
    for tensor in (first, second):
        run(tensor)
        assert kernel.ran[-1][9:] == (X.data_ptr(), tensor.data_ptr(), None, X.data_ptr(), 3, "a")
    run()
    assert kernel.ran[-1][10] == first.data_ptr(), "what it was prepared with"
    assert len(kernel.compiled) == 1
    run(odd)
    assert len(kernel.compiled) == 2 and kernel.compiled[-1][1] is odd, "no multiple of 16: another kernel"
    assert kernel.ran[-1][10] == odd.data_ptr()


@pytest.mark.skipif(ON_GPU, reason="a process with a GPU has a driver")
def test_what_arrives_at_the_driver(tmp_path: Path) -> None:
    """Of Triton's own way to a launch, its compiled part too, on a library in the driver's place."""
    if not any(shutil.which(name) for name in ("gcc", "cc", "clang")):
        pytest.skip("no C compiler to build Triton's way to a launch with")
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment = {**kept, "PYTHONPATH": f"{ROOT / 'python'}:{ROOT}", "TRITON_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", ARRIVING, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["launches"] == 2 * len(told["found"]) == 8
    for name, (by_triton, by_us) in told["found"].items():
        assert by_triton == by_us, name
        assert by_us[0] >= 1 and by_us[3] == 128
    assert told["found"]["norm"][0][5] == told["x"] and told["found"]["norm"][0][8] == 40


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
