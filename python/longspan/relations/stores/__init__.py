"""Where results are kept: .npz and Parquet files, tables in SQLite and PostgreSQL with pgvector.

Each is whole or not there: files are written aside and renamed, tables come in one transaction.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from longspan.errors import DatabaseError
from longspan.relations.sources.postgres import PostgresSource
from longspan.relations.sources.sqlite import SqliteSource

if TYPE_CHECKING:
    from longspan.relations.result import Retrofitted

DEFAULT_TABLE: Final = "longspan_vectors"
NUMPY, PARQUET = (".npz",), (".parquet", ".pq")


def save(result: Retrofitted, out: str | os.PathLike[str], *, table: str | None = None, force: bool = False) -> None:
    """Write a result.

    Args:
        result: what to write.
        out: FILE.npz; FILE.parquet, whose columns are table, column, text, vector; "sqlite:///FILE", where a table is
            made, also in a file that holds the source itself; "postgresql://...", the same with a column of pgvector's
            type, which `CREATE EXTENSION vector` must have brought.
        table: its name in a database; None for "longspan_vectors". A second one, NAME_meta, says how it was made.
        force: replace what is there, if it is ours; a table of somebody else's is never touched.
    Raises: FileExistsError, something is there and `force` is not given; ValueError, `out` is none of these;
        DatabaseError, the database refuses; ImportError, an extra is not installed.
    """
    place = check_place(out, table=table, force=force)
    if isinstance(place, SqliteSource):
        from longspan.relations.stores import sqlite

        sqlite.save(result, place.path, table or DEFAULT_TABLE, force=force)
    elif isinstance(place, PostgresSource):
        from longspan.relations.stores import pgvector

        pgvector.save(result, place, table or DEFAULT_TABLE, force=force)
    elif place.suffix in NUMPY:
        from longspan.relations.stores import numpy_file

        numpy_file.save(result, place)
    else:
        from longspan.relations.stores import parquet

        parquet.save(result, place)


def load(place: str | os.PathLike[str], *, table: str | None = None) -> Retrofitted:
    """Read what `save` wrote to .npz, SQLite or PostgreSQL; a Parquet file lacks what a result needs.

    Raises: FileNotFoundError, ValueError, DatabaseError: nothing of ours is there, or it is damaged.
    """
    found = kind_of(place)
    if isinstance(found, SqliteSource):
        from longspan.relations.stores import sqlite

        return sqlite.load(found, table or DEFAULT_TABLE)
    if isinstance(found, PostgresSource):
        from longspan.relations.stores import pgvector

        return pgvector.load(found, table or DEFAULT_TABLE)
    if found.suffix in PARQUET:
        raise ValueError(f"{found}: a Parquet file has vectors alone; load a result from .npz, SQLite or PostgreSQL")
    from longspan.relations.stores import numpy_file

    return numpy_file.load(found)


def check_place(out: str | os.PathLike[str], *, table: str | None, force: bool) -> SqliteSource | PostgresSource | Path:
    """Where `out` is, if a file may be written there; what a database holds is looked at when it is written to."""
    place = kind_of(out)
    path = place.path if isinstance(place, SqliteSource) else place
    if isinstance(path, Path) and not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.absolute().parent} does not exist")
    if isinstance(place, Path):
        if table is not None:
            raise ValueError(f"save: a file has no tables, got table={table!r}; give a database, or no table")
        if place.is_dir():
            raise IsADirectoryError(f"{place} is a folder; name a file in it")
        if place.exists() and not force:
            raise FileExistsError(f"{place} exists; force replaces it")
    return place


def kind_of(out: str | os.PathLike[str]) -> SqliteSource | PostgresSource | Path:
    """A database by its address, a file by its suffix."""
    text = os.fspath(out) if isinstance(out, os.PathLike) else out
    if not isinstance(text, str):
        raise TypeError(f"a place must be a str or a path, got {type(out).__name__}")
    if text.startswith("sqlite:///") and len(text) > len("sqlite:///"):
        return SqliteSource(text.removeprefix("sqlite:///"))
    if text.startswith(("postgresql:", "postgres:", "postgresql+psycopg:")):
        return PostgresSource(text.replace("postgresql+psycopg:", "postgresql:", 1))
    path = Path(text)
    if path.suffix in (*NUMPY, *PARQUET):
        return path
    raise ValueError(f"a result is kept in FILE.npz, FILE.parquet, sqlite:///FILE or postgresql://..., got {text!r}")


__all__ = ["DEFAULT_TABLE", "DatabaseError", "check_place", "kind_of", "load", "save"]
