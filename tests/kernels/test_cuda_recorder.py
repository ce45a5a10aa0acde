"""CUDA's captures as torch is told to make them, by a torch that only writes down what it hears: no GPU is needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest

from kernel_cases import torch  # isort: skip  # skips where torch or triton is not installed
from longspan.models.engines import torch_graphs, torch_streams
from longspan.models.engines.torch_copies import widened
from longspan.models.engines.torch_engine import TorchEngine
from longspan.models.engines.torch_graphs import CudaRecorder
from longspan.models.engines.torch_streams import Launching, streams_of
from longspan.models.engines.workspace import Workspace

DEVICE = torch.device("cuda", 3)


class Heard:
    """The calls, in order, and which pools torch's two allocators hold to be in a capture."""

    def __init__(self, ends_by_itself: bool) -> None:
        self.calls: list[str] = []
        self.device_pools: set[int] = set()
        self.pinned_pools: set[int] = set()
        self.ends_by_itself = ends_by_itself  # as torch 2.13 and newer, after a capture that failed

    @contextmanager
    def graph(self, graph: object, pool: int, stream: object, capture_error_mode: str) -> Iterator[None]:
        assert pool not in self.pinned_pools, "already recording to mempool_id"
        assert torch_graphs.CAPTURING.locked() and capture_error_mode == "thread_local"
        self.calls.append(f"capture into {pool}")
        pools = self.device_pools, self.pinned_pools
        for each in pools:
            each.add(pool)
        try:
            yield
        except RuntimeError:
            if not self.ends_by_itself:
                raise
            for each in pools:
                each.discard(pool)
            raise
        for each in pools:
            each.discard(pool)

    def end_allocate(self, device: int, pool: int) -> None:
        assert device == 3
        if pool not in self.device_pools:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.device_pools.discard(pool)


class Caller:
    """The stream of who asks."""

    def __init__(self, said: Heard) -> None:
        self._said = said

    def __str__(self) -> str:
        return "the caller's"

    def wait_stream(self, other: object) -> None:
        self._said.calls.append("the caller waits")


@pytest.fixture(params=[False, True], ids=["torch 2.11", "newer"])
def heard(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Heard:
    said, pools = Heard(request.param), count(1)
    stream = SimpleNamespace(wait_stream=lambda other: said.calls.append("wait"))
    caller = Caller(said)
    monkeypatch.setattr(torch_streams, "_STREAMS", {DEVICE: SimpleNamespace(capture=stream)})
    monkeypatch.setattr(torch_graphs, "_UNENDED", [])
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: caller)
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: said.calls.append(f"back to {stream}"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: next(pools))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay="replay"))
    monkeypatch.setattr(torch.cuda, "graph", said.graph)
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: said.calls.append("clear"), raising=False)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", said.end_allocate, raising=False)
    return said


def test_cublas_has_a_workspace_of_the_captures_own(heard: Heard) -> None:
    """It is given back before the capture, after the launch that would leave one behind, and after it."""
    recorder = CudaRecorder(DEVICE)
    for _ in range(2):
        replay, result = recorder.record(lambda: heard.calls.append("launch") or "result")
        assert (replay, result) == ("replay", "result")
    once = ["wait", "launch", "clear", "capture into 1", "launch", "clear"]
    assert heard.calls == 2 * once and not torch_graphs._UNENDED


def test_a_capture_that_fails_leaves_no_allocator_behind(heard: Heard) -> None:
    recorder, turns = CudaRecorder(DEVICE), count()

    def launch() -> str:
        if next(turns) == 1:
            raise RuntimeError("operation not permitted when stream is capturing")
        return "result"

    with pytest.raises(RuntimeError, match="not permitted"):
        recorder.record(launch)
    assert heard.calls[-2:] == ["back to the caller's", "clear"]
    assert heard.device_pools == set() and not torch_graphs.CAPTURING.locked()
    assert recorder.record(launch) == ("replay", "result"), "another pool takes the next capture"
    assert "capture into 2" in heard.calls
    assert len(torch_graphs._UNENDED) == 1, "the pinned memory's allocator may still ask the graph"


