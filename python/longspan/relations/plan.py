"""A plan: the nodes and relations that a retrofit will use, to look at and to change before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, overload

import numpy as np

from longspan.arguments import names_arguments
from longspan.relations.extraction import Extract, Found, Kind
from longspan.relations.schema import ColumnName

SAMPLES: Final = 3
MIN_EDGES: Final = 2
_LOOKS_CODED: Final = 0.8  # of a column's texts without a blank, with a digit or a slash: ids, addresses, hashes
_MANY: Final = 50  # values from which on "all distinct" says something
Node = tuple[str, str, str]  # (table, column, text)


@dataclass(frozen=True, slots=True)
class Column:
    """A text column. Its values are the nodes [start, stop), equal texts one node.

    Args:
        table: its table.
        column: its name.
        start: its first node.
        stop: one past its last node.
        samples: some of its texts, over their whole range.
        warnings: why it may be better left out.
    """

    table: str
    column: str
    start: int
    stop: int
    samples: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """ "table.column"."""
        return f"{self.table}.{self.column}"

    @property
    def count(self) -> int:
        """How many nodes it has."""
        return self.stop - self.start


@dataclass(slots=True)
class Relation:
    """Pairs of nodes that belong together for one reason; used in both directions.

    Args:
        kind: "row", two columns of one row; "fk", a row and the row it refers to; "link", two rows that a row of a link
            table refers to; "own", pairs that the user brought.
        source: (table, column) of the pairs' first nodes.
        target: of their second ones.
        pairs: (m, 2) int32 node numbers, ascending, none twice.
        table: whose keys made it.
        columns: of its key.
        columns2: of a link table's other key.
        weight: multiplies its attraction and repulsion; 0 is as if it were not there.
        samples: some pairs of texts.
        warnings: why it may be better left out.
    """

    kind: Kind
    source: ColumnName
    target: ColumnName
    pairs: np.ndarray
    table: str = ""
    columns: tuple[str, ...] = ()
    columns2: tuple[str, ...] = ()
    weight: float = 1.0
    samples: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For people: "works.title - authors.name (work_authors: work_id, author_id)"."""
        ends = f"{'.'.join(self.source)} - {'.'.join(self.target)}"
        if self.kind == "row":
            return f"{ends} (same row)"
        keys = ", ".join(["+".join(self.columns), *(["+".join(self.columns2)] if self.columns2 else [])])
        return f"{ends} ({self.table}: {keys})" if self.table else f"{ends} (own)"

    @property
    def count(self) -> int:
        """How many pairs it has."""
        return len(self.pairs)


class Nodes(Sequence[Node]):
    """(table, column, text) of every node, in the order of all arrays: tables by name, columns by place, texts by code
    point."""

    def __init__(self, columns: Sequence[Column], texts: list[str]) -> None:
        self._columns, self.texts = columns, texts
        self._starts = np.array([column.start for column in columns], np.int64)

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, index: int) -> Node: ...
    @overload
    def __getitem__(self, index: slice) -> list[Node]: ...
    def __getitem__(self, index: int | slice) -> Node | list[Node]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        text = self.texts[index]
        column = self.column_of(index if index >= 0 else index + len(self))
        return column.table, column.column, text

    def __iter__(self) -> Iterator[Node]:
        for column in self._columns:
            for text in self.texts[column.start : column.stop]:
                yield column.table, column.column, text

    def column_of(self, node: int) -> Column:
        """The column that owns a node."""
        return self._columns[int(np.searchsorted(self._starts, node, side="right")) - 1]

    def __repr__(self) -> str:
        return f"Nodes({len(self):,} texts of {len(self._columns)} columns)"


