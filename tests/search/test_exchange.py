"""An index in other engines' files and back."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import inputs
from longspan import BinaryIndex, IndexFileError

DIM = 48
QUERIES = inputs.normal((4, DIM), 9)


def index_of(store: str) -> BinaryIndex:
    """Ids in no order, some rows deleted, centred."""
    index = BinaryIndex.learn(inputs.normal((50, DIM), 1), QUERIES, store=store)
    index.add(inputs.normal((500, DIM), 2), inputs.rng(3).permutation(2**40 + np.arange(500)))
    index.add(inputs.normal((5, DIM), 4))
    index.delete(index.search(QUERIES[0], 20).ids)
    return index


@pytest.mark.parametrize("store", ["codes", "int8", "float32"])
@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_comes_back(tmp_path: Path, store: str, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    index = index_of(store)
    index.export(tmp_path / f"all{suffix}")
    back = BinaryIndex.from_export(tmp_path / f"all{suffix}")
    assert back.store == store and len(back) == len(index) == 485
    first, second = index.search(QUERIES, 50), back.search(QUERIES, 50)
    np.testing.assert_array_equal(first.ids, second.ids)
    np.testing.assert_array_equal(first.scores, second.scores)
    assert [path.name for path in tmp_path.iterdir()] == [f"all{suffix}"]


def test_npz_is_plain_numpy(tmp_path: Path) -> None:
    index = index_of("int8")
    index.export(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as arrays:
        assert arrays["codes"].shape == (485, 6) and arrays["vectors"].dtype == np.int8
        np.testing.assert_array_equal(arrays["center_documents"], index.center_documents)


def test_faiss_reads_ours_and_we_read_faiss(tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss", reason="faiss-cpu absent: pip install faiss-cpu")
    index = index_of("codes")
    index.export(tmp_path / "ours.faiss")
    theirs = faiss.read_index_binary(str(tmp_path / "ours.faiss"))
    assert theirs.ntotal == 485 and theirs.d == DIM
    codes = np.packbits(index.center_queries < QUERIES, axis=1)
    distances, _ = theirs.search(codes, 50)
    found = index.search(codes, 50, rescore=False)
    np.testing.assert_array_equal(distances, found.distances)  # FAISS orders ties otherwise

    flat = faiss.IndexBinaryFlat(DIM)
    stored = inputs.rng(1).integers(0, 256, (300, 6), dtype=np.uint8)
    ids = inputs.rng(2).permutation(300) * 7
    mapped, mapped2 = (
        faiss.IndexBinaryIDMap(faiss.IndexBinaryFlat(DIM)),
        faiss.IndexBinaryIDMap2(faiss.IndexBinaryFlat(DIM)),
    )
    flat.add(stored)
    mapped.add_with_ids(stored, ids)
    mapped2.add_with_ids(stored, ids)
    for name, their_index, their_ids in (("flat", flat, None), ("map", mapped, ids), ("map2", mapped2, ids)):
        faiss.write_index_binary(their_index, str(tmp_path / f"{name}.faiss"))
        expected = BinaryIndex(DIM)
        expected.add(stored, their_ids)
        back = BinaryIndex.from_export(tmp_path / f"{name}.faiss")
        np.testing.assert_array_equal(
            back.search(codes, 40, rescore=False).ids, expected.search(codes, 40, rescore=False).ids
        )


def test_faiss_format(tmp_path: Path) -> None:
    """The bytes, where faiss itself is not there to read them."""
    index = BinaryIndex(16)
    index.add(np.array([[1, 2], [3, 4]], np.uint8), np.array([5, 6]))
    index.export(tmp_path / "two.faiss")
    header = b"\x10\0\0\0\x02\0\0\0\x02\0\0\0\0\0\0\0\x01\x01\0\0\0"
    ids = b"\x02\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0"
    expected = b"IBMp" + header + b"IBxF" + header + b"\x04\0\0\0\0\0\0\0\x01\x02\x03\x04" + ids
    assert (tmp_path / "two.faiss").read_bytes() == expected
    assert len(BinaryIndex.from_export(tmp_path / "two.faiss")) == 2


@pytest.mark.parametrize("suffix", [".faiss", ".npz", ".parquet"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"all{suffix}"
    index_of("codes").export(path)
    whole = path.read_bytes()
    for size in (0, 3, 24, 30, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(IndexFileError, match="damaged|cut off"):
            BinaryIndex.from_export(path)
    rng = inputs.rng(5)
    for _ in range(200):
        changed = bytearray(whole)
        changed[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with suppress(ValueError):  # IndexFileError, or ids that no longer differ; or only codes that do
            BinaryIndex.from_export(path)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    index = BinaryIndex(12)
    with pytest.raises(ValueError, match=r"the suffix must be one of .faiss, .npz, .parquet, got 'a.bin'"):
        index.export(tmp_path / "a.bin")
    with pytest.raises(ValueError, match=r"the suffix must be one of .faiss, .npz, .parquet, got 'a.bin'"):
        BinaryIndex.from_export(tmp_path / "a.bin")
    with pytest.raises(ValueError, match="FAISS takes dims that are multiples of 8, got 12"):
        index.export(tmp_path / "a.faiss")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match="does not exist, or is not a file"):
        BinaryIndex.from_export(tmp_path / "a.faiss")
    np.savez(tmp_path / "a.npz", codes=np.zeros(3), dim=8, store="codes")
    with pytest.raises(IndexFileError, match=r"codes must be \(3, 1\) uint8, got \(3,\) float64"):
        BinaryIndex.from_export(tmp_path / "a.npz")
