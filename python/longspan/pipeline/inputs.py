"""What a caller of `encode` gives: texts, images, and dicts of parts that become one vector.

The names and the forms are sentence-transformers 6's, but for one: a str is a text, whatever it looks like, unless the
call says what strings are; no path is guessed from an extension, and no URL is fetched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

import numpy as np

from longspan.images.pages import PdfPage
from longspan.text.containers import listed
from longspan.text.tokenizer import checked_texts

Modality = Literal["text", "image", "audio", "video"]
MODALITIES: Final[tuple[Modality, ...]] = ("text", "image", "audio", "video")


class PillowImage(Protocol):
    """As much of Pillow's images as tells them, so that they have a type where Pillow is not installed."""

    @property
    def size(self) -> tuple[int, int]: ...
    def getexif(self) -> object: ...
    def convert(self, mode: str) -> object: ...


# One input: a str; an image as an array, as Pillow's, as a file or a page; or parts by modality, one or several each.
Input: TypeAlias = "str | bytes | os.PathLike[str] | Mapping[str, object] | np.ndarray | PillowImage | PdfPage"
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
        return _texts([given], alone=True)
    alone = is_one(given)
    is_file = isinstance(given, (bytes, os.PathLike))
    if len(known) == 1 and (is_file or not hasattr(given, "__iter__")):
        return _texts(given, alone=False)  # which says what is no list of str
    each = [given] if alone else listed(f"{caller}: texts", given)
    if len(known) == 1 and not any(isinstance(item, Mapping) or _is_image(item) for item in each):
        return _texts(each, alone=False)
    if modality in (None, "text") and all(isinstance(item, str) for item in each):
        return _texts(each, alone=False)
    items = [_parts(caller, item, f"inputs[{place}]", modality) for place, item in enumerate(each)]
    for part in (part for parts in items for part in parts):
        if part.modality not in known:
            reads = " and ".join(known)
            raise ValueError(f"{caller}: {part.name} is {NOUNS[part.modality]}, but this model reads {reads} alone")
    return Inputs(items, alone)


def is_one(given: object) -> bool:
    """Whether it is one input, rather than a list of them."""
    return isinstance(given, (str, bytes, os.PathLike, Mapping)) or _is_image(given)


def _texts(texts: object, *, alone: bool) -> Inputs:
    checked = checked_texts("texts", texts)
    return Inputs([(Part("text", text, "texts"),) for text in checked], alone)


def _is_image(value: object) -> bool:
    """Whether it is an image by its type: pixels, or an image of Pillow's, which need not be installed."""
    if isinstance(value, np.ndarray):
        return value.dtype == np.uint8 and value.ndim in (2, 3)
    return isinstance(value, PdfPage) or (hasattr(value, "getexif") and hasattr(value, "convert"))


def _parts(caller: str, item: object, name: str, modality: str | None) -> tuple[Part, ...]:
    if isinstance(item, Mapping):
        return _of_mapping(caller, item, name)
    if isinstance(item, str) and modality in (None, "text"):
        return (_text(item, name),)
    if isinstance(item, (str, bytes, os.PathLike)):
        if modality is None:
            raise TypeError(f"{caller}: {name} is {type(item).__name__}; give modality= to say what the file holds")
        return (Part(_modality(modality), item, name),)
    if _is_image(item):
        return (Part("image", item, name),)
    raise TypeError(
        f"{caller}: {name} must be a str, an image as (height, width, 3) uint8 or of Pillow's, or a dict of them, "
        f"got {_described(item)}"
    )


def _of_mapping(caller: str, item: Mapping[object, object], name: str) -> tuple[Part, ...]:
    parts: list[Part] = []
    for key, value in item.items():
        if key not in MODALITIES:
            known = ", ".join(map(repr, MODALITIES))
            raise ValueError(f"{caller}: {name} must have keys of {known}, got {key!r}")
        own = _modality(str(key))
        several = list(value) if isinstance(value, (list, tuple)) else [value]
        for place, one in enumerate(several):
            part = f"{name}[{key!r}]" + (f"[{place}]" if len(several) > 1 else "")
            if own == "text" and not isinstance(one, str):
                raise TypeError(f"{caller}: {part} must be a str, got {_described(one)}")
            parts.append(_text(one, part) if isinstance(one, str) and own == "text" else Part(own, one, part))
    if not parts:
        raise ValueError(f"{caller}: {name} must have at least one part, got an empty dict")
    return tuple(parts)


def _text(text: str, name: str) -> Part:
    return Part("text", checked_texts(name, [text])[0], name)


def _modality(name: str) -> Modality:
    return next(known for known in MODALITIES if known == name)


def _described(value: object) -> str:
    return f"{value.shape} {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