@names_arguments
class Plan:
    """Nodes and relations, from `Database.plan`. `relations` may be edited like any list, and weighted.

    Args:
        columns: the text columns, each with its run of nodes.
        texts: of all nodes.
        relations: those with enough pairs.
        dropped: those with too few, which are not used.
        warnings: what was odd about the database.
        origin: how it was made, as JSON values: the database and the options.
    """

    def __init__(
        self,
        columns: list[Column],
        texts: list[str],
        relations: list[Relation],
        *,
        dropped: list[Relation] | None = None,
        warnings: list[str] | None = None,
        origin: dict[str, object] | None = None,
    ) -> None:
        self.columns, self.relations, self.dropped = columns, relations, dropped or []
        self.warnings = warnings or []
        self.origin = origin or {}
        self.nodes = Nodes(columns, texts)

    def __repr__(self) -> str:
        pairs = sum(relation.count for relation in self.relations)
        what = f"{len(self.nodes):,} nodes, {len(self.relations)} relations of {pairs:,} pairs"
        return f"Plan({len(self.columns)} columns, {what})"

    @property
    def texts(self) -> list[str]:
        """The text of every node, in order."""
        return self.nodes.texts

    def column(self, name: str | ColumnName) -> Column:
        """The column "table.column", or of the pair. ValueError where the plan has none."""
        found = [column for column in self.columns if name in (column.name, (column.table, column.column))]
        if len(found) == 1:
            return found[0]
        known = ", ".join(column.name for column in self.columns) or "none"
        raise ValueError(f"the plan has no column {name!r}; its columns are {known}")

    def node(self, column: str | ColumnName, text: str) -> int:
        """The number of a value. ValueError where the column has no such text."""
        from bisect import bisect_left

        place = self.column(column)
        if not isinstance(text, str):
            raise TypeError(f"a value of {place.name} must be a str, got {type(text).__name__}")
        at = bisect_left(self.texts, text, place.start, place.stop)
        if at < place.stop and self.texts[at] == text:
            return at
        raise ValueError(f"{place.name} has no value {text!r}")

    def exclude(self, *names: str | ColumnName) -> None:
        """Take columns out, with their nodes and relations, or relations, by `Relation.name`. Nodes are numbered anew.

        Raises: ValueError, neither a column nor a relation has that name.
        """
        by_name = {relation.name for relation in self.relations}
        gone = {self.column(name).start: self.column(name) for name in names if name not in by_name}
        pairs = {(column.table, column.column) for column in gone.values()}
        kept = [column for column in self.columns if (column.table, column.column) not in pairs]
        moved = np.full(len(self.texts) + 1, -1, np.int32)
        columns = list[Column]()
        texts = list[str]()
        for column in kept:
            start = len(texts)
            moved[column.start : column.stop] = np.arange(start, start + column.count, dtype=np.int32)
            texts += self.texts[column.start : column.stop]
            columns.append(Column(column.table, column.column, start, len(texts), column.samples, column.warnings))
        excluded = self.origin.get("excluded_later", [])
        self.origin["excluded_later"] = [*(excluded if isinstance(excluded, list) else []), *map(_spelled, names)]
        for relations in (self.relations, self.dropped):
            relations[:] = [
                relation
                for relation in relations
                if relation.source not in pairs and relation.target not in pairs and relation.name not in names
            ]
            for relation in relations:
                relation.pairs = moved[relation.pairs]
        self.columns = columns
        self.nodes = Nodes(columns, texts)

    def add_relation(
        self, source: str | ColumnName, target: str | ColumnName, pairs: Sequence[tuple[str, str]], weight: float = 1.0
    ) -> Relation:
        """A relation of your own between the texts of two columns; how often a pair comes does not count.

        Raises: ValueError, no such column or no such value in it.
        """
        left, right = self.column(source), self.column(target)
        if isinstance(pairs, str) or not isinstance(pairs, Iterable):
            raise TypeError(f"add_relation: pairs must be a list of pairs of texts, got {type(pairs).__name__}")
        numbers = {(self.node(left.name, a), self.node(right.name, b)) for a, b in pairs}
        array = np.array(sorted(numbers), np.int32).reshape(-1, 2)
        relation = Relation("own", (left.table, left.column), (right.table, right.column), array, weight=weight)
        relation.samples = _sample_pairs(array, self.texts)
        self.relations.append(relation)
        return relation


def make_plan(found: Extract, *, min_edges: int, origin: dict[str, object]) -> Plan:
    """Columns and relations with samples and warnings; relations below `min_edges` pairs are set aside."""
    columns, start = [], 0
    for (table, column), count in zip(found.columns, found.counts, strict=True):
        texts = found.texts[start : start + count]
        columns.append(Column(table, column, start, start + count, _samples(texts), _doubts(texts)))
        start += count
    relations = [_relation(one, found.texts) for one in found.found]
    warnings = list(found.warnings)
    if not found.texts:
        warnings.append("the database has no text: no column of a text type holds any")
    return Plan(
        columns,
        found.texts,
        [relation for relation in relations if relation.count >= min_edges],
        dropped=[relation for relation in relations if relation.count < min_edges],
        warnings=warnings,
        origin=origin,
    )


def _relation(found: Found, texts: list[str]) -> Relation:
    relation = Relation(found.kind, found.source, found.target, found.pairs, found.table, found.columns, found.columns2)
    relation.samples = _sample_pairs(found.pairs, texts)
    return relation


def _samples(texts: list[str]) -> tuple[str, ...]:
    if len(texts) <= SAMPLES:
        return tuple(texts)
    return tuple(texts[place * (len(texts) - 1) // (SAMPLES - 1)] for place in range(SAMPLES))


def _sample_pairs(pairs: np.ndarray, texts: list[str]) -> tuple[tuple[str, str], ...]:
    places = np.linspace(0, len(pairs) - 1, min(SAMPLES, len(pairs))).astype(int)
    return tuple((texts[a], texts[b]) for a, b in pairs[places].tolist())


def _doubts(texts: list[str]) -> tuple[str, ...]:
    """What makes a column look as if it held no language."""
    if len(texts) < _MANY:
        return ()
    some = texts[:: max(1, len(texts) // 1000)]
    coded = sum(not any(map(str.isspace, text)) and any(c.isdigit() or c in "/@_" for c in text) for text in some)
    if coded > _LOOKS_CODED * len(some):
        return ("looks like codes, addresses or ids, which say nothing to a language model",)
    return ()


def _spelled(name: str | ColumnName) -> object:
    return name if isinstance(name, str) else list(name)
