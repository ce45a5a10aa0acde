"""What every index has: copies that are their own, no pickles, places that are told from none."""

from __future__ import annotations

import copy
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import inputs
from longspan import BinaryIndex, IndexFileError, MultiVectorStore, Origin, SparseIndex

DIM = 8
KINDS: dict[str, Callable[[], BinaryIndex | MultiVectorStore | SparseIndex]] = {
    "codes": lambda: BinaryIndex(DIM),
    "int8": lambda: BinaryIndex(DIM, store="int8"),
    "float32": lambda: BinaryIndex(DIM, center_documents=np.ones(DIM), store="float32"),
    "tokens": lambda: MultiVectorStore(DIM),
    "sparse": lambda: SparseIndex(DIM),
}


def documents(index: object, vectors: np.ndarray) -> object:
    if isinstance(index, SparseIndex):
        return [{place: float(abs(value)) for place, value in enumerate(row)} for row in vectors]
    return [row[None] for row in vectors] if isinstance(index, MultiVectorStore) else vectors


def found(index: object, vectors: np.ndarray) -> list[object]:
    asked = documents(index, vectors)
    result = index.search(asked, 20)  # type: ignore[attr-defined]
    return [result.ids.tolist(), result.scores.tolist()]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_goes_its_own_way(kind: str, copied: Callable[[object], object], tmp_path: Path) -> None:
    first, more, others = inputs.normal((5, DIM), 1), inputs.normal((3, DIM), 2), inputs.normal((4, DIM), 3)
    index = KINDS[kind]()
    index.add(documents(index, first), origin=Origin("a model", "float32"))  # type: ignore[arg-type]
    index.save(tmp_path / "index")
    twin = copied(index)
    assert type(twin) is type(index)
    index.add(documents(index, more))  # type: ignore[arg-type]
    twin.add(documents(twin, others))
    twin.delete([0])
    wanted, wanted_of_twin = KINDS[kind](), KINDS[kind]()
    wanted.add(documents(wanted, np.concatenate([first, more])))  # type: ignore[arg-type]
    wanted_of_twin.add(documents(wanted, np.concatenate([first, others])))  # type: ignore[arg-type]
    wanted_of_twin.delete([0])
    assert found(index, more) == found(wanted, more) and found(twin, more) == found(wanted_of_twin, more)
    assert len(index) == len(wanted) and len(twin) == len(wanted_of_twin)
    if not isinstance(index, SparseIndex):  # whose blocks join later
        assert twin.info() == wanted_of_twin.info() and index.info() == wanted.info()  # type: ignore[attr-defined]
    assert twin.origin == index.origin and twin.next_id == 9
    index.save(tmp_path / "index")
    with pytest.raises(IndexFileError, match="was changed by somebody else"):
        twin.save(tmp_path / "index")


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_places_and_origins(kind: str, tmp_path: Path) -> None:
    index = KINDS[kind]()
    name = type(index).__name__
    with pytest.raises(TypeError, match=f"^{name}: an index is not pickled; save it, and load it where it is needed$"):
        pickle.dumps(index)
    for call, method in ((index.save, "save"), (type(index).load, "load")):
        with pytest.raises(ValueError, match=rf"^{name}.{method}: folder must be a path, got an empty one"):
            call("")
        with pytest.raises(TypeError, match=rf"^{name}.{method}: folder must be a path, got NoneType$"):
            call(None)  # type: ignore[arg-type]
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file is a file; an index takes a folder of its own$"):
        index.save(tmp_path / "file")
    rows = documents(index, inputs.normal((1, DIM), 1))
    with pytest.raises(TypeError, match=rf"^{name}.add: origin must be an Origin, .* got str$"):
        index.add(rows, origin="a model")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=rf"^{name}.search: origin must be an Origin, .* got str$"):
        index.search(rows, 1, origin="a model")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"^{name}.search: filter must be \(n,\) integers, got a set; give a list"):
        index.search(rows, 1, filter={1})  # type: ignore[arg-type]


@pytest.mark.skipif(os.name == "nt", reason="files have no such modes there")
@pytest.mark.parametrize("suffix", [".faiss", ".npz", ".parquet"])
def test_an_export_is_readable_as_any_new_file(suffix: str, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    mask = os.umask(0o022)
    try:
        BinaryIndex(DIM).export(tmp_path / f"index{suffix}")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / f"index{suffix}").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == [f"index{suffix}"]
    with pytest.raises(FileNotFoundError, match="away/index.*: the folder .*away does not exist$"):
        BinaryIndex(DIM).export(tmp_path / "away" / f"index{suffix}")


@pytest.mark.parametrize(
    "center, message",
    [
        ("a" * DIM, r"center_documents must be \(8,\) floats, got str"),
        ({1: 2}, r"center_documents must be \(8,\) floats, got dict"),
        (np.full(DIM, 1e300), r"center_documents must be \(8,\) finite floats"),
    ],
)
def test_centers(center: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^BinaryIndex: {message}"):
        BinaryIndex(DIM, center_documents=center)  # type: ignore[arg-type]


def test_numbers_beyond_float32_are_told_as_such() -> None:
    with pytest.raises(TypeError, match="got int8; precision='ubinary' gives such codes$"):
        BinaryIndex(DIM).add(np.zeros((2, 1), np.int8))
    with pytest.raises(ValueError, match="rows must be finite, row 1 holds a number beyond float32$"):
        BinaryIndex(DIM).add(np.array([[1.0] * DIM, [1e300] * DIM]))
    with pytest.raises(ValueError, match="dim must be an integer from 1 to 16777208, got 10"):
        BinaryIndex(10**30)
