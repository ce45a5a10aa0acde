"""Results as tables and in one line: every public result, empty ones too."""

from __future__ import annotations

import numpy as np
import pytest

from longspan import (
    BinaryIndex,
    Chunks,
    FusedResult,
    ModelOutputs,
    MultiVectorStore,
    RescoredResult,
    SearchResult,
    SparseIndex,
    SparseResult,
    SparseVectors,
    StoreResult,
    TokenizedText,
    TokenPlaces,
    fuse_ranks,
)
from longspan.vectors.tables import Tabular

IDS = np.array([[7, 3, 9, 4], [5, -1, -1, -1]])
SCORES = np.array([[0.5, 0.25, 0.125, 0], [1, 0, 0, 0]], np.float32)
DISTANCES = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.int32)
TEXT = "One sentence that is longer than a line shows.\nTwo. Three. Four."
SPANS = [(0, 46), (47, 51), (52, 58), (59, 64)]
TOKENS = np.array([[0, 9], [9, 11], [11, 13], [13, 15]], np.int32)
CHUNKS = Chunks(TEXT, np.arange(8, dtype=np.float32).reshape(4, 2), SPANS, TOKENS)
LINES = {
    "chunks": (CHUNKS, "Chunks(4 of 64 characters, dim=2: 'One sentence that is lo…', 'Two.', 'Three.', ...)"),
    "no chunks": (
        Chunks("", np.zeros((0, 2), np.float32), [], np.zeros((0, 2), np.int32)),
        "Chunks(0 of 0 characters, dim=2)",
    ),
    "search": (
        RescoredResult(IDS[0], DISTANCES[0], SCORES[0]),
        "RescoredResult(4 hits: 7 (score 0.5), 3 (score 0.25), 9 (score 0.125), ...)",
    ),
    "distances": (
        SearchResult(IDS[0][:2], DISTANCES[0][:2], None),
        "SearchResult(2 hits: 7 (distance 1), 3 (distance 2))",
    ),
    "queries": (SearchResult(IDS, DISTANCES, SCORES), "SearchResult(2 queries, up to 4 hits each; best ids 7, 5)"),
    "store": (StoreResult(IDS[1], SCORES[1]), "StoreResult(1 hit: 5 (score 1))"),
    "no hits": (StoreResult(IDS[0][:0], SCORES[0][:0]), "StoreResult(no hits)"),
    "sparse": (SparseResult(IDS, SCORES), "SparseResult(2 queries, up to 4 hits each; best ids 7, 5)"),
    "no queries": (SparseResult(IDS[:0], SCORES[:0]), "SparseResult(no queries)"),
    "fused": (FusedResult(IDS[:, :1], SCORES[:, :1]), "FusedResult(2 queries, 1 hit each; best ids 7, 5)"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_result_is_a_line(name: str) -> None:
    result, line = LINES[name]
    assert repr(result) == line
    assert len(line) < 120


def test_large_results_stay_lines() -> None:
    ids = np.arange(100_000).reshape(1000, 100)
    many, pairs = np.zeros((50_000, 8), np.float32), np.zeros((50_000, 2), np.int32)
    for result in (
        SearchResult(ids, ids.astype(np.int32), None),
        fuse_ranks([ids], 100),
        SparseVectors(np.arange(1001), np.arange(1000, dtype=np.int32), np.ones(1000, np.float32), 30522),
        Chunks("a " * 100_000, many, [(4 * place, 4 * place + 3) for place in range(50_000)], pairs),
        TokenizedText(pairs[:, 0], pairs, 1, 0, pairs[:, 0] > 0),
        TokenPlaces(pairs[:, 0], pairs, pairs, (0, 0)),
        ModelOutputs(many, None, [many, many]),
        BinaryIndex(64),
        MultiVectorStore(64),
        SparseIndex(30522),
    ):
        assert len(repr(result)) < 120
        assert "\n" not in repr(result)


@pytest.mark.parametrize("name", LINES)
def test_tables_have_a_row_a_hit(name: str) -> None:
    pa, pd = pytest.importorskip("pyarrow"), pytest.importorskip("pandas")
    result, _ = LINES[name]
    assert isinstance(result, Tabular)
    table, frame = result.to_arrow(), result.to_pandas()
    assert table.column_names == list(frame.columns)
    assert table.num_rows == len(frame)
    assert isinstance(table, pa.Table)
    assert isinstance(frame, pd.DataFrame)
    for column in table.column_names:
        assert [np.asarray(value).tolist() for value in frame[column]] == table[column].to_pylist()


def test_what_a_ranking_s_columns_hold() -> None:
    pytest.importorskip("pyarrow")
    assert SearchResult(IDS, DISTANCES, SCORES).to_arrow().to_pydict() == {
        "query": [0, 0, 0, 0, 1],
        "rank": [0, 1, 2, 3, 0],
        "id": [7, 3, 9, 4, 5],
        "distance": [1, 2, 3, 4, 5],
        "score": [0.5, 0.25, 0.125, 0, 1],
    }
    assert SearchResult(IDS[0], DISTANCES[0], None).to_arrow().column_names == ["query", "rank", "id", "distance"]
    fused = FusedResult(IDS[1:], SCORES[1:]).to_arrow()
    assert fused.to_pydict() == {"query": [0], "rank": [0], "id": [5], "score": [1]}


def test_chunks_have_the_columns_of_the_command() -> None:
    pa = pytest.importorskip("pyarrow")
    table = CHUNKS.to_arrow()
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 2)
    assert table.to_pylist()[1] == {
        "chunk": 1, "start": 47, "end": 51, "token_start": 9, "token_end": 11, "text": "Two.", "embedding": [2, 3],
    }  # fmt: skip


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, call, message in (
        ("pyarrow", CHUNKS.to_arrow, r"to_arrow needs pyarrow, which is an extra: pip install 'longspan\[parquet\]'"),
        ("pandas", CHUNKS.to_pandas, "to_pandas needs pandas, which is not installed: pip install pandas"),
    ):
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(ImportError, match=message):
            call()
