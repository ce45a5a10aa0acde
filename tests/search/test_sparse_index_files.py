"""A sparse index's folder: altered files are refused or unused; a killed writer leaves what it saved last."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import damage
import inputs
from longspan import IndexFileError, SparseIndex, SparseVectors
from longspan.search import files
from longspan.search.segment import Segment

DIM = 3000


def documents(count: int, seed: int) -> SparseVectors:
    """Rows of 60 entries, of which nothing is known but the seed."""
    rng = inputs.rng(seed)
    terms = np.sort(rng.permuted(np.tile(np.arange(DIM), (count, 1)), axis=1)[:, :60], axis=1)
    values = rng.random(count * 60, np.float32) + np.float32(0.1)
    return SparseVectors(np.arange(0, 60 * count + 1, 60), terms.reshape(-1).astype(np.int32), values, DIM)


def test_altered_files(tmp_path: Path) -> None:
    """Every answer is the right one, or an error that names the file."""
    index, queries = SparseIndex(DIM), documents(4, 2)
    index.add(documents(400, 1))
    index.delete(np.array([3, 7]))
    index.save(tmp_path / "good")
    want = index.search(queries, 20)
    refused = 0
    for _ in damage.altered_folders(tmp_path / "good", tmp_path / "bad", 300):
        try:
            got = SparseIndex.load(tmp_path / "bad").search(queries, 20)
        except (IndexFileError, FileNotFoundError):
            refused += 1
        else:
            np.testing.assert_array_equal(got.ids, want.ids)
            np.testing.assert_array_equal(got.scores, want.scores)
    assert refused > 150


WRITER = """
import sys
import numpy as np
from longspan import SparseIndex, SparseVectors

folder, seed = sys.argv[1], int(sys.argv[2])
try:
    index = SparseIndex.load(folder)
except FileNotFoundError:
    index = SparseIndex(1000)
print("ready", flush=True)
for step in range(10_000):
    n = 40 + (seed + step) % 50
    first = len(index)
    terms = (np.arange(first, first + n)[:, None] * 7 + np.arange(0, 1000, 100)) % 1000
    terms.sort(axis=1)
    ones = np.ones(10 * n, np.float32)
    rows = SparseVectors(np.arange(0, 10 * n + 1, 10), terms.reshape(-1).astype(np.int32), ones, 1000)
    index.add(rows)
    if step % 5 == 4:
        index.compact()
    index.save(folder)
    print(len(index), flush=True)
"""


def test_killed_writers(tmp_path: Path) -> None:
    """What was said to be saved is there and whole, and nothing that was never added."""
    folder, least = tmp_path / "index", 0
    for said in damage.killed_writers(WRITER, folder, 12):
        least = int(said or least)
        if not (folder / "index.json").exists():
            assert least == 0
            continue
        index = SparseIndex.load(folder, verify=True)
        assert len(index) >= least
        least = len(index)
        for document in (0, least - 1):
            terms = np.sort((document * 7 + np.arange(0, 1000, 100)) % 1000).astype(np.int32)
            query = SparseVectors(np.array([0, 10]), terms, np.ones(10, np.float32), 1000)
            found = index.search(query, least)
            assert document in found.ids[0] and found.scores[0, 0] == 10


def test_files_that_are_shortened_while_they_are_mapped(tmp_path: Path) -> None:
    folder, index = tmp_path / "index", SparseIndex(1000)
    index.add([{row % 1000: 1.0, (row + 7) % 1000: 2.0} for row in range(9000)])
    index.save(folder)
    for path in sorted(folder.glob("*-000001.bin")):
        if path.name.startswith(("checks", "docends", "termends")):
            continue  # read when the index is loaded, or no longer than 10 bytes
        mapped, whole = SparseIndex.load(folder), path.read_bytes()
        mapped.search([{1: 1.0}], 5)
        os.truncate(path, 10)
        with pytest.raises(IndexFileError, match=rf"{path.name} was shortened while it was in use"):
            mapped.search([{1: 1.0}], 5)
        path.write_bytes(whole)


def _lies(**columns: object) -> Callable[[dict[str, np.ndarray]], None]:
    """Sets entries of columns, given as (place, value); a list replaces the whole column."""

    def change(own: dict[str, np.ndarray]) -> None:
        for name, lie in columns.items():
            if isinstance(lie, list):
                own[name] = np.array(lie, own[name].dtype)
            else:
                place, value = lie  # type: ignore[misc]
                own[name][place] = value

    return change


@pytest.mark.parametrize(
    "change, fails",
    [
        (_lies(docends=(0, -1)), "search compact"),
        (_lies(docends=(0, 201)), "search compact"),
        (_lies(docends=(0, 199)), "search compact"),
        (_lies(docends=(0, 2**63 - 1)), "search compact"),
        (_lies(docends=(0, -(2**63))), "search compact"),
        (_lies(docends=[], termends=[]), "search compact"),
        (_lies(docends=[60_000, 200], termends=[0, 40]), "search compact"),  # more than all before fewer
        (_lies(termends=(0, -1)), "search compact"),
        (_lies(termends=(0, 10**6)), "search compact"),
        (_lies(termends=(0, 2**63 - 1)), "search compact"),
        (_lies(ends=(2, 10**9)), "search compact"),
        (_lies(ends=(2, -(2**63))), "search compact"),
        (_lies(ends=(-1, 0)), "search compact"),
        (_lies(terms=(0, -5)), "compact"),
        (_lies(terms=(-1, 10**9)), "compact"),
        (_lies(docs=(0, 65_535)), "compact"),
        (_lies(values=(0, np.nan)), "compact"),
        (_lies(values=(0, -1)), "compact"),
    ],
)
def test_columns_that_lie_with_right_checksums(
    change: Callable[[dict[str, np.ndarray]], None], fails: str, tmp_path: Path
) -> None:
    """Somebody else's folder may say anything: an error that blames the files, never a read outside of them."""
    rng, index = inputs.rng(4), SparseIndex(40)
    dense = rng.random((200, 40), np.float32)
    index.add(SparseVectors.from_dense(np.where(rng.random((200, 40)) < 0.3, dense, 0)))
    [segment] = index._segments
    columns = {name: np.array(column) for name, column in segment.rows.columns().items()}
    change(columns)
    index._segments = (Segment(replace(segment.rows, **columns), is_ascending=True),)
    files.save(tmp_path / "index", index._state(), index._segments, None, overwrite=False)
    query: list[dict[int, float]] = [dict.fromkeys(range(40), 1.0)]
    calls: dict[str, Callable[[SparseIndex], object]] = {
        "search": lambda lying: lying.search(query, 10),
        "filtered": lambda lying: lying.search(query, 10, filter=np.arange(9)),
        "compact": lambda lying: lying.compact(),
    }
    for name, call in calls.items():
        lying = SparseIndex.load(tmp_path / "index", verify=True)
        if name.replace("filtered", "search") in fails:
            with pytest.raises(IndexFileError, match="the index's files contradict each other"):
                call(lying)
        else:
            call(lying)


def test_a_query_that_is_none_is_not_the_files_fault(tmp_path: Path) -> None:
    index = SparseIndex(40)
    index.add([{3: 1.0}])
    index.save(tmp_path / "index")
    query = SparseVectors(np.array([0, 2]), np.array([3, 1], np.int32), np.ones(2, np.float32), 40)
    for searched in (SparseIndex.load(tmp_path / "index"), index):
        with pytest.raises(ValueError, match="rise") as told:
            searched.search(query, 1)
        assert not isinstance(told.value, IndexFileError)
