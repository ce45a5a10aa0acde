"""From what a client sends to an image: base64 or a data URI, decoded in the tokenizer's pool. No URL is fetched."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np

from longspan.images.decode import read_image
from longspan.serve.errors import RequestError
from longspan.serve.inputs import Picture

PIXELS_A_TOKEN: Final = 14 * 14  # of an image, as far as the queue and `usage` are concerned
MOST_TOKENS: Final = 4096  # an image is made smaller before it is read


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """A decoded image."""

    pixels: np.ndarray  # (height, width, 3) uint8
    digest: bytes  # of the file
    tokens: int  # about what it costs


def decoded(name: str, picture: Picture) -> Image:
    """Raises: RequestError, naming the item, it is no base64, no image, or a page."""
    if picture.is_page:
        message = f"{name}: pages of documents are not read here; send each page as an image"
        raise RequestError("model_type", message, field=name)
    data = picture.data
    if data.startswith("data:"):
        data = data.partition(",")[2]
    try:
        file = base64.b64decode(data, validate=True)
        pixels = read_image(file, name)
    except (binascii.Error, ValueError) as error:
        rule = "is no base64" if isinstance(error, binascii.Error) else str(error)
        message = f"{name} {rule}" if isinstance(error, binascii.Error) else rule
        raise RequestError("validation", message, field=name, status=400) from None
    except ImportError as error:
        raise RequestError("model_type", str(error), field=name) from None
    tokens = max(1, min(MOST_TOKENS, pixels.shape[0] * pixels.shape[1] // PIXELS_A_TOKEN))
    return Image(pixels, hashlib.sha256(file).digest(), tokens)
