"""Images as users have them, as (height, width, 3) bytes of red, green and blue.

Pillow decodes; an array needs no decoder. Nothing is fetched and nothing is guessed: a str or a path is a file.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeAlias, cast

import numpy as np

from longspan.given_files import MAX_NAME, as_file, is_open_file, stored
from longspan.images.pages import PdfPage

if TYPE_CHECKING:
    from PIL.Image import Image

# What an image may be given as: pixels, an image of Pillow's, a page, a file, a file's contents, an open file, or what
# data sets of Hugging Face have of one.
ImageInput: TypeAlias = (
    "np.ndarray | Image | PdfPage | str | os.PathLike[str] | bytes | BinaryIO | Mapping[str, object]"
)

# What Pillow reads for us: formats of pixels alone. Others call programs (EPS), or draw (WMF).
FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
_PDF: Final = b"%PDF-"  # how such a file begins
MAX_PIXELS: Final = 89_000_000  # of one image: 267 MB as bytes. Pillow itself begins to warn just above
WIDE_MODES: Final = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # 16 bits; "I" has 32, of which files use 16
ALPHA_MODES: Final = ("RGBA", "LA", "PA", "RGBa", "La")
NEEDS_PILLOW: Final = "images need Pillow ({error}); pip install 'longspan[images]'"


def read_image(image: ImageInput, name: str = "image") -> np.ndarray:
    """The image as (height, width, 3) uint8, C-contiguous.

    An image of Pillow's and a file are turned as their EXIF orientation says; transparent parts lie on white; of an
    animation the first frame counts; 16 bits are scaled to 8; palettes, grey, CMYK and others become RGB.

    Args:
        image: (height, width, 3) uint8, or (height, width) for grey, or with a fourth channel of opacity; an image of
            Pillow's; a page of a PDF; the path of a file; the contents of one; {"bytes": contents, "path": path}, one
            of them None; or an open binary file.
        name: what the caller calls it, for messages.
    Raises: TypeError, it is nothing of that; ValueError, naming it, it is damaged, of another format or shape, empty or
        too large; FileNotFoundError; ImportError, Pillow is needed and not installed.
    """
    if isinstance(image, np.ndarray):
        return _from_array(image, name)
    if isinstance(image, PdfPage):
        return image.read(name)
    if isinstance(image, (str, os.PathLike, bytes, bytearray, memoryview, Mapping)) or is_open_file(image):
        return _read_file(image, name)
    if hasattr(image, "getexif") and hasattr(image, "convert"):  # without an import of Pillow
        try:
            return _from_pillow(image, name)  # which may read its file only now
        except Exception as error:
            if isinstance(error, ValueError) and str(error).startswith(name):
                raise
            raise ValueError(f"{name} cannot be decoded: {_said(error)}") from error
    raise TypeError(
        f"{name} must be an image: an array, an image of Pillow's, a path, a file's bytes or an open file, got "
        f"{type(image).__name__}"
    )


def _read_file(file: object, name: str) -> np.ndarray:
    """The image in a file, whatever stands for that."""
    if isinstance(file, Mapping):
        contents = stored(file)
        if contents is None or isinstance(contents, Mapping):
            keys = [*map(str, file)][:8]
            raise ValueError(f'{name} must have "bytes" or "path", the contents or the place of a file, got {keys}')
        return read_image(cast("ImageInput", contents), name)
    if isinstance(file, (str, os.PathLike)):
        path = Path(file)
        if not os.path.isfile(path):  # Path.is_file raises for names that are too long
            at = name if name == str(file) else f"{name}: {path}"
            raise FileNotFoundError(f"{at[:MAX_NAME]} is missing, or is not a file")
        return _decode(path, name if name == str(file) else f"{name}: {path}")
    if isinstance(file, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(file), name)
    with as_file(cast(BinaryIO, file), name) as opened:
        return _decode(opened, name)


def image_pixels(file: bytes, name: str = "image") -> int:
    """How many pixels an image's header says that it has, which is what decoding it makes. Raises: as `read_image`."""
    with _opened(io.BytesIO(file), name) as image:
        width, height = image.size
        check_size(width, height, name)
        return int(width * height)


