"""SparseIndex: to the bit what plain NumPy finds; in any blocks, from memory and files, beside any documents."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import inputs
from longspan import IndexFileError, OriginWarning, SparseIndex, SparseVectors, _core, reference
from longspan.search import posting_rows
from longspan.vectors.origin import Origin

DIM = 400


def sparse(rows: int, *seed: int, most: int = 40, dim: int = DIM) -> SparseVectors:
    """Rows of 0 to `most` entries; few different values, so that scores tie."""
    rng = inputs.rng(rows, *seed)
    dense = rng.integers(1, 9, (rows, dim)).astype(np.float32) / 4
    dense[rng.random((rows, dim)) > rng.random((rows, 1)) * most / dim] = 0
    return SparseVectors.from_dense(dense)


def parts(vectors: SparseVectors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return vectors.offsets, vectors.indices, vectors.values


def assert_same(index: SparseIndex, queries: SparseVectors, documents: SparseVectors, ids: np.ndarray, k: int) -> None:
    """What the index finds is what plain NumPy finds among these."""
    got = index.search(queries, k)
    want_ids, want_scores = reference.sparse_topk(parts(queries), parts(documents), DIM, k, ids)
    np.testing.assert_array_equal(got.ids, want_ids)
    np.testing.assert_array_equal(got.scores, want_scores)
    assert got.ids.dtype == np.int64 and got.scores.dtype == np.float32


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 64 documents, so that a test has many."""
    monkeypatch.setattr(posting_rows, "BLOCK_DOCS", 64)
    monkeypatch.setattr("longspan.search.sparse_index.BLOCK_DOCS", 64)


@pytest.fixture
def threads() -> Iterator[None]:
    """The thread limit, put back."""
    before = _core.set_num_threads(0)
    yield
    _core.set_num_threads(before)


@pytest.mark.parametrize("k", [1, 7, 1000])
@pytest.mark.parametrize("rows", [1, 63, 64, 65, 300])
def test_exact(small_blocks: None, rows: int, k: int) -> None:
    documents, queries, index = sparse(rows, 1), sparse(20, 2, most=20), SparseIndex(DIM)
    np.testing.assert_array_equal(index.add(documents), np.arange(rows))
    assert_same(index, queries, documents, np.arange(rows), min(k, rows))
    assert len(index) == rows and index.info().documents == rows


def test_scores_do_not_depend_on_blocks_or_threads(
    monkeypatch: pytest.MonkeyPatch, threads: None, tmp_path: Path
) -> None:
    rng = inputs.rng(4)
    documents, queries = sparse(500, 1), sparse(9, 2)
    documents = SparseVectors(documents.offsets, documents.indices, rng.random(len(documents.values), np.float32), DIM)
    whole = SparseIndex(DIM)
    whole.add(documents)
    want = whole.search(queries, 20)
    for block in (1, 17, 100):
        monkeypatch.setattr(posting_rows, "BLOCK_DOCS", block)
        monkeypatch.setattr("longspan.search.sparse_index.BLOCK_DOCS", block)
        index = SparseIndex(DIM)
        for first in range(0, 500, 43):
            index.add(documents[first : first + 43])
        for count in (1, 2, 5):
            _core.set_num_threads(count)
            for one in (index.search(queries, 20), _alone(index, queries)):
                np.testing.assert_array_equal(one.ids, want.ids)
                np.testing.assert_array_equal(one.scores, want.scores)
        index.save(tmp_path / str(block))
        loaded = SparseIndex.load(tmp_path / str(block)).search(queries, 20)
        np.testing.assert_array_equal(loaded.scores, want.scores)


def _alone(index: SparseIndex, queries: SparseVectors) -> object:
    found = [index.search(query, 20) for query in queries]
    joined = type(found[0])
    return joined(np.concatenate([one.ids for one in found]), np.concatenate([one.scores for one in found]))


def test_every_instruction_set_has_the_same_bits(isa: str) -> None:
    documents, queries, index = sparse(300, 1), sparse(5, 2), SparseIndex(DIM)
    index.add(documents)
    assert_same(index, queries, documents, np.arange(300), 50)


