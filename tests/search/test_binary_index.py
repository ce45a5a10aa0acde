"""BinaryIndex in memory, against brute force."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import inputs
from longspan import BinaryIndex, reference

STORES = ("codes", "int8", "float32")


def brute_force(documents: dict[int, np.ndarray], queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """ids and distances of the k least by (distance, id)."""
    ids = np.array(sorted(documents), np.int64)
    stored = np.stack([documents[i] for i in ids.tolist()])
    codes, wanted = (reference.binarize(x) for x in (stored, queries))
    distances, rows = reference.hamming_topk(wanted, codes, min(k, len(ids)))
    return ids[rows], distances


@pytest.mark.parametrize("store", STORES)
def test_order_is_distance_then_id(store: str) -> None:
    """Ids in any order, batches of any size, few distances: ties everywhere."""
    x, queries = inputs.normal((3000, 10), 1), inputs.normal((7, 10), 2)
    ids = inputs.rng(3).permutation(10_000)[:3000]
    index = BinaryIndex(10, store=store)
    for part in np.array_split(np.arange(3000), [1, 2, 5, 1000, 1024, 2900]):
        np.testing.assert_array_equal(index.add(x[part], ids[part]), ids[part])
    truth = brute_force(dict(zip(ids.tolist(), x)), queries, 50)
    found = index.search(queries, 50, rescore=False)
    assert found.scores is None and len(index) == 3000
    np.testing.assert_array_equal(index.ids, ids)
    np.testing.assert_array_equal(found.ids, truth[0])
    np.testing.assert_array_equal(found.distances, truth[1])
    one = index.search(queries[3], 50, rescore=False)
    np.testing.assert_array_equal(one.ids, truth[0][3])
    coded = index.search(reference.binarize(queries), 50, rescore=False)
    np.testing.assert_array_equal(coded.ids, truth[0])


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(["add", "delete", "compact"]), st.integers(0, 40)), max_size=12))
def test_adding_and_deleting_is_a_dict(steps: list[tuple[str, int]]) -> None:
    """Any sequence of changes leaves what a dict would hold; a deleted id may come again."""
    rng, index, truth = inputs.rng(len(steps)), BinaryIndex(6), dict[int, np.ndarray]()
    for action, count in steps:
        if action == "add":
            free = np.setdiff1d(np.arange(100), list(truth))
            ids = rng.permutation(free)[:count]
            x = rng.standard_normal((len(ids), 6)).astype(np.float32)
            index.add(x, ids)
            truth.update(zip(ids.tolist(), x))
        elif action == "delete":
            ids = rng.permutation(list(truth))[:count].astype(np.int64)
            index.delete(ids)
            for i in ids.tolist():
                del truth[i]
        else:
            index.compact()
        assert len(index) == len(truth)
        queries = rng.standard_normal((2, 6)).astype(np.float32)
        found = index.search(queries, 30, rescore=False)
        if truth:
            ids, distances = brute_force(truth, queries, 30)
            np.testing.assert_array_equal(found.ids, ids)
            np.testing.assert_array_equal(found.distances, distances)
        else:
            assert found.ids.shape == (2, 0)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("is_centered", [False, True])
def test_rescoring_is_brute_force_over_the_candidates(store: str, is_centered: bool) -> None:
    x, queries = inputs.normal((500, 24), 1) + 1, inputs.normal((6, 24), 2) + 1
    index = BinaryIndex.learn(x, queries, store=store) if is_centered else BinaryIndex(24, store=store)
    index.add(x[:200])
    index.add(x[200:])
    found = index.search(queries, 5, oversample=3)
    candidates = index.search(queries, 15, rescore=False).ids
    for i, query in enumerate(queries):
        if store == "codes":
            signs = np.where(x > (x.mean(axis=0) if is_centered else 0), 1.0, -1.0)
            scores = signs[candidates[i]] @ (query - queries.mean(axis=0) if is_centered else query)
        else:
            scores = x[candidates[i]] @ query
        order = np.lexsort((candidates[i], -scores))[:5]
        tolerance = {"codes": 1e-4, "float32": 1e-4, "int8": 24 * np.abs(x).max() / 254 * np.abs(query).max()}[store]
        np.testing.assert_allclose(found.scores[i], np.sort(scores)[::-1][:5], atol=tolerance)
        if store != "int8":
            np.testing.assert_array_equal(found.ids[i], candidates[i][order])
    everything = index.search(queries, 500, oversample=1)
    assert everything.ids.shape == (6, 500)
    assert (np.diff(everything.scores, axis=1) <= 0).all()


def test_int8_rule() -> None:
    """Scale max |x| / 127, nearest level, halves to even: a vector's score with itself tells."""
    x = np.array([[127, 2.5, -3.5, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0]], np.float32)
    index = BinaryIndex(8, store="int8")
    index.add(x)
    found = index.search(np.eye(8, dtype=np.float32), 2, oversample=1)
    scores = {(q, i): s for q in range(8) for i, s in zip(found.ids[q].tolist(), found.scores[q].tolist())}
    assert [scores[q, 0] for q in range(4)] == [127, 2, -4, 0]
    assert [scores[q, 1] for q in range(4)] == [0, 0, 0, 0]


