"""MultiVectorStore in memory, against the reference."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import inputs
from longspan import MultiVectorStore, ops, reference
from longspan.search import token_ranking

STORES = ("float16", "int8", "binary")
DIM = 16


def documents(count: int, seed: int = 1, longest: int = 9) -> list[np.ndarray]:
    """(tokens, DIM) each, 1 to `longest` tokens."""
    lengths = inputs.rng(seed, count).integers(1, longest + 1, count)
    return [inputs.normal((int(length), DIM), seed, place) for place, length in enumerate(lengths)]


def truth(queries: list[np.ndarray], docs: list[np.ndarray], store: str) -> np.ndarray:
    """(num_queries, num_docs) by the reference, of what the store keeps."""
    packed = np.concatenate(docs)
    kept = {
        "float16": lambda: packed.astype(np.float16),
        "int8": lambda: ops.to_int8(packed),
        "binary": lambda: ops.binarize(packed),
    }[store]()
    offsets = [np.cumsum([0, *map(len, arrays)]).astype(np.int32) for arrays in (queries, docs)]
    return np.asarray(ops.maxsim(np.concatenate(queries), kept, *offsets, backend="reference"))


def close(scores: np.ndarray, expected: np.ndarray, queries: list[np.ndarray], docs: list[np.ndarray]) -> None:
    """Equal but for the order in which DIM products are summed in float32: a rounding each, on both sides."""
    query = max(np.linalg.norm(tokens, axis=1).sum() for tokens in queries)
    longest = max(np.linalg.norm(tokens, axis=1).max() for tokens in (*docs, np.ones((1, DIM))))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=2 * DIM * 2.0**-24 * query * longest)


@pytest.mark.parametrize("store", STORES)
def test_scores_are_those_of_the_reference(store: str) -> None:
    """Documents added in batches of any size under ids in any order; candidates in any order, also twice."""
    docs, queries = documents(300), documents(5, 2)
    ids = inputs.rng(3).permutation(1000)[:300]
    index = MultiVectorStore(DIM, store=store)
    for part in np.array_split(np.arange(300), [1, 2, 3, 7, 100, 250]):
        np.testing.assert_array_equal(index.add([docs[i] for i in part], ids[part]), ids[part])
    expected = truth(queries, docs, store)
    np.testing.assert_array_equal(index.ids, ids)
    scores = index.score(queries)
    close(scores, expected, queries, docs)
    some = np.array([299, 3, 3, 0, 77, 120, 121, 122])
    np.testing.assert_array_equal(index.score(queries, ids[some]), scores[:, some])
    ranked = index.rank(queries[0], ids[some], top_k=3)
    order = sorted({*some.tolist()}, key=lambda i: (-scores[0, i], ids[i]))[:3]
    assert [(hit.document, hit.score) for hit in ranked] == [(ids[i], scores[0, i]) for i in order]
    assert [hit.document for hit in index.rank(queries[1], top_k=1)] == [ids[scores[1].argmax()]]


@pytest.mark.parametrize("is_shuffled", [False, True])
@pytest.mark.parametrize("window_bytes", [1, 2000, 1 << 30])
def test_search_is_a_sort_of_all_scores(monkeypatch: pytest.MonkeyPatch, is_shuffled: bool, window_bytes: int) -> None:
    """In windows of one document or all; ties by id; deleted ones and those outside the filter are not found."""
    monkeypatch.setattr(token_ranking, "_WINDOW_BYTES", window_bytes)
    docs = documents(120) * 2  # every score twice
    ids = inputs.rng(3).permutation(240) if is_shuffled else np.arange(240)
    queries = documents(4, 2)
    index = MultiVectorStore(DIM)
    index.add(docs[:150], ids[:150])
    index.add(docs[150:], ids[150:])
    gone, allowed = ids[[3, 4, 200]], ids[::3]
    scores = index.score(queries)

    def check(filter: np.ndarray | None, wanted: np.ndarray, k: int = 50) -> None:
        places = [i for i in range(240) if ids[i] in wanted]
        found = index.search(queries, k, filter=filter)
        for row, row_ids, row_scores in zip(scores, found.ids, found.scores, strict=True):
            order = sorted(places, key=lambda i: (-row[i], ids[i]))[:k]
            assert row_ids.tolist() == [ids[i] for i in order]
            assert row_scores.tolist() == [row[i] for i in order]

    check(None, ids)
    check(allowed, allowed)
    index.delete(gone)
    left = np.setdiff1d(ids, gone)
    check(None, left, 240)
    check(np.isin(np.arange(240), allowed), np.intersect1d(left, allowed))
    index.compact()
    check(None, left)
    one = index.search(queries[0], 5)
    np.testing.assert_array_equal(one.ids, index.search(queries, 5).ids[0])


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(["add", "delete", "compact"]), st.integers(0, 12)), max_size=12))
def test_adding_and_deleting_is_a_dict(steps: list[tuple[str, int]]) -> None:
    """Any sequence of changes leaves what a dict would hold; a deleted id may come again."""
    rng, index, held = inputs.rng(len(steps)), MultiVectorStore(DIM), dict[int, np.ndarray]()
    query, tokens = documents(1, 5)[0], 0
    for action, count in steps:
        if action == "add":
            ids = rng.permutation(np.setdiff1d(np.arange(40), list(held)))[:count]
            docs = documents(len(ids), int(rng.integers(1000)))
            index.add(docs, ids)
            held.update(zip(ids.tolist(), docs))
            tokens += sum(map(len, docs))
        elif action == "delete":
            ids = rng.permutation(list(held))[:count].astype(np.int64)
            index.delete(ids)
            for i in ids.tolist():
                del held[i]
        else:
            index.compact()
            tokens = sum(map(len, held.values()))
    info = index.info()
    assert len(index) == info.documents == len(held) and sorted(index.ids.tolist()) == sorted(held)
    assert (info.tokens, info.token_bytes, info.store) == (tokens, 2 * DIM, "float16")
    if held:
        ids = np.array(sorted(held))
        alone = [reference.maxsim(query, held[i].astype(np.float16).astype(np.float32),
                                  *(np.array([0, n], np.int32) for n in (len(query), len(held[i]))))[0, 0]
                 for i in ids.tolist()]  # fmt: skip
        close(index.score(query, ids)[0], np.array(alone), [query], list(held.values()))


def test_readers_see_whole_states() -> None:
    """Every search while another thread adds finds documents in pairs, as they are added."""
    index, query, is_done = MultiVectorStore(DIM), documents(1, 5)[0], threading.Event()
    index.add(documents(2))
    counts: list[int] = []

    def read() -> None:
        while not is_done.is_set():
            counts.append(len(index.search(query, 10_000).ids))

    reader = threading.Thread(target=read)
    reader.start()
    for seed in range(150):
        index.add(documents(2, seed))
    is_done.set()
    reader.join()
    assert counts and all(count % 2 == 0 for count in counts) and counts == sorted(counts)
    assert len(index) == 302 and len(index._segments) < 12  # additions of two documents each, joined


def test_empty_store() -> None:
    index, query = MultiVectorStore(DIM), documents(1)[0]
    assert len(index) == 0 and index.rank(query) == [] and index.search([query], 3).ids.shape == (1, 0)
    assert index.score([query]).shape == (1, 0) and index.add([]).shape == (0,)
    assert index.rank(query, np.array([], np.int64)) == []
    index.compact()
    index.add(documents(3), np.array([5, 6, 7]))
    index.delete(np.array([5, 6, 7]))
    index.compact()
    assert len(index) == 0 and index.info().deleted == 0 and index.add(documents(1)).tolist() == [8]


def test_what_is_wrong_is_said() -> None:
    for dim in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="MultiVectorStore: dim must be an integer of at least 1, got"):
            MultiVectorStore(dim)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="store must be one of float16, int8, binary, got 'float32'"):
        MultiVectorStore(DIM, store="float32")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dim must be a multiple of 8 for store 'binary', got 12"):
        MultiVectorStore(12, store="binary")
    index, docs = MultiVectorStore(DIM), documents(3)
    index.add(docs)
    nan = np.full((2, DIM), np.nan, np.float32)
    for wrong, match in [
        ([docs[0], nan], r"MultiVectorStore.add: documents\[1\] must be finite"),
        ([docs[0][:, :8]], r"documents\[0\] must have dim 16, got 8"),
        ([docs[0][:0]], r"documents\[0\] has no token; leave it out"),
        ([docs[0].astype(np.int32)], r"documents\[0\] must be \(tokens, dim\) of floats, got \(.*\) of int32"),
        ([docs[0] * 1e6], "a value is above 65504, float16's largest; use store='int8'"),
    ]:
        with pytest.raises(ValueError, match=match):
            index.add(wrong)
    with pytest.raises(TypeError, match="documents must be a list of"):
        index.add("text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="MultiVectorStore.add: id 2 is in the store already; delete it first"):
        index.add(docs[:1], np.array([2]))
    with pytest.raises(ValueError, match=r"ids must be \(2,\) \(as rows\), got \(1,\)"):
        index.add(docs[:2], np.array([9]))
    with pytest.raises(ValueError, match="MultiVectorStore.delete: id 3 is not in the store"):
        index.delete(np.array([0, 3]))
    with pytest.raises(ValueError, match="MultiVectorStore.rank: id 3 is not in the store"):
        index.rank(docs[0], np.array([0, 3]))
    with pytest.raises(ValueError, match=r"MultiVectorStore.score: ids must be \(n,\) integers, got"):
        index.score(docs[0], np.array([0.5]))
    with pytest.raises(ValueError, match="MultiVectorStore.rank: top_k must be 1 or more, got 0"):
        index.rank(docs[0], top_k=0)
    with pytest.raises(TypeError, match="MultiVectorStore.search: k must be an int, got float"):
        index.search(docs[0], 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"MultiVectorStore.search: queries\[0\] must be finite"):
        index.search(nan, 1)
    assert len(index) == 3


def test_no_queries() -> None:
    store = MultiVectorStore(8)
    store.add([np.ones((2, 8), np.float32)])
    found = store.search([], 1)
    assert found.ids.shape == found.scores.shape == (0, 1) and repr(found) == "StoreResult(no queries)"
