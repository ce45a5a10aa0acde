"""Small batches as CUDA graphs: a pass is captured once for each size, and launched as a whole from then on.

A short query makes a hundred launches, each of which costs the host more than it costs the device; a graph is one.
Batches are filled up to the sizes of `longspan.packing.buckets`, so that few graphs serve all of them.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch

from longspan.models.engines.engine import Fetch
from longspan.models.engines.torch_copies import Copies, Layout

# Graphs that an engine keeps, those that were not used for longest go first. All share one pool of memory, which grows
# to what the largest of them needs; beyond it each keeps its arrays, its result and the driver's own description.
CAPACITY: Final = 64

Launch = Callable[[], torch.Tensor]

CAPTURING: Final = threading.Lock()  # torch's allocator takes one capture at a time, of all the engines of a process


class Recorder(Protocol):
    """Makes a function that launches kernels into one that launches them again."""

    def record(self, launch: Launch) -> tuple[Callable[[], None], torch.Tensor]:
        """`launch` once more whenever the function is called, and its result, which is then written anew."""


class CudaRecorder:
    """Records by CUDA's stream capture, into a pool of memory that all its graphs share: they never run at once, and
    nobody reads a result after another graph was launched."""

    def __init__(self, device: torch.device) -> None:
        self._device: Final = device
        self._stream: Final = torch.cuda.Stream(device)
        self._pool: Final = torch.cuda.graph_pool_handle()

    def record(self, launch: Launch) -> tuple[Callable[[], None], torch.Tensor]:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            launch()  # compiles and loads kernels, fills tables and cuBLAS's workspace, none of which can be captured
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on with what would break a capture of the whole process, such as allocating memory.
        how = {"pool": self._pool, "stream": self._stream, "capture_error_mode": "thread_local"}
        try:
            with CAPTURING, torch.cuda.graph(graph, **how):
                result = launch()
        except BaseException:
            torch.cuda.set_stream(current)  # torch leaves its own in place where a capture cannot even be ended
            raise
        return graph.replay, result


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recorded pass, the buffer that it reads its arrays from, and what it writes."""

    buffer: torch.Tensor
    replay: Callable[[], None]
    result: torch.Tensor


class Graphs:
    """The recorded passes of an engine. Threads may share them: one at a time launches."""

    def __init__(self, copies: Copies, recorder: Recorder, device: torch.device, capacity: int = CAPACITY) -> None:
        self._copies: Final = copies
        self._recorder: Final = recorder
        self._device: Final = device
        self._capacity: Final = capacity
        self._recordings: OrderedDict[Hashable, Recording] = OrderedDict()
        self._lock: Final = threading.Lock()
        self._fails = False

    def __len__(self) -> int:
        return len(self._recordings)

    def start(
        self,
        key: Hashable,
        arrays: Sequence[np.ndarray],
        launch: Callable[[Sequence[torch.Tensor]], torch.Tensor],
        num_results: int,
    ) -> Fetch | None:
        """Launch a pass on these arrays of the host. None if it cannot be recorded here, which is told once.

        Args:
            key: passes of one key, on arrays of one layout, are the same pass. It must keep alive what `launch` reads
                beside its arguments.
            launch: what to record: launches the pass on copies of the arrays.
            num_results: rows of the result that are wanted.
        """
        layout = Layout.of(arrays)
        with self._lock:
            if self._fails:
                return None
            with self._copies.turn():
                recording = self._recordings.get((key, layout))
                if recording is None:
                    recording = self._recorded((key, layout), layout, arrays, launch)
                    if recording is None:
                        return None
                else:
                    self._recordings.move_to_end((key, layout))
                    self._copies.refill(recording.buffer, layout, arrays)
                recording.replay()
                return self._copies.fetch_in_turn(recording.result[:num_results])

    def _recorded(
        self,
        place: Hashable,
        layout: Layout,
        arrays: Sequence[np.ndarray],
        launch: Callable[[Sequence[torch.Tensor]], torch.Tensor],
    ) -> Recording | None:
        """A new recording, its buffer filled, which takes the place of the one that was not used for longest."""
        buffer = torch.empty(layout.size, dtype=torch.uint8, device=self._device)
        self._copies.refill(buffer, layout, arrays)
        views = layout.read(buffer)
        try:
            replay, result = self._recorder.record(lambda: launch(views))
        except Exception as error:  # of the driver, of torch, of a kernel's compiler: the plain pass does without
            self._fails = True
            why = str(error).partition("\n")[0]
            text = f"capturing a CUDA graph failed, so small batches run without ({type(error).__name__}: {why})"
            warnings.warn(text, RuntimeWarning, stacklevel=2)
            return None
        recording = self._recordings[place] = Recording(buffer, replay, result)
        if len(self._recordings) > self._capacity:  # capturing has waited for the device, so none of them is running
            self._recordings.popitem(last=False)
        return recording
