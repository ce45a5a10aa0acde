"""SQLite files, by Python's own sqlite3: opened read-only, read in one transaction.

A name that stands in SQL is quoted with its quotes doubled; names in questions about the schema are bound values.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Final
from urllib.parse import quote as url_quote

import numpy as np

from longspan.errors import DatabaseError
from longspan.relations.schema import STORE_MARK, ForeignKey, Schema, Table, keys_to_known
from longspan.relations.sources.row_numbers import RowNumbers
from longspan.relations.sources.source import RowPairs, TableRows

_TEXT_TYPES: Final = ("CHAR", "CLOB", "TEXT", "STRING")
_AT_A_TIME: Final = 1 << 16  # rows between Python and NumPy
_BUSY_SECONDS: Final = 30.0  # that another program's write is waited for


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


class SqliteSource:
    """A SQLite file. `path` need not be there yet for a store that will make it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"sqlite:///{self.path}"

    @contextmanager
    def open(self) -> Iterator[SqliteReader]:
        """Read-only, in one transaction, which sees one moment however long it lasts."""
        if not self.path.is_file():
            raise DatabaseError(f"{self.path}: no such database file")
        with told(str(self.path), "opening it"):
            try:
                connection = self._begun("ro")
            except sqlite3.OperationalError as error:
                if "readonly" not in str(error):
                    raise
                # A process was killed while it wrote; opened for writing, SQLite takes back what that left.
                self._begun("rw").close()
                connection = self._begun("ro")
        try:
            yield SqliteReader(connection, str(self.path))
        finally:
            connection.close()

    def _begun(self, mode: str) -> sqlite3.Connection:
        """A connection whose transaction has seen the database."""
        address = f"file:{url_quote(str(self.path.resolve()))}?mode={mode}"
        connection = sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def told(place: str, doing: str) -> Iterator[None]:
    """SQLite's complaints as one sentence that says where and while doing what."""
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning, UnicodeError, OverflowError) as error:
        raise DatabaseError(f"{place}: {error} (while {doing})") from error


