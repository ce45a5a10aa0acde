"""Answers as a page to look at: hits with thumbnails, and of token vectors which token of the question matched where.

The page is one file that asks for nothing else, and follows the reader's colour scheme. Of each token of a question and
each hit it holds the similarity with every cell of the image, or with every token of the text, as bytes.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from longspan.cli.console.failures import CommandError
from longspan.cli.search.page import PAGE
from longspan.cli.search.tokens import has_tokens, is_late_interaction
from longspan.documents.kinds import kind_of

if TYPE_CHECKING:
    from longspan.cli.search.answers import Answer, Hit
    from longspan.cli.search.tokens import AnyEncoder
    from longspan.documents.folder import Document, SearchIndex
    from longspan.images.pages import PdfPage
    from longspan.late_interaction.token_places import TokenPlaces
    from longspan.multi_vector import MultiVectorEncoder
    from longspan.search import MultiVectorStore

THUMBNAIL: Final = 640  # pixels of its longer side
MOST_TEXT: Final = 4000  # characters of a hit that are shown


@dataclass(frozen=True, slots=True)
class Shown:
    """What a page is made from: the answers, and what can tell why."""

    answers: Sequence[Answer]
    index: SearchIndex
    encoder: AnyEncoder | None  # None where questions came as vectors


def page_of(shown: Shown) -> str:
    """The page, a whole HTML file."""
    sections = [_section(number, answer, shown) for number, answer in enumerate(shown.answers)]
    return PAGE.replace("<!-- answers -->", "\n".join(sections))


def _section(number: int, answer: Answer, shown: Shown) -> str:
    """An answer: the question's tokens, then its hits."""
    encoder, places = None if answer.medium is not None else _heated(shown), None  # a picture has hundreds of tokens
    chips = ""
    if answer.medium is not None and (asked := _as_uri(_read(answer.medium, answer.query))) is not None:
        chips = f'<div class="page"><img alt="{html.escape(answer.query)}" src="{asked}"></div>'
    if encoder is not None and answer.vectors is not None:
        [places] = encoder.token_places([answer.query], "query")
        chips = _chips(answer.query, places, encoder)
    hits = "\n".join(_hit(hit, answer, shown, encoder) for hit in answer.hits)
    nothing = "" if answer.hits else '<p class="none">nothing was found</p>'
    return (
        f'<section id="answer-{number}"><h2>{html.escape(answer.query)}</h2>{chips}'
        f'<div class="hits">{hits}{nothing}</div></section>'
    )


def _heated(shown: Shown) -> MultiVectorEncoder | None:
    """The encoder, where the index holds token vectors, which say where a match lies."""
    if shown.encoder is None or not has_tokens(shown.index) or not is_late_interaction(shown.encoder):
        return None
    return shown.encoder


def _chips(query: str, places: TokenPlaces, encoder: MultiVectorEncoder) -> str:
    """A button for each token of the question, and one for all together."""
    names = ["all tokens"]
    for token, (start, end) in zip(places.ids.tolist(), places.spans.tolist(), strict=True):
        names.append(query[start:end] if end > start else encoder.tokenizer.backend.id_to_token(token) or str(token))
    buttons = [
        f'<button type="button" data-token="{place - 1}" aria-pressed="{"true" if place == 0 else "false"}">'
        f"{html.escape(name)}</button>"
        for place, name in enumerate(names)
    ]
    return f'<div class="chips" role="group" aria-label="tokens of the question">{"".join(buttons)}</div>'


def _hit(hit: Hit, answer: Answer, shown: Shown, encoder: MultiVectorEncoder | None) -> str:
    document = hit.document
    where = document.source if document.start is None else f"{document.source} [{document.start}:{document.end}]"
    fields = " ".join(f"{name}={value}" for name, value in document.fields.items())
    head = (
        f'<figcaption><span class="rank">{hit.rank}</span> <span class="score">{hit.score:.3f}</span> '
        f'<span class="where">{html.escape(where)}</span> <span class="fields">{html.escape(fields)}</span>'
    )
    body, heat = _body(document), ""
    if encoder is not None and answer.vectors is not None:
        body, heat = _matched(document, np.asarray(answer.vectors), shown, encoder)
    return f"<figure>{head}</figcaption>{body}{heat}</figure>"


