"""From what a client sends to what a model reads: base64 or a data URI, decoded and made small in a pool of threads.

No URL is fetched.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from longspan.audio.allowance import Allowance, MediaLimitError
from longspan.images.decode import image_pixels
from longspan.images.page_process import PageDrawer, PageProcesses, PageTimeError
from longspan.images.pages import PdfPage
from longspan.pipeline.inputs import Modality, Part
from longspan.serve.errors import RequestError
from longspan.serve.inputs import Kind, Media, MediaPart
from longspan.serve.models import ServedModel
from longspan.serve.settings import Settings

WHITE_SPACE: Final = b" \t\r\n\v\f"
CALLER: Final = "item"  # begins the encoder's messages, and is cut off


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """What becomes one vector of the model."""

    item: Any  # as the encoder takes it
    identity: Hashable  # equal for equal files and texts
    tokens: int  # that the model reads
    is_cut: bool = False  # a sound is longer than what the model hears


class MediaLoader:
    """The media of one request, read one after the other and bounded together."""

    def __init__(self, model: ServedModel, settings: Settings, processes: PageProcesses) -> None:
        self._model = model
        self._max_pages = settings.max_request_pages
        self._max_tokens = settings.max_request_tokens
        self._allowance = Allowance(settings.max_request_seconds, settings.max_request_pixels)
        self._drawer = PageDrawer(processes, settings.max_drawing_seconds)
        self._pages = self._tokens = 0

    def load(self, name: str, media: Media, prompt: str) -> list[Loaded]:
        """One vector's worth; of a model that reads one image at a time the pages of a document, each by itself.

        Raises: RequestError, naming the item: it is no base64, damaged, too large, or the model does not read such.
        """
        encoder, parts = self._model.encoder, media.parts
        for part in parts:
            self._require(name, part.kind)
        if self._model.kind == "embedding" and encoder.spec.sequence is not None:
            return [self._sequence(name, parts, prompt)]
        if len(parts) > 1:
            message = (
                f"{name} has {len(parts)} parts, and {self._model.short_name} makes a vector of one; send them apart"
            )
            raise RequestError("model_type", message, field=name)
        [(values, identity)] = [self._values(name, part) for part in parts]
        return [self._image(name, value, (identity, place)) for place, value in enumerate(values)]

    def _require(self, name: str, kind: Kind) -> None:
        modality = _modality(kind)
        if modality not in self._model.encoder.modalities:
            reads = " and ".join(self._model.encoder.modalities)
            nouns = {"image": "images or pages", "audio": "sound", "video": "videos"}
            message = f"{name}: {self._model.short_name} reads no {nouns[modality]}, but {reads}"
            raise RequestError("model_type", message, field=name)

    def _sequence(self, name: str, parts: tuple[MediaPart, ...], prompt: str) -> Loaded:
        given: list[Part] = []
        identity: list[Hashable] = []
        for number, part in enumerate(parts):
            called = name if len(parts) == 1 else f"{name}.content[{number}]"
            if part.kind == "text":
                given.append(Part("text", part.data, called))
                identity.append(part.data)
                continue
            values, digest = self._values(called, part)
            given += [Part(_modality(part.kind), value, called) for value in values]
            identity.append(digest)
        with _told(name):
            encoder = self._model.text_encoder
            fitted = encoder.fit_input(given, prompt=prompt, caller=CALLER, allowance=self._allowance)
        self._count(name, fitted.tokens)
        return Loaded(fitted.item, tuple(identity), fitted.tokens, fitted.cut_samples > 0)

    def _image(self, name: str, value: Any, identity: Hashable) -> Loaded:
        with _told(name):
            pixels, tokens = self._model.encoder.fit_image(value, name)
        self._count(name, tokens)
        return Loaded(pixels, identity, tokens)

    def _values(self, name: str, part: MediaPart) -> tuple[Iterator[Any], Hashable]:
        """The file's contents, or its pages one by one; and a digest."""
        with _told(name):
            file = _file(part.data)
            digest = part.kind, hashlib.sha256(file).digest(), part.page
            if part.kind == "image":
                self._allowance.take_image(name, image_pixels(file, name))
            return (iter([file]) if part.kind != "pdf" else self._pages_of(name, part.page, file)), digest

    def _count(self, name: str, tokens: int) -> None:
        self._tokens += tokens
        if self._tokens > self._max_tokens:
            message = f"the request has more than the {self._max_tokens} tokens that it may have; send several requests"
            raise RequestError("batch_size", message, field=name)

    def _pages_of(self, name: str, page: int | None, file: bytes) -> Iterator[PdfPage]:
        count = self._drawer.count(file, name)
        if count < 1:
            raise RequestError("validation", f"{name} has no page", field=name, status=400)
        numbers = range(1, count + 1) if page is None else [page]
        self._pages += len(numbers)
        if self._pages > self._max_pages:
            message = (
                f"{name}: the request has {self._pages} pages, and may have {self._max_pages}; send several requests, "
                f"or one page of a file by 'page'"
            )
            raise RequestError("batch_size", message, field=name)
        return (self._drawer.page(file, number) for number in numbers)


def _modality(kind: Kind) -> Modality:
    return "image" if kind == "pdf" else kind


@contextmanager
def _told(name: str) -> Iterator[None]:
    """What the readers say is wrong, as the client's fault."""
    try:
        yield
    except binascii.Error:
        message = f"{name} is no base64 of A to Z, a to z, 0 to 9, + and /, filled up with ="
        raise RequestError("validation", message, field=name, status=400) from None
    except MediaLimitError as error:
        message = f"{str(error).removeprefix(f'{CALLER}: ')}, or send several requests"
        raise RequestError("batch_size", message, field=name) from None
    except PageTimeError as error:
        raise RequestError("batch_size", str(error).removeprefix(f"{CALLER}: "), field=name) from None
    except (ValueError, TypeError) as error:
        message = str(error).removeprefix(f"{CALLER}: ")
        raise RequestError("validation", message, field=name, status=400) from None
    except ImportError as error:
        raise RequestError("model_type", str(error), field=name) from None


def _file(data: str) -> bytes:
    """Line breaks and other white space are no part of base64 (RFC 2045), and many encoders write them."""
    text = data.partition(",")[2] if data.startswith("data:") else data
    try:
        coded = text.encode("ascii").translate(None, WHITE_SPACE)
    except UnicodeEncodeError as error:
        raise binascii.Error from error
    return base64.b64decode(coded, validate=True)


def of_pages(vectors: list[np.ndarray]) -> np.ndarray:
    """(dim,) f32 of a document from its pages' (dim,): of one page its own; else the mean of all, each at unit length,
    so that every page counts the same."""
    if len(vectors) == 1:
        return vectors[0]
    wide = np.stack(vectors).astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray((wide / np.where(lengths > 0, lengths, 1)).mean(0), np.float32)
