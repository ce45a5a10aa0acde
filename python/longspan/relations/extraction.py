"""From a database to nodes and relations: what is read, which tables are joined, which pairs are kept.

Each table that has text is read once. Each foreign key, and each pair of a link table's keys, is joined once, in the
database, to pairs of rows; these become pairs of nodes for every two text columns of the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, product
from typing import Final, Literal

import numpy as np

from longspan.relations.schema import ColumnName, ForeignKey, LinkTables, Schema, Table
from longspan.relations.sources.source import Reader, RowPairs, TableRows

Kind = Literal["row", "fk", "link", "own"]
_PAIRS_AT_A_TIME: Final = 1 << 22  # pairs that wait before repeats among them go


@dataclass(frozen=True, slots=True)
class Found:
    """One relation as it was found.

    Args:
        kind: "row", "fk" or "link".
        source: the column of the pairs' first nodes.
        target: of their second ones.
        table: whose keys made it; the table itself for "row".
        columns: of its key, or of its first one.
        columns2: of a link table's second key.
        pairs: (m, 2) int32, node numbers, ascending, none twice.
    """

    kind: Kind
    source: ColumnName
    target: ColumnName
    table: str
    columns: tuple[str, ...]
    columns2: tuple[str, ...]
    pairs: np.ndarray


@dataclass(frozen=True, slots=True)
class Extract:
    """What a database holds for us.

    Args:
        columns: its text columns, tables by name and columns in the table's order; each owns a run of nodes.
        counts: nodes of each of them.
        texts: of all nodes, in order.
        found: all relations, small ones too.
        warnings: what was odd.
    """

    columns: list[ColumnName]
    counts: list[int]
    texts: list[str]
    found: list[Found]
    warnings: list[str]


def extract(reader: Reader, schema: Schema, link_tables: LinkTables, progress: Callable[[str], object]) -> Extract:
    """Read it all.

    Args:
        reader: of one moment of the database.
        schema: what of it is wanted.
        link_tables: "pure" joins through tables without text alone, "all" through every table with two keys.
        progress: told what is about to be done.
    """
    columns: list[ColumnName] = []
    texts: list[str] = []
    counts: list[int] = []
    nodes: dict[str, np.ndarray] = {}  # (text columns, rows) of each table, the rows' nodes or -1
    for table in schema.tables.values():
        if table.text_columns:
            progress(f"reading {table.name}")
            rows = reader.read(table, table.text_columns)
            nodes[table.name] = _numbered(rows, len(texts))
            columns += [(table.name, column) for column in table.text_columns]
            counts += map(len, rows.texts)
            texts += [text for found in rows.texts for text in found]
    found = list(_relations(reader, schema, link_tables, nodes, len(texts), progress))
    return Extract(columns, counts, texts, found, list(schema.warnings))


def _numbered(rows: TableRows, first: int) -> np.ndarray:
    nodes = rows.numbers
    for place, texts in enumerate(rows.texts):
        nodes[place][nodes[place] >= 0] += first
        first += len(texts)
    return nodes


def _relations(
    reader: Reader,
    schema: Schema,
    link_tables: LinkTables,
    nodes: dict[str, np.ndarray],
    total: int,
    progress: Callable[[str], object],
) -> Iterator[Found]:
    for table in schema.tables.values():
        if table.name in nodes:
            for a, b in combinations(range(len(table.text_columns)), 2):
                source, target = (table.name, table.text_columns[a]), (table.name, table.text_columns[b])
                own = nodes[table.name]
                pairs = _Distinct(total)
                pairs.add(own[a], own[b])
                yield Found("row", source, target, table.name, (), (), pairs.pairs())
        keys = [key for key in table.foreign_keys if key.parent in nodes]
        if table.name in nodes:
            for key in keys:
                progress(f"joining {table.name} and {key.parent}")
                parent = schema.tables[key.parent]
                yield from _crossed("fk", table, parent, reader.joined(table, key, parent), nodes, total, table, key)
        if table.is_link(link_tables):
            for key, other in combinations(keys, 2):
                progress(f"joining {key.parent} and {other.parent}")
                left, right = schema.tables[key.parent], schema.tables[other.parent]
                blocks = reader.linked(table, key, left, other, right)
                yield from _crossed("link", left, right, blocks, nodes, total, table, key, other)


def _crossed(
    kind: Kind,
    left: Table,
    right: Table,
    blocks: Iterator[RowPairs],
    nodes: dict[str, np.ndarray],
    total: int,
    via: Table,
    key: ForeignKey,
    other: ForeignKey | None = None,
) -> Iterator[Found]:
    """Every text column of one table with every one of the other, over the same pairs of rows, which are read once."""
    ends = list(product(range(len(left.text_columns)), range(len(right.text_columns))))
    distinct = [_Distinct(total) for _ in ends]
    for rows in blocks:
        for (a, b), pairs in zip(ends, distinct, strict=True):
            pairs.add(nodes[left.name][a][rows.left], nodes[right.name][b][rows.right])
    for (a, b), pairs in zip(ends, distinct, strict=True):
        source, target = (left.name, left.text_columns[a]), (right.name, right.text_columns[b])
        columns2 = other.columns if other else ()
        yield Found(kind, source, target, via.name, key.columns, columns2, pairs.pairs())


class _Distinct:
    """The distinct pairs among many: repeats go before they take memory.

    Args:
        total: number of nodes.
    """

    def __init__(self, total: int) -> None:
        self._total, self._parts, self._waiting = max(total, 1), list[np.ndarray](), 0

    def add(self, left: np.ndarray, right: np.ndarray) -> None:
        """Pairs of nodes; those with a -1 are none."""
        both = (left >= 0) & (right >= 0)
        fresh = np.unique(left[both].astype(np.int64) * self._total + right[both])
        self._parts.append(fresh)
        self._waiting += len(fresh)
        if self._waiting > max(_PAIRS_AT_A_TIME, len(self._parts[0])):
            self._merge()

    def pairs(self) -> np.ndarray:
        """(m, 2) int32, ascending."""
        self._merge()
        return np.stack(np.divmod(self._parts[0], self._total), axis=1).astype(np.int32)

    def _merge(self) -> None:
        """All in the first part: it is paid for as often as the pairs double."""
        self._parts = [np.unique(np.concatenate([np.empty(0, np.int64), *self._parts]))]
        self._waiting = 0
