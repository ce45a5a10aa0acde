"""`Origin`: indexes and stores keep it, refuse what would mix, and warn where they are asked with another's vectors."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from longspan import BinaryIndex, MultiVectorStore, OriginWarning
from longspan.search.header import _digest
from longspan.vectors.origin import Origin

OURS, THEIRS = Origin("a" * 32, "float32"), Origin("b" * 32, "float32")
ROWS = np.random.default_rng(0).standard_normal((6, 16), np.float32)


def kept(kind: type[BinaryIndex] | type[MultiVectorStore], folder: Path) -> BinaryIndex | MultiVectorStore:
    """An index or a store of OURS, saved and opened again."""
    made = kind(16)
    made.add(ROWS if kind is BinaryIndex else [ROWS], origin=OURS)
    made.save(folder)
    return kind.load(folder)


@pytest.mark.parametrize("kind", [BinaryIndex, MultiVectorStore], ids=lambda kind: kind.__name__)
def test_it_is_kept_and_held_against(kind: type[BinaryIndex], tmp_path: Path) -> None:
    index = kept(kind, tmp_path / "index")
    rows = ROWS if kind is BinaryIndex else [ROWS]
    assert index.origin == OURS
    with pytest.raises(ValueError, match="the vectors are of another model"):
        index.add(rows, origin=THEIRS)
    with pytest.warns(OriginWarning, match="asked with vectors of another model"):
        index.search(rows, 1, origin=THEIRS)
    with pytest.warns(OriginWarning, match="computed in int8 here and in float32 there"):
        index.search(rows, 1, origin=Origin(OURS.fingerprint, "int8"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index.search(rows, 1, origin=OURS)
        index.search(rows, 1)
        index.add(rows, origin=OURS)


def test_a_folder_from_before_has_none(tmp_path: Path) -> None:
    kept(BinaryIndex, tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    document = json.loads(path.read_text())
    del document["index"]["origin"]
    path.write_text(json.dumps({**document, "sha256": _digest(document["index"])}))
    index = BinaryIndex.load(tmp_path / "index")
    assert index.origin is None
    index.add(ROWS, origin=THEIRS)
    assert index.origin == THEIRS


def test_an_origin_is_two_strings() -> None:
    with pytest.raises(TypeError, match="^Origin: fingerprint and dtype must be str, got NoneType and int$"):
        Origin(None, 3)  # type: ignore[arg-type]
