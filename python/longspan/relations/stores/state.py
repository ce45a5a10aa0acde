"""A result without its arrays, as JSON; and what comes back from it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from longspan.errors import DatabaseError
from longspan.relations.plan import Column, Plan, Relation
from longspan.relations.result import Retrofitted
from longspan.relations.settings import Settings
from longspan.vectors.origin import Origin

VERSION: Final = 1
PIECE: Final = 1 << 28  # bytes of one value; SQLite takes at most 10^9, PostgreSQL 2^30


def to_state(result: Retrofitted) -> tuple[str, np.ndarray]:
    """JSON of all but texts, vectors and pairs; and all relations' pairs, one after the other, (m, 2) int32."""
    plan = result.plan
    relations = [*plan.relations, *plan.dropped]
    state = {
        "version": VERSION,
        "settings": result.settings.as_json(),
        "steps": result.steps,
        "change": result.change,
        "seconds": result.seconds,
        "model": result.model,
        "made_by": None if result.origin is None else result.origin.to_json(),
        "nodes": len(plan.nodes),
        "dim": int(result.vectors.shape[1]),
        "origin": plan.origin,
        "warnings": plan.warnings,
        "columns": [[column.table, column.column, column.count] for column in plan.columns],
        "relations": [_relation_state(relation) for relation in relations],
        "dropped": len(plan.dropped),
    }
    pairs = np.concatenate([np.empty((0, 2), np.int32), *(relation.pairs for relation in relations)])
    return json.dumps(state, ensure_ascii=False), pairs.astype(np.int32, copy=False)


def from_state(
    place: str, text: str, pairs: np.ndarray, texts: list[str], vectors: np.ndarray, base: np.ndarray
) -> Retrofitted:
    """The result. DatabaseError, which names `place`, where the parts do not belong together."""
    try:
        state: dict[str, Any] = json.loads(text)
        if state["version"] != VERSION:
            raise DatabaseError(
                f"{place}: version {state['version']}, but this longspan reads {VERSION}; retrofit anew"
            )
        columns = list[Column]()
        for table, column, count in state["columns"]:
            start = columns[-1].stop if columns else 0
            columns.append(Column(table, column, start, start + count))
        size, dim = len(texts), state["dim"]
        fits = size == state["nodes"] == (columns[-1].stop if columns else 0)
        counted = sum(relation["count"] for relation in state["relations"])
        if not fits or vectors.shape != (size, dim) or base.shape != (size, dim) or pairs.shape != (counted, 2):
            raise DatabaseError(f"{place}: its parts do not fit each other; retrofit anew")
        if len(pairs) and not 0 <= pairs.min() <= pairs.max() < size:
            raise DatabaseError(f"{place}: it has pairs of values that it does not hold; retrofit anew")
        relations = _relations(state["relations"], pairs)
        first_dropped = len(relations) - state["dropped"]
        plan = Plan(
            columns,
            texts,
            relations[:first_dropped],
            dropped=relations[first_dropped:],
            warnings=state["warnings"],
            origin=state["origin"],
        )
        settings = Settings.from_json(state["settings"])
        result = Retrofitted(plan, vectors, base, settings, state["steps"], state["change"], state["seconds"])
        result.model, result.origin = state["model"], Origin.from_json(state["made_by"])
        return result
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DatabaseError):
            raise
        raise DatabaseError(f"{place}: what it says of itself is damaged; retrofit anew") from error


def packed_pairs(pairs: np.ndarray) -> list[tuple[str, bytes]]:
    """Pairs as values of a table's keys pairs0, pairs1, ...: zlib of little-endian int32, in pieces."""
    raw = zlib.compress(pairs.astype("<i4").tobytes(), 1)
    return [(f"pairs{number}", raw[at : at + PIECE]) for number, at in enumerate(range(0, len(raw), PIECE))]


def unpacked_pairs(found: Mapping[str, bytes]) -> np.ndarray:
    """What `packed_pairs` packed, (m, 2) int32. KeyError, ValueError or zlib.error where it is damaged."""
    pieces = [found[f"pairs{number}"] for number in range(sum(key.startswith("pairs") for key in found))]
    return np.frombuffer(zlib.decompress(b"".join(pieces)), "<i4").astype(np.int32).reshape(-1, 2)


def _relation_state(relation: Relation) -> dict[str, object]:
    return {
        "kind": relation.kind,
        "source": relation.source,
        "target": relation.target,
        "table": relation.table,
        "columns": relation.columns,
        "columns2": relation.columns2,
        "weight": relation.weight,
        "count": relation.count,
    }


def _relations(states: list[dict[str, Any]], pairs: np.ndarray) -> list[Relation]:
    found, start = [], 0
    for state in states:
        own = pairs[start : start + state["count"]]
        start += state["count"]
        (left, left_column), (right, right_column) = state["source"], state["target"]
        relation = Relation(state["kind"], (left, left_column), (right, right_column), own, state["table"])
        relation.columns, relation.columns2 = tuple(state["columns"]), tuple(state["columns2"])
        relation.weight = state["weight"]
        found.append(relation)
    return found
