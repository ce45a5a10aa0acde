"""The items that clients send: texts, token ids, and objects that hold texts, images, pages, sounds or videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from longspan.serve.errors import RequestError, invalid
from longspan.serve.fields import Fields, shown

Kind = Literal["text", "image", "pdf", "audio", "video"]
# Of objects the fields that hold a part, which are also what `type` may say. Jina's, OpenAI's, Cohere's and
# LlamaIndex's names.
FIELDS: Final[Mapping[str, Kind]] = {
    "text": "text",
    "image": "image",
    "image_url": "image",
    "image_base64": "image",
    "url": "image",
    "bytes": "image",
    "pdf": "pdf",
    "audio": "audio",
    "audio_url": "audio",
    "audio_base64": "audio",
    "input_audio": "audio",
    "video": "video",
    "video_url": "video",
    "video_base64": "video",
}
GENERIC: Final = frozenset({"url", "bytes"})  # an image where they stand alone, beside other fields the client's own
DATA: Final = ("base64", "url", "data", "value", "bytes")  # where an object in such a field keeps it
URLS: Final = ("http://", "https://", "ftp://", "file:")
MOST_PARTS: Final = 256  # of an item


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Ids of a vocabulary: the caller's."""

    ids: list[int]


@dataclass(frozen=True, slots=True)
class MediaPart:
    """A text; or an image, a PDF file, a sound or a video, as base64 or a data URI."""

    kind: Kind
    data: str
    page: int | None = None  # of a PDF file, from 1; None: all of them


@dataclass(frozen=True, slots=True)
class Media:
    """What becomes one vector: parts of which one at least is no text."""

    parts: tuple[MediaPart, ...]


InputItem = str | TokenIds | Media


def item_of(name: str, value: Any) -> InputItem:
    """An item that is an object: {"text": ...}, {"type": "text", "text": ...}, {"image": ...}, {"pdf": ...[, "page"]},
    {"audio": ...}, {"video": ...}, several of them, or {"content": [such objects, in their order]}.

    Raises: RequestError, it is none of these, or its data are a URL.
    """
    if not isinstance(value, dict):
        raise invalid(name, f"must be a string, or an object with {_known()}, got {shown(value)}", value)
    content = value.get("content")
    if isinstance(content, list):
        parts = [part for at, one in enumerate(content) for part in _parts(f"{name}.content[{at}]", one)]
    else:
        parts = _parts(name, value)
    if not parts:
        raise invalid(name, f"must hold one of {_known()}, got {shown(value)}", value)
    return joined(name, parts)


def joined(name: str, parts: Sequence[MediaPart]) -> InputItem:
    """The item of these parts. Raises: RequestError, there are too many."""
    if len(parts) > MOST_PARTS:
        raise invalid(name, f"must have at most {MOST_PARTS} parts, got {len(parts)}", None)
    if all(part.kind == "text" for part in parts):
        return "".join(part.data for part in parts)
    return Media(tuple(parts))


def _known() -> str:
    return ", ".join(dict.fromkeys(FIELDS.values()))


def _parts(name: str, value: Any) -> list[MediaPart]:
    """The parts of an object, in the order of its fields; of {"type": T, "value": ...} the one that it names."""
    if isinstance(value, str):
        return [MediaPart("text", value)]
    if not isinstance(value, dict):
        raise invalid(name, f"must be a string or an object, got {shown(value)}", value)
    kind = value.get("type")
    if isinstance(kind, str) and kind in FIELDS and kind not in value and isinstance(value.get("value"), str):
        return [_part(name, kind, value["value"], value)]
    held = {field: one for field, one in value.items() if field in FIELDS and one is not None}
    if held.keys() - GENERIC:
        held = {field: one for field, one in held.items() if field not in GENERIC}
    lists = ((field, one if isinstance(one, list) else [one]) for field, one in held.items())
    return [_part(name, field, one, value) for field, several in lists for one in several]


def _part(name: str, field: str, held: Any, around: Mapping[str, Any]) -> MediaPart:
    kind = FIELDS[field]
    if isinstance(held, dict) and kind != "text":
        held = next((held[key] for key in DATA if isinstance(held.get(key), str)), None)
    if not isinstance(held, str):
        raise invalid(name, f"must hold {field} as a string, got {shown(around)}", around)
    if kind == "text":
        return MediaPart(kind, held)
    if held.startswith(URLS):
        message = f"{name}: no URL is fetched here; send the {field} as base64"
        raise RequestError("validation", message, field=name, status=400)
    return MediaPart(kind, held, _page(name, around) if kind == "pdf" else None)


def _page(name: str, around: Mapping[str, Any]) -> int | None:
    called = f"{name}.page"
    return Fields({called: around.get("page")}).integer(called)