def _body(document: Document) -> str:
    """The picture or the text."""
    picture = _thumbnail(document)
    if picture is not None:
        return f'<div class="page"><img alt="{html.escape(document.source)}" src="{picture}"></div>'
    return f'<p class="text">{html.escape((document.text or "")[:MOST_TEXT])}</p>'


def _thumbnail(document: Document) -> str | None:
    """A data URI; None where there is no picture any more."""
    return _as_uri(_picture(document))


def _as_uri(image: np.ndarray | None) -> str | None:
    if image is None:
        return None
    from PIL import Image

    small = Image.fromarray(image)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _input(document: Document) -> str | dict[str, Path | PdfPage]:
    """What was embedded: the picture, or the text."""
    from longspan.images.pages import PdfPage

    if document.file is None:
        return document.text or ""
    path = Path(document.file)
    return {"image": path if document.page is None else PdfPage(path, document.page)}


def _picture(document: Document) -> np.ndarray | None:
    from longspan.images.pages import PdfPage

    if document.file is None:
        return None
    path = Path(document.file)
    return _read(path if document.page is None else PdfPage(path, document.page), document.source)


def _read(medium: Path | PdfPage, name: str) -> np.ndarray | None:
    """What can be seen of it, if anything."""
    from longspan.images.decode import read_image
    from longspan.video.files import first_frame

    try:
        if isinstance(medium, Path) and kind_of(str(medium)) == "video":
            return first_frame(medium, name)
        return read_image(medium, name)
    except (ValueError, FileNotFoundError):  # a sound; or moved or changed since: the hit is shown without it
        return None


def _matched(document: Document, query: np.ndarray, shown: Shown, encoder: MultiVectorEncoder) -> tuple[str, str]:
    """The body of a hit with something to colour, and what to colour it with."""
    store: MultiVectorStore = shown.index  # type: ignore[assignment]  # `_heated` has seen to it
    vectors = store.vectors(document.id)
    try:
        [places] = encoder.token_places([_input(document)])
    except (ValueError, FileNotFoundError):
        return _body(document), ""
    if len(places.ids) != len(vectors):  # the file was changed since, or its tokens were chosen otherwise
        return _body(document), ""
    similarity = query @ vectors.T
    if places.grid != (0, 0):
        of_cells = (places.cells >= 0).all(1)
        return _body(document), _heat(similarity[:, of_cells], grid=places.grid)
    of_text = places.spans[:, 1] > places.spans[:, 0]
    return _coloured(document.text or "", places.spans[of_text]), _heat(similarity[:, of_text])


def _coloured(text: str, spans: np.ndarray) -> str:
    """The text, each token in an element of its own; tokens that share characters follow the first of them."""
    parts, told = [], 0
    for place, (start, end) in enumerate(spans.tolist()):
        if start > told:
            parts.append(html.escape(text[told:start]))
        begin = max(start, told)
        parts.append(f'<mark data-place="{place}">{html.escape(text[begin:end])}</mark>')
        told = max(told, end)
    return f'<p class="text">{"".join(parts)}{html.escape(text[told:])}</p>'


def _heat(similarity: np.ndarray, grid: tuple[int, int] | None = None) -> str:
    """Similarities (question's tokens, places) for the page's script: bytes from -1 to 1, with 0 at 128."""
    coded = np.clip(np.round(similarity * 127) + 128, 0, 255).astype(np.uint8)
    data = {
        "tokens": coded.shape[0],
        "places": coded.shape[1],
        "grid": None if grid is None else list(grid),
        "bytes": base64.b64encode(coded.tobytes()).decode(),
    }
    return (
        f'<script type="application/json" class="heat">{json.dumps(data)}</script>'
        '<p class="best" aria-live="polite"></p>'
    )


def check_show(path: str, *, as_json: bool) -> None:
    """Raises: CommandError, the page cannot be written there."""
    if as_json:
        raise CommandError("--show writes a page and --json prints answers; ask for one of them")
    if not path.endswith((".html", ".htm")):
        raise CommandError(f"--show {path}: a page to look at ends in .html")
    if not Path(path).absolute().parent.is_dir():
        raise CommandError(f"--show {path}: the folder {Path(path).absolute().parent} does not exist")
