"""What may hold texts: whatever has an order, from any library; never what would give something else than is meant."""

from __future__ import annotations

from collections import UserList
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder, MultiVectorEncoder
from longspan.text.containers import listed

TEXTS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def encoder(golden: Path) -> Encoder:
    return Encoder(golden / "bert-minilm")


def test_lists_of_all_kinds(encoder: Encoder, tmp_path: Path) -> None:
    pandas, polars, pyarrow = map(pytest.importorskip, ("pandas", "polars", "pyarrow"))
    want = encoder.encode(TEXTS)
    (tmp_path / "lines").write_text("a\nb\nc")
    with open(tmp_path / "lines") as file:
        lines = (line.rstrip("\n") for line in file)
        assert np.array_equal(encoder.encode(lines), want)
    for given in (
        tuple(TEXTS), UserList(TEXTS), np.array(TEXTS), np.array(TEXTS, object), iter(TEXTS),
        dict.fromkeys(TEXTS).keys(),
        pandas.Series(TEXTS), pandas.Index(TEXTS), pandas.Series(TEXTS, dtype="string"), polars.Series(TEXTS),
        pyarrow.array(TEXTS), pyarrow.chunked_array([["a"], ["b", "c"]]), pyarrow.array(TEXTS).dictionary_encode(),
    ):  # fmt: skip
        assert np.array_equal(encoder.encode(given), want), type(given)


def test_one_input_as_a_dict(encoder: Encoder) -> None:
    assert np.array_equal(encoder.encode({"text": "a"}), encoder.encode("a"))
    assert np.array_equal(encoder.encode([{"text": "a"}, "b"]), encoder.encode(["a", "b"]))
    with pytest.raises(ValueError, match=r"must have keys of 'text', .*, got 'q'"):
        encoder.encode({"q": "What?"})


@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document", "encode_chunks", "tokenize"])
@pytest.mark.parametrize("kind", [set, frozenset])
def test_sets_have_no_order(encoder: Encoder, method: str, kind: type) -> None:
    with pytest.raises(TypeError, match=f"must be a list of str, got one {kind.__name__}, which has no order"):
        getattr(encoder, method)(kind(TEXTS))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(encoder: Encoder, library: str) -> None:
    frame = pytest.importorskip(library).DataFrame({"text": TEXTS, "id": [1, 2, 3]})
    for method in (encoder.encode, encoder.encode_query, encoder.encode_chunks):
        with pytest.raises(TypeError, match=r"got one DataFrame; give one of its columns, such as frame\['text'\]"):
            method(frame)


def test_tables_and_mappings(golden: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    with pytest.raises(TypeError, match="got one Table; give one of its columns"):
        listed("encode: texts", pyarrow.table({"text": TEXTS}))
    colbert = MultiVectorEncoder(golden / "jina-colbert-v2")
    with pytest.raises(TypeError, match="got one dict with the keys 'q', 'r'; give a list of its values"):
        colbert.tokenizer.encode({"q": "a", "r": "b"})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got one int"):
        listed("encode: texts", 3)


def test_an_array_of_no_dimension_is_no_list(encoder: Encoder) -> None:
    with pytest.raises(TypeError, match="texts must be a list of str, got one ndarray"):
        encoder.encode(np.array("a"))
