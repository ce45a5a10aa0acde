"""Frames of video files, by PyAV (FFmpeg): counted, chosen, turned upright, one at a time in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias

import numpy as np

from longspan.audio.allowance import Allowance
from longspan.audio.containers import MAX_FRAME_PIXELS, PICTURE_CODECS, codec_name, opened, stream_seconds
from longspan.video.sizes import chosen_frames

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_FRAMES: Final = 1_000_000  # of a file: 11 hours at 25 a second
MAX_DECODED: Final = 10**12  # pixels of all frames of a file: 5 hours of 1920 x 1080 at 25 a second
NEEDS: Final = "a video file"  # PyAV, in a message

# Of how many frames in all, and of what height and width, what becomes of each that is chosen.
Plan: TypeAlias = Callable[[int, int, int], Callable[[np.ndarray], np.ndarray]]


def read_frames(
    source: Path | bytes | BinaryIO, most: int, plan: Plan, name: str, allowance: Allowance | None = None
) -> list[np.ndarray]:
    """At most `most` frames of a file, evenly spaced, as `plan` makes them of (height, width, 3) uint8.

    The frames are those that decode, turned as the file says; how many they are, only decoding tells. So the packets of
    the file are counted first, which is quick and nearly always right; where it was wrong, the file is decoded again.

    Args:
        plan: called with the number of frames that are chosen, and the height and width of the first.
        allowance: of what may be decoded; None: MAX_DECODED pixels.
    Raises: ValueError, naming it, it has no pictures, fewer than two frames, too many or too large ones, or is damaged;
        MediaLimitError; FileNotFoundError; ImportError.
    """
    expected = _count_packets(source, name, allowance)
    frames, count = _decoded(source, expected, most, plan, name, allowance)
    if count != expected:
        frames, again = _decoded(source, count, most, plan, name, allowance)
        if again != count:
            raise ValueError(
                f"{name} cannot be decoded as a video file: it has {count} frames once and {again} another time"
            )
    return frames


def first_frame(source: Path | bytes | BinaryIO, name: str) -> np.ndarray:
    """(height, width, 3) uint8. Raises: as `read_frames`."""
    with opened(source, name, NEEDS) as container:
        frame = next(container.decode(_pictures(container, name)), None)
        if frame is None:
            raise ValueError(f"{name} has no frame that can be decoded")
        return _upright(frame, name)


def _count_packets(source: Path | bytes | BinaryIO, name: str, allowance: Allowance | None) -> int:
    with opened(source, name, NEEDS) as container:
        stream = _pictures(container, name)
        count = 0
        times: list[int] = []
        for place, packet in enumerate(container.demux(stream)):
            count += packet.size > 0
            if packet.pts is not None:
                times = [min([*times, packet.pts]), max([*times, packet.pts])]
            if place > MAX_FRAMES:
                raise ValueError(f"{name} must have at most {MAX_FRAMES} frames; cut it into pieces")
        if allowance is not None:
            lasts = float((times[-1] - times[0]) * stream.time_base) if times and stream.time_base else 0.0
            claimed = stream_seconds(stream) or 0.0
            pixels = stream.codec_context.width * stream.codec_context.height
            allowance.take_video(name, max(lasts, claimed), count, pixels)
    return count


def _decoded(
    source: Path | bytes | BinaryIO, expected: int, most: int, plan: Plan, name: str, allowance: Allowance | None
) -> tuple[list[np.ndarray], int]:
    """The frames that are chosen if there are `expected`, and how many there are."""
    chosen = set(chosen_frames(expected, most).tolist())
    found: list[np.ndarray] = []
    count = pixels = 0
    make: Callable[[np.ndarray], np.ndarray] | None = None
    with opened(source, name, NEEDS) as container:
        for frame in container.decode(_pictures(container, name)):
            pixels += frame.width * frame.height
            if allowance is not None:
                allowance.take_frame(name, frame.width * frame.height)
            if pixels > MAX_DECODED or count >= MAX_FRAMES:
                raise ValueError(f"{name} must have at most {MAX_DECODED} pixels in all its frames; cut it into pieces")
            if count in chosen:
                upright = _upright(frame, name)
                make = make or plan(len(chosen), *upright.shape[:2])
                found.append(make(upright))
            count += 1
    if count < 2:
        raise ValueError(f"{name} must have at least two frames, got {count}; give a single one as an image")
    return found, count


def _pictures(container: InputContainer, name: str) -> VideoStream:
    """The stream of moving pictures; covers of albums are none."""
    stream = next((stream for stream in container.streams.video if not _is_cover(stream)), None)
    if stream is None:
        raise ValueError(f"{name} has no moving pictures; give a sound as one")
    if codec_name(stream) not in PICTURE_CODECS:
        raise ValueError(f"{name} has pictures of {codec_name(stream)!r}, which are not read here")
    _check_frame(stream.codec_context.width, stream.codec_context.height, name)
    stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}  # of frames that grow on the way
    stream.thread_type = "AUTO"
    return stream


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & type(stream.disposition).attached_pic)


def _check_frame(width: int, height: int, name: str) -> None:
    if width * height > MAX_FRAME_PIXELS:
        raise ValueError(f"{name} must have frames of at most {MAX_FRAME_PIXELS} pixels, got {width} x {height}")


def _upright(frame: VideoFrame, name: str) -> np.ndarray:
    _check_frame(frame.width, frame.height, name)
    pixels: np.ndarray = frame.to_ndarray(format="rgb24")
    return np.rot90(pixels, round(frame.rotation / 90) % 4)
