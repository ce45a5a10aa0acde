"""A result as a table in PostgreSQL with a column of pgvector's type, in one transaction.

    NAME       node, "table", "column", text, vector vector(dim), base vector(dim)
    NAME_meta  key, value: state (JSON), pairs (zlib of little-endian int32)

Rows go in by COPY's binary form under another name; the old table goes and the new one takes its name at the end, so
that readers wait a moment and never see a half.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from longspan.errors import DatabaseError
from longspan.relations.result import Retrofitted
from longspan.relations.schema import STORE_MARK
from longspan.relations.sources.postgres import Connection, PostgresSource, driver, quoted, told
from longspan.relations.stores.state import from_state, packed_pairs, to_state, unpacked_pairs

MOST_DIMENSIONS: Final = 16_000  # that the type takes
_HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END: Final = struct.pack("!h", -1)
_ROWS_AT_A_TIME: Final = 2048


def save(result: Retrofitted, source: PostgresSource, table: str, *, force: bool) -> None:
    """Write it. DatabaseError, the database refuses, or has no pgvector, or the table is somebody else's."""
    dim = result.vectors.shape[1]
    if dim > MOST_DIMENSIONS:
        raise DatabaseError(f"{source.url}: pgvector takes at most {MOST_DIMENSIONS} dimensions, got {dim}")
    nul = next((node for node in result.nodes if "\0" in node[2]), None)
    if nul:
        raise DatabaseError(f"{source.url}: PostgreSQL takes no text with a NUL character, as {nul[0]}.{nul[1]} has")
    psycopg = driver()
    with told(source.url, f"writing the table {table}"):
        connection = psycopg.connect(source.address, client_encoding="utf8", application_name="longspan retro")
        try:
            with connection.transaction():
                _fill(connection, result, source.url, table, force=force)
        finally:
            connection.close()


def load(source: PostgresSource, table: str) -> Retrofitted:
    """Read it, in one read-only transaction."""
    place = f"{source.url}, table {table}"
    with source.open() as reader, told(place, "reading it"):
        connection = reader.connection
        if _kind(connection, table) != "ours":
            raise DatabaseError(f"{place}: no vectors of longspan are there")
        found = dict(connection.execute(f"SELECT key, value FROM {quoted(table + '_meta')}").fetchall())
        texts, vectors, bases = list[str](), list[bytes](), list[bytes | None]()
        with connection.cursor(name="longspan_rows", binary=True) as cursor:
            cursor.itersize = _ROWS_AT_A_TIME
            cursor.execute(f"SELECT text, vector_send(vector), vector_send(base) FROM {quoted(table)} ORDER BY node")
            for text, vector, base in cursor:
                texts.append(text)
                vectors.append(bytes(vector))
                bases.append(None if base is None else bytes(base))
    try:
        dim = (len(vectors[0]) - 4) // 4 if vectors else 0
        absent = bytes(4) + np.full(dim, np.nan, ">f4").tobytes()
        arrays = [_floats(parts, dim) for parts in (vectors, [base or absent for base in bases])]
        pairs = unpacked_pairs(found)
        state = bytes(found["state"]).decode("utf-8")
    except (KeyError, ValueError, TypeError, zlib.error) as error:
        raise DatabaseError(f"{place}: damaged ({error}); retrofit anew") from error
    return from_state(place, state, pairs, texts, *arrays)


def _fill(connection: Connection, result: Retrofitted, url: str, table: str, *, force: bool) -> None:
    run, dim, meta = connection.execute, result.vectors.shape[1], table + "_meta"
    if run("SELECT to_regtype('vector')").fetchone()[0] is None:
        raise DatabaseError(f"{url}: it has no pgvector; run CREATE EXTENSION vector there, or write to a file")
    run("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"{STORE_MARK} {table}",))
    for name in (table, meta):
        kind = _kind(connection, name)
        if kind == "other":
            raise DatabaseError(f"{url}: {name} is there and is not ours; name another table")
        if kind == "ours" and not force:
            raise FileExistsError(f"{url}: the table {name} exists; force replaces it")
    new, new_meta = f"{table}__new", f"{meta}__new"
    run(f"CREATE TABLE {quoted(new_meta)} (key text PRIMARY KEY, value bytea NOT NULL)")
    run(
        f'CREATE TABLE {quoted(new)} (node integer PRIMARY KEY, "table" text NOT NULL, "column" text NOT NULL, '
        f"text text NOT NULL, vector vector({dim}) NOT NULL, base vector({dim}))"
    )
    with connection.cursor().copy(f"COPY {quoted(new)} FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(_HEADER)
        for block in _blocks(result):
            copy.write(block)
        copy.write(_END)
    state, pairs = to_state(result)
    values = [("state", state.encode()), *packed_pairs(pairs)]
    connection.cursor().executemany(f"INSERT INTO {quoted(new_meta)} VALUES (%s, %s)", values)
    for fresh, name in ((new, table), (new_meta, meta)):
        run(f"COMMENT ON TABLE {quoted(fresh)} IS '{STORE_MARK}'")
        run(f"DROP TABLE IF EXISTS {quoted(name)}")
        run(f"ALTER TABLE {quoted(fresh)} RENAME TO {quoted(name)}")


def _kind(connection: Connection, name: str) -> str | None:
    """ "ours", "other", or None where there is nothing of this name."""
    found = connection.execute(
        "SELECT relkind = 'r' AND coalesce(obj_description(oid, 'pg_class'), '') LIKE %s FROM pg_class "
        "WHERE oid = to_regclass(%s)",
        (STORE_MARK + "%", quoted(name)),
    ).fetchone()
    return None if found is None else "ours" if found[0] else "other"


def _blocks(result: Retrofitted) -> Iterator[bytes]:
    """Rows in COPY's binary form."""
    head = struct.pack("!hh", result.vectors.shape[1], 0)
    for start in range(0, len(result.nodes), _ROWS_AT_A_TIME):
        stop = start + _ROWS_AT_A_TIME
        nodes = result.nodes[start:stop]
        vectors = np.ascontiguousarray(result.vectors[start:stop], ">f4")
        bases = np.ascontiguousarray(result.base[start:stop], ">f4")
        rows = []
        for place, node in enumerate(nodes):
            parts: list[bytes | None] = [struct.pack("!i", start + place), *(value.encode() for value in node)]
            parts.append(head + vectors[place].tobytes())
            parts.append(None if np.isnan(bases[place, 0]) else head + bases[place].tobytes())
            rows.append(struct.pack("!h", len(parts)) + b"".join(map(_field, parts)))
        yield b"".join(rows)


def _field(value: bytes | None) -> bytes:
    return struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value


def _floats(parts: list[bytes], dim: int) -> np.ndarray:
    """Of the type's own binary form: dimensions, a spare, then big-endian floats."""
    row: Any = np.dtype([("head", ">i2", (2,)), ("values", ">f4", (dim,))])
    return np.frombuffer(b"".join(parts), row)["values"].astype(np.float32).reshape(len(parts), dim)