def test_filter() -> None:
    x, queries = inputs.normal((300, 16), 1), inputs.normal((4, 16), 2)
    ids = inputs.rng(1).permutation(1000)[:300]
    index = BinaryIndex(16)
    index.add(x[:100], ids[:100])
    index.add(x[100:], ids[100:])
    index.delete(ids[:50])
    wanted = np.sort(ids)[::3]
    kept = {i: v for i, v in zip(ids.tolist()[50:], x[50:]) if i in set(wanted.tolist())}
    truth, distances = brute_force(kept, queries, 20)
    mask = np.zeros(1000, np.bool_)
    mask[wanted] = True
    for filter in (wanted, wanted[::-1].tolist(), mask, np.append(wanted, 5000)):
        found = index.search(queries, 20, rescore=False, filter=filter)
        np.testing.assert_array_equal(found.ids, truth)
        np.testing.assert_array_equal(found.distances, distances)
    assert index.search(queries, 1000, filter=mask).ids.shape == (4, len(kept))
    assert index.search(queries, 3, filter=np.zeros(0, np.int64)).ids.shape == (4, 0)
    assert index.search(queries[0], 3, filter=mask[:1] & False).ids.shape == (0,)


def test_ids_count_on() -> None:
    index = BinaryIndex(8)
    x = inputs.normal((3, 8), 1)
    np.testing.assert_array_equal(index.add(x), [0, 1, 2])
    index.add(x, np.array([9, 4, 7]))
    np.testing.assert_array_equal(index.add(x), [10, 11, 12])
    index.delete(np.array([12]))
    np.testing.assert_array_equal(index.add(x), [13, 14, 15])
    assert index.add(x[:0]).shape == (0,) and len(index) == 11


def test_readers_see_whole_states_while_a_writer_adds() -> None:
    """Each batch holds one code alone, in ids that say which: a search must find whole batches, in order."""
    index, stop, errors = BinaryIndex(64), threading.Event(), list[str]()
    batch, batches = 50, 60
    x = np.repeat(inputs.normal((batches, 64), 1), batch, axis=0)

    def read() -> None:
        while not stop.is_set():
            found = index.search(x[:1], 10_000, rescore=False)
            ids = np.sort(found.ids[0])
            if len(ids) % batch or not np.array_equal(ids, np.arange(len(ids))):
                errors.append(f"saw {len(ids)} rows")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for at in range(0, len(x), batch):
        index.add(x[at : at + batch])
    stop.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert len(index) == len(x)


def test_info_tells_a_narrow_cone() -> None:
    x = inputs.normal((2000, 96), 1)
    around_zero = BinaryIndex(96)
    around_zero.add(x)
    info = around_zero.info()
    assert (info.rows, info.deleted, info.dim, info.code_bytes, info.store) == (2000, 0, 96, 12, "codes")
    assert info.mean_length < 0.1 and info.bit_balance > 0.95 and info.advice is None

    cone = x + 2 * np.sign(inputs.normal((96,), 2))
    plain, centered = BinaryIndex(96), BinaryIndex.learn(cone)
    for index in (plain, centered):
        index.add(cone)
    assert plain.info().mean_length > 0.8
    assert "narrow cone" in plain.info().advice and "BinaryIndex.learn" in plain.info().advice
    assert centered.info().advice is None and centered.info().has_center_documents
    coded = BinaryIndex(96)
    coded.add(reference.binarize(cone))
    assert coded.info().mean_length is None and "narrow cone" in coded.info().advice
    empty = BinaryIndex(96).info()
    assert empty.mean_length is None and empty.bit_balance is None and empty.advice is None


def test_centring_repairs_a_narrow_cone() -> None:
    """Neighbours by the float product, found among codes: few by plain signs, most by centred ones."""
    x, noise = inputs.normal((3000, 128), 1), inputs.normal((100, 128), 2)
    cone = 4 * np.sign(inputs.normal((128,), 3))
    documents, queries = x + cone, x[:100] + 0.5 * noise + cone
    plain, centered = BinaryIndex(128), BinaryIndex.learn(documents, queries)
    hits = []
    for index in (plain, centered):
        index.add(documents)
        hits.append((index.search(queries, 1).ids[:, 0] == np.arange(100)).mean())
    assert hits[0] < 0.5 and hits[1] > 0.95