def test_a_first_launch_that_fails_is_waited_for(heard: Heard) -> None:
    """The memory that it reads goes back when the failure arrives, and what was launched still reads it."""

    def launch() -> str:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        CudaRecorder(DEVICE).record(launch)
    assert heard.calls == ["wait", "the caller waits"] and not torch_graphs.CAPTURING.locked()


def test_workspaces_are_given_back_between_passes(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    """cuBLAS has a workspace from its choice of a kernel to the launch: nobody may take it away meanwhile."""
    engine = TorchEngine("cpu", "float32")
    begun, goes_on, order = threading.Event(), threading.Event(), heard.calls

    def product(*_: object) -> torch.Tensor:
        order.append("product begins")
        begun.set()
        assert goes_on.wait(10)
        order.append("product ends")
        return torch.zeros(1)

    slow = threading.Thread(target=engine._run, args=(SimpleNamespace(run=product), None, None, None))
    records = threading.Thread(target=CudaRecorder(DEVICE).record, args=(lambda: order.append("launch"),))
    slow.start()
    assert begun.wait(10)
    records.start()
    while "launch" not in order:
        time.sleep(0.001)
    time.sleep(0.05)
    assert "clear" not in order
    quick = threading.Thread(
        target=engine._run, args=(SimpleNamespace(run=lambda *_: order.append("next pass")), None, None, None)
    )
    goes_on.set()
    for thread in (slow, records):
        thread.join(10)
    quick.start()
    quick.join(10)
    ended = order.index("product ends")
    assert order.index("clear") > ended and order[-1] == "next pass"
    assert order.count("clear") == 2 and not any(thread.is_alive() for thread in (slow, records, quick))


def test_a_pass_within_a_pass() -> None:
    """Does not wait for who waits for the outer one to end."""
    launching, is_alone = Launching(), threading.Event()

    def be_alone() -> None:
        with launching.alone():
            is_alone.set()

    other = threading.Thread(target=be_alone)
    with launching.a_pass():
        other.start()
        while not launching._is_alone:
            time.sleep(0.001)
        with launching.a_pass():
            assert not is_alone.is_set()
    other.join(10)
    assert is_alone.is_set()
    with launching.a_pass():  # and it is nobody's behind it
        pass


def test_engines_share_the_streams_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(torch_streams, "_STREAMS", {})
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: made.append(device) or object())
    assert streams_of(DEVICE) is streams_of(DEVICE) and len(made) == 3
    assert streams_of(torch.device("cuda", 4)) is not streams_of(DEVICE) and len(made) == 6
    own = streams_of(DEVICE)
    assert len({own.upward, own.downward, own.capture}) == 3


def test_a_workspace_tells_the_allocator_of_another_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its memory goes back to the first stream while the second one's kernels are in it."""
    engine = TorchEngine("cpu", "float32")
    monkeypatch.setattr(engine, "device", DEVICE)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"current of {device.index}")
    told: list[str] = []
    workspace = Workspace(lambda size: np.zeros(size).view(Buffer))
    monkeypatch.setattr(Buffer, "record_stream", lambda self, stream: told.append(stream), raising=False)
    workspace.take("a", 2, 3)
    workspace.take("b", 1, 1)
    engine.adopt(workspace)
    assert told == ["current of 3"] * 2


class Buffer(np.ndarray):
    """Memory that can be told of a stream."""


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_halves_are_widened_on_the_host(dtype: torch.dtype) -> None:
    """To what they are, infinities, NaN and the smallest as well, in memory of their own."""
    values = torch.tensor([1.0, -0.0, 3.14159, 65504.0, 6e-8, float("inf"), float("nan"), 1e-40]).to(dtype)
    found = widened(values)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.float().numpy())
    assert not np.shares_memory(found, values.float().numpy() if dtype != torch.float32 else values.numpy())
