"""Results in files and tables: what goes in comes back, nothing else is touched, a killed process leaves no half."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from longspan.errors import DatabaseError
from longspan.relations import Database, Retrofitted, retrofit
from longspan.vectors.origin import Origin
from retro_databases import KILLED, Golden, make, script

GOLDEN = Golden.read("library")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make(tmp_path / "x.db", script("library"))


def result_of(path: Path) -> Retrofitted:
    plan = Database(path).plan(exclude=["awards"])
    plan.relations[1].weight = 0.5
    base = GOLDEN.base(plan, "missing/rn_anchor")
    result = retrofit(plan, base)
    result.model, result.origin = "golden", Origin("abc", "float32")
    return result


def assert_same(got: Retrofitted, expected: Retrofitted) -> None:
    np.testing.assert_array_equal(got.vectors, expected.vectors)
    np.testing.assert_array_equal(got.base, expected.base)
    assert list(got.nodes) == list(expected.nodes)
    assert (got.settings, got.steps, got.change, got.model, got.origin) == (
        expected.settings, expected.steps, expected.change, expected.model, expected.origin,
    )  # fmt: skip
    assert got.plan.origin == expected.plan.origin
    for mine, theirs in ((got.plan.relations, expected.plan.relations), (got.plan.dropped, expected.plan.dropped)):
        assert [(r.name, r.weight, r.pairs.tolist()) for r in mine] == [
            (r.name, r.weight, r.pairs.tolist()) for r in theirs
        ]


@pytest.mark.parametrize("out", ["{}/r.npz", "sqlite:///{}/new.db", "sqlite:///{}/x.db"])
def test_there_and_back(out: str, path: Path) -> None:
    result, place = result_of(path), out.format(path.parent)
    result.save(place)
    assert_same(Retrofitted.load(place), result)
    with pytest.raises(FileExistsError, match="exists; force replaces it"):
        result.save(place)
    result.save(place, force=True)
    updated = Retrofitted.load(place).update(Database(path), GOLDEN)
    report = updated.report
    assert report.added == report.removed == 0
    np.testing.assert_array_equal(updated.vectors, result.vectors)
    assert sorted(p.name for p in path.parent.iterdir()) in (["r.npz", "x.db"], ["new.db", "x.db"], ["x.db"])


def test_our_own_tables_are_no_source(path: Path) -> None:
    plan = Database(path).plan()
    result_of(path).save(f"sqlite:///{path}", table='my "vectors"')
    again = Database(path).plan()
    assert list(again.nodes) == list(plan.nodes) and len(again.relations) == len(plan.relations)
    names = {row[0] for row in sqlite3.connect(path).execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {'my "vectors"', 'my "vectors"_meta'} < names


def test_a_table_of_somebody_else(path: Path) -> None:
    result = result_of(path)
    for name in ("works", "WORKS"):
        with pytest.raises(DatabaseError, match="(?i)works is there and is not ours; name another table"):
            result.save(f"sqlite:///{path}", table=name, force=True)
    assert sqlite3.connect(path).execute("SELECT count(*) FROM works").fetchone() == (14,)


def test_parquet(path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    result, out = result_of(path), path.parent / "r.parquet"
    result.save(out)
    table = pq.read_table(out)
    assert table.column_names == ["table", "column", "text", "vector"]
    rows = table.to_pydict()
    assert list(zip(rows["table"], rows["column"], rows["text"])) == list(result.nodes)
    np.testing.assert_array_equal(np.array(rows["vector"], np.float32), result.vectors)
    with pytest.raises(ValueError, match="a Parquet file has vectors alone"):
        Retrofitted.load(out)


def test_wrong_places(path: Path) -> None:
    result = result_of(path)
    for out, kind, message in (
        ("r.txt", ValueError, "a result is kept in FILE.npz, FILE.parquet, sqlite:///FILE or postgresql"),
        (path.parent / "none" / "r.npz", FileNotFoundError, "the folder .* does not exist"),
        (f"sqlite:///{path.parent}/none/x.db", FileNotFoundError, "the folder .* does not exist"),
    ):
        with pytest.raises(kind, match=message):
            result.save(out)
    with pytest.raises(ValueError, match="a file has no tables, got table='t'"):
        result.save(path.parent / "r.npz", table="t")
    with pytest.raises(DatabaseError, match="no vectors of longspan are there"):
        Retrofitted.load(f"sqlite:///{path}")
    with pytest.raises(FileNotFoundError):
        Retrofitted.load(path.parent / "none.npz")


@pytest.mark.parametrize("seed", range(30))
def test_damaged_files(seed: int, path: Path) -> None:
    """Bytes changed or cut off: the same result, or one sentence."""
    result = result_of(path)
    out = path.parent / "r.npz"
    result.save(out)
    raw = bytearray(out.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(len(raw) // 2 if seed % 2 else 0, len(raw), 1 + seed):
        raw[place] ^= 1 << int(rng.integers(8))
    out.write_bytes(bytes(raw[: len(raw) - 100 * (seed % 3)]))
    with pytest.raises(DatabaseError, match=r"r\.npz"):
        Retrofitted.load(out)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("out", ["r.npz", "r.parquet", "sqlite:///r.db"])
def test_killed_while_writing(out: str, path: Path) -> None:
    """The old result is there whole, or the new one."""
    if out.endswith("parquet"):
        pytest.importorskip("pyarrow")
    result, folder = result_of(path), path.parent
    place = out.replace("r.", f"{folder}/r.")
    result.save(place)
    for delay in (0.05, 0.3):
        child = subprocess.Popen([sys.executable, "-c", KILLED, place], stdout=subprocess.PIPE, env=_environment())
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if out.endswith("parquet"):
            pq = pytest.importorskip("pyarrow.parquet")
            assert len(pq.read_table(place)) in (len(result.nodes), 200_000)
            continue
        found = Retrofitted.load(place)
        assert len(found.nodes) in (len(result.nodes), 200_000)
        if len(found.nodes) == len(result.nodes):
            assert_same(found, result)


def _environment() -> dict[str, str]:
    import longspan

    return {**os.environ, "PYTHONPATH": str(Path(longspan.__file__).parents[1])}


def test_a_failure_midway_leaves_what_was_there(path: Path) -> None:
    result, place = result_of(path), f"sqlite:///{path}"
    result.save(place)
    before = path.read_bytes()
    broken = Retrofitted(result.plan, result.vectors[:-3], result.base, result.settings, 1, 0.0)
    with pytest.raises(IndexError):
        broken.save(place, force=True)
    assert path.read_bytes() == before
    assert_same(Retrofitted.load(place), result)
