"""From a video as users have it to what a model's towers read: patches of its frames, and the mel of its track."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast, runtime_checkable

import numpy as np

from longspan.audio.allowance import Allowance
from longspan.audio.sound import SoundReader
from longspan.audio.tracks import sound_track
from longspan.given_files import is_open_file, stored
from longspan.images.decode import check_size, read_image
from longspan.images.patches import ImageReader
from longspan.images.resize import to_size
from longspan.models.vision_spec import ClipSpec, PatchSpec
from longspan.packing.media import Mel, Patches
from longspan.video.files import NEEDS, read_frames
from longspan.video.sizes import chosen_frames, clip_size


@runtime_checkable
class Decoder(Protocol):
    """torchcodec's VideoDecoder."""

    def __len__(self) -> int: ...
    def get_frames_at(self, indices: list[int]) -> Any: ...


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """A video, as a model reads it.

    Attributes:
        patches: of its frames, a few at a time.
        num_frames: that it has; the last one may stand in `patches` again, to fill them up.
        sound: of its track; None if it has none, or one too short for a token.
    """

    patches: Patches
    num_frames: int
    sound: Mel | None


@dataclass(frozen=True, slots=True, eq=False)
class FittedVideo:
    """A video, decoded and in its final size: a quarter of the bytes that its patches have.

    Attributes:
        frames: (height, width, 3) uint8 each, at least two.
        sound: as in `Video`.
    """

    frames: list[np.ndarray]
    sound: Mel | None


@dataclass(frozen=True, slots=True)
class VideoReader:
    """Videos to patches by one model's settings; `sound` reads tracks, None: nobody does. `allowance` is what may be
    decoded, of all that is read; None: what the readers allow."""

    clip: ClipSpec
    patches: PatchSpec
    sound: SoundReader | None = None
    allowance: Allowance | None = None

    def read(self, video: object, name: str = "video") -> Video:
        """Decoded, resized and cut.

        Of a file, and of torchcodec's decoder, at most `clip.most_frames` frames are taken, evenly spaced; frames that
        are given are taken all.

        Args:
            video: (frames, height, width, 3) uint8, or (frames, 3, height, width); a list of images, as `read_image`
                takes them, of one size; {"array": either, "video_metadata": anything}; the path of a file; the contents
                of one; {"bytes": contents, "path": path}, one of them None; an open binary file; torchcodec's
                VideoDecoder; or a `FittedVideo`.
            name: what the caller calls it, for messages.
        Raises: TypeError, it is nothing of that; ValueError, naming it, it has fewer than two frames, is damaged or too
            large; MediaLimitError; FileNotFoundError; ImportError, naming the extra that is needed.
        """
        fitted = self.fit(video, name)
        return Video(self._reader.cut_frames(fitted.frames), len(fitted.frames), fitted.sound)

    def fit(self, video: object, name: str = "video") -> FittedVideo:
        """Decoded and resized; `read` takes what comes out. Args and Raises: as `read`."""
        if isinstance(video, FittedVideo):
            return video
        if isinstance(video, Mapping):
            file = stored(video)
            video = video if file is None else file
        if isinstance(video, (str, os.PathLike)):
            path = Path(video)
            return self._of_file(path, name if name == str(video) else f"{name}: {path}")
        if isinstance(video, (bytes, bytearray, memoryview)):
            return self._of_file(bytes(video), name)
        if is_open_file(video):
            return self._of_file(cast(BinaryIO, video), name)
        return self._of_frames(_frames_of(video, self.clip.most_frames, name), name)

    def _of_file(self, source: Path | bytes | BinaryIO, name: str) -> FittedVideo:
        frames = read_frames(source, self.clip.most_frames, partial(self._sized, name), name, self.allowance)
        return FittedVideo(frames, self._track(source, name))

    def _of_frames(self, frames: list[np.ndarray], name: str) -> FittedVideo:
        if len(frames) < 2:
            raise ValueError(f"{name} must have at least two frames, got {len(frames)}; give a single one as an image")
        height, width = frames[0].shape[:2]
        make = self._sized(name, len(frames), height, width)
        return FittedVideo([make(frame) for frame in frames], None)

    @property
    def _reader(self) -> ImageReader:
        return ImageReader(self.clip.pixels, self.patches)

    def _sized(self, name: str, frames: int, height: int, width: int) -> Callable[[np.ndarray], np.ndarray]:
        pixels, patches = self.clip.pixels, self.patches
        limits = pixels.least_pixels, pixels.most_pixels
        size = clip_size(frames, height, width, patches.size * patches.merge, patches.frames, limits, name)
        return lambda frame: to_size(np.ascontiguousarray(frame), size, pixels.resample)

    def _track(self, source: Path | bytes | BinaryIO, name: str) -> Mel | None:
        if self.sound is None:
            return None
        with sound_track(source, name, NEEDS) as recording:
            return None if recording is None else self.sound.of_track(recording)


def is_video(value: object) -> bool:
    """Whether it is a video by its type: an array of four axes, a dict of one or of frames, or a decoder of them."""
    if isinstance(value, np.ndarray):
        return value.ndim == 4
    if isinstance(value, Mapping):
        return "array" in value and "sampling_rate" not in value
    return isinstance(value, Decoder)


def _frames_of(video: object, most: int, name: str) -> list[np.ndarray]:
    if isinstance(video, Mapping):
        if "array" not in video:
            keys = [*map(str, video)][:8]
            raise ValueError(f'{name} must have "array", its frames, or "bytes" or "path", got the keys {keys}')
        video = video["array"]
    if isinstance(video, Decoder):
        video = video.get_frames_at(chosen_frames(len(video), most).tolist()).data
    if isinstance(video, (list, tuple)):
        frames = [read_image(frame, f"{name}[{place}]") for place, frame in enumerate(video)]
        for place, frame in enumerate(frames):
            if frame.shape != frames[0].shape:
                sizes = f"{frames[0].shape[:2]} and {frame.shape[:2]}"
                raise ValueError(f"{name} must have frames of one height and width, got {sizes} at 0 and {place}")
        return frames
    if hasattr(video, "detach"):
        video = cast(Any, video).detach().cpu()
    if not hasattr(video, "__array__"):
        raise TypeError(
            f"{name} must be a video: an array or a list of frames, a path, a file's bytes or an open file, "
            f"got {type(video).__name__}"
        )
    return list(_of_array(np.asarray(video), name))


def _of_array(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim == 4 and array.shape[3] != 3 and array.shape[1] == 3:
        array = array.transpose(0, 2, 3, 1)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
        raise ValueError(
            f"{name} must be (frames, height, width, 3) or (frames, 3, height, width) uint8, "
            f"got {array.shape} {array.dtype}"
        )
    check_size(array.shape[2], array.shape[1], name)
    return array
