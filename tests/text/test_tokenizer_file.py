"""The tokenizer: what a checkpoint's files may say, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import tokenizer_inputs
from longspan import CheckpointError
from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.json_object import JsonObject
from longspan.text.tokenizer import TextTokenizer

BERT_UNK = 1


@pytest.fixture
def edited(golden: Path, tmp_path: Path) -> Callable[..., Path]:
    """bert-minilm's tokenizer.json with some top-level keys replaced, as a file."""

    def edit(**changes: object) -> Path:
        values = json.loads((golden / "bert-minilm" / "tokenizer.json").read_text("utf-8"))
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps({**values, **changes}), "utf-8")
        return path

    return edit


def from_file(path: Path, *, vocab_size: int = 1002, **options: object) -> TextTokenizer:
    return TextTokenizer.from_file(path, max_length=64, vocab_size=vocab_size, **options)


def test_truncation_and_padding_of_the_file_are_ignored(edited: Callable[..., Path]) -> None:
    truncation = {"direction": "Left", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    padding = {
        "strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    got = from_file(edited(truncation=truncation, padding=padding)).encode(["a b c d e f", "a"])
    assert [len(tokens.ids) for tokens in got] == [8, 3]


def test_lower_case_keeps_offsets_where_lengths_change(golden: Path) -> None:
    ours = from_file(golden / "xlmr-absolute" / "tokenizer.json", do_lower_case=True)
    text = "İİ THE END"  # each İ has two characters in lower case
    assert ours.encode([text])[0].ids.tolist() == ours.encode(["i̇i̇ the end"])[0].ids.tolist()
    assert ours.encode([text])[0].offsets[-2:].tolist() == [[7, 10], [0, 0]]


def test_tokenizer_config_overrides_tokenizer_json(golden: Path) -> None:
    def ids(**values: object) -> list[int]:
        file = golden / "bert-minilm" / "tokenizer.json"
        return from_file(file, config=JsonObject(values, "c")).encode(["THE é 東京"])[0].ids.tolist()

    plain = ids()
    assert BERT_UNK not in plain[:3]
    assert ids(do_lower_case=True, strip_accents=None, tokenize_chinese_chars=True) == plain
    assert ids(do_lower_case=False)[1] == BERT_UNK
    assert ids(strip_accents=False)[2] != plain[2]
    assert len(ids(tokenize_chinese_chars=False)) == len(plain) - 1
    assert ids(do_lower_case=False, tokenizer_class="PreTrainedTokenizerFast") == plain


@pytest.mark.parametrize("named", ["BertTokenizer", "BertTokenizerFast", "MPNetTokenizer", None])
def test_absent_keys_are_the_class_s_defaults(edited: Callable[..., Path], named: str | None) -> None:
    """As transformers has it, which makes these classes' normalizer without a look at tokenizer.json's."""
    normalizer = {"type": "BertNormalizer", "clean_text": True, "lowercase": False}
    file = edited(normalizer={**normalizer, "handle_chinese_chars": False, "strip_accents": False})
    text = ["THE é 東京"]

    def ids(**values: object) -> list[int]:
        config = JsonObject(values if named is None else {"tokenizer_class": named, **values}, "c")
        return from_file(file, config=config).encode(text)[0].ids.tolist()

    verbatim = from_file(file).encode(text)[0].ids.tolist()
    assert ids() == ids(do_lower_case=True, strip_accents=None, tokenize_chinese_chars=True) != verbatim
    assert ids(do_lower_case=False, strip_accents=False, tokenize_chinese_chars=False) == verbatim
    assert ids(tokenizer_class="PreTrainedTokenizerFast") == verbatim


def test_tokenizer_config_sets_the_prefix_space(tmp_path: Path) -> None:
    byte_level = tokenizer_inputs.byte_level(tmp_path)
    spaced = from_file(byte_level, config=JsonObject({"add_prefix_space": True}, "c"))
    assert spaced.encode(["a"])[0].ids.tolist() == from_file(byte_level).encode([" a"])[0].ids.tolist()


def test_a_checkpoint_brings_its_tokenizer(golden: Path) -> None:
    checkpoint = Checkpoint.open(golden / "bert-minilm")
    ours = TextTokenizer.load(checkpoint, max_length=16, vocab_size=900)
    assert (ours.max_length, ours.vocab_size, ours.num_special_tokens) == (16, 900, 2)
    assert ours.encode(["THE"])[0].ids.tolist() == ours.encode(["the"])[0].ids.tolist()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing, or is not a file"):
        from_file(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_half_a_file_is_named(golden: Path, tmp_path: Path, share: float) -> None:
    whole = (golden / "bert-minilm" / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is damaged, or needs a newer `tokenizers`"):
        from_file(tmp_path / "tokenizer.json")


def test_a_panic_in_the_library_is_an_error_like_any_other(edited: Callable[..., Path]) -> None:
    path = edited(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: its precompiled map of characters claims 0 bytes"):
        from_file(path)


def test_a_model_that_lacks_its_unknown_token_is_named_when_it_is_needed(edited: Callable[..., Path]) -> None:
    model = {"type": "WordPiece", "unk_token": "?", "continuing_subword_prefix": "##", "vocab": {"a": 0}}
    ours = from_file(edited(model={**model, "max_input_chars_per_word": 100}))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is damaged"):
        ours.encode(["zzz"])


def test_ids_beyond_the_vocabulary_are_refused(golden: Path) -> None:
    file = golden / "xlmr-absolute" / "tokenizer.json"
    with pytest.raises(CheckpointError, match="ids up to 1001, but the model's vocab_size is 1001"):
        from_file(file, vocab_size=1001)


def test_special_tokens_beyond_the_vocabulary_are_refused(golden: Path, edited: Callable[..., Path]) -> None:
    template = json.loads((golden / "bert-minilm" / "tokenizer.json").read_text("utf-8"))["post_processor"]
    template["special_tokens"]["[SEP]"]["ids"] = [5000]
    with pytest.raises(CheckpointError, match="ids up to 5000, but the model's vocab_size is 900"):
        from_file(edited(post_processor=template), vocab_size=900)
