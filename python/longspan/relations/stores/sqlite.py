"""A result as a table in a SQLite file, in one transaction: a process that is killed leaves what was there before.

NAME       node, "table", "column", text, vector (dim little-endian float32), base (the same, or NULL)
NAME_meta  key, value: state (JSON), pairs (zlib of little-endian int32)
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from longspan.errors import DatabaseError
from longspan.own_files import written_aside
from longspan.relations.result import Retrofitted
from longspan.relations.schema import STORE_MARK
from longspan.relations.sources.sqlite import SqliteSource, quoted, told
from longspan.relations.stores.state import from_state, packed_pairs, to_state, unpacked_pairs

_BUSY_SECONDS: Final = 30.0


def save(result: Retrofitted, path: Path, table: str, *, force: bool) -> None:
    """Write it: into the file that is there, or a new one that is made aside."""
    if path.exists():
        _write(result, path, table, force=force)
    else:
        with written_aside(path) as aside:
            _write(result, aside, table, force=force)


def load(source: SqliteSource, table: str) -> Retrofitted:
    """Read it, in one read-only transaction."""
    place = f"{source.url}, table {table}"
    with source.open() as reader, told(place, "reading it"):
        connection = reader.connection
        if _kind(connection, table) != "ours":
            raise DatabaseError(f"{place}: no vectors of longspan are there")
        found = dict(connection.execute(f"SELECT key, value FROM main.{quoted(table + '_meta')}").fetchall())
        rows = connection.execute(f"SELECT text, vector, base FROM main.{quoted(table)} ORDER BY node")
        texts, vectors, bases = list[str](), list[bytes](), list[bytes | None]()
        for text, vector, base in rows:
            texts.append(text)
            vectors.append(vector)
            bases.append(base)
    try:
        dim = len(vectors[0]) // 4 if vectors else 0
        absent = np.full(dim, np.nan, "<f4").tobytes()
        arrays = [_floats(parts, dim) for parts in (vectors, [base or absent for base in bases])]
        pairs = unpacked_pairs(found)
        state = found["state"]
    except (KeyError, ValueError, TypeError, zlib.error) as error:
        raise DatabaseError(f"{place}: damaged ({error}); retrofit anew") from error
    return from_state(place, state, pairs, texts, *arrays)


def _write(result: Retrofitted, path: Path, table: str, *, force: bool) -> None:
    with told(str(path), f"writing the table {table}"):
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                _fill(connection, result, path, table, force=force)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        finally:
            connection.close()


def _fill(connection: sqlite3.Connection, result: Retrofitted, path: Path, table: str, *, force: bool) -> None:
    meta = table + "_meta"
    for name in (table, meta):
        kind = _kind(connection, name)
        if kind == "other":
            raise DatabaseError(f"{path}: {name} is there and is not ours; name another table")
        if kind == "ours" and not force:
            raise FileExistsError(f"{path}: the table {name} exists; force replaces it")
        connection.execute(f"DROP TABLE IF EXISTS main.{quoted(name)}")
    mark = f"/* {STORE_MARK} */"
    connection.execute(
        f'CREATE TABLE main.{quoted(table)} {mark} (node INTEGER PRIMARY KEY, "table" TEXT NOT NULL, '
        '"column" TEXT NOT NULL, text TEXT NOT NULL, vector BLOB NOT NULL, base BLOB)'
    )
    connection.execute(f"CREATE TABLE main.{quoted(meta)} {mark} (key TEXT PRIMARY KEY, value)")
    connection.executemany(f"INSERT INTO main.{quoted(table)} VALUES (?, ?, ?, ?, ?, ?)", _rows(result))
    connection.execute(
        f'CREATE UNIQUE INDEX main.{quoted(table + "_text")} ON {quoted(table)} ("table", "column", text)'
    )
    state, pairs = to_state(result)
    values = [("state", state), *packed_pairs(pairs)]
    connection.executemany(f"INSERT INTO main.{quoted(meta)} VALUES (?, ?)", values)


def _kind(connection: sqlite3.Connection, name: str) -> str | None:
    """ "ours", "other", or None where there is nothing of this name."""
    found = connection.execute(
        "SELECT type, coalesce(sql, '') FROM main.sqlite_master WHERE lower(name) = lower(?)", (name,)
    ).fetchone()
    if found is None:
        return None
    return "ours" if found[0] == "table" and f"/* {STORE_MARK}" in found[1] else "other"


def _rows(result: Retrofitted) -> Iterator[tuple[int, str, str, str, bytes, bytes | None]]:
    vectors, bases = result.vectors, result.base
    for number, (table, column, text) in enumerate(result.nodes):
        base = bases[number]
        given = None if np.isnan(base[0]) else base.astype("<f4").tobytes()
        yield number, table, column, text, vectors[number].astype("<f4").tobytes(), given


def _floats(parts: list[bytes], dim: int) -> np.ndarray:
    return np.frombuffer(b"".join(parts), "<f4").astype(np.float32).reshape(len(parts), dim)
