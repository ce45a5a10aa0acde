"""Pages of PDF files, each looked at when its turn comes, so that a damaged one is a bad row."""

from __future__ import annotations

from collections.abc import Iterator

from longspan.cli.files.inputs import Input
from longspan.images.pages import PdfPage, count_pages


def read_pages_to_see(source: Input) -> Iterator[tuple[dict[str, object], PdfPage | None, str, int]]:
    """For each page of a PDF: the row of its fields, what is to be embedded, its place, its bytes.

    Of what is damaged there is nothing to embed, and the place is a sentence that says why.
    """
    assert source.path is not None  # `find_inputs` sees to it
    size = source.size or 0
    try:
        pages = count_pages(source.path)
    except ValueError as error:
        yield {}, None, str(error), size
        return
    for number in range(1, pages + 1):
        page = PdfPage(source.path, number)
        place, share = f"{source.name}: page {number}", size * number // pages - size * (number - 1) // pages
        try:
            text = page.text()
        except ValueError as error:
            yield {}, None, str(error), share
            continue
        yield {"text": text or None, "file": source.name, "page": number}, page, place, share


def read_pages(source: Input) -> Iterator[tuple[int | None, str, str, int]]:
    """Of each page of a PDF file its number from 1, its text, its place and its share of the bytes.

    Where it is damaged there is no number, and the text is a sentence that says why.
    """
    assert source.path is not None  # `find_inputs` sees to it
    size = source.size or 0
    try:
        pages = count_pages(source.path)
    except ValueError as error:
        yield None, str(error), source.name, size
        return
    for number in range(1, pages + 1):
        place, share = f"{source.name}: page {number}", size * number // pages - size * (number - 1) // pages
        try:
            text = PdfPage(source.path, number).whole_text()
        except ValueError as error:
            yield None, str(error), place, share
            continue
        yield number, text, place, share
