"""Nodes and relations of the golden databases on SQLite, and what odd databases give."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from longspan.errors import DatabaseError
from longspan.relations import Database
from longspan.relations.sources.row_numbers import RowNumbers
from retro_databases import NAMES, Golden, as_golden, from_golden, make, script

SCRIPTS = [*((name, (name,), None) for name in NAMES), ("library", ("library", "library_insert"), "after_insert")]


@pytest.mark.parametrize("name, scripts, part", SCRIPTS, ids=str)
def test_goldens(name: str, scripts: tuple[str, ...], part: str | None, tmp_path: Path) -> None:
    facts = Golden.read(name).facts
    facts = facts[part] if part else facts
    plan = Database(make(tmp_path / "x.db", *map(script, scripts))).plan()
    assert [list(node) for node in plan.nodes] == facts["nodes"]
    assert as_golden(plan.relations) == from_golden(facts["relations"])
    assert as_golden(plan.dropped) == from_golden(facts["dropped_relations"])
    columns = [{"table": c.table, "column": c.column, "nodes": list(range(c.start, c.stop))} for c in plan.columns]
    assert columns == facts["columns"]


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    plan = Database(make(tmp_path / "x.db", script("quirks"))).plan()
    assert plan.warnings == ["the foreign key sightings (score) leads to a table that is not there, nowhere"]


HOSTILE = """
CREATE TABLE "a""; DROP TABLE b; --" (id INTEGER PRIMARY KEY, "text""; --" TEXT, "rowid" TEXT, "select" TEXT);
CREATE TABLE b (id INTEGER PRIMARY KEY, "[x]" TEXT, up INTEGER REFERENCES "a""; DROP TABLE b; --"(id));
CREATE VIEW one AS SELECT * FROM two;
CREATE VIEW two AS SELECT * FROM one;
CREATE VIRTUAL TABLE pages USING fts5(body);
INSERT INTO pages VALUES ('a page');
INSERT INTO "a""; DROP TABLE b; --" VALUES (5, 'x', 'r1', 's1'), (9, 'y', 'r2', NULL), (7, 'z', 'r2', 's2');
INSERT INTO b VALUES (1, 'one', 5), (2, 'two', 9), (3, 'three', 9), (4, 'four', 77), (5, NULL, 7);
"""


def test_names_are_never_sql(tmp_path: Path) -> None:
    path = make(tmp_path / "it's a 100% #?.db", HOSTILE)
    before = path.read_bytes()
    plan = Database(path).plan()
    name = 'a"; DROP TABLE b; --'
    assert {(column.table, column.column) for column in plan.columns} == {
        (name, 'text"; --'), (name, "rowid"), (name, "select"), ("b", "[x]"),
    }  # fmt: skip
    joined = next(r for r in plan.relations if r.kind == "fk" and r.target == (name, "rowid"))
    texts = plan.texts
    assert {(texts[a], texts[b]) for a, b in joined.pairs.tolist()} == {("one", "r1"), ("two", "r2"), ("three", "r2")}
    plan = Database(path).plan(exclude=[(name, "rowid"), ("b", "[x]")])
    assert {column.column for column in plan.columns} == {'text"; --', "select"}
    assert path.read_bytes() == before


KEYS = """
CREATE TABLE pair (a TEXT, b INTEGER, label TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE uses (id INTEGER PRIMARY KEY, word TEXT, pa TEXT, pb INTEGER, FOREIGN KEY (pb, pa) REFERENCES pair (b, a));
CREATE TABLE folded (name TEXT COLLATE NOCASE);
INSERT INTO pair VALUES ('k', 1, 'k1'), ('k', 2, 'k2'), ('l', 1, 'l1');
INSERT INTO uses VALUES (1, 'w1', 'k', 1), (2, 'w2', 'k', 2), (3, 'w3', NULL, 1), (4, 'w4', 'l', 2), (5, 'w5', 'l', 1);
INSERT INTO folded VALUES ('Word'), ('word'), ('WORD'), ('word '), (X'ff'), (CAST(X'ff41' AS TEXT)), (' '), (char(9));
"""


def test_composite_keys_collations_and_bytes(tmp_path: Path) -> None:
    plan = Database(make(tmp_path / "x.db", KEYS)).plan()
    (relation,) = (r for r in plan.relations if r.source == ("uses", "word") and r.target == ("pair", "label"))
    texts = plan.texts
    assert [(texts[a], texts[b]) for a, b in relation.pairs.tolist()] == [("w1", "k1"), ("w2", "k2"), ("w5", "l1")]
    column = plan.column("folded.name")
    assert texts[column.start : column.stop] == ["WORD", "Word", "word", "word "]
    assert plan.warnings == ["folded.name: 1 values are not UTF-8 and count as NULL"]


def test_link_tables(tmp_path: Path) -> None:
    tables = """
    CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE b (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE ab (a INTEGER REFERENCES a, b INTEGER REFERENCES b, note TEXT);
    INSERT INTO a VALUES (1, 'a1'), (2, 'a2'); INSERT INTO b VALUES (1, 'b1'), (2, 'b2');
    INSERT INTO ab VALUES (1, 1, 'n1'), (2, 2, 'n2'), (1, 2, 'n3'), (1, 2, 'n4');
    """
    database = Database(make(tmp_path / "x.db", tables))
    assert {r.kind for r in database.plan().relations} == {"fk"}
    joined = [r for r in database.plan(link_tables="all").relations if r.kind == "link"]
    assert len(joined) == 1 and joined[0].count == 3
    # Without its text the table only links: excluding a column is as if the database did not have it.
    assert [r.kind for r in database.plan(exclude=["ab.note"]).relations] == ["link"]
    assert database.plan(exclude=["ab.note", "ab.b"]).relations == []
    with pytest.raises(ValueError, match="link_tables must be 'pure' or 'all', got 'some'"):
        database.plan(link_tables="some")


def test_exclude(tmp_path: Path) -> None:
    database = Database(make(tmp_path / "x.db", script("library")))
    plan = database.plan(exclude=["genres", "works.language", ("authors", "country")])
    names = {column.name for column in plan.columns}
    assert "genres.name" not in names and "works.language" not in names and "authors.name" in names
    assert not any(r.table == "authors" and r.columns == ("country",) for r in plan.relations)
    whole = database.plan()
    whole.exclude("genres.name", "works.language")
    assert list(whole.nodes) == [
        node for node in database.plan().nodes if node[:2] not in (("genres", "name"), ("works", "language"))
    ]
    for wrong in ("nothing", "works.nothing", "works.title.x"):
        with pytest.raises(ValueError, match=f"exclude: the database has no table or column '{wrong}'"):
            database.plan(exclude=[wrong])
    with pytest.raises(TypeError, match="exclude must be a list of names, got the str 'genres'"):
        database.plan(exclude="genres")


def test_plans_can_be_edited(tmp_path: Path) -> None:
    plan = Database(make(tmp_path / "x.db", script("library"))).plan()
    first = plan.relations[0]
    plan.exclude(first.name)
    assert first.name not in {relation.name for relation in plan.relations}
    own = plan.add_relation("works.title", "genres.name", [("Midnight Desk", "Haiku"), ("Midnight Desk", "Haiku")])
    assert own.count == 1 and own.samples == (("Midnight Desk", "Haiku"),) and own.name.endswith("(own)")
    with pytest.raises(ValueError, match="genres.name has no value 'Opera'"):
        plan.add_relation("works.title", "genres.name", [("Midnight Desk", "Opera")])
    with pytest.raises(ValueError, match="the plan has no column 'works.nothing'; its columns are authors.name, "):
        plan.exclude("works.nothing")
    assert plan.nodes[-1] == plan.nodes[len(plan.nodes) - 1] and plan.nodes[2:4] == [plan.nodes[2], plan.nodes[3]]


def test_codes_are_doubted(tmp_path: Path) -> None:
    rows = ",".join(f"('https://example.org/{n:05}', 'word {chr(97 + n % 26)} and more')" for n in range(200))
    make(tmp_path / "x.db", f"CREATE TABLE t (link TEXT, words TEXT); INSERT INTO t VALUES {rows}")
    link, words = Database(tmp_path / "x.db").plan().columns
    assert link.warnings and "codes" in link.warnings[0] and not words.warnings


def test_a_large_link_table(tmp_path: Path) -> None:
    """10^5 rows, of which some repeat."""
    tables = """
    CREATE TABLE a (id INTEGER PRIMARY KEY, name TEXT); CREATE TABLE b (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE ab (a INTEGER REFERENCES a, b INTEGER REFERENCES b);
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
      INSERT INTO a SELECT i * 3, 'a' || i FROM n;
    INSERT INTO b SELECT id, 'b' || name FROM a;
    WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999)
      INSERT INTO ab SELECT i * 7919 % 1000 * 3, i * i % 997 * 3 FROM n;
    """
    plan = Database(make(tmp_path / "x.db", tables)).plan()
    (relation,) = plan.relations
    i = np.arange(100_000, dtype=np.int64)
    expected = {(f"a{a}", f"ba{b}") for a, b in zip((i * 7919 % 1000).tolist(), (i * i % 997).tolist())}
    assert {(plan.texts[a], plan.texts[b]) for a, b in relation.pairs.tolist()} == expected


def test_nothing_to_read(tmp_path: Path) -> None:
    plan = Database(make(tmp_path / "x.db", "CREATE TABLE t (n INTEGER)")).plan()
    assert len(plan.nodes) == 0 and plan.relations == []
    assert plan.warnings == ["the database has no text: no column of a text type holds any"]


def test_addresses(tmp_path: Path) -> None:
    assert Database("sqlite:////a/b.db").url == "sqlite:////a/b.db"
    assert Database("sqlite:///b.db").url == "sqlite:///b.db"
    assert "secret" not in repr(Database("postgresql://me:secret@host:5/name?password=secret&x=1"))
    for wrong in ("mysql://x/y", "sqlite:///", "sqlite:///:memory:", "sqlite:x", str(tmp_path / "none.db")):
        with pytest.raises(ValueError, match="SQLite"):
            Database(wrong)
    with pytest.raises(DatabaseError, match="none.db: no such database file"):
        Database(f"sqlite:///{tmp_path}/none.db").plan()


@pytest.mark.parametrize("seed", range(40))
def test_damage_is_told(seed: int, tmp_path: Path) -> None:
    """Bytes changed anywhere: a plan or one sentence, never a crash, and always an end."""
    path = make(tmp_path / "x.db", script("library"), script("quirks"))
    raw = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(100 if seed % 4 else 0, len(raw), 1 + seed % 30):
        raw[place] = rng.integers(256)
    path.write_bytes(bytes(raw[: len(raw) - (seed % 3) * 1000]))
    with contextlib.suppress(DatabaseError):
        Database(path).plan()


def test_no_database_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(DatabaseError, match=r"x.db: file is not a database \(while opening it\)"):
        Database(path).plan()


def test_rows_that_a_table_does_not_have() -> None:
    """What a damaged index gives is no row of another."""
    for keys in (np.arange(5, 15), np.array([5, 7, 9]), np.array([9, 5, 7])):
        rows = RowNumbers(keys)
        np.testing.assert_array_equal(rows.of(keys), np.arange(len(keys)))
        for wrong in (4, 8 if len(keys) == 3 else 15, 100, -3):
            with pytest.raises(DatabaseError, match="a join gives rows that the table does not"):
                rows.of(np.array([5, wrong]))