class SqliteReader:
    """As `source.Reader`."""

    def __init__(self, connection: sqlite3.Connection, place: str) -> None:
        self.connection, self._place = connection, place
        self._rows: dict[str, RowNumbers | dict[tuple[object, ...], int]] = {}
        self._warnings: list[str] = []

    def schema(self) -> Schema:
        """Ordinary tables: no views, virtual tables or what they keep, and none that our stores made."""
        with told(self._place, "reading its schema"):
            names = self._table_names()
            columns = {name: self._columns(name) for name in names}
            by_folded = {name.lower(): name for name in names}
            tables = {}
            for name in sorted(names):
                declared = self._foreign_keys(name, by_folded, columns)
                known = {table: tuple(c for c, _, _ in found) for table, found in columns.items()}
                referring = {column for key in declared for column in key.columns}
                texts = [c for c, kind, _ in columns[name] if c not in referring and self._is_text(name, c, kind)]
                tables[name] = Table(
                    name=name,
                    columns=known[name],
                    text_columns=tuple(texts),
                    foreign_keys=tuple(keys_to_known(declared, known, self._warnings)),
                    target="main." + quoted(name),
                    row_key=self._row_key(name, columns[name]),
                )
            return Schema(tables, self._warnings)

    def read(self, table: Table, columns: Sequence[str]) -> TableRows:
        """One pass over the table, each row's texts looked up as they come."""
        with told(self._place, f"reading {table.name}"):
            try:
                return self._read(table, columns)
            except sqlite3.OperationalError as error:
                if "decode to UTF-8" not in str(error):
                    raise
            self.connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            try:
                return self._read(table, columns)
            finally:
                self.connection.text_factory = str

    def joined(self, child: Table, key: ForeignKey, parent: Table) -> Iterator[RowPairs]:
        """The join on all of the key's columns; the parent's own collation and affinity decide what is equal."""
        on = " AND ".join(
            f"p.{quoted(p)} = c.{quoted(c)}" for c, p in zip(key.columns, key.parent_columns, strict=True)
        )
        sql = f"SELECT {_keys('c', child)}, {_keys('p', parent)} FROM {child.target} c JOIN {parent.target} p ON {on}"
        return self._pairs(sql, child, parent)

    def linked(
        self, link: Table, first: ForeignKey, left: Table, second: ForeignKey, right: Table
    ) -> Iterator[RowPairs]:
        """Both joins at once, without the link's own rows."""
        sql = f"SELECT {_keys('a', left)}, {_keys('b', right)} FROM {link.target} c"
        for name, table, key in (("a", left, first), ("b", right, second)):
            on = (f"{name}.{quoted(p)} = c.{quoted(c)}" for c, p in zip(key.columns, key.parent_columns, strict=True))
            sql += f" JOIN {table.target} {name} ON {' AND '.join(on)}"
        return self._pairs(sql, left, right)

    def _table_names(self) -> list[str]:
        """Those of ordinary tables, as they are spelled."""
        found = self.connection.execute(
            "SELECT name, coalesce(sql, '') FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"
        ).fetchall()
        plain = {str(name) for name, sql in found if f"/* {STORE_MARK}" not in sql and not _is_virtual(sql)}
        try:
            kinds = self.connection.execute(
                "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
            )
            return [str(name) for (name,) in kinds.fetchall() if name in plain]
        except sqlite3.OperationalError:  # before 3.37, which cannot tell a virtual table's own tables from others
            return list(plain)

    def _columns(self, table: str) -> list[tuple[str, str, int]]:
        """(name, declared type, place in the primary key or 0), generated columns among them."""
        found = self.connection.execute(
            "SELECT name, type, pk FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid", (table,)
        )
        return [(str(name), str(kind or ""), int(place)) for name, kind, place in found.fetchall()]

    def _foreign_keys(
        self, table: str, by_folded: dict[str, str], columns: dict[str, list[tuple[str, str, int]]]
    ) -> list[ForeignKey]:
        """As declared. Names are spelled as the tables themselves spell them; SQLite compares them without case."""
        rows = self.connection.execute(
            'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id DESC, seq', (table,)
        ).fetchall()
        own = {c.lower(): c for c, _, _ in columns[table]}
        keys = []
        for number in dict.fromkeys(row[0] for row in rows):
            parts = [row for row in rows if row[0] == number]
            parent = by_folded.get(str(parts[0][1]).lower(), str(parts[0][1]))
            of_parent = columns.get(parent, [])
            spelled = {c.lower(): c for c, _, _ in of_parent}
            if parts[0][3] is None:
                to = [c for c, _, place in sorted(of_parent, key=lambda column: column[2]) if place]
            else:
                to = [spelled.get(str(part[3]).lower(), str(part[3])) for part in parts]
            child = tuple(own.get(str(part[2]).lower(), str(part[2])) for part in parts)
            keys.append(ForeignKey(table, child, parent, tuple(to)))
        return keys

    def _is_text(self, table: str, column: str, kind: str) -> bool:
        """By the declared type; without one, by all values being text."""
        if kind:
            return any(name in kind.upper() for name in _TEXT_TYPES)
        name = quoted(column)
        sql = f"SELECT count({name}), sum(typeof({name}) = 'text') FROM main.{quoted(table)}"
        values, texts = self.connection.execute(sql).fetchone()
        return bool(values) and values == texts

    def _row_key(self, table: str, columns: list[tuple[str, str, int]]) -> tuple[str, ...]:
        """The row's number, by a name that no column takes; the primary key where a table has no such number."""
        taken = {name.lower() for name, _, _ in columns}
        for name in ("rowid", "_rowid_", "oid"):
            if name not in taken:
                try:
                    self.connection.execute(f"SELECT {name} FROM main.{quoted(table)} LIMIT 0")
                    return (name,)
                except sqlite3.OperationalError:  # WITHOUT ROWID
                    break
        primary = [name for name, _, place in sorted(columns, key=lambda column: column[2]) if place]
        if not primary:
            raise DatabaseError(f"{self._place}: the rows of {table} cannot be told apart; give it a primary key")
        return tuple(quoted(name) for name in primary)

    def _read(self, table: Table, columns: Sequence[str]) -> TableRows:
        wanted = ", ".join(quoted(column) for column in columns)
        cursor = self.connection.execute(f"SELECT {_keys('t', table)}, {wanted} FROM {table.target} t")
        width = len(table.row_key)
        keys: list[object] = []
        found: list[list[int]] = [[] for _ in columns]
        seen: list[dict[object, int]] = [{} for _ in columns]
        while rows := cursor.fetchmany(_AT_A_TIME):
            turned = list(zip(*rows))
            keys += turned[0] if width == 1 else zip(*turned[:width])
            for place, values in enumerate(turned[width:]):
                known = seen[place]
                found[place] += [known.setdefault(value, len(known)) for value in values]
        self._rows[table.name] = _row_numbers(keys)
        return self._sorted(table, columns, seen, found)

    def _sorted(
        self, table: Table, columns: Sequence[str], seen: list[dict[object, int]], found: list[list[int]]
    ) -> TableRows:
        """Texts in code-point order, and the rows' numbers changed accordingly. What is no text counts as NULL."""
        texts: list[list[str]] = []
        numbers = np.empty((len(columns), len(found[0]) if found else 0), np.int32)
        for place, (column, known) in enumerate(zip(columns, seen, strict=True)):
            strings = [value for value in known if isinstance(value, str) and value.strip()]
            good = sorted(value for value in strings if _is_unicode(value))
            if len(good) < len(strings):
                bad = len(strings) - len(good)
                self._warnings.append(f"{table.name}.{column}: {bad} values are not UTF-8 and count as NULL")
            moved = np.full(max(len(known), 1), -1, np.int32)
            moved[[known[text] for text in good]] = np.arange(len(good), dtype=np.int32)
            numbers[place] = moved[np.array(found[place], np.int64)]
            texts.append(good)
        return TableRows(texts, numbers)

    def _pairs(self, sql: str, left: Table, right: Table) -> Iterator[RowPairs]:
        with told(self._place, f"joining {left.name} and {right.name}"):
            rows, first = self._rows[left.name], len(left.row_key)
            others = self._rows[right.name]
            cursor = self.connection.execute(sql)
            if isinstance(rows, RowNumbers) and isinstance(others, RowNumbers):
                while len(flat := np.fromiter(chain.from_iterable(islice(cursor, _AT_A_TIME)), np.int64)):
                    yield RowPairs(rows.of(flat[::2]), others.of(flat[1::2]))
            else:
                while found := cursor.fetchmany(_AT_A_TIME):
                    yield RowPairs(_numbers(rows, found, 0, first), _numbers(others, found, first, None))


def _row_numbers(keys: list[object]) -> RowNumbers | dict[tuple[object, ...], int]:
    if all(type(key) is int for key in keys):
        return RowNumbers(np.array(keys, np.int64))
    return {key if isinstance(key, tuple) else (key,): number for number, key in enumerate(keys)}


def _numbers(
    rows: RowNumbers | dict[tuple[object, ...], int], found: list[tuple[object, ...]], first: int, last: int | None
) -> np.ndarray:
    keys = [row[first:last] for row in found]
    if isinstance(rows, RowNumbers):
        return rows.of(np.array([key[0] for key in keys], np.int64))
    try:
        return np.array([rows[key] for key in keys], np.int64)
    except KeyError as error:
        raise DatabaseError("a join gives rows that the table does not: the database is damaged") from error


def _keys(name: str, table: Table) -> str:
    return ", ".join(f"{name}.{part}" for part in table.row_key)


def _is_virtual(sql: str) -> bool:
    return sql.lstrip()[:14].upper() == "CREATE VIRTUAL"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
