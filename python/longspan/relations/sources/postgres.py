"""PostgreSQL, by psycopg (`longspan[postgres]`): one read-only, repeatable-read transaction.

Texts cross the wire once each, by a cursor on the server; rows are told by where they lie (ctid, which no update of
others changes within the transaction), and numbers come as blocks of COPY's binary form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

import numpy as np

from longspan.errors import DatabaseError
from longspan.relations.schema import STORE_MARK, ForeignKey, Schema, Table, keys_to_known
from longspan.relations.sources.row_numbers import RowNumbers
from longspan.relations.sources.source import RowPairs, TableRows

if TYPE_CHECKING:
    from types import ModuleType

Connection = Any  # psycopg's, which is not installed where this is checked

_TEXTS_AT_A_TIME: Final = 10_000
_COPY_HEADER: Final = 19  # bytes of COPY's binary form before the first row

_TABLES: Final = """
SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind = 'p', pg_table_is_visible(c.oid),
       has_table_privilege(c.oid, 'SELECT')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  AND coalesce(obj_description(c.oid, 'pg_class'), '') NOT LIKE %s
"""
_COLUMNS: Final = """
SELECT a.attrelid::bigint, a.attnum, a.attname::text,
       t.typcategory IN ('S', 'E')
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = ANY(%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum
"""
_FOREIGN_KEYS: Final = """
SELECT conrelid::bigint, conkey::int[], confrelid::bigint, confkey::int[] FROM pg_constraint
WHERE contype = 'f' AND conparentid = 0 AND conrelid = ANY(%s::oid[]) ORDER BY conrelid, conname
"""


def driver() -> ModuleType:
    """psycopg. ImportError that names the extra, where it is not installed."""
    try:
        import psycopg
    except ImportError as error:
        raise ImportError(f"PostgreSQL is an extra: pip install 'longspan[postgres]' ({error})") from error
    return psycopg


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def without_password(url: str) -> str:
    """The address as it may be shown and kept."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    query = "&".join(part for part in parts.query.split("&") if not part.lower().startswith("password="))
    return urlunsplit(parts._replace(netloc=user.partition(":")[0] + at + host, query=query))


@contextmanager
def told(place: str, doing: str) -> Iterator[None]:
    """psycopg's complaints as one sentence that says where and while doing what."""
    psycopg = driver()
    try:
        yield
    except (psycopg.Error, UnicodeError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise DatabaseError(f"{place}: {what} (while {doing})") from error


class PostgresSource:
    """A PostgreSQL database, by the address that libpq takes."""

    def __init__(self, address: str) -> None:
        self.address = address

    @property
    def url(self) -> str:
        """Where it is, without a password."""
        return without_password(self.address)

    @contextmanager
    def open(self) -> Iterator[PostgresReader]:
        """Read-only and repeatable-read: one moment, however long it lasts; rolled back at the end."""
        psycopg = driver()
        with told(self.url, "connecting"):
            connection = psycopg.connect(self.address, client_encoding="utf8", application_name="longspan retro")
        try:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            yield PostgresReader(connection, self.url)
        finally:
            connection.close()


class PostgresReader:
    """As `source.Reader`."""

    def __init__(self, connection: Connection, place: str) -> None:
        self.connection, self._place = connection, place
        self._rows: dict[str, RowNumbers] = {}

    def schema(self) -> Schema:
        """Ordinary and partitioned tables of all schemas, those of extensions, of the system and our own left out."""
        with told(self._place, "reading its schema"):
            run = self.connection.execute
            warnings: list[str] = []
            found = {}
            for oid, schema, name, is_partitioned, is_visible, may_read in run(_TABLES, (STORE_MARK + "%",)).fetchall():
                shown = name if is_visible else f"{schema}.{name}"
                if may_read:
                    found[oid] = (shown, f"{quoted(schema)}.{quoted(name)}", is_partitioned)
                else:
                    warnings.append(f"the table {shown} is left out: this user may not read it")
            columns: dict[int, dict[int, tuple[str, bool]]] = {oid: {} for oid in found}
            for oid, number, name, is_text in run(_COLUMNS, (list(found),)).fetchall():
                columns[oid][number] = (name, is_text)
            keys = run(_FOREIGN_KEYS, (list(found),)).fetchall()
            return _schema_of(found, columns, keys, warnings)

    def read(self, table: Table, columns: Sequence[str]) -> TableRows:
        """Distinct texts in the order of their bytes, which is that of code points; then each row's place in it."""
        with told(self._place, f"reading {table.name}"):
            texts, moves = [], []
            for column in columns:
                values = self._texts(table, column)
                # In order already, where the database is in UTF-8; other encodings' bytes have an order of their own.
                good = sorted((place for place, value in enumerate(values) if value.strip()), key=values.__getitem__)
                move = np.full(len(values) + 1, -1, np.int32)
                move[1 + np.array(good, np.int64)] = np.arange(len(good))
                texts.append([values[place] for place in good])
                moves.append(move)
            ranks = (
                f"CASE WHEN t.{quoted(c)} IS NULL THEN 0 ELSE "
                f'dense_rank() OVER (ORDER BY t.{quoted(c)}::text COLLATE "C") END'
                for c in columns
            )
            width = len(table.row_key)
            sql = f"SELECT {_keys('t', table)}, {', '.join(ranks)} FROM {table.target} t"
            found = np.concatenate(list(self._numbers(sql, width + len(columns))))
            self._rows[table.name] = RowNumbers(_identities(found, 0, width))
            numbers = np.empty((len(columns), len(found)), np.int32)
            for place, move in enumerate(moves):
                numbers[place] = move[found[:, width + place]]
            return TableRows(texts, numbers)

    def joined(self, child: Table, key: ForeignKey, parent: Table) -> Iterator[RowPairs]:
        """The join on all of the key's columns."""
        sql = f"FROM {child.target} c JOIN {parent.target} p ON {_on('p', key)}"
        return self._pairs(f"SELECT {_keys('c', child)}, {_keys('p', parent)} {sql}", child, parent)

    def linked(
        self, link: Table, first: ForeignKey, left: Table, second: ForeignKey, right: Table
    ) -> Iterator[RowPairs]:
        """Both joins at once, without the link's own rows."""
        sql = f"FROM {link.target} c JOIN {left.target} a ON {_on('a', first)}"
        sql += f" JOIN {right.target} b ON {_on('b', second)}"
        return self._pairs(f"SELECT {_keys('a', left)}, {_keys('b', right)} {sql}", left, right)

    def _texts(self, table: Table, column: str) -> list[str]:
        name = f"t.{quoted(column)}"
        sql = f'SELECT DISTINCT {name}::text COLLATE "C" AS value FROM {table.target} t'
        sql += f" WHERE {name} IS NOT NULL ORDER BY value"
        with self.connection.cursor(name="longspan_texts") as cursor:
            cursor.itersize = _TEXTS_AT_A_TIME
            cursor.execute(sql)
            return [value for (value,) in cursor]

    def _pairs(self, sql: str, left: Table, right: Table) -> Iterator[RowPairs]:
        with told(self._place, f"joining {left.name} and {right.name}"):
            first, second = len(left.row_key), len(right.row_key)
            rows, others = self._rows[left.name], self._rows[right.name]
            for found in self._numbers(sql, first + second):
                left_rows = rows.of(_identities(found, 0, first))
                yield RowPairs(left_rows, others.of(_identities(found, first, first + second)))

    def _numbers(self, sql: str, width: int) -> Iterator[np.ndarray]:
        """(rows, width) int64 in blocks, what a query of whole numbers, none of them NULL, gives."""
        row = np.dtype([("fields", ">i2"), *((f"{part}{i}", kind) for i in range(width) for part, kind in _FIELD)])
        names = ", ".join(f"n{i}" for i in range(width))
        wrapped = ", ".join(f"n{i}::bigint" for i in range(width))
        waiting, to_skip = bytearray(), _COPY_HEADER
        with self.connection.cursor().copy(
            f"COPY (SELECT {wrapped} FROM ({sql}) AS s({names})) TO STDOUT (FORMAT BINARY)"
        ) as stream:
            for block in stream:
                waiting += block
                if len(waiting) >= _COPY_BLOCK:
                    yield _taken(waiting, to_skip, row, width)
                    to_skip = 0
        yield _taken(waiting, to_skip, row, width)


_FIELD: Final = (("size", ">i4"), ("value", ">i8"))
_COPY_BLOCK: Final = 1 << 20  # bytes that are turned into numbers at a time


def _taken(waiting: bytearray, start: int, row: np.dtype[Any], width: int) -> np.ndarray:
    """The whole rows from `start` on, as numbers; `waiting` keeps what is behind them."""
    end = start + (len(waiting) - start) // row.itemsize * row.itemsize
    found = np.frombuffer(bytes(waiting[start:end]), row)
    del waiting[:end]
    return np.stack([found[f"value{i}"].astype(np.int64) for i in range(width)], axis=1)


def _schema_of(
    found: dict[int, tuple[str, str, bool]],
    columns: dict[int, dict[int, tuple[str, bool]]],
    keys: list[tuple[int, list[int], int, list[int]]],
    warnings: list[str],
) -> Schema:
    """The tables in the order of their names."""
    declared: dict[str, list[ForeignKey]] = {shown: [] for shown, _, _ in found.values()}
    for oid, own, parent, of_parent in keys:
        child = found[oid][0]
        named = found.get(parent, (f"number {parent}", "", False))[0]
        spelled = columns.get(parent, {})
        to = tuple(spelled.get(number, ("?", False))[0] for number in of_parent)
        declared[child].append(ForeignKey(child, tuple(columns[oid][number][0] for number in own), named, to))
    known = {found[oid][0]: tuple(name for name, _ in of.values()) for oid, of in columns.items()}
    tables = {}
    for oid, (shown, target, is_partitioned) in sorted(found.items(), key=lambda item: item[1][0]):
        referring = {column for key in declared[shown] for column in key.columns}
        tables[shown] = Table(
            name=shown,
            columns=known[shown],
            text_columns=tuple(name for name, is_text in columns[oid].values() if is_text and name not in referring),
            foreign_keys=tuple(keys_to_known(declared[shown], known, warnings)),
            target=target if is_partitioned else f"ONLY {target}",
            row_key=_ROW_KEY_OF_PARTITIONS if is_partitioned else _ROW_KEY,
        )
    return Schema(tables, warnings)


# A row's block and place in it as one number; `{}` stands for the table's name in the query.
_CTID: Final = "((({}.ctid::text::point)[0]::bigint << 16) | ({}.ctid::text::point)[1]::bigint)"
_ROW_KEY: Final = (_CTID,)
_ROW_KEY_OF_PARTITIONS: Final = ("{}.tableoid::bigint", _CTID)


def _keys(name: str, table: Table) -> str:
    return ", ".join(part.replace("{}", name) for part in table.row_key)


def _identities(found: np.ndarray, first: int, last: int) -> np.ndarray:
    return found[:, first] if last - first == 1 else found[:, first:last]


def _on(parent: str, key: ForeignKey) -> str:
    pairs = zip(key.columns, key.parent_columns, strict=True)
    return " AND ".join(f"{parent}.{quoted(p)} = c.{quoted(c)}" for c, p in pairs)
