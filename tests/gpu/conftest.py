"""The CUDA kernels, in the emulator where there is a C++ compiler and on a GPU where there is one."""

from __future__ import annotations

import importlib
import zlib

import pytest

from cuda_kernels import CudaKernels, OnDevice
from emulated import Emulated, find_compiler
from emulated_attention import EmulatedAttention


def why_no_gpu() -> str | None:
    """What is missing for the kernels to run on a GPU."""
    try:
        import torch
    except ImportError:
        return "torch is not installed"
    if not torch.cuda.is_available():
        return "no CUDA device"
    try:
        importlib.import_module("longspan.ops.cuda")
    except ImportError as error:
        return str(error)
    return None


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    """The emulator; skips where there is no compiler."""
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C++ compiler (g++ or c++) to build the kernels for the emulator with")
    return Emulated(tmp_path_factory.mktemp("emulated"), compiler)


@pytest.fixture(scope="session")
def emulated_attention(tmp_path_factory: pytest.TempPathFactory) -> EmulatedAttention:
    """attention_varlen's Hopper kernels in the emulator; skips where there is no compiler."""
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C++ compiler (g++ or c++) to build the kernels for the emulator with")
    return EmulatedAttention(tmp_path_factory.mktemp("emulated_attention"), compiler)


@pytest.fixture(scope="session")
def on_device() -> OnDevice:
    """The GPU; skips where there is none."""
    if (reason := why_no_gpu()) is not None:
        pytest.skip(f"the CUDA kernels cannot run on a GPU here: {reason}")
    return OnDevice()


@pytest.fixture(params=["emulated", "on_device"])
def kernels(request: pytest.FixtureRequest) -> CudaKernels:
    """Each in turn."""
    chosen: CudaKernels = request.getfixturevalue(request.param)
    if isinstance(chosen, Emulated):
        chosen.seed(zlib.crc32(request.node.name.encode()))
    return chosen
