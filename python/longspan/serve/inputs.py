"""The items that clients send: texts, token ids, and objects that hold a text, an image or a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from longspan.serve.errors import RequestError, invalid
from longspan.serve.fields import Fields, shown

PICTURE_FIELDS: Final = ("image", "pdf", "url", "bytes", "image_url")


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Ids of a vocabulary: the caller's."""

    ids: list[int]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image or a PDF file, as base64 or a data URI."""

    data: str
    is_document: bool = False
    page: int | None = None  # of a document, from 1; None: all of them


InputItem = str | TokenIds | Picture


def text_of(name: str, value: Any) -> InputItem:
    """An item that is an object: {"text": ...}, {"type": "text", "text": ...}, {"image": ...}, {"pdf": ...[, "page"]}.

    Raises: RequestError, it is none of these, or its data are a URL.
    """
    if not isinstance(value, dict):
        raise invalid(name, f"must be a string, or an object with text or image, got {shown(value)}", value)
    text = value.get("text")
    if isinstance(text, str):
        return text
    field = next((field for field in PICTURE_FIELDS if isinstance(value.get(field), (str, dict))), None)
    if field is None:
        raise invalid(name, f"must hold text or image, got {shown(value)}", value)
    data = value[field]
    if isinstance(data, dict):
        data = data.get("url")
    if not isinstance(data, str):
        raise invalid(name, f"must hold {field} as a string, got {shown(value)}", value)
    if data.startswith(("http://", "https://", "ftp://", "file:")):
        raise RequestError(
            "validation", f"{name}: no URL is fetched here; send the {field} as base64", field=name, status=400
        )
    if field != "pdf":
        return Picture(data)
    return Picture(data, is_document=True, page=Fields(value).integer("page"))
