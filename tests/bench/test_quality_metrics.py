"""The measures and rankings of bench/quality against examples worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from bench.quality.metrics import average_ranks, evaluate, mrr, ndcg, recall, spearman
from bench.quality.rankings import RANKINGS, best_first, by_hamming, by_int8, int8_levels, signs
from longspan.vectors.quantize import quantize_embeddings


def test_ndcg_has_linear_gain_and_the_ideal_of_all_judgements() -> None:
    # Gains 3 at rank 2 and 1 at rank 4; ideal: 3, 2, 1 at ranks 1, 2, 3, although 2 was never found.
    gains = {5: 3.0, 6: 2.0, 7: 1.0}
    found = 3 / math.log2(3) + 1 / math.log2(5)
    ideal = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert ndcg([0, 5, 1, 7], gains, 10) == pytest.approx(found / ideal, rel=1e-12)
    assert ndcg([0, 5, 1, 7], gains, 3) == pytest.approx(3 / math.log2(3) / ideal, rel=1e-12)
    assert ndcg([5, 6, 7], gains, 10) == 1
    assert ndcg([1, 2, 3], gains, 10) == 0


def test_ndcg_counts_no_more_than_k_judgements_in_the_ideal() -> None:
    gains = dict.fromkeys(range(20), 1.0)
    assert ndcg(list(range(10)), gains, 10) == pytest.approx(1, rel=1e-12)


def test_recall_is_over_all_judged_documents() -> None:
    gains = {1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0}
    assert recall([9, 1, 2, 3], gains, 3) == 0.5
    assert recall([9, 1, 2, 3], gains, 100) == 0.75


def test_mrr_is_that_of_the_first_hit_within_k() -> None:
    assert mrr([9, 8, 3, 4], {3: 1.0, 4: 5.0}, 10) == pytest.approx(1 / 3)
    assert mrr([9, 8, 3], {3: 1.0}, 2) == 0


def test_evaluate_leaves_out_queries_without_a_judgement() -> None:
    order = np.array([[0, 1, 2], [2, 1, 0], [1, 0, 2]])
    figures = evaluate(order, [{0: 1.0}, {}, {0: 1.0}])
    assert figures == {
        "nDCG@10": pytest.approx((1 + 1 / math.log2(3)) / 2),
        "R@10": 1.0,
        "MRR@10": pytest.approx(0.75),
    }


def test_evaluate_gives_recall_at_100_where_the_order_goes_that_far() -> None:
    order = np.arange(120)[None]
    figures = evaluate(order, [{9: 1.0, 10: 1.0, 99: 1.0, 100: 1.0}])
    assert figures["R@10"] == 0.25
    assert figures["R@100"] == 0.75
    assert "R@100" not in evaluate(order[:, :10], [{9: 1.0}])


def test_evaluate_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="order and gains need one entry a query, got 1 and 2"):
        evaluate(np.array([[0]]), [{0: 1.0}, {0: 1.0}])
    with pytest.raises(ValueError, match="no query has a judgement"):
        evaluate(np.array([[0]]), [{}])


def test_average_ranks_share_ties() -> None:
    assert average_ranks(np.array([10.0, 3.0, 10.0, 1.0, 10.0])).tolist() == [4, 2, 4, 1, 4]


def test_spearman_by_hand() -> None:
    # Ranks 1 2.5 2.5 4 and 1 3 2 4, centred: -1.5 0 0 1.5 and -1.5 0.5 -0.5 1.5; 4.5 / sqrt(4.5 * 5).
    a, b = np.array([0.0, 1.0, 1.0, 7.0]), np.array([-5.0, 2.0, 1.0, 3.0])
    assert spearman(a, b) == pytest.approx(4.5 / math.sqrt(22.5), rel=1e-12)
    assert spearman(a, -a) == pytest.approx(-1, rel=1e-12)


def test_spearman_agrees_with_scipy_on_many_ties() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy absent: pip install scipy")
    rng = np.random.default_rng(3)
    a = rng.integers(0, 7, 500)
    b = a + rng.integers(0, 9, 500)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, rel=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0, 2.0], [1.0], r"equal length, got shapes \(2,\) and \(1,\)"),
        ([1.0, np.nan], [1.0, 2.0], "must be finite"),
        ([1.0, 1.0], [1.0, 2.0], "all values of a or of b are equal"),
        ([], [], "all values of a or of b are equal"),
    ],
)
def test_spearman_refuses(a: list[float], b: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spearman(np.array(a), np.array(b))


def test_equal_scores_keep_the_order_of_the_corpus() -> None:
    assert best_first(np.array([[0.5, 1.0, 0.5, 1.0, -0.0, 0.0]], np.float32)).tolist() == [[1, 3, 0, 2, 4, 5]]


def test_int8_rounds_half_to_even_and_bears_zero_vectors() -> None:
    vectors = np.array([[127.0, 0.5, 1.5, -2.5], [0, 0, 0, 0], [-254.0, 2, 0, 0]], np.float32)
    levels, scales = int8_levels(vectors)
    assert levels.tolist() == [[127, 0, 2, -2], [0, 0, 0, 0], [-127, 1, 0, 0]]
    assert scales.tolist() == [[1], [0], [2]]


def test_int8_scores_are_those_of_the_dequantised_vectors() -> None:
    rng = np.random.default_rng(1)
    queries, documents = rng.standard_normal((5, 64), np.float32), rng.standard_normal((300, 64), np.float32)
    (q, q_scales), (d, d_scales) = int8_levels(queries), int8_levels(documents)
    truth = (q.astype(np.float64) * q_scales) @ (d.astype(np.float64) * d_scales).T
    assert (by_int8(queries, documents) == best_first(truth)).all()


def test_hamming_order_is_that_of_the_packed_codes() -> None:
    rng = np.random.default_rng(2)
    queries, documents = rng.standard_normal((7, 24), np.float32), rng.standard_normal((200, 24), np.float32)
    documents[3] = 0  # a value of 0 has no bit
    codes = [np.unpackbits(quantize_embeddings(side, "ubinary"), axis=1) for side in (queries, documents)]
    distances = (codes[0][:, None] != codes[1][None]).sum(axis=2)
    assert (by_hamming(queries, documents) == np.argsort(distances, axis=1, kind="stable")).all()


def _scores_by_bits(query: np.ndarray, documents: np.ndarray) -> np.ndarray:
    return np.asarray(signs(documents) @ query)


def _scores_by_float(query: np.ndarray, documents: np.ndarray) -> np.ndarray:
    return np.asarray(documents @ query)


@pytest.mark.parametrize(
    ("ranking", "score"), [("binary-x4-bits", _scores_by_bits), ("binary-x4-float", _scores_by_float)]
)
def test_rescoring_ranks_the_forty_nearest_again(
    ranking: str, score: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> None:
    rng = np.random.default_rng(4)
    queries, documents = rng.standard_normal((3, 16)), rng.standard_normal((500, 16))
    order = RANKINGS[ranking].order(queries, documents)
    assert order.shape == (3, 10)
    for query, got in zip(queries, order, strict=True):
        distances = (signs(documents) != signs(query)).sum(axis=1)
        nearest = sorted(range(500), key=lambda place: (distances[place], place))[:40]
        scores = score(query, documents)
        assert got.tolist() == sorted(nearest, key=lambda place: (-scores[place], place))[:10]


def test_rescoring_settles_ties_by_place_in_the_corpus() -> None:
    # Document 0 is two bits from the query and document 1 none, yet both score 1.
    query = np.array([[0.5, 0.5, -0.5, -0.5]])
    documents = np.array([[2.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    assert by_hamming(query, documents).tolist() == [[1, 0]]
    assert RANKINGS["binary-x4-float"].order(query, documents).tolist() == [[0, 1]]
