"""`Reranker`: its laws, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import longspan.reranker
from checkpoints import Tensors, spoilt
from longspan import CheckpointError, Encoder, Reranker
from rerank_pairs import DOCUMENTS, PAIRS, QUERY

NAMES = ["rerank-bert", "rerank-xlmr", "rerank-modernbert", "rerank-jina-v1", "rerank-jina-v2", "rerank-qwen3"]


@pytest.fixture(scope="module")
def bert(golden: Path) -> Reranker:
    return Reranker(golden / "rerank-bert" / "model")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("name", NAMES)
def test_a_pair_alone_is_the_pair_in_any_batch(name: str, dtype: str, golden: Path) -> None:
    reranker = Reranker(golden / name / "model", dtype=dtype)
    pairs = [(query, document) for query in ("a", QUERY, "") for document in (*DOCUMENTS, "word " * 300)]
    whole = reranker.predict(pairs, on_truncate="ignore")
    alone = [reranker.predict(pair, on_truncate="ignore") for pair in pairs]
    np.testing.assert_array_equal(whole, alone)
    np.testing.assert_array_equal(whole, reranker.predict(pairs, batch_size=3, on_truncate="ignore"))
    np.testing.assert_array_equal(whole, reranker.predict(pairs, batch_tokens=70, on_truncate="ignore"))


@pytest.mark.parametrize("name", ["rerank-bert", "rerank-modernbert"])
def test_the_same_bits_in_every_instruction_set(isa: str, name: str, golden: Path) -> None:
    pairs = [(QUERY, document) for document in (*DOCUMENTS[:3], "a [SEP] <|im_end|> b", "word " * 40)]
    order = [3, 0, 4, 2, 1]
    for dtype in ("float32", "bfloat16", "int8"):
        reranker = Reranker(golden / name / "model", dtype=dtype, num_threads=2)
        whole = reranker.predict(pairs)
        shuffled = reranker.predict([pairs[place] for place in order], batch_tokens=90)
        np.testing.assert_array_equal(shuffled, whole[order], err_msg=f"{isa} {dtype}")
        alone = Reranker(golden / name / "model", dtype=dtype, num_threads=1).predict(pairs[4])
        np.testing.assert_array_equal(alone, whole[4], err_msg=f"{isa} {dtype}")


def test_many_queries_at_once_are_each_by_itself(bert: Reranker) -> None:
    queries = [QUERY, "licence", ""]
    together = bert.rank(queries, DOCUMENTS)
    assert together == [bert.rank(query, DOCUMENTS) for query in queries]
    lists = [DOCUMENTS[:2], [], DOCUMENTS]
    assert bert.rank(queries, lists) == [bert.rank(query, own) for query, own in zip(queries, lists, strict=True)]


def test_a_ranking(bert: Reranker) -> None:
    scores = bert.predict(PAIRS)
    assert scores.dtype == np.float32 and scores.shape == (5,)
    ranking = bert.rank(QUERY, DOCUMENTS, 3, return_documents=True)
    order = np.argsort(-scores, kind="stable")[:3].tolist()
    assert [entry["corpus_id"] for entry in ranking] == order
    assert [entry["text"] for entry in ranking] == [DOCUMENTS[place] for place in order]
    assert [entry["score"] for entry in ranking] == [float(scores[place]) for place in order]
    assert order.index(0) < order.index(4) if {0, 4} <= set(order) else True
    assert "text" not in bert.rank(QUERY, DOCUMENTS)[0]
    assert bert.rank(QUERY, []) == [] and bert.rank([], []) == []
    assert bert.predict([]).shape == (0,)
    assert bert.predict((QUERY, "x")).shape == ()


def test_activations(bert: Reranker, golden: Path) -> None:
    logits = bert.predict(PAIRS)  # the config asks for Identity
    sigmoid = bert.predict(PAIRS, activation_fn="sigmoid")
    np.testing.assert_allclose(sigmoid, 1 / (1 + np.exp(-logits.astype(np.float64))), atol=1e-6)
    np.testing.assert_array_equal(bert.predict(PAIRS, activation_fn=lambda x: -x), -logits)
    backwards = bert.rank(QUERY, DOCUMENTS, activation_fn=lambda x: -x)
    assert [entry["corpus_id"] for entry in backwards] == np.argsort(logits, kind="stable").tolist()
    xlmr = Reranker(golden / "rerank-xlmr" / "model")
    assert (bert.default_activation, xlmr.default_activation) == ("identity", "sigmoid")


def test_ranks_follow_the_logits_where_the_sigmoid_saturates(golden: Path, tmp_path: Path) -> None:
    def grow(tensors: Tensors) -> None:
        tensors["classifier.out_proj.weight"] *= 1000

    reranker = Reranker(spoilt(golden / "rerank-xlmr" / "model", tmp_path / "model", grow))
    logits = reranker.predict(PAIRS, activation_fn="identity")
    ranking = reranker.rank(QUERY, DOCUMENTS)
    assert [entry["corpus_id"] for entry in ranking] == np.argsort(-logits, kind="stable").tolist()


def test_several_labels(golden: Path, tmp_path: Path) -> None:
    source = golden / "rerank-bert" / "model"

    def widen(tensors: Tensors) -> None:
        tensors["classifier.weight"] = np.concatenate([tensors["classifier.weight"], np.ones((2, 64), np.float32)])
        tensors["classifier.bias"] = np.zeros(3, np.float32)

    labels = {str(place): f"L{place}" for place in range(3)}
    reranker = Reranker(spoilt(source, tmp_path / "model", widen, id2label=labels))
    scores = reranker.predict(PAIRS, apply_softmax=True)
    assert scores.shape == (5, 3)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    assert reranker.predict(PAIRS[0]).shape == (3,)
    activated = np.exp(reranker.predict(PAIRS, activation_fn="sigmoid").astype(np.float64))
    behind = reranker.predict(PAIRS, activation_fn="sigmoid", apply_softmax=True)
    np.testing.assert_allclose(behind, activated / activated.sum(axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(ValueError, match="rank: the model has 3 labels, and a ranking needs 1"):
        reranker.rank(QUERY, DOCUMENTS)


def test_prompts_go_before_the_query(golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(golden / "rerank-bert" / "model", folder)
    published = {"prompts": {"web": "search: "}, "default_prompt_name": "web", "activation_fn": "torch.nn.Sigmoid"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(published))
    reranker = Reranker(folder)
    plain = Reranker(golden / "rerank-bert" / "model")
    told = [(f"search: {query}", document) for query, document in PAIRS]
    assert reranker.default_activation == "sigmoid"  # the newest place wins
    np.testing.assert_array_equal(reranker.predict(PAIRS, activation_fn="identity"), plain.predict(told))
    np.testing.assert_array_equal(reranker.predict(PAIRS, activation_fn="identity", prompt=""), plain.predict(PAIRS))


@pytest.mark.parametrize("options", [{}, {"long_documents": "windows", "max_length": 40}])
def test_progress_counts_documents(options: dict[str, Any], bert: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the windows of each."""
    told: list[int] = []
    monkeypatch.setattr(longspan.reranker, "progress_bar", lambda *_: nullcontext(told.append))
    documents = ["word " * 200, "x", "word " * 90, "y", "z"]
    bert.rank(QUERY, documents, batch_tokens=100, on_truncate="ignore", **options)
    assert sum(told) == 5 and len(told) > 1 and min(told) >= 0


