"""Token ids of late-interaction models: markers, expansion, skip lists, and what the checkpoint's files say of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from checkpoints import spoilt
from longspan import CheckpointError
from longspan.checkpoint.checkpoint import Checkpoint
from longspan.late_interaction.colbert import ColbertTokenizer
from longspan.late_interaction.colbert_rules import override, read_rules
from longspan.text.tokenizer import TextTokenizer

LIMIT = 8192
START, PAD, END, MASK, QUERY, DOCUMENT = 0, 1, 2, 1001, 1002, 1003


def load(folder: Path, **changes: object) -> ColbertTokenizer:
    """The folder's tokenizer, with fields of `override` changed."""
    checkpoint = Checkpoint.open(folder)
    fields = ("query_maxlen", "doc_maxlen", "query_marker", "doc_marker", "attends_to_expansion", "mask_punctuation")
    rules = override(read_rules(checkpoint, LIMIT), **{field: changes.get(field) for field in fields})
    tokenizer = TextTokenizer.load(checkpoint, max_length=LIMIT, vocab_size=1004)
    return ColbertTokenizer(tokenizer, rules, checkpoint.tokenizer_file)


@pytest.fixture(scope="module")
def folder(golden: Path) -> Path:
    return golden / "jina-colbert-v2"


@pytest.fixture(scope="module")
def published(folder: Path) -> dict:
    return json.loads((folder / "cases.json").read_text())


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> ColbertTokenizer:
    return load(folder)


