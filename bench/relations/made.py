"""A database of any size with degrees as real ones have them: few values with very many partners, many with few."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

# Shares of the text values by table; a work refers to a place, a person too; two link tables share the other pairs.
TABLES: Final = {"person": 0.4, "work": 0.4, "tag": 0.1, "place": 0.1}
SKEW: Final = 3.0  # ranks are drawn as u^SKEW: a tenth of the tags has half of all links
_ROWS: Final = 200_000


def make(path: Path, values: int, pairs: int, seed: int = 0) -> Path:
    """A SQLite file with `values` distinct texts and about `pairs` distinct pairs, most of them through link tables."""
    rng = np.random.default_rng(seed)
    sizes = {table: max(2, int(values * share)) for table, share in TABLES.items()}
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY")
    connection.executescript("""
        CREATE TABLE place (id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE tag (id INTEGER PRIMARY KEY, name TEXT);
        CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, place INTEGER REFERENCES place);
        CREATE TABLE work (id INTEGER PRIMARY KEY, title TEXT, place INTEGER REFERENCES place);
        CREATE TABLE work_person (work INTEGER REFERENCES work, person INTEGER REFERENCES person);
        CREATE TABLE work_tag (work INTEGER REFERENCES work, tag INTEGER REFERENCES tag);
    """)
    for table in ("place", "tag"):
        connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", _texts(table, sizes[table]))
    for table in ("person", "work"):
        places = _skewed(rng, sizes["place"], sizes[table]).tolist()
        rows = ((*row, place) for row, place in zip(_texts(table, sizes[table]), places))
        connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)
    left = max(2, (pairs - sizes["person"] - sizes["work"]) // 2)
    for table, other in (("work_person", "person"), ("work_tag", "tag")):
        for block in _links(rng, sizes["work"], sizes[other], left):
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", block.tolist())
    connection.commit()
    connection.close()
    return path


def _texts(table: str, count: int) -> Iterator[tuple[int, str]]:
    return (
        (number, f"{table} of the {number * 7919 % 1009}th kind, number {number}") for number in range(1, count + 1)
    )


def _skewed(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    """(count,) numbers from 1 to size, low ones far more often."""
    found: np.ndarray = (size * rng.random(count) ** SKEW).astype(np.int64) + 1
    return found


def _links(rng: np.random.Generator, works: int, others: int, wanted: int) -> Iterator[np.ndarray]:
    """Distinct pairs, in blocks: works evenly, the others skewed."""
    keys = np.empty(0, np.int64)
    while len(keys) < min(wanted, works * others // 2):
        more = (rng.integers(1, works + 1, wanted) * (others + 1)) + _skewed(rng, others, wanted)
        keys = np.unique(np.concatenate([keys, more]))
    keys = rng.permutation(keys)[:wanted]
    pairs = np.stack(np.divmod(keys, others + 1), axis=1)
    for start in range(0, len(pairs), _ROWS):
        yield pairs[start : start + _ROWS]