FLOATS = inputs.normal((2, 12), 1)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda i: BinaryIndex(0), ValueError, "BinaryIndex: dim must be an integer from 1 to 16777208, got 0"),
        (
            lambda i: BinaryIndex(8, store="f"),
            ValueError,
            "BinaryIndex: store must be one of codes, int8, float32, got 'f'",
        ),
        (
            lambda i: BinaryIndex(8, center_documents=np.zeros(7)),
            ValueError,
            r"BinaryIndex: center_documents must be \(8,\) finite floats, got \(7,\)",
        ),
        (
            lambda i: BinaryIndex.learn(FLOATS[:0]),
            ValueError,
            "BinaryIndex.learn: documents must be at least one vector",
        ),
        (lambda i: i.add([[1.0]]), TypeError, "BinaryIndex: rows must be a NumPy array, got list"),
        (lambda i: i.add(FLOATS[0]), ValueError, r"BinaryIndex: rows must be \(n, 12\), got \(12,\)"),
        (lambda i: i.add(FLOATS * np.nan), ValueError, "BinaryIndex: rows must be finite, row"),
        (
            lambda i: i.add(np.zeros((2, 3), np.uint8)),
            ValueError,
            r"rows as codes must be \(n, 2\) for dim 12, got \(2, 3\)",
        ),
        (lambda i: i.add(np.full((2, 2), 255, np.uint8)), ValueError, "rows must have zeros in the bits beyond dim 12"),
        (lambda i: i.add(FLOATS, [1]), ValueError, r"BinaryIndex.add: ids must be \(2,\) \(as rows\), got \(1,\)"),
        (lambda i: i.add(FLOATS, [-1, 3]), ValueError, "BinaryIndex.add: ids must be 0 or above, got -1"),
        (lambda i: i.add(FLOATS, [7, 7]), ValueError, "BinaryIndex.add: ids must differ, 7 is given twice"),
        (lambda i: i.add(FLOATS, [7, 1]), ValueError, "BinaryIndex.add: id 1 is in the index already; delete it first"),
        (
            lambda i: i.add(FLOATS, [0.5, 1]),
            ValueError,
            r"BinaryIndex.add: ids must be \(n,\) integers, got \(2,\) float64",
        ),
        (lambda i: i.delete([1, 5]), ValueError, "BinaryIndex.delete: id 5 is not in the index"),
        (lambda i: i.search(FLOATS, 0), ValueError, "BinaryIndex.search: k must be an integer of at least 1, got 0"),
        (lambda i: i.search(FLOATS, 1, oversample=0), ValueError, "BinaryIndex.search: oversample must be an integer"),
        (lambda i: i.search([1.0], 1), TypeError, "BinaryIndex.search: queries must be a NumPy array, got list"),
        (lambda i: i.search(FLOATS[:, :3], 1), ValueError, r"BinaryIndex: queries must be \(n, 12\), got \(2, 3\)"),
        (
            lambda i: i.search(np.zeros((1, 2), np.uint8), 1),
            ValueError,
            "BinaryIndex.search: queries are codes, which cannot be rescored; pass rescore=False",
        ),
        (
            lambda i: BinaryIndex(8, store="int8").add(np.zeros((1, 1), np.uint8)),
            ValueError,
            "BinaryIndex.add: an index that stores int8 vectors takes floats, not codes",
        ),
        (
            lambda i: BinaryIndex(12, store="int8").add(FLOATS * np.inf),
            ValueError,
            "BinaryIndex: rows must be finite, row 0 holds NaN or infinity",
        ),
    ],
)
def test_bad_input_changes_nothing(call: object, error: type[Exception], message: str) -> None:
    index = BinaryIndex(12)
    index.add(FLOATS)
    with pytest.raises(error, match=message):
        call(index)
    assert len(index) == 2
    np.testing.assert_array_equal(index.search(FLOATS[1], 5).ids, index.search(FLOATS, 5).ids[1])


# integers and values at their borders


@pytest.mark.parametrize("store", ["codes", "int8", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_and_queries_are_finite(store: str, value: float) -> None:
    index = BinaryIndex(8, store=store)  # type: ignore[arg-type]
    rows = np.eye(8, dtype=np.float32)[:6] + 0.1
    rows[2, 0] = value
    with pytest.raises(ValueError, match=r"BinaryIndex: rows must be finite, row 2 holds NaN or infinity"):
        index.add(rows)
    assert len(index) == 0
    index.add(np.eye(8, dtype=np.float32))
    with pytest.raises(ValueError, match=r"BinaryIndex: queries must be finite, row 2 holds NaN or infinity"):
        index.search(rows, 3)


def test_ids_end_at_2_to_the_63() -> None:
    index = BinaryIndex(8)
    rows = np.eye(8, dtype=np.float32)
    with pytest.raises(ValueError, match=r"BinaryIndex.add: ids must be below 2\^63, got 9223372036854775808"):
        index.add(rows[:1], ids=np.array([2**63], np.uint64))
    index.add(rows[:1], ids=np.array([2**63 - 3]))
    with pytest.raises(ValueError, match=r"3 ids from 9223372036854775806 on would pass 2\^63, 2 are left"):
        index.add(rows[:3])
    assert index.ids.tolist() == [2**63 - 3]
    assert index.add(rows[:2]).tolist() == [2**63 - 2, 2**63 - 1]
    with pytest.raises(ValueError, match="1 ids from 9223372036854775808 on would pass"):
        index.add(rows[:1])


def test_a_number_of_numpy_s_is_a_number() -> None:
    index = BinaryIndex(64, store="int8")
    index.add(np.random.default_rng(0).standard_normal((300, 64)).astype(np.float32))
    query = np.ones(64, np.float32)
    found = index.search(query, np.uint8(65), oversample=np.int8(4))
    assert np.array_equal(found.ids, index.search(query, 65).ids)
    assert len(found.ids) == 65