@pytest.fixture
def with_metadata(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a copy of the checkpoint whose artifact.metadata has some keys changed; None takes one away."""

    def make(**changes: object) -> Path:
        target = spoilt(folder, tmp_path / "model")
        metadata = json.loads((folder / "artifact.metadata").read_text()) | changes
        kept = {key: value for key, value in metadata.items() if value is not None}
        (target / "artifact.metadata").write_text(json.dumps(kept))
        return target

    return make


def test_golden_query_ids(tokenizer: ColbertTokenizer, published: dict) -> None:
    for case in published["cases"]:
        rows = tokenizer.queries(case["queries"], case["query_maxlen"])
        assert [row.ids.tolist() for row in rows] == case["query_ids"]
        assert all(row.ids.dtype == np.int32 for row in rows)


def test_golden_document_ids(tokenizer: ColbertTokenizer, published: dict) -> None:
    for case in published["cases"]:
        rows = tokenizer.documents(case["docs"], case["doc_maxlen"])
        padded = zip(case["doc_ids"], case["doc_attention_mask"], strict=True)
        assert [row.ids.tolist() for row in rows] == [
            [token for token, real in zip(ids, mask, strict=True) if real] for ids, mask in padded
        ]


@pytest.mark.parametrize("rule, key", [("colbert", "skiplist_colbert_ai"), ("pylate", "skiplist_pylate")])
def test_golden_skip_lists(rule: str, key: str, tokenizer: ColbertTokenizer, published: dict) -> None:
    assert tokenizer.skipped_ids(rule).tolist() == published[key]


def test_rules_as_published(tokenizer: ColbertTokenizer) -> None:
    rules = tokenizer.rules
    assert (rules.query_maxlen, rules.doc_maxlen, rules.skip_rule) == (32, 300, "colbert")
    assert (rules.query_marker, rules.doc_marker) == ("[QueryMarker]", "[DocumentMarker]")
    assert (rules.expansion_token, tokenizer.expansion_id, rules.attends_to_expansion) == ("<mask>", MASK, True)
    assert tokenizer.shortest == 4


def test_an_empty_text_is_its_special_tokens_and_the_marker(tokenizer: ColbertTokenizer) -> None:
    assert tokenizer.documents([""], 300)[0].ids.tolist() == [START, DOCUMENT, END]
    assert tokenizer.queries([""], 6)[0].ids.tolist() == [START, QUERY, END, MASK, MASK, MASK]


def test_what_is_cut_is_counted(tokenizer: ColbertTokenizer) -> None:
    whole = len(tokenizer.documents(["one two three four five six"], 300)[0].ids)
    for make in (tokenizer.queries, tokenizer.documents):
        row = make(["one two three four five six"], 5)[0]
        assert len(row.ids) == 5 and row.ids[-1] == END and row.truncated == whole - 5
        assert make(["one two three four five six"], whole)[0].truncated == 0


def test_padding_that_a_text_spells_out(tokenizer: ColbertTokenizer) -> None:
    """colbert-ai sees the number alone: in a query it becomes a mask, in a document it gets no vector."""
    assert PAD not in tokenizer.queries(["late <pad> chunking"], 32)[0].ids
    ids = tokenizer.documents(["late <pad> chunking"], 300)[0].ids
    assert PAD in ids
    assert PAD not in ids[tokenizer.kept(ids, "colbert")] and PAD in ids[tokenizer.kept(ids, "pylate")]


def test_kept_tokens(tokenizer: ColbertTokenizer) -> None:
    skipped = tokenizer.skipped_ids("pylate")
    ids = np.array([START, DOCUMENT, skipped[0], 424, skipped[-1], END], np.int32)
    assert tokenizer.kept(ids, "pylate").tolist() == [True, True, False, True, False, True]
    assert tokenizer.kept(ids, None).all()
    assert tokenizer.kept(ids[[2, 4]], "pylate").all()  # nothing else would be left


def test_markers_may_be_left_out(folder: Path) -> None:
    tokenizer = load(folder, query_marker="", doc_marker="")
    assert tokenizer.documents([""], 300)[0].ids.tolist() == [START, END]
    assert tokenizer.queries([""], 4)[0].ids.tolist() == [START, END, MASK, MASK]
    assert tokenizer.shortest == 3


def test_colbert_ai_defaults(with_metadata: Callable[..., Path]) -> None:
    keys = ("query_maxlen", "doc_maxlen", "attend_to_mask_tokens", "mask_punctuation", "similarity", "interaction")
    rules = load(with_metadata(**dict.fromkeys(keys))).rules
    assert (rules.query_maxlen, rules.doc_maxlen, rules.attends_to_expansion) == (32, 220, False)
    assert rules.skip_rule == "colbert"


def test_colbert_ai_default_markers(with_metadata: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=r"has no token '\[unused0\]', which is to be the query marker"):
        load(with_metadata(query_token_id=None, doc_token_id=None))


def test_punctuation_may_be_kept(with_metadata: Callable[..., Path], folder: Path) -> None:
    assert load(with_metadata(mask_punctuation=False)).rules.skip_rule is None
    assert load(folder, mask_punctuation=False).rules.skip_rule is None
    assert load(folder, mask_punctuation=True).rules.skip_rule == "colbert"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"query_maxlen": 0}, "artifact.metadata: 'query_maxlen' must be from 1 to 8192, got 0"),
        ({"query_maxlen": "32"}, "'query_maxlen' must be an integer, got '32'"),
        ({"doc_maxlen": 8193}, "'doc_maxlen' must be from 1 to 8192, got 8193"),
        ({"doc_maxlen": True}, "'doc_maxlen' must be an integer, got True"),
        ({"attend_to_mask_tokens": 1}, "'attend_to_mask_tokens' must be true or false, got 1"),
        ({"mask_punctuation": "yes"}, "'mask_punctuation' must be true or false, got 'yes'"),
        ({"query_token_id": 1002}, "'query_token_id' must be a string, got 1002"),
        ({"doc_token_id": "[D]"}, r"has no token '\[D\]', which is to be the document marker"),
        ({"similarity": "l2"}, "'similarity' must be 'cosine', got 'l2'; ColBERT is supported so only"),
        ({"interaction": "flipr"}, "'interaction' must be 'colbert', got 'flipr'"),
        ({"relu": True}, "'relu' must be False, got True"),
    ],
)
def test_nonsense_in_metadata(changes: dict[str, object], message: str, with_metadata: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match=message):
        load(with_metadata(**changes))


@pytest.mark.parametrize("text", ["[1]", "{", "\xff"])
def test_metadata_that_is_no_object(text: str, with_metadata: Callable[..., Path]) -> None:
    target = with_metadata()
    (target / "artifact.metadata").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"artifact\.metadata"):
        load(target)


def test_the_mask_token_may_be_an_object_or_in_the_other_file(with_metadata: Callable[..., Path]) -> None:
    target = with_metadata()
    config = json.loads((target / "tokenizer_config.json").read_text())
    del config["mask_token"]
    (target / "tokenizer_config.json").write_text(json.dumps(config))
    assert load(target).expansion_id == MASK  # special_tokens_map.json has it, as an object
    (target / "special_tokens_map.json").write_text(json.dumps({"mask_token": "<nothing>"}))
    with pytest.raises(CheckpointError, match="has no token '<nothing>', which is to be the expansion token"):
        load(target)
    (target / "special_tokens_map.json").unlink()
    with pytest.raises(CheckpointError, match="names no mask_token, with which queries are filled up"):
        load(target)
