"""Pairs as rows: the template, and what is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from longspan import CheckpointError
from longspan.checkpoint.json_object import JsonObject
from longspan.text import long_texts
from longspan.text import pairs as rows_of_pairs
from longspan.text.pairs import PairTemplate, kept, pair_rows
from longspan.text.tokenizer import TextTokenizer

TEXTS = ["hello world", "", "a [SEP] b", "größte Städte", "x" * 40, "one two three four five six seven eight"]


def tokenizer(golden: Path, name: str) -> TextTokenizer:
    return TextTokenizer.from_file(golden / name / "model" / "tokenizer.json", max_length=512, vocab_size=1 << 20)


@pytest.mark.parametrize("name", ["rerank-bert", "rerank-xlmr", "rerank-jina-v1", "rerank-qwen3"])
@pytest.mark.parametrize("max_length", [512, 12, 9])
def test_rows_are_the_library_s(name: str, max_length: int, golden: Path) -> None:
    own = tokenizer(golden, name)
    template = PairTemplate.of(own)
    theirs = Tokenizer.from_str(own.backend.to_str())
    theirs.enable_truncation(max_length, strategy="longest_first")
    pairs = [(query, document) for query in TEXTS for document in TEXTS]
    rows = pair_rows(own, template, pairs, max_length=max_length, with_types=True)
    for (query, document), row in zip(pairs, rows, strict=True):
        wanted = theirs.encode(query, document)
        assert row.ids.tolist() == wanted.ids, (query, document)
        assert row.types is not None and row.types.tolist() == wanted.type_ids, (query, document)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 80), st.none() | st.integers(1, 40))
def test_what_is_kept_fits(query: int, document: int, room: int, max_query: int | None) -> None:
    of_query, of_document = kept(query, document, room, max_query)
    assert 0 <= of_query <= query and 0 <= of_document <= document
    longest = query if max_query is None else min(query, max_query)
    assert of_query + of_document == min(room, longest + document) or max_query is None
    assert of_query + of_document <= room
    if query + document <= room and max_query is None:
        assert (of_query, of_document) == (query, document)


def test_the_start_is_cut_where_the_settings_say_so(golden: Path) -> None:
    path = golden / "rerank-bert" / "model" / "tokenizer.json"
    config = JsonObject({"truncation_side": "left"}, "tokenizer_config.json")
    own = TextTokenizer.from_file(path, max_length=512, vocab_size=900, config=config)
    theirs = Tokenizer.from_str(own.backend.to_str())
    theirs.enable_truncation(12, strategy="longest_first", direction="left")
    pairs = [("one two three four five", "six seven eight nine ten"), ("", "six seven eight nine ten one two")]
    rows = pair_rows(own, PairTemplate.of(own), pairs, max_length=12, with_types=False)
    assert [row.ids.tolist() for row in rows] == [theirs.encode(*pair).ids for pair in pairs]


def test_the_losses_of_each_side_are_told(golden: Path) -> None:
    own = tokenizer(golden, "rerank-bert")
    query, document = "a " * 30, "a " * 50
    [row] = pair_rows(own, PairTemplate.of(own), [(query, document)], max_length=43, with_types=False)
    assert (row.lost_query, row.lost_document, len(row.ids), row.types) == (10, 30, 43, None)
    [row] = pair_rows(
        own, PairTemplate.of(own), [(query, document)], max_length=43, max_query_length=25, with_types=False
    )
    assert (row.lost_query, row.lost_document, len(row.ids)) == (5, 35, 43)


def test_a_template_that_turns_the_pair_round_is_refused(golden: Path) -> None:
    own = tokenizer(golden, "rerank-bert")
    own.backend.post_processor = TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $B:1 [SEP] $A", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    with pytest.raises(CheckpointError, match="must have the first text, then the second"):
        PairTemplate.of(own)


def test_bare_ids_have_no_special_tokens(golden: Path) -> None:
    own = tokenizer(golden, "rerank-bert")
    [whole] = own.encode(["hello world"])
    [bare] = own.bare_ids(["hello world"])
    np.testing.assert_array_equal(whole.ids[1:-1], bare)


@pytest.mark.parametrize("room", [9, 10, 64])
def test_long_texts_are_read_no_further_than_they_count(
    golden: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """The rows of texts that are read whole, whichever of the two is long."""
    own = tokenizer(golden, "rerank-bert")
    template = PairTemplate.of(own)
    words = "alpha beta gamma delta epsilon zeta eta theta iota kappa"
    long, longer = " ".join([words] * 40), " ".join([words] * 60)
    pairs = [("alpha", long), (long, "alpha"), (long, longer), (longer, long), (words, long), ("beta gamma", "delta")]
    wanted = [pair_rows(own, template, [pair], max_length=room, with_types=True)[0] for pair in pairs]
    assert not any(row.lost_more for row in wanted)
    sizes = (long_texts, "PIECE_CHARS", 64), (long_texts, "TRIAL_CHARS", 256), (rows_of_pairs, "PIECE_CHARS", 64)
    for module, name, size in sizes:
        monkeypatch.setattr(module, name, size)
    for pair, whole in zip(pairs, wanted, strict=True):
        [row] = pair_rows(own, template, [pair], max_length=room, with_types=True)
        np.testing.assert_array_equal(row.ids, whole.ids)
        assert row.lost_more == bool(len(max(pair, key=len)) > 128)
        assert row.lost_query <= whole.lost_query and row.lost_document <= whole.lost_document
    [row] = pair_rows(own, template, [("alpha", longer)], max_length=room, with_types=True)
    assert row.lost_document < len(own.bare_ids([longer])[0]) - room, "most of it is not read"
