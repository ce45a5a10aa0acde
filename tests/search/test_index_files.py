"""An index's folder: what is saved comes back, a killed writer harms nothing, an altered file is refused.

LONGSPAN_LONG_TESTS=1 kills 200 writers instead of 8, and tries 10,000 altered files instead of 400.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import inputs
from damage import altered_folders, killed_writers
from longspan import BinaryIndex, IndexFileError
from longspan.search.rows import Rows

IS_LONG = os.environ.get("LONGSPAN_LONG_TESTS") == "1"
STORES = ("codes", "int8", "float32")
DIM = 40
QUERIES = inputs.normal((5, DIM), 9)


def same(a: BinaryIndex, b: BinaryIndex) -> None:
    """Both give the same answers."""
    assert len(a) == len(b)
    first, second = (index.search(QUERIES, 30, oversample=2) for index in (a, b))
    np.testing.assert_array_equal(first.ids, second.ids)
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.distances, second.distances)


def small_index(store: str = "codes", rows: int = 300) -> BinaryIndex:
    index = BinaryIndex.learn(inputs.normal((50, DIM), 1), QUERIES, store=store)
    index.add(inputs.normal((rows, DIM), 2), inputs.rng(3).permutation(rows * 2)[:rows])
    return index


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("mmap", [True, False])
def test_comes_back(tmp_path: Path, store: str, mmap: bool) -> None:
    index = small_index(store)
    index.delete(index.search(QUERIES[0], 3).ids)
    index.save(tmp_path / "index")
    loaded = BinaryIndex.load(tmp_path / "index", mmap=mmap)
    same(loaded, index)
    assert loaded.info() == index.info()
    np.testing.assert_array_equal(loaded.center_queries, index.center_queries)
    np.testing.assert_array_equal(loaded.add(QUERIES), index.add(QUERIES))
    same(loaded, index)
    BinaryIndex.load(tmp_path / "index", verify=True)


def test_empty_index(tmp_path: Path) -> None:
    BinaryIndex(DIM, store="int8").save(tmp_path / "index")
    loaded = BinaryIndex.load(tmp_path / "index")
    assert len(loaded) == 0 and loaded.search(QUERIES, 3).ids.shape == (5, 0)
    loaded.add(QUERIES)
    loaded.save(tmp_path / "index")
    same(BinaryIndex.load(tmp_path / "index"), loaded)


@pytest.mark.parametrize("store", STORES)
def test_append_writes_only_what_is_new(tmp_path: Path, store: str) -> None:
    folder, index = tmp_path / "index", small_index(store, 5000)
    index.save(folder)
    before = {path.name: path.stat() for path in folder.glob("*.bin")}
    index.add(inputs.normal((100, DIM), 5))
    index.delete(np.array([index.search(QUERIES[0], 1).ids[0]]))
    index.save(folder)
    codes = folder / "codes-000001.bin"
    assert codes.stat().st_ino == before[codes.name].st_ino and codes.stat().st_size == 5100 * DIM // 8
    same(BinaryIndex.load(folder, verify=True), index)
    again = BinaryIndex.load(folder)  # an index that was loaded appends too
    again.add(inputs.normal((3, DIM), 6))
    again.save(folder)
    assert codes.stat().st_size == 5103 * DIM // 8
    same(BinaryIndex.load(folder, verify=True), again)
    again.compact()
    again.save(folder)
    assert not codes.exists() and len(list(folder.glob("codes-*.bin"))) == 1
    same(BinaryIndex.load(folder, verify=True), again)


def test_a_loaded_index_outlives_the_next_states(tmp_path: Path) -> None:
    folder, index = tmp_path / "index", small_index()
    index.save(folder)
    old = BinaryIndex.load(folder)
    index.delete(index.search(QUERIES[0], 5).ids)
    index.compact()
    index.add(QUERIES)
    index.save(folder)
    assert len(old) == 300 and old.search(QUERIES, 300).ids.shape == (5, 300)
    with pytest.raises(IndexFileError, match="the index there was changed by somebody else"):
        old.save(folder)


def test_another_index_is_not_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    small_index().save(folder)
    other = small_index("int8", 50)
    with pytest.raises(
        IndexFileError, match="another index lies there; load it, choose another folder, or pass overwrite"
    ):
        other.save(folder)
    other.save(folder, overwrite=True)
    same(BinaryIndex.load(folder, verify=True), other)
    with pytest.raises(FileNotFoundError, match="the folder .* does not exist"):
        other.save(tmp_path / "no" / "index")


def test_one_process_saves_at_a_time(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    index = small_index()
    index.save(tmp_path / "index")
    with open(tmp_path / "index" / "lock", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(IndexFileError, match="another process is saving there; wait for it"):
            index.save(tmp_path / "index")
    index.save(tmp_path / "index")


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with pytest.raises(FileNotFoundError, match=r"holds no index: there is no index.json in it"):
        BinaryIndex.load(folder)
    small_index("float32", 3000).save(folder)
    header = (folder / "index.json").read_text()

    def refused(match: str, **options: bool) -> None:
        with pytest.raises(IndexFileError, match=match):
            BinaryIndex.load(folder, **options).search(QUERIES, 100)

    (folder / "index.json").write_text(header.replace('"rows": 3000', '"rows": 2999'))
    refused("index.json was altered: its SHA-256 is not the one it states")
    (folder / "index.json").write_text(header.replace('"version": 1', '"version": 2'))
    refused("'version' must be 1, got 2; a newer longspan may read it")
    (folder / "index.json").write_text(header.replace("longspan binary", "other"))
    refused("'format' must be 'longspan binary index'")
    (folder / "index.json").write_text(header[:100])
    refused("the header is damaged")
    (folder / "index.json").write_text(header)

    for name in ("codes", "ids", "vectors", "checks"):
        path = folder / f"{name}-000001.bin"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        refused(f"{path.name} is torn: it has {len(whole) - 1} of {len(whole)} bytes")
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        refused(f"{path.name} was altered")
        if name != "checks":
            refused(f"{path.name} was altered: bytes 0 to", verify=True)
            refused(f"{path.name} was altered", mmap=False)
        path.unlink()
        refused("is missing; restore the whole folder")
        path.write_bytes(whole + b"left by a save that did not end")
    assert BinaryIndex.load(folder, verify=True).search(QUERIES, 100).ids.shape == (5, 100)


def test_a_header_that_says_nonsense_in_its_own_words(tmp_path: Path) -> None:
    """A header whose SHA-256 fits, as somebody could write who means harm."""
    folder = tmp_path / "index"
    small_index().save(folder)
    good = json.loads((folder / "index.json").read_text())
    from longspan.search.header import _digest

    changes: list[dict[str, object]] = [
        {"dim": 0},
        {"dim": 10**12},
        {"dim": "40"},
        {"rows": -1},
        {"rows": 10**15},
        {"store": "pickle"},
        {"center_queries": [1.0]},
        {"center_queries": [None] * DIM},
        {"direction_total": None},
        {"files": {}},
        {"files": {**good["index"]["files"], "more": {"name": "x", "bytes": 1}}},
        {"files": {**good["index"]["files"], "codes": {"name": "../codes", "bytes": 300 * 5}}},
        {"files": {**good["index"]["files"], "deleted": {"name": "codes-000001.bin", "bytes": 1}}},
        {"checks": {"name": "codes-000001.bin", "bytes": 4, "sha256": ""}},
        {"checks": None},
        {"is_ascending": 1},
        {"next_id": 0.5},
        {"token": None},
    ]
    for change in changes:
        body = {**good["index"], **change}
        (folder / "index.json").write_text(json.dumps({**good, "sha256": _digest(body), "index": body}))
        with pytest.raises(IndexFileError):
            BinaryIndex.load(folder)


def test_altered_files_give_an_error_or_the_right_answer(tmp_path: Path) -> None:
    good, folder = tmp_path / "good", tmp_path / "bad"
    index = small_index("int8", 2000)
    index.delete(index.search(QUERIES[0], 5).ids)
    index.save(good)
    truth, refused = index.search(QUERIES, 20), 0
    for attempt in altered_folders(good, folder, 10_000 if IS_LONG else 400):
        try:
            found = BinaryIndex.load(folder, mmap=bool(attempt & 1)).search(QUERIES, 20)
            np.testing.assert_array_equal(found.ids, truth.ids)
            np.testing.assert_array_equal(found.scores, truth.scores)
        except (IndexFileError, FileNotFoundError):
            refused += 1
    assert refused > attempt // 2
    same(BinaryIndex.load(folder), index)


WRITER = """
import sys
import numpy as np
from longspan import BinaryIndex
folder, seed = sys.argv[1], int(sys.argv[2])
rng, index = np.random.default_rng(seed), BinaryIndex.load(folder)
print("ready", flush=True)
while True:
    count = int(rng.integers(1, 3000))
    first = index._next_id
    # Row i is the binary form of i: whoever loads the index can tell what each must be.
    ids = np.arange(first, first + count)
    x = ((ids[:, None] >> np.arange(40)) & 1).astype(np.float32) - 0.5
    index.add(x, ids)
    if rng.random() < 0.3:
        index.delete(rng.choice(ids, 1))
    if rng.random() < 0.1:
        index.compact()
    index.save(folder)
    print(len(index), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_killed_writer_leaves_a_whole_state(tmp_path: Path) -> None:
    """The state that comes back is the last one reported, or the one that was just being written; no row is wrong."""
    folder = tmp_path / "index"
    BinaryIndex(40, store="int8").save(folder)
    rows = 0
    for said in killed_writers(WRITER, folder, 200 if IS_LONG else 8):
        index = BinaryIndex.load(folder, verify=True)
        last = int(said) if said else rows
        assert last <= len(index) <= last + 3000
        rows = len(index)
        for block in files_rows(index):
            expected = np.packbits(((block.ids[:, None] >> np.arange(40)) & 1).astype(np.bool_), axis=1)
            np.testing.assert_array_equal(block.codes, expected)
            np.testing.assert_array_equal(np.packbits(block.vectors > 0, axis=1), expected)
            assert (block.scales == np.float32(0.5 / 127)).all()
    assert rows > 0


def files_rows(index: BinaryIndex) -> list[Rows]:
    """Everything that an index holds."""
    from longspan.search.tail import live_blocks

    return list(live_blocks(index._segments))


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_no_write_goes_through_a_link(tmp_path: Path, link: object) -> None:
    """A folder from somebody else: what its links lead to stays as it is, and the index is saved all the same."""
    folder, index = tmp_path / "index", small_index("int8")
    index.save(folder)
    victims = []
    for name in ("index.json.new", "lock", "codes-000002.bin", "checks-000002.bin", "deleted-000002.bin"):
        victims.append(tmp_path / f"victim of {name}")
        victims[-1].write_bytes(b"keep me")
        (folder / name).unlink(missing_ok=True)
        link(victims[-1], folder / name)
    for path in [*folder.glob("codes-*1.bin"), *folder.glob("vectors-*1.bin")]:  # columns, to be grown
        victims.append(tmp_path / f"column {path.name}")
        path.rename(victims[-1])
        link(victims[-1], path)
    before = [path.read_bytes() for path in victims]
    loaded = BinaryIndex.load(folder)
    for grown in (index, loaded):
        grown.add(QUERIES)
        grown.delete(grown.ids[:1])
    loaded.save(folder)
    assert [path.read_bytes() for path in victims] == before
    same(BinaryIndex.load(folder, verify=True), index)


def test_copies_that_share_their_files_grow_apart(tmp_path: Path) -> None:
    """As `cp -al` makes them."""
    index = small_index()
    index.save(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for path in (tmp_path / "a").iterdir():
        os.link(path, tmp_path / "b" / path.name)
    a, b = BinaryIndex.load(tmp_path / "a"), BinaryIndex.load(tmp_path / "b")
    a.add(QUERIES)
    a.save(tmp_path / "a")
    b.add(-QUERIES)
    b.save(tmp_path / "b")
    same(BinaryIndex.load(tmp_path / "a", verify=True), a)
    same(BinaryIndex.load(tmp_path / "b", verify=True), b)


@pytest.mark.parametrize("store", STORES)
def test_files_that_are_shortened_while_they_are_mapped(tmp_path: Path, store: str) -> None:
    """An error that names the file; a read behind its end would end the process."""
    folder = tmp_path / "index"
    small_index(store, 3000).save(folder)
    for path in sorted(folder.glob("*-000001.bin")):
        if path.name.startswith("checks"):
            continue  # read when the index is loaded
        index, whole = BinaryIndex.load(folder), path.read_bytes()
        index.search(QUERIES, 100)
        os.truncate(path, 10)
        with pytest.raises(IndexFileError, match=rf"{path.name} was shortened while it was in use: it has 10 of"):
            index.search(QUERIES, 100)
        path.write_bytes(whole)
        index.search(QUERIES, 100)
