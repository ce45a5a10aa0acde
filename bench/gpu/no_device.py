"""Triton as on a Hopper GPU that is not there: kernels are compiled for it and launched into nothing."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

TARGET: Final = GPUTarget("cuda", 90, 32)
SHARED: Final = 232448  # bytes of shared memory that a block may have
SOURCE: Final = Path(__file__).with_name("no_driver.c")
LIBRARY: Final = "libcuda.so.1"


class Nothing:
    """Triton's driver of that GPU: what it is told to launch, it counts."""

    launches = 0

    class Utils:
        """What loading a kernel asks for."""

        def load_binary(self, name: str, kernel: bytes, shared: int, device: int) -> tuple[int, ...]:
            return 1, 1, 0, 0, 1024

        def get_device_properties(self, device: int) -> dict[str, int]:
            return {"max_shared_mem": SHARED, "multiprocessor_count": 132, "warpSize": 32}

    class Launcher:
        """A compiled kernel."""

        def __init__(self, src: object, metadata: object) -> None:
            pass

        def __call__(self, *args: object) -> None:
            Nothing.launches += 1

    launcher_cls = Launcher
    utils = Utils()

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return TARGET

    def get_device_capability(self, device: int) -> tuple[int, int]:
        return 9, 0

    def map_python_to_cpp_type(self, kind: str) -> str:
        return kind


def fake_device(active: object | None = None) -> None:
    """From here on this process's kernels are launched into nothing, or by that driver of Triton's."""
    from longspan.kernels import launch
    from longspan.ops import dispatch

    driver.set_active(Nothing() if active is None else active)
    launch.launches_fast = lambda tensor: True
    launch.stream_of = lambda device: 0
    dispatch.device_of = lambda array: "cuda"


def own_driver(folder: Path) -> tuple[object, ctypes.CDLL]:
    """Triton's own driver, which builds its ways to launch with a C compiler, on a library that launches nothing, made
    in `folder`; and that library, which knows what it was told. A process that has called this has no other libcuda.

    Raises: RuntimeError, there is no C compiler.
    """
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError("no C compiler (gcc, cc, clang) to build Triton's way to a launch with")
    include = Path(triton.__file__).parent / "backends" / "nvidia" / "include"
    command = [compiler, "-O1", "-shared", "-fPIC", f"-I{include}", f"-Wl,-soname,{LIBRARY}", "-o"]
    subprocess.run([*command, str(folder / LIBRARY), str(SOURCE)], check=True)
    library = ctypes.CDLL(str(folder / LIBRARY), mode=ctypes.RTLD_GLOBAL)  # what is named so is loaded once
    os.environ["TRITON_LIBCUDA_PATH"] = str(folder)
    from triton.backends.nvidia.driver import CudaDriver

    class Driver(CudaDriver):
        """It asks torch for the device and its stream."""

        def __init__(self) -> None:
            super().__init__()
            self.get_current_device = lambda: 0
            self.get_current_stream = lambda device: 0
            self.get_device_capability = lambda device: (9, 0)

        def get_current_target(self) -> GPUTarget:
            return TARGET

    return Driver(), library