def test_a_real_block(threads: None) -> None:
    """More documents than a block has room for, many lists that are long and many that are short."""
    rng = inputs.rng(3)
    lengths = rng.integers(1, 6, 70_000)
    terms = np.sort(rng.integers(0, DIM // 5, (70_000, 5)) * 5 + np.arange(5), axis=1)
    kept = np.arange(5) < lengths[:, None]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    documents = SparseVectors.of(_Csr(offsets, terms[kept], rng.random(len(terms[kept]), np.float32), (70_000, DIM)))
    index, queries = SparseIndex(DIM), sparse(6, 5, most=200)
    index.add(documents)
    assert index.info().blocks == 2
    assert_same(index, queries, documents, np.arange(70_000), 100)


class _Csr:
    def __init__(self, indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, shape: tuple[int, int]) -> None:
        self.indptr, self.indices, self.data, self.shape = indptr, indices, data, shape


def test_ids_decide_ties(small_blocks: None) -> None:
    """Whatever the order in which equal documents came."""
    documents = SparseVectors.joined([sparse(1, 1)] * 200, DIM)
    ids = inputs.rng(9).permutation(1000)[:200]
    index = SparseIndex(DIM)
    index.add(documents[:150], ids[:150])
    index.add(documents[150:], ids[150:])
    found = index.search(documents[:1], 30)
    np.testing.assert_array_equal(found.ids[0], np.sort(ids)[:30])
    assert_same(index, sparse(4, 3), documents, ids, 20)


def test_what_is_not_found(small_blocks: None) -> None:
    index = SparseIndex(DIM)
    assert index.search(sparse(2, 1), 5).ids.shape == (2, 0)
    index.add([{3: 1.0}, {}, {5: 2.0}])
    found = index.search([{3: 2.0}, {}, {7: 1.0}, {3: 1.0, 5: 1.0}], 5)
    assert found.ids.tolist() == [[0, -1, -1], [-1, -1, -1], [-1, -1, -1], [2, 0, -1]]
    assert found.scores.tolist() == [[2, 0, 0], [0, 0, 0], [0, 0, 0], [2, 1, 0]]


def test_delete_compact_and_filter(small_blocks: None, tmp_path: Path) -> None:
    documents, queries, index = sparse(300, 1), sparse(10, 2), SparseIndex(DIM)
    index.add(documents)
    gone = np.arange(0, 300, 3)
    index.delete(gone)
    kept = np.setdiff1d(np.arange(300), gone)
    assert_same(index, queries, documents.take(kept), kept, 25)
    index.save(tmp_path / "index")
    loaded = SparseIndex.load(tmp_path / "index")
    assert_same(loaded, queries, documents.take(kept), kept, 25)
    np.testing.assert_array_equal(loaded.ids, kept)
    allowed = kept[::7]
    for filter in (allowed, np.isin(np.arange(300), allowed)):
        got = loaded.search(queries, 10, filter=filter)
        want, scores = reference.sparse_topk(parts(queries), parts(documents.take(allowed)), DIM, 10, allowed)
        np.testing.assert_array_equal(got.ids, want)
        np.testing.assert_array_equal(got.scores, scores)
    loaded.compact()
    assert loaded.info().deleted == 0 and loaded.info().blocks == -(-len(kept) // 64)
    assert_same(loaded, queries, documents.take(kept), kept, 25)
    loaded.save(tmp_path / "index")
    again = SparseIndex.load(tmp_path / "index", verify=True)
    assert_same(again, queries, documents.take(kept), kept, 25)
    assert again.add(documents[:1]).tolist() == [300]
    with pytest.raises(ValueError, match=r"SparseIndex\.delete: id 0 is not in the index"):
        again.delete(np.array([0]))


def test_few_blocks_after_many_additions() -> None:
    documents, index = sparse(400, 1), SparseIndex(DIM)
    for row in range(400):
        index.add(documents[row])
    assert index.info().blocks <= 10
    assert_same(index, sparse(5, 2), documents, np.arange(400), 30)


def test_growing_on_the_disk(small_blocks: None, tmp_path: Path) -> None:
    """Saved after each addition: old files only grow."""
    documents, queries, index = sparse(300, 1), sparse(5, 2), SparseIndex(DIM)
    sizes: list[int] = []
    for first in range(0, 300, 30):
        index.add(documents[first : first + 30])
        index.save(tmp_path / "index")
        sizes.append((tmp_path / "index" / "docs-000001.bin").stat().st_size)
    assert sizes == sorted(set(sizes))
    loaded = SparseIndex.load(tmp_path / "index")
    assert_same(loaded, queries, documents, np.arange(300), 30)
    assert_same(SparseIndex.load(tmp_path / "index", mmap=False), queries, documents, np.arange(300), 30)
    assert loaded.info() == index.info() and loaded.info().entries == len(documents.values)


def test_origins(tmp_path: Path) -> None:
    index, documents = SparseIndex(DIM), sparse(3, 1)
    index.add(documents, origin=Origin("a" * 32, "float32"))
    with pytest.raises(ValueError, match="the vectors are of another model"):
        index.add(documents, origin=Origin("b" * 32, "float32"))
    assert len(index) == 3
    index.save(tmp_path / "index")
    with pytest.warns(OriginWarning, match="asked with vectors of another model"):
        SparseIndex.load(tmp_path / "index").search(documents, 1, origin=Origin("b" * 32, "float32"))


def test_searches_while_it_grows(small_blocks: None, tmp_path: Path) -> None:
    documents, queries, index = sparse(300, 1), sparse(3, 2), SparseIndex(DIM)
    index.add(documents[:50])
    failures: list[BaseException] = []

    def search() -> None:
        try:
            for _ in range(40):
                found = index.search(queries, 5)
                assert (np.diff(found.scores, axis=1) <= 0).all()
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=search) for _ in range(3)]
    for worker in workers:
        worker.start()
    for first in range(50, 300, 25):
        index.add(documents[first : first + 25])
        index.save(tmp_path / "index")
    for worker in workers:
        worker.join()
    assert not failures
    assert_same(index, queries, documents, np.arange(300), 30)


@pytest.mark.parametrize(
    "documents, message",
    [
        (sparse(2, 1, dim=7), r"add: documents must have 400 dimensions, got 7"),
        (SparseVectors.of([{1: 1.0}, {2: -1.0}], DIM), r"documents\[1\] has -1\.0"),
        (
            SparseVectors(np.array([0, 1]), np.array([3], np.int32), np.array([np.nan], np.float32), DIM),
            r"documents\[0\] has nan",
        ),
        (
            SparseVectors(np.array([0, 2]), np.array([3, 3], np.int32), np.ones(2, np.float32), DIM),
            r"rows\[0\]: terms must rise",
        ),
        (
            SparseVectors(np.array([0, 1]), np.array([DIM], np.int32), np.ones(1, np.float32), DIM),
            "terms must be from 0 to 399, got 400",
        ),
        (
            SparseVectors(np.array([0, 9]), np.array([3], np.int32), np.ones(1, np.float32), DIM),
            "offsets must go from 0 to 1",
        ),
    ],
)
def test_bad_documents(documents: SparseVectors, message: str) -> None:
    index = SparseIndex(DIM)
    index.add(sparse(3, 1))
    with pytest.raises(ValueError, match=message):
        index.add(documents)
    assert len(index) == 3


def test_bad_arguments() -> None:
    index = SparseIndex(DIM)
    index.add(sparse(3, 1))
    for dim in (0, True, 2.0, 1 << 21):
        with pytest.raises(ValueError, match="dim must be an integer from 1 to 1048576"):
            SparseIndex(dim)  # type: ignore[arg-type]
    for k in (0, True, 1.5):
        with pytest.raises(ValueError, match="k must be an integer of at least 1"):
            index.search(sparse(1, 1), k)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"SparseIndex\.search: queries must have 400 dimensions, got 9"):
        index.search(sparse(1, 1, dim=9), 1)
    with pytest.raises(ValueError, match=r"search: queries must have finite values of 0 and above"):
        index.search(SparseVectors.of([{1: -1.0}], DIM), 1)
    with pytest.raises(ValueError, match=r"SparseIndex\.add: id 1 is in the index already"):
        index.add(sparse(1, 1), np.array([1]))
    with pytest.raises(TypeError, match=r"SparseVectors\.of: takes SparseVectors, a scipy CSR array"):
        index.add(np.ones((2, DIM)))  # type: ignore[arg-type]


