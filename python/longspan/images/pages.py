"""Pages of PDF files as images, drawn by PDFium (pypdfium2), and the text that lies in them."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import pypdfium2

DPI: Final = 150
POINTS_AN_INCH: Final = 72
MAX_PAGE_PIXELS: Final = 8_000_000  # a larger page is drawn with fewer dots an inch
MAX_PAGES: Final = 100_000  # of one file; damaged ones claim more
# What PDFium writes for a hyphen at a line's end, and its line ends.
_IN_PDF_TEXT: Final = (
    ("\x00", ""),
    ("\x02\r\n", ""),
    ("\ufffe\r\n", ""),
    ("\ufffe", "-"),
    ("\r\n", "\n"),
    ("\r", "\n"),
)
_pdfium: Final = threading.Lock()  # the library is one thread's at a time


@dataclass(frozen=True, slots=True)
class PdfPage:
    """A page of a PDF file.

    Attributes:
        path: the file's path, or its bytes.
        number: counts from 1.
    """

    path: Path | str | bytes = field(repr=False)
    number: int

    def read(self, name: str = "page") -> np.ndarray:
        """The page at 150 dots an inch on white, (height, width, 3) uint8; at most 8 million pixels.

        Raises: ValueError, naming it, the file is damaged, or has no such page; FileNotFoundError; ImportError,
            pypdfium2 is not installed.
        """
        with _opened(self.path, name) as document:
            page = self._page(document, name)
            width, height = page.get_size()
            if not (0 < width < 1e6 and 0 < height < 1e6):
                raise ValueError(f"{name}: page {self.number} of {_called(self.path)} has no size that can be drawn")
            scale = DPI / POINTS_AN_INCH
            scale = min(scale, (MAX_PAGE_PIXELS / (width * height)) ** 0.5)
            pixels = page.render(scale=scale, rev_byteorder=True).to_numpy()
        return np.array(np.broadcast_to(pixels[:, :, :3], (*pixels.shape[:2], 3)))

    def text(self, most: int = 2000) -> str:
        """The beginning of the text that lies in it, on one line; "" where there is none, as in a scan.

        Raises: as `read`.
        """
        return " ".join(self.whole_text().split())[:most]

    def whole_text(self) -> str:
        """The text that lies in it, with its line ends; words hyphenated there are joined. Raises: as `read`."""
        name = _called(self.path)
        with _opened(self.path, name) as document:
            text: str = self._page(document, name).get_textpage().get_text_range(0, -1)
        for mark, meaning in _IN_PDF_TEXT:
            text = text.replace(mark, meaning)
        return text.encode("utf-8", "replace").decode()

    def _page(self, document: pypdfium2.PdfDocument, name: str) -> pypdfium2.PdfPage:
        if isinstance(self.number, bool) or not isinstance(self.number, int):
            raise TypeError(f"{name}: the number of a page must be an int, got {type(self.number).__name__}")
        if not 1 <= self.number <= len(document):
            raise ValueError(f"{name}: {_called(self.path)} has {len(document)} pages, and no page {self.number}")
        return document[self.number - 1]


@dataclass(frozen=True, slots=True)
class PdfPages:
    """All pages of a PDF file, one behind the other in one input: their vector is one.

    Attributes:
        path: the file's path, or its bytes.
    """

    path: Path | str | bytes

    def pages(self, name: str | None = None) -> list[PdfPage]:
        """The pages in order; `name` begins messages. Raises: as `PdfPage.read`, and ValueError, there is none."""
        count = count_pages(self.path, name)
        if not count:
            raise ValueError(f"{name or _called(self.path)} has no pages")
        return [PdfPage(self.path, number) for number in range(1, count + 1)]


def count_pages(path: Path | str | bytes, name: str | None = None) -> int:
    """How many pages a PDF file has. Raises: as `PdfPage.read`."""
    with _opened(path, name or _called(path)) as document:
        return min(len(document), MAX_PAGES)


def _called(path: Path | str | bytes) -> str:
    return "the file" if isinstance(path, bytes) else str(path)


@contextmanager
def _opened(path: Path | str | bytes, name: str) -> Iterator[pypdfium2.PdfDocument]:
    try:
        import pypdfium2
    except ImportError as error:
        raise ImportError(f"PDF files need pypdfium2 ({error}); pip install 'longspan[images]'") from error
    path = Path(path) if isinstance(path, str) else path
    if not isinstance(path, (Path, bytes)):
        raise TypeError(f"{name} must be of a path or of a file's bytes, got {type(path).__name__}")
    if isinstance(path, Path) and not os.path.isfile(path):  # Path.is_file raises for names that are too long
        raise FileNotFoundError(f"{name}: {path} is missing, or is not a file")
    with _pdfium:
        try:
            document = pypdfium2.PdfDocument(path)
            try:
                yield document
            finally:
                document.close()
        except (pypdfium2.PdfiumError, ctypes.ArgumentError, MemoryError, OverflowError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{name}: {_called(path)} is no PDF file that can be read: {said}") from error
