"""The streams that the engines of a process share on a device, and when one of them must be the only one to launch.

torch has 32 streams a device and hands them out in turn. Were each engine to ask for its own, one's capture would
sooner or later run on the stream of another's copies, and record them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch


@dataclass(frozen=True, slots=True, eq=False)
class Streams:
    """Copies to the device, copies from it, captures."""

    upward: torch.cuda.Stream
    downward: torch.cuda.Stream
    capture: torch.cuda.Stream


_STREAMS: Final[dict[torch.device, Streams]] = {}
_LOCK: Final = threading.Lock()


def numbered(device: torch.device) -> torch.device:
    """The device with its number: "cuda" is the one that is current now, whichever is current later."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def settle(device: torch.device) -> None:
    """Wait for what this thread has launched there: weights are made on one stream and read on any."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def streams_of(device: torch.device) -> Streams:
    """Those of a device, made when first asked for."""
    device = numbered(device)
    with _LOCK:
        if device not in _STREAMS:
            _STREAMS[device] = Streams(*(torch.cuda.Stream(device) for _ in range(3)))
        return _STREAMS[device]


class Launching:
    """Threads that launch a pass, any number at once, and one that must be alone.

    torch launches a product in two steps: it hands cuBLAS a workspace, then cuBLAS launches. Whoever gives back all
    workspaces between the two has the kernel write to memory that is another's by then.
    """

    def __init__(self) -> None:
        self._changed: Final = threading.Condition()
        self._passes = 0
        self._is_alone = False
        self._own: Final = threading.local()  # of a thread: whether it is in a pass

    @contextmanager
    def a_pass(self) -> Iterator[None]:
        """A context in which products may be launched; one within another is part of that."""
        if getattr(self._own, "is_in", False):
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._is_alone)
            self._passes += 1
        self._own.is_in = True
        try:
            yield
        finally:
            self._own.is_in = False
            with self._changed:
                self._passes -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A context in which no other thread launches a pass. One thread at a time asks for it, and in no pass."""
        try:
            with self._changed:
                self._is_alone = True
                self._changed.wait_for(lambda: self._passes == 0)
            yield
        finally:
            with self._changed:
                self._is_alone = False
                self._changed.notify_all()


LAUNCHING: Final = Launching()  # of all engines: cuBLAS's workspaces are the process's