def test_the_core_guards_itself(small_blocks: None) -> None:
    """Columns that contradict each other, as forged files might."""
    index = SparseIndex(DIM)
    index.add(sparse(100, 1))
    view = list(index._segments[0].rows.view())
    queries = sparse(1, 2)
    out = np.empty((1, 5), np.float32), np.empty((1, 5), np.int64)

    def run(place: int, change: np.ndarray) -> None:
        spoilt = list(view)
        spoilt[place] = change
        _core.postings_topk(tuple(spoilt), *parts(queries), None, None, *out)

    for place, change, message in (
        (0, np.array([-5, 100]), "contradicts|differ in length"),
        (1, view[1] + 10_000, "contradicts"),
        (3, view[3] + 10_000_000, "lies outside"),
        (3, -view[3], "lies outside"),
        (4, view[4][:-1], "differ in length"),
        (6, view[6][:-1], "differ in length"),
    ):
        with pytest.raises(ValueError, match=message):
            run(place, change)
    docs = np.full_like(view[5], 65535)  # beyond the block: such entries are found by nobody
    run(5, docs)
    assert (out[1] == -1).all()


def test_an_index_is_no_store(tmp_path: Path) -> None:
    from longspan import BinaryIndex

    index = SparseIndex(DIM)
    index.add(sparse(3, 1))
    index.save(tmp_path / "index")
    with pytest.raises(IndexFileError, match="'format' must be 'longspan binary index', got 'longspan sparse index'"):
        BinaryIndex.load(tmp_path / "index")
    with pytest.raises(IndexFileError, match="another index lies there"):
        SparseIndex(DIM).save(tmp_path / "index")
    with pytest.raises(FileNotFoundError, match="holds no index"):
        SparseIndex.load(tmp_path)


