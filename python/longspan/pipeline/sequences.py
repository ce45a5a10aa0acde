"""Inputs of several parts as one sequence: media read, their towers' features placed among the tokens of the texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar, cast

import numpy as np

from longspan.audio.allowance import Allowance
from longspan.audio.sound import SoundReader
from longspan.models.sequence_spec import SequenceSpec
from longspan.packing.media import MediaRow, Mel, Patches
from longspan.pipeline.audio import Audio
from longspan.pipeline.inputs import Modality, Part
from longspan.pipeline.media_options import MediaOptions
from longspan.pipeline.vision import Vision
from longspan.text.media_text import CHAT_END, CHAT_START, MediaText, MediaTokenizer, Piece, Run
from longspan.text.tokenizer import TextTokenizer
from longspan.video.clip import Video, VideoReader

if TYPE_CHECKING:
    from longspan.images.decode import ImageInput

Read = Patches | Mel | Video
Features = TypeVar("Features", Patches, Mel)
SOUND_BYTES: Final = 2 << 20  # of half a minute of frames


@dataclass(frozen=True, slots=True, eq=False)
class ReadInput:
    """An input with media: its tokens, and what the towers read for them, in order."""

    text: MediaText
    media: tuple[Patches | Mel, ...]

    @property
    def cut_samples(self) -> int:
        """Samples of its sounds that nobody hears."""
        return sum(one.cut_samples for one in self.media if isinstance(one, Mel))


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """An input that was decoded ahead of a call.

    Attributes:
        item: as `Encoder.encode` takes it: its vector is that of what it was made from, to the bit.
        tokens: that the model reads of it.
        cut_samples: of its sounds, that nobody hears.
    """

    item: tuple[dict[Modality, object], ...]
    tokens: int
    cut_samples: int = 0


class Sequences:
    """The towers of a model, and how their features enter its sequences. Threads may share one."""

    def __init__(
        self,
        spec: SequenceSpec,
        max_tokens: int,
        tasks: Sequence[str],
        tokenizer: TextTokenizer,
        source: Path,
        vision: Vision | None,
        audio: Audio | None,
    ) -> None:
        """Args:
            max_tokens: of a sequence.
            tasks: for each there are connectors; empty: for all the same.
        Raises: CheckpointError, the tokenizer, from `source`, lacks a token for what the towers read.
        """
        kinds = [*(("image", "video") if vision is not None else ()), *(("audio",) if audio is not None else ())]
        self._tokens = MediaTokenizer(spec, tokenizer, kinds, source)
        self._max_tokens = max_tokens
        self._tasks = tuple(tasks)
        self._vision = vision
        self._audio = audio
        if vision is not None:
            vision.tokens_beside = len(self._tokens.tokenize([Run(spec.image, 1)], "").ids) - 1

    def reader(self, caller: str, options: MediaOptions, allowance: Allowance | None = None) -> MediaReader:
        """What reads the inputs of one call, whose name begins messages, and decodes no more than is allowed."""
        return MediaReader(caller, options, self._tokens, self._max_tokens, self._vision, self._audio, allowance)

    def check(
        self, caller: str, items: Sequence[Sequence[Part]], lora_ids: Sequence[int], tasks: Sequence[str | None]
    ) -> None:
        """ValueError, naming the input, if one has media and a task without connectors."""
        for parts, number, task in zip(items, lora_ids, tasks, strict=True):
            if self._tasks and not 0 <= number < len(self._tasks) and any(part.modality != "text" for part in parts):
                known = ", ".join(map(repr, self._tasks))
                raise ValueError(
                    f"{caller}: {_input_name(parts)} has media, which the model reads in its own tasks alone; task "
                    f"must be one of {known}, got {task!r}"
                )

    def rows(
        self,
        inputs: Sequence[ReadInput],
        lora_ids: Sequence[int],
        places: Sequence[int],
        *,
        batch_tokens: int | None = None,
    ) -> list[MediaRow]:
        """For each input the row that the language side reads, by the connectors of its task, which is its adapter's.
        Each tower sees each image, sound or video once, however many inputs it stands in. `places` are those of the
        inputs among the caller's, for messages."""
        connectors = list(lora_ids) if self._tasks else [0] * len(inputs)
        seen = heard = None
        if self._vision is not None:
            seen = partial(self._vision.features, batch_tokens=batch_tokens)
        if self._audio is not None:
            heard = partial(self._audio.features, batch_tokens=batch_tokens)
        numbered = [*zip(inputs, connectors, places, strict=True)]
        of_images = self._features(numbered, Patches, seen)
        of_sounds = self._features(numbered, Mel, heard)
        rows = []
        for one, number in zip(inputs, connectors, strict=True):
            own = [(of_images if isinstance(part, Patches) else of_sounds)[id(part), number] for part in one.media]
            features = np.concatenate(own)
            assert len(features) == len(one.text.places)
            rows.append(MediaRow(one.text.ids, np.ones(len(one.text.ids), bool), features, one.text.places, None))
        return rows

    @staticmethod
    def _features(
        inputs: Sequence[tuple[ReadInput, int, int]],
        kind: type[Features],
        compute: Callable[..., list[np.ndarray]] | None,
    ) -> dict[tuple[int, int], np.ndarray]:
        """Of all media of a kind in inputs with their connectors and places, by themselves and their connector."""
        wanted: dict[tuple[int, int], tuple[Features, int]] = {}
        for one, number, place in inputs:
            for part in one.media:
                if isinstance(part, kind):
                    wanted.setdefault((id(part), number), (part, place))
        if compute is None or not wanted:
            return {}
        parts, at = zip(*wanted.values(), strict=True)
        return dict(zip(wanted, compute(parts, [number for _, number in wanted], places=at), strict=True))


