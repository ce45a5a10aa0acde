"""Pairs to rows: token types, what is cut of which text and told, windows, lengths."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from checkpoints import spoilt
from longspan import CheckpointError, Reranker, TruncationWarning
from longspan.reranking import windows
from longspan.reranking.formats import Cut
from longspan.reranking.listwise import (
    BLOCK_DOCUMENTS,
    MAX_DOCUMENT_LENGTH,
    MAX_QUERY_LENGTH,
)
from longspan.reranking.request import OVERLAP_TOKENS, Request
from longspan.reranking.scorer import PairScorer
from rerank_pairs import PAIRS, QUERY

PLAIN = Request("test", "", -1, None, None)


@pytest.fixture(scope="module")
def bert(golden: Path) -> Reranker:
    return Reranker(golden / "rerank-bert" / "model")


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


def test_a_decoder_s_classifier_of_sentence_transformers_reads_bare_pairs(golden: Path, tmp_path: Path) -> None:
    """By modules.json, and without a chat template; published conversions have neither, and want the prompt."""
    source = golden / "rerank-qwen3" / "model-seq-cls"
    prompted, bare = (Reranker(source, pair_format=name).predict(PAIRS) for name in ("qwen3", "pair"))
    np.testing.assert_array_equal(Reranker(source).predict(PAIRS), prompted)
    folder = Path(shutil.copytree(source, tmp_path / "model"))
    (folder / "modules.json").write_text(json.dumps([{"path": "", "type": "models.Transformer"}]))
    np.testing.assert_array_equal(Reranker(folder).predict(PAIRS), bare)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    np.testing.assert_array_equal(Reranker(folder).predict(PAIRS), prompted)


def test_a_decoder_s_classifier_is_read_before_the_padding_token(golden: Path, tmp_path: Path) -> None:
    """transformers takes the last token that is no padding, even where the text itself ends in that token."""
    config = {"pad_token_id": Reranker(golden / "rerank-qwen3" / "model-seq-cls").tokenizer.token_id("<|endoftext|>")}
    reranker = Reranker(
        spoilt(golden / "rerank-qwen3" / "model-seq-cls", tmp_path / "model", **config), pair_format="pair"
    )
    ended = [(query, document + "<|endoftext|>" * 2) for query, document in PAIRS]
    np.testing.assert_array_equal(reranker.predict(ended), reranker.predict(PAIRS))
    assert reranker.predict(("<|endoftext|>", "<|endoftext|>")).shape == ()
    inside = reranker.predict((QUERY, "<|endoftext|> a"))
    assert inside != reranker.predict((QUERY, " a"))