def test_a_block_is_not_left_out_where_rounding_lifts_a_score() -> None:
    """0.7 of the smallest float rounds up to it: found, though the exact product lies below what can be found."""
    smallest = 2.0**-149
    index = SparseIndex(3)
    index.add([{0: 2.0**-75}])
    found = index.search([{0: 0.7 * 2.0**-74}], 1)
    assert found.ids.tolist() == [[0]] and found.scores[0, 0] == np.float32(smallest)


def test_deleted_documents_stay_deleted_when_blocks_are_joined(small_blocks: None) -> None:
    index = SparseIndex(5)
    for first in range(0, 40, 4):
        index.add([{1: 1.0}] * 4)
        index.delete(np.array([first + 1]))
    assert len(index) == 30 and index.info().blocks < 10  # some were joined
    found = index.search([{1: 1.0}], 40).ids[0]
    assert found.tolist() == [place for place in range(40) if place % 4 != 1]


def test_blocks_are_joined_up_to_their_room(small_blocks: None) -> None:
    index = SparseIndex(5)
    for _ in range(5):
        index.add([{1: 1.0}] * 40)
    assert index.info().blocks == 5 and index.search([{1: 1.0}], 300).ids.shape == (1, 200)


def test_zeros_that_are_written_out_are_no_entries() -> None:
    written = SparseVectors(np.array([0, 2, 3]), np.array([1, 3, 1], np.int32), np.array([0, 2, 0], np.float32), 5)
    index = SparseIndex(5)
    index.add(written)
    assert index.info().entries == 1 and len(index) == 2
    assert index.search([{1: 1.0, 3: 1.0}], 2).ids.tolist() == [[0, -1]]
    assert index.search(written, 2).ids.tolist() == [[0, -1], [-1, -1]]
