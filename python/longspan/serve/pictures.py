"""From what a client sends to images and pages: base64 or a data URI, decoded and made as small as the model's tower
reads them, in the tokenizer's pool. No URL is fetched."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longspan.images.decode import ImageInput
from longspan.images.pages import PdfPage, count_pages
from longspan.serve.errors import RequestError
from longspan.serve.inputs import Picture

if TYPE_CHECKING:
    from longspan.pipeline.loaded_model import LoadedModel


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A decoded image, or a page."""

    pixels: np.ndarray  # (height, width, 3) uint8
    identity: tuple[bytes, int]  # a digest of the file, and the page; 0 of an image
    tokens: int  # that the model reads


class PictureReader:
    """The images and pages of one request, read one after the other and bounded together."""

    def __init__(self, model: LoadedModel, max_pages: int, max_tokens: int) -> None:
        self._model = model
        self._max_pages = max_pages
        self._max_tokens = max_tokens
        self._pages = self._tokens = 0

    def read(self, name: str, picture: Picture) -> list[Image]:
        """An image, or the pages of a document.

        Raises: RequestError, naming the item, it is no base64, no image and no PDF file, or there are too many.
        """
        try:
            file = _file(picture.data)
            digest = hashlib.sha256(file).digest()
            if not picture.is_document:
                return [self._fitted(file, name, (digest, 0))]
            return [self._fitted(page, name, (digest, page.number)) for page in self._pages_of(name, picture, file)]
        except binascii.Error:
            raise RequestError("validation", f"{name} is no base64", field=name, status=400) from None
        except ValueError as error:
            raise RequestError("validation", str(error), field=name, status=400) from None
        except ImportError as error:
            raise RequestError("model_type", str(error), field=name) from None

    def _fitted(self, image: ImageInput, name: str, identity: tuple[bytes, int]) -> Image:
        pixels, tokens = self._model.fit_image(image, name)
        self._tokens += tokens
        if self._tokens > self._max_tokens:
            message = f"the request has more than the {self._max_tokens} tokens that it may have; send several requests"
            raise RequestError("batch_size", message, field=name)
        return Image(pixels, identity, tokens)

    def _pages_of(self, name: str, picture: Picture, file: bytes) -> Iterator[PdfPage]:
        count = count_pages(file, name)
        if count < 1:
            raise RequestError("validation", f"{name} has no page", field=name, status=400)
        numbers = range(1, count + 1) if picture.page is None else [picture.page]
        self._pages += len(numbers)
        if self._pages > self._max_pages:
            message = (
                f"{name}: the request has {self._pages} pages, and may have {self._max_pages}; send several requests, "
                f"or one page of a file by 'page'"
            )
            raise RequestError("batch_size", message, field=name)
        return (PdfPage(file, number) for number in numbers)


def _file(data: str) -> bytes:
    return base64.b64decode(data.partition(",")[2] if data.startswith("data:") else data, validate=True)


def of_pages(vectors: list[np.ndarray]) -> np.ndarray:
    """(dim,) f32 of a document from its pages' (dim,): of one page its own; else the mean of all, each at unit length,
    so that every page counts the same."""
    if len(vectors) == 1:
        return vectors[0]
    wide = np.stack(vectors).astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray((wide / np.where(lengths > 0, lengths, 1)).mean(0), np.float32)
