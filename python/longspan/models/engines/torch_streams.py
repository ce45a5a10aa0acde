"""The streams that the engines of a process share on a device.

torch has 32 streams a device and hands them out in turn. Were each engine to ask for its own, one's capture would
sooner or later run on the stream of another's copies, and record them.
"""

from __future__ import annotations

import threading
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
