"""Headers that somebody has forged, their SHA-256 and all: an IndexFileError, or an index that does no harm."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import inputs
from longspan import BinaryIndex, IndexFileError, MultiVectorStore, SparseIndex
from longspan.search.header import _digest

VALUES = [
    None,
    True,
    -1,
    0,
    1,
    41,
    2**40,
    2**63 - 1,
    2**64,
    0.5,
    1e300,
    "",
    "x",
    "../x",
    "\0",
    "lock",
    [],
    {},
    [1e39] * 40,
]
EVERY = 1 if os.environ.get("LONGSPAN_LONG_TESTS") == "1" else 5  # of the forgeries
GONE = object()


def binary(folder: Path) -> None:
    index = BinaryIndex.learn(inputs.normal((60, 40), 1), store="int8")
    index.add(inputs.normal((300, 40), 2))
    index.delete(np.array([3, 7]))
    index.save(folder)


def tokens(folder: Path) -> None:
    store = MultiVectorStore(16, store="int8")
    store.add(list(inputs.normal((50, 5, 16), 3)))
    store.delete(np.array([2]))
    store.save(folder)


def sparse(folder: Path) -> None:
    index = SparseIndex(100)
    index.add([{row: 1.0, row + 1: 2.0} for row in range(80)])
    index.delete(np.array([2]))
    index.save(folder)


def use_binary(folder: Path) -> None:
    index = BinaryIndex.load(folder)
    index.search(np.ones((2, index.dim), np.float32), 10)
    index.info()
    index.save(folder)


def use_tokens(folder: Path) -> None:
    store = MultiVectorStore.load(folder)
    store.search(np.ones((3, store.dim), np.float32), 10)
    store.save(folder)


def use_sparse(folder: Path) -> None:
    index = SparseIndex.load(folder)
    index.search([{0: 1.0}], 10)
    index.save(folder)


def places(body: object, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place of a JSON value but the whole."""
    if isinstance(body, dict | list):
        for key in body if isinstance(body, dict) else range(min(len(body), 2)):
            yield (*at, key)
            yield from places(body[key], (*at, key))


def forged(body: dict[str, object], place: tuple[str | int, ...], value: object) -> dict[str, object]:
    made = copy.deepcopy(body)
    holder: object = made
    for key in place[:-1]:
        holder = holder[key]
    if value is GONE:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    return made


@pytest.mark.parametrize("make, use", [(binary, use_binary), (tokens, use_tokens), (sparse, use_sparse)])
def test_forged_headers(tmp_path: Path, make: object, use: object) -> None:
    folder = tmp_path / "index"
    make(folder)
    good = (folder / "index.json").read_bytes()
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    document = json.loads(good)
    forgeries = [(place, value) for place in places(document["index"]) for value in [*VALUES, GONE]]
    refused = 0
    for place, value in forgeries[::EVERY]:
        body = forged(document["index"], place, value)
        (folder / "index.json").write_text(json.dumps({**document, "sha256": _digest(body), "index": body}))
        try:
            use(folder)
        except IndexFileError:
            refused += 1
        if (folder / "index.json").read_bytes() != good:
            for path in folder.iterdir():
                path.unlink()
            for name, content in files.items():
                (folder / name).write_bytes(content)
        assert os.listdir(tmp_path) == ["index"]
    assert refused > len(forgeries[::EVERY]) * 0.9


@pytest.mark.parametrize(
    "change, match",
    [
        ({"next_id": 2**63 + 1}, r"'next_id' must be from 0 to 2\^63, got 9223372036854775809"),
        ({"next_id": -1}, "'next_id' must be from 0"),
        ({"center_documents": [1e39] * 40}, "'center_documents' holds numbers beyond float32"),
    ],
)
def test_numbers_that_no_index_has(tmp_path: Path, change: dict[str, object], match: str) -> None:
    folder = tmp_path / "index"
    binary(folder)
    document = json.loads((folder / "index.json").read_text())
    body = {**document["index"], **change}
    (folder / "index.json").write_text(json.dumps({**document, "sha256": _digest(body), "index": body}))
    with pytest.raises(IndexFileError, match=match):
        BinaryIndex.load(folder)


@pytest.mark.parametrize(
    "name", ["", "\0", "lock", "index.json", "ids-000001.bin", "codes-1.bin", "codes-000001.bin\n"]
)
def test_a_column_s_file_has_the_column_s_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "index"
    binary(folder)
    document = json.loads((folder / "index.json").read_text())
    body = forged(document["index"], ("files", "codes", "name"), name)
    (folder / "index.json").write_text(json.dumps({**document, "sha256": _digest(body), "index": body}))
    with pytest.raises(IndexFileError, match="must be a file such as codes-000001.bin in"):
        BinaryIndex.load(folder)
