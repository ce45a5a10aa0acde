"""`longspan retro plan`: what a database has, for a person or a machine; and plans for the other subcommands."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING

from longspan.cli.console.failures import CommandError
from longspan.cli.console.terminal import count, is_terminal, json_line, one_line, style, width
from longspan.relations.database import Database
from longspan.relations.schema import LinkTables
from longspan.vectors.tables import clipped

if TYPE_CHECKING:
    from longspan.relations.plan import Plan

_SHOWN = 24  # characters of a sample


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What `longspan retro plan` was asked for; each field is an option of that name."""

    database: str
    exclude: tuple[str, ...]
    weight: tuple[str, ...]
    min_edges: int
    link_tables: LinkTables
    json: bool


def make_plan(request: PlanRequest) -> Plan:
    """Read the database, telling a person what is being read. CommandError, a weight that cannot be used."""
    weights = [_weight(text) for text in request.weight]
    shows = is_terminal(sys.stderr)

    def tell(words: str) -> None:
        if shows:
            print(f"\r\x1b[K{shorten(one_line(words), width())}", end="", file=sys.stderr, flush=True)

    try:
        plan = Database(request.database).plan(
            request.exclude, min_edges=request.min_edges, link_tables=request.link_tables, progress=tell
        )
    finally:
        if shows:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    by_name = {relation.name: relation for relation in plan.relations}
    for name, weight in weights:
        if name not in by_name:
            raise CommandError(f"--weight: there is no relation {name!r}; `longspan retro plan` names them")
        by_name[name].weight = weight
    return plan


def show_plan(request: PlanRequest) -> None:
    """Print it."""
    plan = make_plan(request)
    print(json_line(_as_json(plan)) if request.json else _as_text(plan))


def _weight(text: str) -> tuple[str, float]:
    name, equals, number = text.rpartition("=")
    try:
        weight = float(number)
    except ValueError:
        weight = -1.0
    if not equals or not 0 <= weight < float("inf"):
        raise CommandError(f"--weight takes RELATION=W with a number from 0 up, got {text!r}")
    return name, weight


def _as_json(plan: Plan) -> dict[str, object]:
    return {
        **plan.origin,
        "nodes": len(plan.nodes),
        "columns": [
            {
                "table": column.table,
                "column": column.column,
                "nodes": column.count,
                "samples": column.samples,
                "warnings": column.warnings,
            }
            for column in plan.columns
        ],
        "relations": [
            {
                "name": relation.name,
                "kind": relation.kind,
                "source": relation.source,
                "target": relation.target,
                "table": relation.table,
                "columns": relation.columns,
                "columns2": relation.columns2,
                "pairs": relation.count,
                "weight": relation.weight,
                "samples": relation.samples,
            }
            for relation in plan.relations
        ],
        "dropped": [{"name": relation.name, "pairs": relation.count} for relation in plan.dropped],
        "warnings": plan.warnings,
    }


def _as_text(plan: Plan) -> str:
    pairs = sum(relation.count for relation in plan.relations)
    lines = [
        f"{count(len(plan.nodes), 'value')} in {count(len(plan.columns), 'text column')}; {count(pairs, 'pair')} in "
        f"{count(len(plan.relations), 'relation')}"
    ]
    if plan.columns:
        lines += ["", style("values  column", "bold")]
    for column in plan.columns:
        samples = ", ".join(clipped(text, _SHOWN) for text in column.samples)
        lines.append(f"{column.count:>6}  {one_line(column.name)}  {style(samples, 'dim')}")
        lines += [f"        {style('? ' + doubt, 'cyan')}" for doubt in column.warnings]
    if plan.relations:
        lines += ["", style(" pairs  kind  relation", "bold")]
    for relation in plan.relations:
        off = "" if relation.weight == 1 else f"  weight {relation.weight:g}"
        lines.append(f"{relation.count:>6}  {relation.kind:<4}  {one_line(relation.name)}{off}")
    if plan.dropped:
        few = ", ".join(f"{one_line(relation.name)}: {relation.count}" for relation in plan.dropped)
        lines += ["", f"too few pairs to be used: {few}"]
    lines += [f"warning: {one_line(warning)}" for warning in plan.warnings]
    return "\n".join(lines)
