"""What a database has: tables, text columns, foreign keys, and which of its tables only link others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

LinkTables = Literal["pure", "all"]
ColumnName = tuple[str, str]  # (table, column)

# What `stores` put into every table that they make, so that none is ever taken for a source.
STORE_MARK = "longspan retro"


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns of one table that name a row of another: `columns` of `table` equal `parent_columns` of `parent`."""

    table: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Args:
        name: as everything here calls it; a PostgreSQL table that needs its schema named is "schema.table".
        columns: all of them, in the table's order.
        text_columns: those whose values become nodes; no column of a foreign key is one.
        foreign_keys: those that lead to a table that is there.
        target: how SQL names it, quoted.
        row_key: SQL expressions, without a table's name, that together tell one row from another.
    """

    name: str
    columns: tuple[str, ...]
    text_columns: tuple[str, ...]
    foreign_keys: tuple[ForeignKey, ...]
    target: str
    row_key: tuple[str, ...]

    def is_link(self, link_tables: LinkTables) -> bool:
        """Whether relations pass through it: it has two foreign keys and, unless all such tables count, no text."""
        return len(self.foreign_keys) > 1 and (link_tables == "all" or not self.text_columns)


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables by name, in code-point order, and what was found odd while they were read."""

    tables: dict[str, Table]
    warnings: list[str] = field(default_factory=list)

    def without(self, excluded: Collection[ColumnName | str]) -> Schema:
        """As if these tables and columns were not there.

        Args:
            excluded: "table", "table.column" or (table, column); a column of a foreign key takes the key with it.
        Raises: ValueError, a name that the schema does not have.
        """
        names = {self.resolve(name) for name in excluded}
        gone = {table for table, column in names if column is None}
        columns = {(table, column) for table, column in names if column is not None}
        kept = {}
        for table in self.tables.values():
            if table.name not in gone:
                kept[table.name] = replace(
                    table,
                    text_columns=tuple(c for c in table.text_columns if (table.name, c) not in columns),
                    foreign_keys=tuple(
                        key
                        for key in table.foreign_keys
                        if key.parent not in gone and not any((table.name, c) in columns for c in key.columns)
                    ),
                )
        return Schema(kept, self.warnings)

    def resolve(self, name: ColumnName | str) -> tuple[str, str | None]:
        """(table, column) of "table.column" or a pair; (table, None) of "table". ValueError where there is none."""
        if not isinstance(name, str):
            table, column = name
            if table in self.tables and column in self.tables[table].columns:
                return table, column
            raise ValueError(f"exclude: the database has no column {table!r}.{column!r}")
        if name in self.tables:
            return name, None
        found = {
            (table, column)
            for table, column in _splits(name)
            if table in self.tables and column in self.tables[table].columns
        }
        if len(found) == 1:
            return found.pop()
        if found:
            raise ValueError(f"exclude: {name!r} may be any of {sorted(found)}; name one as a (table, column) pair")
        raise ValueError(
            f"exclude: the database has no table or column {name!r}; its tables are {', '.join(self.tables) or 'none'}"
        )


def keys_to_known(
    keys: Iterable[ForeignKey], columns_of: dict[str, tuple[str, ...]], warnings: list[str]
) -> list[ForeignKey]:
    """Those keys that lead to columns which are there, by the place of their own; the others are told of, once each."""
    good: list[ForeignKey] = []
    for key in keys:
        there = columns_of.get(key.parent)
        what = f"{key.table} ({', '.join(key.columns)})"
        if there is None:
            warnings.append(f"the foreign key {what} leads to a table that is not there, {key.parent}")
        elif len(key.columns) != len(key.parent_columns) or not set(key.parent_columns) <= set(there):
            warnings.append(f"the foreign key {what} does not fit the columns of {key.parent} that it names")
        else:
            good.append(key)
    return sorted(good, key=lambda key: ([columns_of[key.table].index(name) for name in key.columns], key.parent))


def _splits(name: str) -> list[tuple[str, str]]:
    return [(name[:at], name[at + 1 :]) for at, letter in enumerate(name) if letter == "."]
