"""Small batches as CUDA graphs: a pass is captured once for each size, and launched as a whole from then on.

A short query makes a hundred launches, each of which costs the host more than it costs the device; a graph is one.
Batches are filled up to the sizes of `longspan.packing.buckets`, so that few graphs serve all of them.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch

from longspan.errors import warn_caller
from longspan.models.engines.engine import Fetch
from longspan.models.engines.torch_copies import Copies, Layout
from longspan.models.engines.torch_streams import LAUNCHING, numbered, streams_of

# Graphs that an engine keeps, those that were not used for longest go first. All share one pool of memory, which grows
# to what the largest of them needs; beyond it each keeps its arrays, its result and the driver's own description.
CAPACITY: Final = 64
ATTEMPTS: Final = 3  # at a pass's capture; what failed may have been another thread's doing, or memory that was short

Launch = Callable[[], torch.Tensor]

# torch's allocator takes one capture at a time, of all the engines of a process; and what is launched before a capture
# goes to the stream that all of them capture on.
CAPTURING: Final = threading.Lock()
# Graphs whose capture could not be ended. torch 2.11 goes on asking them whether an allocation is theirs.
_UNENDED: Final[list[torch.cuda.CUDAGraph]] = []


class Recorder(Protocol):
    """Makes a function that launches kernels into one that launches them again."""

    def record(self, launch: Launch) -> tuple[Callable[[], None], torch.Tensor]:
        """`launch` once more whenever the function is called, and its result, which is then written anew."""


class CudaRecorder:
    """Records by CUDA's stream capture, into a pool of memory that all its graphs share: they never run at once, and
    nobody reads a result after another graph was launched."""

    def __init__(self, device: torch.device) -> None:
        self._device: Final = numbered(device)
        self._stream: Final = streams_of(device).capture
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, launch: Launch) -> tuple[Callable[[], None], torch.Tensor]:
        current = torch.cuda.current_stream(self._device)
        with CAPTURING:
            self._stream.wait_stream(current)
            try:
                with torch.cuda.stream(self._stream):
                    launch()  # compiles and loads kernels, fills tables, none of which can be captured
            except BaseException:
                with contextlib.suppress(RuntimeError):  # what it has launched still reads the caller's memory
                    current.wait_stream(self._stream)
                raise
            graph = torch.cuda.CUDAGraph()
            # Other threads may go on with what would break a capture of the whole process, as allocating memory would.
            how = {"pool": self._pool, "stream": self._stream, "capture_error_mode": "thread_local"}
            try:
                with contextlib.ExitStack() as capture:
                    # cuBLAS keeps a workspace for each stream, whose address a captured product goes on using. So one
                    # of the graphs' own pool is captured, and nobody else's; it lives as long as they do.
                    with LAUNCHING.alone():
                        torch._C._cuda_clearCublasWorkspaces()
                        capture.enter_context(torch.cuda.graph(graph, **how))  # gives unused memory back, too
                    result = launch()
            except BaseException:
                self._give_up(graph)
                torch.cuda.set_stream(current)  # torch leaves its own in place where a capture cannot even be ended
                raise
            finally:
                with LAUNCHING.alone():
                    torch._C._cuda_clearCublasWorkspaces()
        return graph.replay, result

    def _give_up(self, graph: torch.cuda.CUDAGraph) -> None:
        """After a capture that failed. Where it could not be ended, torch 2.11 and 2.12 leave both of their allocators
        in it: the device's is told here; the pinned memory's cannot be, takes no second capture into the same pool, and
        goes on asking the graph, which must therefore live."""
        _UNENDED.append(graph)
        pool, self._pool = self._pool, torch.cuda.graph_pool_handle()
        with contextlib.suppress(RuntimeError):  # "not currently recording": torch has done it itself
            torch._C._cuda_endAllocateToPool(self._device.index, pool)


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
        self._failures: dict[Hashable, int] = {}
        self._seen: set[Hashable] = set()

    def __len__(self) -> int:
        return len(self._recordings)

    def start(
        self,
        key: Hashable,
        arrays: Sequence[np.ndarray],
        launch: Callable[[Sequence[torch.Tensor]], torch.Tensor],
        num_results: int,
        *,
        name: str = "a pass",
        at_once: bool = True,
    ) -> Fetch | None:
        """Launch a pass on these arrays of the host. None if it is not recorded: it could not be, which is told, or it
        comes for the first time and is not to be recorded at once.

        Args:
            key: passes of one key, on arrays of one layout, are the same pass. It must keep alive what `launch` reads
                beside its arguments.
            launch: what to record: launches the pass on copies of the arrays.
            num_results: rows of the result that are wanted.
            name: what a warning calls the pass.
            at_once: record what comes for the first time; else what comes again.
        """
        layout = Layout.of(arrays)
        place = key, layout
        with self._lock:
            recording = self._recordings.get(place)
            if recording is None and not self._is_due(place, at_once):
                return None
            with self._copies.turn():
                if recording is None:
                    recording = self._recorded(place, layout, arrays, launch, name)
                    if recording is None:
                        return None
                else:
                    self._recordings.move_to_end(place)
                    self._copies.refill(recording.buffer, layout, arrays)
                recording.replay()
                return self._copies.fetch_in_turn(recording.result[:num_results])

    def _is_due(self, place: Hashable, at_once: bool) -> bool:
        """Whether a pass that has no recording is to get one now."""
        if self._failures.get(place, 0) >= ATTEMPTS:
            return False
        if at_once or place in self._seen:
            return True
        if len(self._seen) > 16 * self._capacity:  # a server's life brings many sizes once
            self._seen.clear()
        self._seen.add(place)
        return False

    def _recorded(
        self,
        place: Hashable,
        layout: Layout,
        arrays: Sequence[np.ndarray],
        launch: Callable[[Sequence[torch.Tensor]], torch.Tensor],
        name: str,
    ) -> Recording | None:
        """A new recording, its buffer filled, which takes the place of the one that was not used for longest."""
        buffer = torch.empty(layout.size, dtype=torch.uint8, device=self._device)
        self._copies.refill(buffer, layout, arrays)
        views = layout.read(buffer)
        try:
            replay, result = self._recorder.record(lambda: launch(views))
        except Exception as error:  # of the driver, of torch, of a kernel's compiler: the plain pass does without
            times = self._failures[place] = self._failures.get(place, 0) + 1
            until = "from now on" if times == ATTEMPTS else "this time"
            why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            text = f"capturing a CUDA graph of {name} failed, so {until} it runs without ({why})"
            warn_caller(text, RuntimeWarning)
            return None
        self._failures.pop(place, None)
        self._seen.discard(place)
        recording = self._recordings[place] = Recording(buffer, replay, result)
        if len(self._recordings) > self._capacity:  # capturing has waited for the device, so none of them is running
            self._recordings.popitem(last=False)
        return recording