@dataclass(frozen=True)
class MediaReader:
    """Reads the inputs of one call."""

    caller: str
    options: MediaOptions
    tokens: MediaTokenizer
    max_tokens: int
    vision: Vision | None
    audio: Audio | None
    allowance: Allowance | None = None

    @cached_property
    def _sounds(self) -> SoundReader | None:
        if self.audio is None:
            return None
        padded = self.options.audio_padding == "30s"
        return SoundReader(replace(self.audio.spec.mel, padded=padded), self.options.short_sounds, self.allowance)

    @cached_property
    def _videos(self) -> VideoReader | None:
        if self.vision is None or self.vision.spec.clip is None:
            return None
        sounds = self._sounds if self.options.video_sound else None
        return VideoReader(self.vision.spec.clip, self.vision.patches, sounds, self.allowance)

    def num_bytes(self, parts: Sequence[Part]) -> int:
        """What an input's media take at most when they are read."""
        return sum(self._part_bytes(part.modality) for part in parts)

    def _part_bytes(self, modality: Modality) -> int:
        if modality == "audio":
            return SOUND_BYTES
        if modality == "text" or self.vision is None:
            return 0
        clip, frames = self.vision.spec.clip, self.vision.patches.frames
        if modality == "video" and clip is not None:
            return 12 * clip.pixels.most_pixels
        return 12 * frames * self.vision.spec.pixels.most_pixels

    def read(self, parts: Sequence[Part], prompt: str, cache: dict[tuple[str, int], Read]) -> ReadInput:
        """An input's media decoded and its text tokenized.

        Args:
            parts: in their order, one of them no text.
            prompt: goes before an input that has a text, and before all if the options say so.
            cache: what was read of the call's other parts, by modality and the object's identity.
        Raises: ValueError, the sequence is longer than the model's places, or a text spells out a token that stands for
            media; and as the readers.
        """
        name = f"{self.caller}: {_input_name(parts)}"
        has_text = any(part.modality == "text" for part in parts)
        pieces: list[Piece] = [prompt] if has_text or self.options.prompts == "all" else []
        media: list[Patches | Mel] = []
        taken = 0  # tokens for media
        for part in parts:
            if part.modality == "text":
                pieces.append(str(part.value))
                continue
            key = part.modality, id(part.value)
            if key not in cache:
                cache[key] = self._read(part)
            taken = self._counted(cache[key], taken, name)
            self._add(cache[key], pieces, media)
        is_lone_video = len(parts) == 1 and len(media) == 1 and parts[0].modality == "video"
        if self.options.wrapper == "chat" and not is_lone_video:
            pieces = [CHAT_START, *pieces, CHAT_END]
        text = self.tokens.tokenize(pieces, name)
        if len(text.ids) > self.max_tokens:
            self._refuse(name, f"{len(text.ids)} tokens, {len(text.places)} of them for media")
        return ReadInput(text, tuple(media))

    def _counted(self, read: Read, taken: int, name: str) -> int:
        """`taken` and the tokens of one more. Too many are refused before more is read: the pages of a long file would
        fill the memory."""
        pieces: list[Piece] = []
        self._add(read, pieces, [])
        taken += sum(piece.count for piece in pieces if isinstance(piece, Run))
        if taken > self.max_tokens:
            self._refuse(name, f"more than {self.max_tokens} tokens for media alone")
        return taken

    def _refuse(self, name: str, takes: str) -> NoReturn:
        raise ValueError(
            f"{name} takes {takes}, and the model reads at most {self.max_tokens}; give fewer or smaller parts: what "
            f"stands beside media is never cut"
        )

    def _read(self, part: Part) -> Read:
        name = f"{self.caller}: {part.name}"
        if part.modality == "image":
            assert self.vision is not None  # `read_inputs` has seen to what the model reads
            return self.vision.reader.read(part.value, name)
        if part.modality == "audio":
            assert self._sounds is not None
            return self._sounds.read(part.value, name)
        assert self._videos is not None
        return self._videos.read(part.value, name)

    def fit(self, parts: Sequence[Part], prompt: str) -> Fitted:
        """An input decoded and made as small as it may be kept, with its tokens counted. Args and Raises: as `read`."""
        fitted, found = [], []
        cache: dict[tuple[str, int], Read] = {}
        name, taken = f"{self.caller}: {_input_name(parts)}", 0
        for part in parts:
            value, read = part.value, None
            if part.modality != "text":
                value, read = self._fit(part)
                taken = self._counted(read, taken, name)
                cache[part.modality, id(value)] = read
            fitted.append(replace(part, value=value))
            found.append({part.modality: value})
        made = self.read(fitted, prompt, cache)
        return Fitted(tuple(found), len(made.text.ids), made.cut_samples)

    def _fit(self, part: Part) -> tuple[object, Read]:
        """The part, decoded; and what the towers would read of it, as far as its tokens ask."""
        name = f"{self.caller}: {part.name}"
        if part.modality == "audio":
            assert self._sounds is not None
            mel = self._sounds.read(part.value, name)
            return mel, mel
        assert self.vision is not None
        spec = self.vision.patches
        if part.modality == "image":
            pixels, tokens = self.vision.fit(cast("ImageInput", part.value), name)
            return pixels, _stand_in((tokens - self.vision.tokens_beside) * spec.cell, 1)
        assert self._videos is not None
        video = self._videos.fit(part.value, name)
        height, width = (side // spec.size for side in video.frames[0].shape[:2])
        pairs = -(-len(video.frames) // spec.frames)
        return video, Video(_stand_in(pairs * height * width, pairs), len(video.frames), video.sound)

    def _add(self, read: Read, pieces: list[Piece], media: list[Patches | Mel]) -> None:
        """Put what was read behind the pieces so far."""
        spec = self.tokens.spec
        if isinstance(read, Video):
            assert self.vision is not None
            if read.sound is not None:
                self._add(read.sound, pieces, media)
            outer, pairs = self.options.outer_video_markers, read.patches.grid[0]
            count = self.vision.num_tokens(read.patches)
            pieces += self.tokens.video(read.num_frames, pairs, count, outer_markers=outer)
            media.append(read.patches)
        elif isinstance(read, Mel):
            assert self.audio is not None
            pieces.append(Run(spec.audio, self.audio.num_tokens(read)))
            media.append(read)
        else:
            assert self.vision is not None
            pieces.append(Run(spec.image, self.vision.num_tokens(read)))
            media.append(read)


def _stand_in(patches: int, frames: int) -> Patches:
    """So many patches, of no memory."""
    return Patches(np.broadcast_to(np.float32(0), (patches, 1)), (frames, patches // frames, 1))


def _input_name(parts: Sequence[Part]) -> str:
    """Of the whole, such as "inputs[3]", where a part may be "inputs[3]['image'][0]"."""
    name = parts[0].name
    return name[: name.index("]") + 1]
