"""Copies between the host and a device that neither the host nor the device's kernels wait for.

All arrays of a batch travel as one: a copy costs its launch, and a batch's arrays are small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch

from longspan.models.engines.engine import Fetch
from longspan.models.engines.torch_streams import streams_of

ALIGNMENT: Final = 16  # bytes; kernels are compiled for pointers that are multiples of it


@dataclass(frozen=True, slots=True)
class Slot:
    """Where an array lies in a buffer of bytes."""

    start: int
    size: int
    shape: tuple[int, ...]
    dtype: str

    def of(self, buffer: torch.Tensor) -> torch.Tensor:
        """The array, as a view of the buffer."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return buffer[self.start : self.start + self.size].view(dtype).view(self.shape)


@dataclass(frozen=True, slots=True)
class Layout:
    """Arrays one behind the other in a buffer of `size` bytes. Batches of equal layouts fit the same captured pass."""

    slots: tuple[Slot, ...]
    size: int

    @classmethod
    def of(cls, arrays: Sequence[np.ndarray]) -> Layout:
        """The layout of these arrays."""
        slots, end = [], 0
        for array in arrays:
            slots.append(Slot(end, array.nbytes, array.shape, str(array.dtype)))
            end += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        return cls(tuple(slots), end)

    def write(self, arrays: Sequence[np.ndarray], buffer: torch.Tensor) -> None:
        """The arrays into a buffer of the host."""
        for slot, array in zip(self.slots, arrays, strict=True):
            slot.of(buffer).numpy()[...] = array

    def read(self, buffer: torch.Tensor) -> list[torch.Tensor]:
        """The arrays of a buffer, as views of it."""
        return [slot.of(buffer) for slot in self.slots]


class Copies(Protocol):
    """The two ways to a device and back: beside its kernels for large batches, among them for small ones."""

    def send(self, arrays: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Copies in new memory of the device, for kernels that the caller launches from now on."""

    def fetch(self, result: torch.Tensor) -> Fetch:
        """A copy of what kernels that are launched by now will have written, once they have."""

    def refill(self, buffer: torch.Tensor, layout: Layout, arrays: Sequence[np.ndarray]) -> None:
        """The arrays into a buffer of the device, behind the kernels that the caller has launched."""

    def fetch_in_turn(self, result: torch.Tensor) -> Fetch:
        """As `fetch`, before any kernel that the caller launches from now on, which may write `result` again."""

    def turn(self) -> AbstractContextManager[None]:
        """A context: what is launched in one runs behind what was launched in the one before, by any thread, on any
        stream. The caller sees to it that no two are open at once."""


class HostCopies:
    """`Copies` where the device is the host itself, as in Triton's interpreter."""

    def send(self, arrays: Sequence[np.ndarray]) -> list[torch.Tensor]:
        return [torch.from_numpy(np.array(array)) for array in arrays]

    def fetch(self, result: torch.Tensor) -> Fetch:
        values = widened(result)
        return lambda: values

    def refill(self, buffer: torch.Tensor, layout: Layout, arrays: Sequence[np.ndarray]) -> None:
        layout.write(arrays, buffer)

    fetch_in_turn = fetch

    @contextmanager
    def turn(self) -> Iterator[None]:
        yield


class CudaCopies:
    """`Copies` of a CUDA device. The host's side is pinned memory of torch's pool, which knows when a copy has ended.

    Large batches use a stream for each direction, so that a batch travels while the one before is computed, and its
    results while the next is. Small ones stay on the caller's stream: waiting for another would cost more than a copy.
    """

    def __init__(self, device: torch.device) -> None:
        self._device: Final = device
        streams = streams_of(device)
        self._upward: Final = streams.upward
        self._downward: Final = streams.downward
        self._last_turn: Final = torch.cuda.Event()

    def send(self, arrays: Sequence[np.ndarray]) -> list[torch.Tensor]:
        layout = Layout.of(arrays)
        staging = self._staged(layout, arrays)
        with torch.cuda.stream(self._upward):
            buffer = staging.to(self._device, non_blocking=True)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._upward)
        buffer.record_stream(current)  # it is of the other stream's memory, and must not go back there too early
        return layout.read(buffer)

    def fetch(self, result: torch.Tensor) -> Fetch:
        values = result.contiguous()
        self._downward.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._downward):
            fetch = self._copied(values)
        values.record_stream(self._downward)
        return fetch

    def refill(self, buffer: torch.Tensor, layout: Layout, arrays: Sequence[np.ndarray]) -> None:
        buffer.copy_(self._staged(layout, arrays), non_blocking=True)

    def fetch_in_turn(self, result: torch.Tensor) -> Fetch:
        return self._copied(result.contiguous())

    @contextmanager
    def turn(self) -> Iterator[None]:
        current = torch.cuda.current_stream(self._device)
        current.wait_event(self._last_turn)
        try:
            yield
        finally:
            self._last_turn.record(current)

    def _staged(self, layout: Layout, arrays: Sequence[np.ndarray]) -> torch.Tensor:
        staging = torch.empty(layout.size, dtype=torch.uint8, device="cpu", pin_memory=True)
        layout.write(arrays, staging)
        return staging

    def _copied(self, values: torch.Tensor) -> Fetch:
        """`values`, contiguous, to the host on the current stream, in their own dtype."""
        host = torch.empty(values.shape, dtype=values.dtype, device="cpu", pin_memory=True)
        host.copy_(values, non_blocking=True)
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(self._device))

        def fetch() -> np.ndarray:
            done.synchronize()
            return widened(host)  # results may be kept for long, pinned memory should not be

        return fetch


def widened(host: torch.Tensor) -> np.ndarray:
    """The values of a tensor of the host in new memory, as f32. Halves travel as they are, half the bytes, and are
    widened here, which is exact and no more work than the copy that is made anyway."""
    copy: np.ndarray = host.to(torch.float32, copy=True).numpy()
    return copy


def copies_for(device: torch.device) -> Copies:
    """The copies of that device."""
    return CudaCopies(device) if device.type == "cuda" else HostCopies()
