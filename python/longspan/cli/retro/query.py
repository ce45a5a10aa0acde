"""`longspan retro query`: neighbours, and which values go with one."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from textwrap import shorten

from longspan.cli.console.failures import CommandError
from longspan.cli.console.terminal import json_line, shown, style, width
from longspan.cli.embedding.options import ModelOptions, from_args
from longspan.relations import Retrofitted
from longspan.relations.search import Hit


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """What `longspan retro query` was asked for; each field is an option of that name."""

    place: str
    words: tuple[str, ...]
    of: str | None
    within: str | None
    complete: str | None
    unknown: bool
    top_k: int
    table: str | None
    model: str | None
    json: bool


def query(request: QueryRequest, args: argparse.Namespace) -> None:
    """Ask, and print what was found, best first."""
    if request.complete and not request.of:
        raise CommandError("--complete needs --of TABLE.COLUMN, which says whose value the words are")
    if request.unknown and not request.complete:
        raise CommandError("--unknown goes with --complete")
    result = Retrofitted.load(request.place, table=request.table)
    for rank, hit in enumerate(_hits(request, result, args), 1):
        if request.json:
            print(json_line({"rank": rank, **asdict(hit)}))
        else:
            related = style("related", "dim") if hit.is_linked else ""
            place = style(f"{hit.table}.{hit.column}", "bold")
            text = shorten(shown(hit.text), width())
            print("  ".join(part for part in (f"{rank:>3}", f"{hit.score:.3f}", place, text, related) if part))


def _hits(request: QueryRequest, result: Retrofitted, args: argparse.Namespace) -> list[Hit]:
    text = " ".join(request.words)
    if request.of and request.complete:
        return result.complete(request.of, text, request.complete, request.top_k, known=not request.unknown)
    if request.of:
        return result.neighbors(request.of, text, request.top_k, within=request.within)
    model = request.model or result.model
    if model is None:
        raise CommandError(f"{request.place} knows no model to embed a text with; give --model, or --of TABLE.COLUMN")
    encoder = from_args(ModelOptions, args).open(model)
    return result.find(text, encoder, request.top_k, within=request.within)
