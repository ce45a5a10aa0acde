"""`Reranker`: its laws, what it refuses, and heads that are damaged."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import longspan.reranker
from checkpoints import Tensors, read_tensors, spoilt, write_checkpoint
from longspan import CheckpointError, Encoder, Reranker, TruncationWarning
from longspan.reranking import windows
from longspan.reranking.formats import Cut
from longspan.reranking.listwise import (
    BLOCK_DOCUMENTS,
    DOCUMENT_MARKER,
    MAX_DOCUMENT_LENGTH,
    MAX_QUERY_LENGTH,
    QUERY_MARKER,
    ListCut,
    ListScorer,
    _without_markers,
)
from longspan.reranking.request import OVERLAP_TOKENS, Request
from longspan.reranking.scorer import PairScorer

QUERY = "how do I reset a forgotten password"
DOCUMENTS = [
    "To reset a forgotten password, open the sign-in page.",
    "The licence covers the source form.",
    "",
    "def reset(user): user.hash = None",
    "To reset a forgotten password, open the sign-in page.",
]
PLAIN = Request("test", "", -1, None, None)
PAIRS = [(QUERY, document) for document in DOCUMENTS]
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


@pytest.mark.parametrize(
    "settings, makes_types",
    [
        ({"tokenizer_class": "BertTokenizer"}, True),
        ({"tokenizer_class": "RobertaTokenizerFast"}, False),
        ({"model_input_names": ["input_ids", "attention_mask"]}, False),
        ({"model_input_names": ["input_ids", "token_type_ids"], "tokenizer_class": "RobertaTokenizer"}, True),
    ],
)
def test_token_types_are_for_the_tokenizer_to_make(
    settings: dict[str, object], makes_types: bool, bert: Reranker, golden: Path, tmp_path: Path
) -> None:
    """By its class and its inputs, though the template knows types and the model has rows for two of them."""
    shutil.copytree(golden / "rerank-bert" / "model", tmp_path / "model")
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(settings))
    reranker = Reranker(tmp_path / "model")
    assert isinstance(reranker._scorer, PairScorer)
    [row] = reranker._scorer._format.rows([PAIRS[0]], Cut(512), None)
    if makes_types:
        assert row.types is not None and set(row.types.tolist()) == {0, 1}
    else:
        assert row.types is None
        assert reranker.predict(PAIRS[0]) != bert.predict(PAIRS[0])


def test_what_is_cut_is_told(bert: Reranker) -> None:
    long = [("a " * 40, "a " * 60)]
    with pytest.warns(TruncationWarning, match="1 of 1 pairs had more than 43 tokens; 20 tokens of queries and 40 of"):
        bert.predict(long, max_length=43)
    with pytest.raises(ValueError, match="tokens of queries and 50 of documents were left out"):
        bert.rank(long[0][0], [long[0][1]], max_length=43, max_query_length=30, on_truncate="error")


def test_either_end_of_a_text_is_cut(bert: Reranker, golden: Path) -> None:
    """What is left of a document by a cut from the left is what is left of its end alone."""
    document = "alpha " * 40 + "gamma delta"
    pair = (QUERY, document)
    cut = {"max_length": 60, "on_truncate": "ignore"}
    words = ["alpha", "gamma", "delta"]
    ids = {word: bert.tokenizer.bare_ids([word])[0] for word in words}
    query = bert.tokenizer.bare_ids([QUERY])[0]
    room = 60 - 3 - len(query)
    assert len(query) < room
    kept = np.concatenate([*[ids["alpha"]] * 40, ids["gamma"], ids["delta"]])[-room:]
    scorer = bert._scorer
    assert isinstance(scorer, PairScorer)
    [row] = scorer._format.rows([pair], Cut(60, None, "left"), None)
    assert (
        row.ids[len(query) + 2 : -1].tolist() == kept.tolist()
        and row.ids[1 : len(query) + 1].tolist() == query.tolist()
    )
    left = bert.predict(pair, truncation_side="left", **cut)
    assert left == scorer._row_logits([row], PLAIN)[0, 0]
    assert bert.predict(pair, truncation_side="right", **cut) == bert.predict(pair, **cut) != left
    for name in ("rerank-qwen3", "rerank-jina-v3"):
        with pytest.raises(ValueError, match="truncation_side must be 'right' or None"):
            Reranker(golden / name / "model").predict(pair, truncation_side="left")
    with pytest.raises(ValueError, match="leave truncation_side out"):
        bert.rank(QUERY, [document], long_documents="windows", truncation_side="left")


def test_windows_find_what_a_cut_loses(golden: Path) -> None:
    reranker = Reranker(golden / "rerank-xlmr" / "model")
    answer = "To reset a forgotten password, open the sign-in page."
    document = "Linz und Graz. " * 12 + answer
    options = {"max_length": 96, "max_query_length": 48, "on_truncate": "ignore"}
    [best] = reranker.rank(QUERY, [document], long_documents="windows", **options)
    [cut] = reranker.rank(QUERY, [document], **options)
    assert best["score"] >= cut["score"]
    short = reranker.rank(QUERY, ["x"], long_documents="windows", **options)
    assert short == reranker.rank(QUERY, ["x"], **options)
    with pytest.raises(ValueError, match="max_length must be at least twice max_query_length"):
        reranker.rank(QUERY, ["x"], long_documents="windows", max_length=90, max_query_length=46)


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


def test_a_listwise_model_sees_its_list(golden: Path) -> None:
    reranker = Reranker(golden / "rerank-jina-v3" / "model")
    assert reranker.is_listwise
    alone = reranker.predict(PAIRS)
    assert [reranker.rank(QUERY, [text])[0]["score"] for text in DOCUMENTS] == [float(score) for score in alone]
    together = reranker.rank([QUERY, "x"], [DOCUMENTS, DOCUMENTS[:2]])
    assert together == [reranker.rank(QUERY, DOCUMENTS), reranker.rank("x", DOCUMENTS[:2])]
    split = "<|embed_<|embed_token|>token|>"  # deleting the marker inside joins another
    assert len(reranker.rank(QUERY, [split, "y"])) == 2
    with pytest.raises(ValueError, match="a listwise model cuts long documents"):
        reranker.rank(QUERY, DOCUMENTS, long_documents="windows")


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


def test_what_a_prompt_loses_of_which_text_is_told(golden: Path) -> None:
    reranker = Reranker(golden / "rerank-qwen3" / "model")
    fixed = len(reranker.tokenizer.bare_ids(["<Instruct>: x\n<Query>:\n<Document>:"])[0])
    [of_word] = {len(ids) for ids in reranker.tokenizer.bare_ids([" b"])}
    with pytest.warns(TruncationWarning, match="had more than 200 tokens; 0 tokens of queries"):
        reranker.predict([("a", " b" * 300)], prompt="x", max_length=200)
    with pytest.warns(TruncationWarning) as told:
        reranker.predict([(" b" * 300, "a")], prompt="x", max_length=200)
    lost = [int(number) for number in re.findall(r"; (\d+) tokens of queries and (\d+)", str(told[0].message))[0]]
    room = 200 - reranker._scorer._format.num_fixed  # type: ignore[attr-defined]
    assert abs(lost[0] - (fixed + 300 * of_word - room)) <= 2 and 1 <= lost[1] <= 3
    with pytest.raises(ValueError, match="max_query_length must be None for this model"):
        reranker.predict([("a", "b")], max_query_length=7)


def test_queries_that_are_cut_alone_are_told(bert: Reranker) -> None:
    with pytest.warns(TruncationWarning, match="had more than 512 tokens, or queries of more than 2; 2 tokens of quer"):
        bert.predict([("a b c d", "x")], max_query_length=2)
    with pytest.warns(TruncationWarning, match="1 of 1 pairs had queries of more than 20 tokens; 22 tokens of queries"):
        bert.rank("a " * 40, ["x"], max_length=41, long_documents="windows")


@pytest.mark.parametrize("name, positions", [("rerank-qwen3", 106), ("rerank-mxbai", 223)])
def test_a_model_whose_prompt_fills_it(name: str, positions: int, golden: Path, tmp_path: Path) -> None:
    source = golden / name / "model"
    with pytest.raises(CheckpointError, match=f"at most {positions} tokens, and {positions} belong to neither"):
        Reranker(spoilt(source, tmp_path / "full", max_position_embeddings=positions))
    reranker = Reranker(spoilt(source, tmp_path / "room", max_position_embeddings=positions + 30))
    assert isinstance(reranker._scorer, PairScorer)
    rows = reranker._scorer._format.rows([("a", "b " * 99)], Cut(reranker._scorer._default_length), None)
    assert len(rows[0].ids) == positions + 30


def test_markers_in_markers_are_taken_out_in_one_pass() -> None:
    """Each pass over the text takes one layer; 40,000 layers took minutes."""
    head, tail = DOCUMENT_MARKER[:7], DOCUMENT_MARKER[7:]
    depth = 40_000
    text = f"before {head * depth}{tail * depth} after"
    assert _without_markers(text) == "before  after"
    mixed = f"{QUERY_MARKER[:3]}{head}{DOCUMENT_MARKER}{tail}{QUERY_MARKER[3:]}>a\r\n<|embed_token|"
    assert _without_markers(mixed) == ">a\r\n<|embed_token|"
    rng = np.random.default_rng(3)
    pieces = [DOCUMENT_MARKER[:4], DOCUMENT_MARKER[4:], QUERY_MARKER[:9], QUERY_MARKER[9:], "x", "\r", ">"]
    for _ in range(300):
        clean = _without_markers("".join(rng.choice(pieces, 12)))
        assert DOCUMENT_MARKER not in clean and QUERY_MARKER not in clean


def test_a_distilbert_head(golden: Path, tmp_path: Path) -> None:
    """W relu(P h0 + p) + b, on the hidden states of the encoder itself; there is no golden of it."""
    source, rng = golden / "distilbert", np.random.default_rng(8)
    width = json.loads((source / "config.json").read_text())["dim"]
    shapes = {"pre_classifier.weight": (width, width), "pre_classifier.bias": (width,)}
    shapes |= {"classifier.weight": (1, width), "classifier.bias": (1,)}
    head = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    named = ["DistilBertForSequenceClassification"]
    reranker = Reranker(spoilt(source, tmp_path / "model", lambda tensors: tensors.update(head), architectures=named))
    assert isinstance(reranker._scorer, PairScorer)
    rows = reranker._scorer._format.rows(PAIRS, Cut(64), None)
    hidden = Encoder(source).encode_ids([row.ids for row in rows], output_value="token_embeddings")
    first = np.stack([tokens[0] for tokens in hidden]).astype(np.float64)
    inner = np.maximum(first @ head["pre_classifier.weight"].T.astype(np.float64) + head["pre_classifier.bias"], 0)
    want = inner @ head["classifier.weight"][0].astype(np.float64) + head["classifier.bias"]
    got = reranker.predict(PAIRS, activation_fn="identity", max_length=64, on_truncate="ignore")
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-3)


def test_what_a_modernbert_head_is_where_its_config_is_silent(golden: Path, tmp_path: Path) -> None:
    """The first token and GELU, as transformers' config has them."""
    source = golden / "rerank-modernbert" / "model"
    silent = {"classifier_pooling": None, "classifier_activation": None}
    scores = []
    for place, keys in enumerate((silent, {"classifier_pooling": "cls", "classifier_activation": "gelu"})):
        folder = spoilt(source, tmp_path / str(place), **keys)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
        scores.append(Reranker(folder).predict(PAIRS))
    np.testing.assert_array_equal(*scores)


