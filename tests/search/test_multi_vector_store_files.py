"""A multi-vector store's folder: what is saved comes back, ranking reads what it needs, damage is refused.

LONGSPAN_LONG_TESTS=1 kills 200 writers instead of 8, and tries 10,000 altered files instead of 300.
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
from longspan import BinaryIndex, IndexFileError, MultiVectorStore
from longspan.search.file_checks import BLOCK

IS_LONG = os.environ.get("LONGSPAN_LONG_TESTS") == "1"
STORES = ("float16", "int8", "binary")
DIM = 24
QUERIES = [inputs.normal((tokens, DIM), 9, tokens) for tokens in (3, 1, 6)]


def documents(count: int, seed: int) -> list[np.ndarray]:
    lengths = inputs.rng(seed, count).integers(1, 12, count)
    return [inputs.normal((int(length), DIM), seed, place) for place, length in enumerate(lengths)]


def small_store(store: str = "float16", count: int = 200) -> MultiVectorStore:
    made = MultiVectorStore(DIM, store=store)
    made.add(documents(count, 2), inputs.rng(3).permutation(count * 2)[:count])
    return made


def same(a: MultiVectorStore, b: MultiVectorStore) -> None:
    """Both give the same answers."""
    assert a.info() == b.info()
    np.testing.assert_array_equal(a.ids, b.ids)
    np.testing.assert_array_equal(a.score(QUERIES), b.score(QUERIES))
    np.testing.assert_array_equal(a.search(QUERIES, 30).ids, b.search(QUERIES, 30).ids)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("mmap", [True, False])
def test_comes_back(tmp_path: Path, store: str, mmap: bool) -> None:
    made, kept = small_store(store), small_store(store)
    for each in (made, kept):
        each.delete(each.ids[:5])
    made.save(tmp_path / "store")
    same(made, kept)  # it reads from the folder now
    loaded = MultiVectorStore.load(tmp_path / "store", mmap=mmap)
    same(loaded, kept)
    for each in (loaded, kept, made):
        each.add(documents(4, 5))
    same(loaded, kept)
    same(made, kept)


@pytest.mark.parametrize("store", STORES)
def test_append_writes_only_what_is_new(tmp_path: Path, store: str) -> None:
    """Stores that were saved, and stores that were loaded, append; compacting makes new files."""
    folder, made, kept = tmp_path / "store", small_store(store, 3000), small_store(store, 3000)
    made.save(folder)
    tokens = folder / "tokens-000001.bin"
    before, grown = tokens.stat(), tokens.read_bytes()
    for seed in (5, 6):
        for each in (made, kept):
            each.add(documents(50, seed))
            each.delete(each.ids[seed : seed + 2])
        made.save(folder)
        same(MultiVectorStore.load(folder, verify=True), kept)
        made = MultiVectorStore.load(folder)
    assert tokens.stat().st_ino == before.st_ino and tokens.read_bytes().startswith(grown)
    for each in (made, kept):
        each.compact()
    made.save(folder)
    assert not tokens.exists() and len(list(folder.glob("tokens-*.bin"))) == 1 and not list(folder.glob("deleted*"))
    same(MultiVectorStore.load(folder, verify=True), kept)
    made.save(tmp_path / "copy")
    same(MultiVectorStore.load(tmp_path / "copy", verify=True), kept)


def test_empty_store(tmp_path: Path) -> None:
    MultiVectorStore(DIM, store="int8").save(tmp_path / "store")
    loaded = MultiVectorStore.load(tmp_path / "store")
    assert len(loaded) == 0 and loaded.search(QUERIES, 3).ids.shape == (3, 0)
    loaded.add(documents(3, 1))
    loaded.save(tmp_path / "store")
    same(MultiVectorStore.load(tmp_path / "store"), loaded)


def test_ranking_reads_only_what_the_candidates_need(tmp_path: Path) -> None:
    """With every other block of the vectors altered, ranking documents of whole blocks still gives what it gave."""
    folder = tmp_path / "store"
    made = MultiVectorStore(DIM)
    made.add([inputs.normal((100, DIM), place) for place in range(400)])
    made.save(folder)
    document_bytes = 100 * DIM * 2
    blocks = [set(range(i * document_bytes // BLOCK, ((i + 1) * document_bytes - 1) // BLOCK + 1)) for i in range(400)]
    wanted = np.array([i for i in range(400) if 4 not in blocks[i] and 17 not in blocks[i]])
    some = wanted[::7]
    expected = made.rank(QUERIES[0], some, top_k=10)
    path = folder / "tokens-000001.bin"
    whole = bytearray(path.read_bytes())
    for block in (4, 17):
        whole[block * BLOCK : (block + 1) * BLOCK] = bytes(BLOCK)
    path.write_bytes(whole)
    fresh = MultiVectorStore.load(folder)
    assert fresh.rank(QUERIES[0], some, top_k=10) == expected
    checked = fresh._segments[0].checks._is_good["tokens"]  # type: ignore[union-attr]
    assert np.flatnonzero(checked).tolist() == sorted(set().union(*(blocks[i] for i in some.tolist())))
    with pytest.raises(
        IndexFileError, match=f"tokens-000001.bin was altered: bytes {4 * BLOCK} to {5 * BLOCK} are not"
    ):
        fresh.search(QUERIES, 3)


def test_a_loaded_store_outlives_the_next_states(tmp_path: Path) -> None:
    folder, made = tmp_path / "store", small_store()
    made.save(folder)
    old, kept = MultiVectorStore.load(folder), small_store()
    made.delete(made.ids[:5])
    made.compact()
    made.save(folder)
    same(old, kept)
    with pytest.raises(IndexFileError, match="the index there was changed by somebody else"):
        old.save(folder)
    with pytest.raises(IndexFileError, match="another index lies there"):
        small_store("int8").save(folder)
    small_store("int8").save(folder, overwrite=True)
    same(MultiVectorStore.load(folder), small_store("int8"))


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with pytest.raises(FileNotFoundError, match=r"holds no index: there is no index.json in it"):
        MultiVectorStore.load(folder)
    BinaryIndex(DIM).save(tmp_path / "index")
    with pytest.raises(IndexFileError, match="'format' must be 'longspan multi-vector store', got 'longspan binary"):
        MultiVectorStore.load(tmp_path / "index")
    small_store("int8").save(folder)
    for name in ("ids", "ends", "tokens", "scales", "checks"):
        path = folder / f"{name}-000001.bin"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        with pytest.raises(IndexFileError, match=f"{name}-000001.bin is torn: it has {len(whole) - 1} of {len(whole)}"):
            MultiVectorStore.load(folder)
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        with pytest.raises(IndexFileError, match=f"{name}-000001.bin was altered"):
            MultiVectorStore.load(folder).search(QUERIES, 3)
        path.write_bytes(whole + b"left by a save that did not end")
    same(MultiVectorStore.load(folder, verify=True), small_store("int8"))


def test_a_header_that_says_nonsense_in_its_own_words(tmp_path: Path) -> None:
    """A header whose SHA-256 fits, and ends that lie though their checksum fits: errors, never a wrong read."""
    from longspan.search.header import _digest

    folder = tmp_path / "store"
    small_store().save(folder)
    good = json.loads((folder / "index.json").read_text())
    changes: list[dict[str, object]] = [
        {"dim": 0}, {"dim": 23}, {"rows": -1}, {"rows": 201}, {"tokens": 10**15}, {"tokens": -1}, {"tokens": None},
        {"store": "binary"}, {"store": "codes"}, {"files": {}}, {"next_id": "0"},
    ]  # fmt: skip
    for change in changes:
        body = {**good["index"], **change}
        (folder / "index.json").write_text(json.dumps({**good, "sha256": _digest(body), "index": body}))
        with pytest.raises(IndexFileError):
            MultiVectorStore.load(folder)
    for ends in ([0, 5, 9], [7, 5, 9], [-3, 5, 9], [4, 5, 10**9]):
        liar = MultiVectorStore(DIM)
        liar.add(documents(3, 1))
        liar._segments[0].rows.ends[:] = ends
        with pytest.raises(IndexFileError, match="the store's files contradict each other"):
            liar.score(QUERIES)


def test_altered_files_give_an_error_or_the_right_answer(tmp_path: Path) -> None:
    made, refused = small_store("int8", 1500), 0
    made.delete(made.ids[:5])
    made.save(tmp_path / "good")
    truth = made.search(QUERIES, 20)
    some = truth.ids[0]
    ranked = made.rank(QUERIES[0], some)
    for attempt in altered_folders(tmp_path / "good", tmp_path / "bad", 10_000 if IS_LONG else 300):
        try:
            store = MultiVectorStore.load(tmp_path / "bad", mmap=bool(attempt & 1))
            assert store.rank(QUERIES[0], some) == ranked
            found = store.search(QUERIES, 20)
            np.testing.assert_array_equal(found.ids, truth.ids)
            np.testing.assert_array_equal(found.scores, truth.scores)
        except (IndexFileError, FileNotFoundError):
            refused += 1
    assert refused > attempt // 2


WRITER = """
import sys
import numpy as np
from longspan import MultiVectorStore
folder, seed = sys.argv[1], int(sys.argv[2])
rng, store = np.random.default_rng(seed), MultiVectorStore.load(folder)
print("ready", flush=True)
while True:
    count = int(rng.integers(1, 400))
    ids = np.arange(store._next_id, store._next_id + count)
    # Document i has i % 5 + 1 tokens, of which each says i: whoever loads the store can tell what each must be.
    store.add([np.tile(((i >> np.arange(24)) & 1) - 0.5, (i % 5 + 1, 1)) for i in ids.tolist()], ids)
    if rng.random() < 0.3:
        store.delete(rng.choice(ids, 1))
    if rng.random() < 0.1:
        store.compact()
    store.save(folder)
    print(len(store), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_killed_writer_leaves_a_whole_state(tmp_path: Path) -> None:
    """The state that comes back is the last one reported, or the one that was just being written; no row is wrong."""
    folder = tmp_path / "store"
    MultiVectorStore(DIM, store="int8").save(folder)
    count = 0
    for said in killed_writers(WRITER, folder, 200 if IS_LONG else 8):
        store = MultiVectorStore.load(folder, verify=True)
        last = int(said) if said else count
        assert last <= len(store) <= last + 400
        count = len(store)
        for segment in store._segments:
            rows = segment.rows
            assert rows.scales is not None and (rows.scales == np.float32(0.5 / 127)).all()
            owners = np.repeat(rows.ids, np.diff(rows.ends, prepend=0))
            np.testing.assert_array_equal(np.diff(rows.ends, prepend=0), rows.ids % 5 + 1)
            np.testing.assert_array_equal(rows.tokens > 0, (owners[:, None] >> np.arange(24)) & 1)
    assert count > 0


def test_files_that_are_shortened_while_they_are_mapped(tmp_path: Path) -> None:
    folder, store = tmp_path / "store", MultiVectorStore(16, store="int8")
    store.add(list(inputs.normal((400, 50, 16), 3)))
    store.save(folder)
    query = inputs.normal((3, 16), 4)
    for name in ("ids", "ends", "tokens", "scales"):
        path = folder / f"{name}-000001.bin"
        mapped, whole = MultiVectorStore.load(folder), path.read_bytes()
        mapped.search(query, 5)
        os.truncate(path, 10)
        for ask in (lambda own: own.search(query, 5), lambda own: own.rank(query, np.array([1, 399]))):
            with pytest.raises(IndexFileError, match=rf"{path.name} was shortened while it was in use"):
                ask(mapped)
        path.write_bytes(whole)