def check_size(width: int, height: int, name: str) -> None:
    """ValueError unless an image of that size may be decoded."""
    if width < 1 or height < 1:
        raise ValueError(f"{name} must have at least one pixel, got {width} x {height}")
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name} must have at most {MAX_PIXELS} pixels, got {width} x {height}; make it smaller")


def _from_array(image: np.ndarray, name: str) -> np.ndarray:
    has_channels = image.ndim == 3 and image.shape[2] in (1, 3, 4)
    if image.dtype != np.uint8 or not (has_channels or image.ndim == 2):
        raise ValueError(
            f"{name} must be (height, width, 3) uint8, or (height, width), or with 1 or 4 channels; "
            f"got {image.shape} {image.dtype}"
        )
    check_size(image.shape[1], image.shape[0], name)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.shape[2] == 4:
        return _on_white(image)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _decode(source: Path | BinaryIO, name: str) -> np.ndarray:
    with _opened(source, name) as image:
        return _from_pillow(image, name)


@contextmanager
def _opened(source: Path | BinaryIO, name: str) -> Iterator[Image]:
    """The file with its header read. Raises: as `read_image`, also inside."""
    try:
        from PIL import Image as Pillow
    except ImportError as error:
        raise ImportError(NEEDS_PILLOW.format(error=error)) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that is wrong, and of sizes, which are checked
            Pillow.init()
            known = [format for format in FORMATS if format in Pillow.OPEN]
            with Pillow.open(source, formats=known) as image:
                yield image
    except (MemoryError, ValueError) as error:
        if isinstance(error, ValueError) and str(error).startswith(name):
            raise
        raise ValueError(f"{name} cannot be decoded: {_said(error)}") from error
    except Exception as error:  # decoders raise all there is: struct.error, SyntaxError, EOFError, OSError ...
        if _is_pdf(source):
            raise ValueError(f"{name} is a PDF file; give longspan.PdfPage(path, number), or PdfPages(path)") from error
        raise ValueError(f"{name} cannot be decoded as one of {', '.join(FORMATS)}: {_said(error)}") from error


def _is_pdf(source: Path | BinaryIO) -> bool:
    with suppress(OSError, ValueError):
        if isinstance(source, Path):
            with open(source, "rb") as file:
                return file.read(len(_PDF)) == _PDF
        source.seek(0)
        return source.read(len(_PDF)) == _PDF
    return False


def _said(error: BaseException) -> str:
    text = str(error).splitlines()
    said = text[0][:200] if text and text[0] else type(error).__name__
    return said.partition(" <_io.")[0]  # Pillow names files in memory by their address


def _from_pillow(image: Image, name: str) -> np.ndarray:
    from PIL import ImageOps

    width, height = image.size
    check_size(width, height, name)
    if getattr(image, "is_animated", False):
        image.seek(0)
    image.load()
    try:
        turned = ImageOps.exif_transpose(image)
    except Exception:  # orientations that cannot be read turn nothing
        turned = None
    image = image if turned is None else turned
    if image.mode in WIDE_MODES:
        return _from_array(_narrowed(np.asarray(image)), name)
    if image.mode == "F":
        raise ValueError(f"{name} has floating-point pixels, whose range is not known; save it with 8 or 16 bits")
    if image.mode in ALPHA_MODES or "transparency" in image.info:
        return _on_white(np.asarray(image.convert("RGBA")))
    return np.ascontiguousarray(image if image.mode == "RGB" else image.convert("RGB"))


def _narrowed(values: np.ndarray) -> np.ndarray:
    """16 bits to 8, rounded: 65535 becomes 255. Of 32 bits what is beyond 16 is cut off."""
    wide = np.clip(values, 0, 65535).astype(np.uint32)
    return ((wide * 255 + 32767) // 65535).astype(np.uint8)


def _on_white(image: np.ndarray) -> np.ndarray:
    """(height, width, 4) uint8 over a white ground, rounded to the nearest byte."""
    opacity = image[:, :, 3:].astype(np.uint32)
    if opacity.min(initial=255) == 255:
        return np.ascontiguousarray(image[:, :, :3])
    return (
        (image[:, :, :3] * opacity.astype(np.uint32) + 255 * (255 - opacity.astype(np.uint32)) + 127) // 255
    ).astype(np.uint8)