def test_whose_rows_a_judge_compares(golden: Path, tmp_path: Path) -> None:
    """Those of lm_head where it is there and not said to be the embedding table."""
    source = golden / "rerank-qwen3" / "model"
    plain = Reranker(source).predict(PAIRS, activation_fn="identity")
    table = read_tensors(source)["model.embed_tokens.weight"]

    def add_head(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = -2 * table

    def scores(name: str, change: Callable[[Tensors], object], tied: bool) -> np.ndarray:
        folder = spoilt(source, tmp_path / name, change, tie_word_embeddings=tied)
        return Reranker(folder).predict(PAIRS, activation_fn="identity")

    np.testing.assert_array_equal(scores("tied", add_head, True), plain)
    np.testing.assert_allclose(scores("own", add_head, False), -2 * plain, rtol=1e-5, atol=1e-5)
    with pytest.raises(CheckpointError, match="lm_head.weight"):
        scores("gone", lambda tensors: tensors.pop("lm_head.weight", None), False)


def set_tensor(name: str, values: object) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.__setitem__(name, np.asarray(values, np.float32))


@pytest.mark.parametrize(
    "name, change, config, message",
    [
        ("bert", set_tensor("classifier.weight", np.ones((1, 63))), {}, r"classifier.weight must be \(any, 64\)"),
        (
            "bert",
            set_tensor("classifier.weight", np.ones(64)),
            {},
            r"classifier.weight must be \(any, 64\), got \(64,\)",
        ),
        ("bert", set_tensor("classifier.weight", np.ones((0, 64))), {}, r"must be \(any, 64\), got \(0, 64\)"),
        ("bert", set_tensor("classifier.bias", np.ones(2)), {}, r"classifier.bias must be \(1,\), got \(2,\)"),
        ("bert", set_tensor("classifier.weight", np.full((1, 64), np.nan)), {}, "'classifier.weight' holds nan"),
        (
            "bert",
            set_tensor("bert.pooler.dense.weight", np.ones((64, 60))),
            {},
            r"pooler.dense.weight must be \(any, 64",
        ),
        ("bert", lambda t: t.pop("bert.pooler.dense.weight"), {}, "needs one pooler.dense.weight .* got 0"),
        ("bert", lambda t: t.pop("classifier.weight"), {}, "is no reranker: it has neither"),
        (
            "bert",
            set_tensor("classifier.weight", np.ones((2, 64))),
            {},
            "must be|says 1 labels, but the head's .* have 2",
        ),
        ("bert", None, {"num_labels": 4}, "says 4 labels, but the head's weights have 1"),
        (
            "bert",
            None,
            {"sbert_ce_default_activation_function": "os.system"},
            "must be one of torch.nn.Identity.*'os.s",
        ),
        ("bert", None, {"sbert_ce_default_activation_function": "torch.nn.Tanh"}, "must be one of torch.nn.Identity"),
        ("xlmr", lambda t: t.pop("classifier.dense.weight"), {}, "classifier.dense.weight"),
        ("modernbert", None, {"classifier_pooling": "max"}, "'classifier_pooling' must be one of cls, mean, got 'max'"),
        ("modernbert", set_tensor("head.norm.weight", np.ones(3)), {}, r"head.norm.weight must be \(64,\), got \(3,\)"),
        ("jina-v3", set_tensor("projector.0.weight", np.ones((32, 60))), {}, r"projector.0.weight must be \(any, 64\)"),
        ("jina-v3", set_tensor("projector.2.weight", np.ones((32, 60))), {}, r"projector.2.weight must be \(any, 32\)"),
        ("jina-v3", lambda t: t.pop("projector.2.weight"), {}, "projector.2.weight"),
        ("qwen3", None, {"architectures": ["Qwen3Model"]}, "is no reranker"),
        ("qwen3", None, {"vocab_size": 3}, "different models|must be"),
    ],
)
def test_hostile_heads(
    name: str,
    change: Callable[[Tensors], object] | None,
    config: dict[str, object],
    message: str,
    golden: Path,
    tmp_path: Path,
) -> None:
    folder = spoilt(golden / f"rerank-{name}" / "model", tmp_path / "model", change or (lambda _: None), **config)
    with pytest.raises(CheckpointError, match=message):
        Reranker(folder)


def test_an_embedding_model_is_no_reranker(golden: Path) -> None:
    for name, right in (("bert-minilm", r"longspan\.Encoder"), ("splade-bert/model", r"longspan\.SparseEncoder")):
        with pytest.raises(
            CheckpointError, match=f"is no reranker: modules.json of one may list .* open it with {right}"
        ):
            Reranker(golden / name)


def test_a_logit_score_of_other_tokens_needs_a_template(golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(golden / "rerank-qwen3" / "model", folder)
    kinds = "sentence_transformers.models.Transformer", "sentence_transformers.cross_encoder.modules.LogitScore"
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": kind}
        for i, (path, kind) in enumerate(zip(("", "1_LogitScore"), kinds))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_LogitScore").mkdir()
    score = folder / "1_LogitScore" / "config.json"
    score.write_text(json.dumps({"true_token_id": 9454, "false_token_id": None}))
    with pytest.raises(CheckpointError, match=r"the score is of the tokens \[9454, None\], but the prompt of 'qwen3'"):
        Reranker(folder)
    plain = Reranker(golden / "rerank-qwen3" / "model")
    ids = {f"{key}_token_id": plain.tokenizer.token_id(token) for key, token in (("true", "yes"), ("false", "no"))}
    score.write_text(json.dumps(ids))
    np.testing.assert_array_equal(Reranker(folder).predict(PAIRS), plain.predict(PAIRS))


def test_an_untied_output_table_is_used(golden: Path, tmp_path: Path) -> None:
    source = golden / "rerank-qwen3" / "model"
    tensors = read_tensors(source)
    tensors["lm_head.weight"] = -tensors["model.embed_tokens.weight"]
    config = json.loads((source / "config.json").read_text())
    folder = write_checkpoint(source, tmp_path / "untied", tensors, {**config, "tie_word_embeddings": False})
    plain = Reranker(source).predict(PAIRS, activation_fn="identity")
    np.testing.assert_allclose(Reranker(folder).predict(PAIRS, activation_fn="identity"), -plain, atol=1e-5)


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


@pytest.mark.parametrize("name", ["rerank-bert", "rerank-xlmr", "rerank-qwen3", "rerank-mxbai"])
def test_tokens_beside_a_document(name: str, golden: Path) -> None:
    """One more is room for one of the document's."""
    reranker = Reranker(golden / name / "model")
    assert isinstance(reranker._scorer, PairScorer)
    beside = reranker.beside_document(QUERY)
    row_format = reranker._scorer._format
    [row] = row_format.rows([(QUERY, "word " * 99)], Cut(beside + 30, len(QUERY)), None)
    assert len(row.ids) == beside + row_format.num_beside + 30
    assert not row.lost_query and Reranker(golden / "rerank-jina-v3" / "model").beside_document(QUERY) == 0


def test_published_lengths(golden: Path) -> None:
    """8192 tokens by convention where the model has more positions; 512 of a query, 2048 of a document in a list."""
    for name in ("rerank-qwen3", "rerank-mxbai"):
        reranker = Reranker(golden / name / "model")
        assert reranker.max_length == 8192 < reranker.spec.max_tokens
    assert (BLOCK_DOCUMENTS, MAX_DOCUMENT_LENGTH, MAX_QUERY_LENGTH) == (125, 2048, 512)
    assert (windows.MAX_QUERY_LENGTH, OVERLAP_TOKENS) == (512, 80)


@pytest.mark.parametrize("spare", [0, 1])
@pytest.mark.parametrize("number", [1, 3, 4, 124, 125, 126, 250, 251])
def test_how_many_documents_share_a_sequence(number: int, spare: int, golden: Path) -> None:
    """A block is full with 125 documents, or where no longest document would fit beside what it has; not before."""
    scorer = Reranker(golden / "rerank-jina-v3" / "model")._scorer
    assert isinstance(scorer, ListScorer)
    query, document, longest = "reset it", "a b c", 10
    of_query, of_document = (len(ids) for ids in scorer._tokenizer.bare_ids([query, document]))
    for documents_a_block in (3, 1000):
        scorer._max_length = 2 * of_query + documents_a_block * of_document + longest + spare
        blocks, lost = scorer._blocks(0, query, [document] * number, ListCut(512, longest), None)
        marker = scorer._markers[0]
        sizes = [int((block.ids == marker).sum()) for block in blocks]
        fit = min(125, documents_a_block + spare)
        assert sizes == [fit] * (number // fit) + ([number % fit] if number % fit else []) and lost == 0


def test_a_text_of_exactly_the_limit_is_spelt_anew(golden: Path) -> None:
    """As published: of that many tokens or more, by what the first of them spell; only then is something cut."""
    scorer = Reranker(golden / "rerank-jina-v3" / "model")._scorer
    assert isinstance(scorer, ListScorer)
    text = "reset\u2028a <|im_end|> pass\u0301word"
    [ids] = scorer._tokenizer.bare_ids([text])
    spelt = scorer._tokenizer.backend.decode(ids.tolist(), skip_special_tokens=False)
    n = len(ids)
    assert scorer._shortened([text], n + 1) == [(text, n, False)]
    assert scorer._shortened([text], n) == [(spelt, n, False)]
    [(cut, tokens, was_cut)] = scorer._shortened([text], n - 2)
    assert was_cut and tokens == n - 2 and spelt.startswith(cut.rstrip("\ufffd"))


def test_equal_documents_keep_the_callers_order(bert: Reranker) -> None:
    ranking = bert.rank(QUERY, [DOCUMENTS[0], *["the same"] * 40, DOCUMENTS[1]])
    places = [entry["corpus_id"] for entry in ranking]
    assert [place for place in places if 1 <= place <= 40] == list(range(1, 41))


def test_a_softmax_of_one_label_is_none(bert: Reranker) -> None:
    """It would make every score 1."""
    np.testing.assert_array_equal(bert.predict(PAIRS, apply_softmax=True), bert.predict(PAIRS))