def test_an_adapter_changes_the_scores_of_its_task(bert: Reranker, golden: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    reranker = Reranker(golden / "rerank-bert" / "model")
    rng = np.random.default_rng(5)
    at = "base_model.model.bert.encoder.layer.0.attention.self.query"
    factors = {
        f"{at}.lora_A.weight": rng.standard_normal((4, 64)).astype(np.float32),
        f"{at}.lora_B.weight": rng.standard_normal((64, 4)).astype(np.float32),
    }
    save_file(factors, tmp_path / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["0.attention.self.query"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    before = reranker.predict(PAIRS)
    reranker.load_adapter("law", tmp_path)
    np.testing.assert_array_equal(reranker.predict(PAIRS), before)
    adapted = reranker.predict(PAIRS, task="law")
    assert np.abs(adapted - before).max() > 1e-2

    def merge(tensors: Tensors) -> None:
        delta = 2 * factors[f"{at}.lora_B.weight"].astype(np.float64) @ factors[f"{at}.lora_A.weight"]
        tensors["bert.encoder.layer.0.attention.self.query.weight"] += delta.astype(np.float32)

    merged = Reranker(spoilt(golden / "rerank-bert" / "model", tmp_path / "merged", merge))
    np.testing.assert_allclose(adapted, merged.predict(PAIRS), atol=1e-4)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda r: r.predict("text"), "pairs must be a list of .query, document., got one str"),
        (lambda r: r.predict([("a", "b"), "cd"]), r"pairs\[1\] must be a query and a document, got str"),
        (lambda r: r.predict([("a", "b", "c")]), r"pairs\[0\] must be a query and a document, got tuple"),
        (lambda r: r.predict([("a", 3)]), r"pairs\[0\]\[1\] must be a str, got int"),
        (
            lambda r: r.predict({"query": "a", "text": "b"}),
            "pairs must be a list of .*, got one dict with the keys 'qu",
        ),
        (lambda r: r.predict({"a", "b"}), "got one set, which has no order"),
        (lambda r: r.rank("a", "b"), "rank: documents must be a list of str, got one str"),
        (lambda r: r.rank(["a", "b"], {"c": "d"}), "documents must be a list of .*, got one dict with the keys 'c'"),
        (lambda r: r.predict([("a", "b")], prompt="\ud800"), r"predict: prompt\[0\] has a lone surrogate"),
        (lambda r: r.rank("a", [None]), r"documents\[0\] must be a str, got NoneType"),
        (lambda r: r.rank(["a", "b"], [["c"]]), "one list for all queries or 2 lists, one a query; got 1"),
        (lambda r: r.rank("a", ["b"], 0), "top_k must be 1 or more, got 0"),
        (lambda r: r.rank("a", ["b"], top_k=1.5), "top_k"),
        (lambda r: r.rank("a", ["b"], long_documents="half"), "long_documents must be one of 'cut', 'windows'"),
        (lambda r: r.rank("a", ["b"], overlap_tokens=-1), "overlap_tokens must be 0 or more, got -1"),
        (lambda r: r.predict([("a", "b")], max_length=3), "max_length must be from 4 to 512, got 3"),
        (lambda r: r.predict([("a", "b")], max_length=513), "max_length must be from 4 to 512, got 513"),
        (lambda r: r.predict([("a", "b")], max_query_length=0), "max_query_length must be from 1 to 512, got 0"),
        (lambda r: r.predict([("a", "b")], activation_fn="tanh"), "activation_fn must be 'identity', 'sigmoid' or a"),
        (lambda r: r.predict([("a", "b")], activation_fn=lambda x: x[:, 0]), "activation_fn must keep the shape"),
        (lambda r: r.predict([("a", "b")], task="law"), "task must be .* got 'law'"),
        (lambda r: r.predict([("a", "b")], prompt_name="web"), "prompt_name must be one of the model's prompts"),
        (lambda r: r.predict([("a", "b")], on_truncate="no"), "on_truncate must be one of"),
        (lambda r: r.predict([("a", "\ud800")]), "lone surrogate"),
    ],
)
def test_bad_arguments(bert: Reranker, call: Callable[[Reranker], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call(bert)


def test_containers(bert: Reranker) -> None:
    """A frame would give its columns' names, which are two texts, and so a pair."""
    pandas, polars, pyarrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    columns = {"query": [QUERY] * 5, "text": DOCUMENTS}
    for frame in (pandas.DataFrame(columns), polars.DataFrame(columns), pyarrow.table(columns)):
        with pytest.raises(TypeError, match=r"got one \w+; give its columns side by side, such as zip\("):
            bert.predict(frame)
        with pytest.raises(TypeError, match=r"got one \w+; give one of its columns"):
            bert.rank(["a", "b"], frame)
    want = bert.predict(PAIRS)
    np.testing.assert_array_equal(bert.predict(pyarrow.array([list(pair) for pair in PAIRS])), want)
    np.testing.assert_array_equal(bert.predict(np.array(PAIRS)), want)
    np.testing.assert_array_equal(bert.predict(zip(*columns.values())), want)
    both = bert.rank(["a", QUERY], DOCUMENTS)
    for documents in (pyarrow.array(DOCUMENTS), polars.Series(DOCUMENTS), pandas.Series(DOCUMENTS)):
        assert bert.rank(["a", QUERY], documents) == both
    assert bert.rank(["a", QUERY], pyarrow.array([DOCUMENTS] * 2)) == both


def test_an_embedding_model_is_no_reranker(golden: Path) -> None:
    for name, right in (("bert-minilm", r"longspan\.Encoder"), ("splade-bert/model", r"longspan\.SparseEncoder")):
        with pytest.raises(
            CheckpointError, match=f"is no reranker: modules.json of one may list .* open it with {right}"
        ):
            Reranker(golden / name)


def test_the_encoder_reads_a_classifier_s_trunk(golden: Path, tmp_path: Path) -> None:
    folder = spoilt(golden / "rerank-bert" / "model", tmp_path / "model", id2label={"0": "no", "1": "yes"})
    with pytest.warns(UserWarning, match="classifier.weight are not needed here and left out"):
        encoder = Encoder(folder)
    assert encoder.encode("a text").shape == (64,)


def test_the_fingerprint_knows_the_head(bert: Reranker, golden: Path, tmp_path: Path) -> None:
    def change(tensors: Tensors) -> None:
        tensors["bert.pooler.dense.bias"][0] += 1

    other = Reranker(spoilt(golden / "rerank-bert" / "model", tmp_path / "model", change))
    assert bert.fingerprint == Reranker(golden / "rerank-bert" / "model").fingerprint != other.fingerprint


def test_it_says_what_it_is(bert: Reranker) -> None:
    assert repr(bert).endswith("BERT, max_length=512)") and "float32" in bert.explain()


def test_equal_documents_keep_the_callers_order(bert: Reranker) -> None:
    ranking = bert.rank(QUERY, [DOCUMENTS[0], *["the same"] * 40, DOCUMENTS[1]])
    places = [entry["corpus_id"] for entry in ranking]
    assert [place for place in places if 1 <= place <= 40] == list(range(1, 41))


def test_a_softmax_of_one_label_is_none(bert: Reranker) -> None:
    """It would make every score 1."""
    np.testing.assert_array_equal(bert.predict(PAIRS, apply_softmax=True), bert.predict(PAIRS))
