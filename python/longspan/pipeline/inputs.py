"""What a caller of `encode` gives: texts, images, sounds, videos, and dicts or tuples of parts that become one vector.

The names and the forms are sentence-transformers 6's, but for one: a str is a text, whatever it looks like, unless the
call says what strings are; no path is guessed from an extension, and no URL is fetched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

import numpy as np

from longspan.audio.sound import Decoder as SoundDecoder
from longspan.audio.sound import is_sound
from longspan.given_files import is_stored
from longspan.images.pages import PdfPage, PdfPages
from longspan.text.containers import checked_texts, listed
from longspan.video.clip import Decoder as VideoDecoder
from longspan.video.clip import is_video

Modality = Literal["text", "image", "audio", "video"]
MODALITIES: Final[tuple[Modality, ...]] = ("text", "image", "audio", "video")


class PillowImage(Protocol):
    """As much of Pillow's images as tells them, so that they have a type where Pillow is not installed."""

    @property
    def size(self) -> tuple[int, int]: ...
    def getexif(self) -> object: ...
    def convert(self, mode: str) -> object: ...


class Tensor(Protocol):
    """As much of torch's tensors as tells them."""

    @property
    def shape(self) -> Sequence[int]: ...
    def detach(self) -> object: ...


# One input: a str; an image, a sound or a video as an array, as libraries have them or as a file; pages of a file; or
# parts by modality, one or several each.
Media: TypeAlias = "Tensor | PillowImage | PdfPage | PdfPages | SoundDecoder | VideoDecoder"
Input: TypeAlias = "str | bytes | os.PathLike[str] | Mapping[str, object] | np.ndarray | Media"
# One of a list of them: these, or several parts in any order, or samples and their rate.
Item: TypeAlias = "Input | tuple[object, ...]"
NOUNS: Final[Mapping[str, str]] = {"text": "text", "image": "an image", "audio": "sound", "video": "video"}


@dataclass(frozen=True, slots=True)
class Part:
    """A text, an image, a sound or a video."""

    modality: Modality
    value: object
    name: str  # as the caller would call it, for messages: "inputs[3]", "inputs[3]['image'][0]"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What one call was given.

    Attributes:
        items: the parts of each input, in order; never none.
        alone: the caller gave one input, and gets its result by itself.
    """

    items: list[tuple[Part, ...]]
    alone: bool

    @property
    def texts(self) -> list[str] | None:
        """The texts, if there is nothing else."""
        if any(len(parts) > 1 or parts[0].modality != "text" for parts in self.items):
            return None
        return [str(parts[0].value) for parts in self.items]


def read_inputs(caller: str, given: object, modality: str | None, known: Sequence[str]) -> Inputs:
    """The inputs of a call, each text a str that UTF-8 can hold, nothing else looked into.

    Args:
        caller: begins the messages.
        given: a list of inputs, or one of them.
        modality: what a str, a path or bytes are; None: a str is a text, and others are refused.
        known: the modalities that the model reads.
    Raises: TypeError, something is none of the forms; ValueError, the model does not read it, or a dict is empty.
    """
    if modality is not None and modality not in known:
        reads = ", ".join(map(repr, known))
        raise ValueError(f"{caller}: modality must be None or one of {reads}, which this model reads, got {modality!r}")
    if modality in (None, "text") and isinstance(given, str):
        return _texts(caller, [given], alone=True)
    alone = is_one(given, known) or (modality not in (None, "text") and hasattr(given, "read"))  # an open file
    is_file = isinstance(given, (bytes, os.PathLike))
    if len(known) == 1 and (is_file or not hasattr(given, "__iter__")):
        return _texts(caller, given, alone=False)  # which says what is no list of str
    each = [given] if alone else listed(f"{caller}: texts", given)
    if len(known) == 1 and not any(isinstance(item, Mapping) or _is_image(item) for item in each):
        return _texts(caller, each, alone=False)
    if modality in (None, "text") and all(isinstance(item, str) for item in each):
        return _texts(caller, each, alone=False)
    reader = _Reader(caller, modality, known)
    items = [reader.parts(item, f"inputs[{place}]") for place, item in enumerate(each)]
    for part in (part for parts in items for part in parts):
        if part.modality not in known:
            reads = " and ".join(known)
            raise ValueError(f"{caller}: {part.name} is {NOUNS[part.modality]}, but this model reads {reads} alone")
    return Inputs(items, alone)


def is_one(given: object, known: Sequence[str] = ("text", "image")) -> bool:
    """Whether it is one input, rather than a list of them, for a model that reads `known`."""
    if isinstance(given, (str, bytes, os.PathLike, Mapping, PdfPages)):
        return True
    return _typed(given, known) is not None or _is_rated(given)


def _texts(caller: str, texts: object, *, alone: bool) -> Inputs:
    checked = checked_texts("texts", texts, caller=caller)
    return Inputs([(Part("text", text, "texts"),) for text in checked], alone)


def _typed(value: object, known: Sequence[str]) -> Modality | None:
    """What it is by its type alone, if it is something of what is known; Pillow and torch need not be installed. An
    array of four axes is a video, or else images."""
    if _is_image(value):
        return "image"
    if hasattr(value, "detach"):  # a tensor
        value = np.broadcast_to(np.zeros((), _tensor_dtype(value)), tuple(getattr(value, "shape", ())))
    if "audio" in known and is_sound(value):
        return "audio"
    return "video" if "video" in known and is_video(value) else None


def _is_image(value: object) -> bool:
    """Pixels, a page, or an image of Pillow's."""
    if isinstance(value, np.ndarray):
        return value.dtype == np.uint8 and value.ndim in (2, 3)
    return isinstance(value, PdfPage) or (hasattr(value, "getexif") and hasattr(value, "convert"))


