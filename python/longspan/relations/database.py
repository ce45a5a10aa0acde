"""`Database`: a relational database by its address, and what `plan` finds in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from longspan.arguments import names_arguments
from longspan.integers import checked_int
from longspan.relations.extraction import extract
from longspan.relations.plan import MIN_EDGES, Plan, make_plan
from longspan.relations.schema import ColumnName, LinkTables
from longspan.relations.sources.postgres import PostgresSource
from longspan.relations.sources.source import Source
from longspan.relations.sources.sqlite import SqliteSource

_SQLITE, _POSTGRES = ("sqlite:",), ("postgresql:", "postgres:", "postgresql+psycopg:")


@names_arguments
class Database:
    """A SQLite file or a PostgreSQL database. Nothing is opened before it is asked for something.

    Args:
        url: "sqlite:///films.db" (or sqlite:////absolute/path, or just the path of a file that is there), or
            "postgresql://user:password@host:port/name", whose driver the extra `longspan[postgres]` brings.
    Raises: ValueError, an address of another kind.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self._source = source_of(url)

    @property
    def url(self) -> str:
        """Where it is, without a password."""
        return self._source.url

    def __repr__(self) -> str:
        return f"Database({self.url!r})"

    def plan(
        self,
        exclude: Sequence[str | ColumnName] = (),
        *,
        min_edges: int = MIN_EDGES,
        link_tables: LinkTables = "pure",
        progress: Callable[[str], object] | None = None,
    ) -> Plan:
        """Read nodes and relations, in one read-only transaction that sees one moment of the database.

        Args:
            exclude: tables ("films"), columns ("films.title", or ("films", "title")) that are to be as if the database
                did not have them. A key's column takes its relations with it. Leave out what you want to predict, and
                every copy of it.
            min_edges: a relation with fewer pairs is not used.
            link_tables: "pure", tables with two keys and no text join what they refer to; "all", tables with text too.
            progress: called with a few words before each table is read.
        Raises: ValueError, `exclude` names what is not there; DatabaseError, the database cannot be read; ImportError,
            the driver is not installed.
        """
        if isinstance(exclude, str):
            raise TypeError(f"exclude must be a list of names, got the str {exclude!r}")
        exclude = [*exclude] if isinstance(exclude, Iterable) else [exclude]
        if wrong := [name for name in exclude if not isinstance(name, str | tuple | list)]:
            raise TypeError(f"exclude must be a list of names, or of (table, column), got {type(wrong[0]).__name__}")
        if link_tables not in ("pure", "all"):
            raise ValueError(f"link_tables must be 'pure' or 'all', got {link_tables!r}")
        origin = {
            "database": self.url,
            "exclude": [name if isinstance(name, str) else list(name) for name in exclude],
            "min_edges": checked_int("min_edges", min_edges),
            "link_tables": link_tables,
        }
        with self._source.open() as reader:
            schema = reader.schema().without(exclude)
            found = extract(reader, schema, link_tables, progress or (lambda _: None))
        return make_plan(found, min_edges=min_edges, origin=origin)


def source_of(url: str | os.PathLike[str]) -> Source:
    """What reads a database of this address. ValueError where nothing does."""
    text = os.fspath(url) if isinstance(url, os.PathLike) else url
    if not isinstance(text, str):
        raise TypeError(f"Database: url must be a str or a path, got {type(url).__name__}")
    if text.startswith(_SQLITE):
        path = text.removeprefix("sqlite:").removeprefix("//").removeprefix("/")
        if not text.startswith("sqlite:///") or not path or path == ":memory:":
            raise ValueError(f"a SQLite address is sqlite:///PATH, or sqlite:////PATH from the root, got {text!r}")
        return SqliteSource(path)
    if text.startswith(_POSTGRES):
        return PostgresSource(text.replace("postgresql+psycopg:", "postgresql:", 1))
    if "://" not in text and Path(text).is_file():
        return SqliteSource(text)
    raise ValueError(
        "a database is sqlite:///PATH, postgresql://USER@HOST/NAME or the path of a SQLite file that is there, got "
        f"{text!r}"
    )