def _tensor_dtype(tensor: object) -> str:
    """NumPy's name of a tensor's type."""
    name = str(getattr(tensor, "dtype", "")).rpartition(".")[2]
    return name if name in ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64") else "float32"


def _is_rated(value: object) -> bool:
    """Samples and their rate."""
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], (int, float, np.number))


def _is_samples(value: object) -> bool:
    """A list of numbers, or samples and their rate."""
    is_list = isinstance(value, (list, tuple)) and len(value) > 0 and isinstance(value[0], (int, float, np.number))
    return is_list or _is_rated(value)


def _is_clip(value: object) -> bool:
    """Frames of one video, rather than several videos."""
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(_is_image(frame) for frame in value)


class _Reader:
    """Sorts the parts of one call's inputs."""

    def __init__(self, caller: str, modality: str | None, known: Sequence[str]) -> None:
        self._caller = caller
        self._modality = modality
        self._known = known

    def parts(self, item: object, name: str) -> tuple[Part, ...]:
        """The parts of one input, at least one."""
        if isinstance(item, tuple) and not _is_rated(item):
            found = tuple(part for place, one in enumerate(item) for part in self._part(one, f"{name}[{place}]", None))
            if not found:
                raise ValueError(f"{self._caller}: {name} must have at least one part, got an empty tuple")
            return found
        return self._part(item, name, self._modality)

    def _part(self, item: object, name: str, modality: str | None) -> tuple[Part, ...]:
        """What one thing stands for; `modality` is what a str is."""
        if isinstance(item, str) and modality in (None, "text"):
            return (_text(item, name),)
        if isinstance(item, PdfPages):
            pages = item.pages(f"{self._caller}: {name}")
            return tuple(Part("image", page, f"{name}: page {page.number}") for page in pages)
        typed = _typed(item, MODALITIES)
        if typed is None and _is_rated(item):
            typed = "audio"
        if typed is not None:
            return (Part(typed, item, name),)
        if isinstance(item, Mapping) and not is_stored(item):
            return self._of_mapping(item, name)
        if isinstance(item, (str, bytes, os.PathLike, Mapping)) or hasattr(item, "read"):
            if modality is None:
                raise TypeError(
                    f"{self._caller}: {name} is {type(item).__name__}; give modality= to say what the file holds"
                )
            if modality == "text":
                raise TypeError(f"{self._caller}: {name} must be a str, as modality says, got {type(item).__name__}")
            return (Part(_modality(modality), item, name),)
        raise TypeError(f"{self._caller}: {name} must be {self._forms()}, got {_described(item)}")

    def _forms(self) -> str:
        """What an input may be."""
        forms = "a str, an image as (height, width, 3) uint8 or of Pillow's"
        forms += ", a sound as (samples,) floats" if "audio" in self._known else ""
        forms += ", a video as (frames, height, width, 3) uint8" if "video" in self._known else ""
        return f"{forms}, or a dict of them"

    def _of_mapping(self, item: Mapping[object, object], name: str) -> tuple[Part, ...]:
        parts: list[Part] = []
        for key, value in item.items():
            if key not in MODALITIES:
                known = ", ".join(map(repr, MODALITIES))
                raise ValueError(f"{self._caller}: {name} must have keys of {known}, got {key!r}")
            own = _modality(str(key))
            is_single = (own == "video" and _is_clip(value)) or (own == "audio" and _is_samples(value))
            several = list(value) if isinstance(value, (list, tuple)) and not is_single else [value]
            for place, one in enumerate(several):
                parts += self._under(own, one, f"{name}[{key!r}]" + (f"[{place}]" if len(several) > 1 else ""))
        if not parts:
            raise ValueError(f"{self._caller}: {name} must have at least one part, got an empty dict")
        return tuple(parts)

    def _under(self, key: Modality, value: object, name: str) -> tuple[Part, ...]:
        """What stands under a key of a dict."""
        if key == "text":
            if not isinstance(value, str):
                raise TypeError(f"{self._caller}: {name} must be a str, got {_described(value)}")
            return (_text(value, name),)
        if key == "image" and isinstance(value, PdfPages):
            return self._part(value, name, None)
        return (Part(key, value, name),)


def _text(text: str, name: str) -> Part:
    return Part("text", checked_texts(name, [text])[0], name)


def _modality(name: str) -> Modality:
    return next(known for known in MODALITIES if known == name)


def _described(value: object) -> str:
    return f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
