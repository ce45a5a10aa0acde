"""The tokenizer: ids of the goldens, truncation, offsets, and every kind of bad text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import tokenizer_inputs
from longspan.text import tokenizer
from longspan.text.tokenizer import TextTokenizer, TokenizedText

BERT_CLS, BERT_SEP, BERT_UNK = 2, 3, 1


@pytest.fixture(scope="module")
def bert(golden: Path) -> TextTokenizer:
    """WordPiece, lower case, [CLS] .. [SEP]."""
    return TextTokenizer.from_file(golden / "bert-minilm" / "tokenizer.json", max_length=256, vocab_size=900)


@pytest.fixture(scope="module")
def xlmr(golden: Path) -> TextTokenizer:
    """Unigram with metaspace, <s> .. </s>."""
    return TextTokenizer.from_file(golden / "xlmr-absolute" / "tokenizer.json", max_length=512, vocab_size=1002)


@pytest.fixture
def byte_level(tmp_path: Path) -> TextTokenizer:
    """One token a byte, no special tokens."""
    return TextTokenizer.from_file(tokenizer_inputs.byte_level(tmp_path), max_length=64, vocab_size=256)


def pieces(text: str, tokens: TokenizedText) -> list[str]:
    """What each token covers of `text`."""
    return [text[start:end] for start, end in tokens.offsets]


# ids


@pytest.mark.parametrize("name", ["bert-minilm", "xlmr-absolute"])
def test_ids_are_the_goldens(name: str, golden: Path, request: pytest.FixtureRequest) -> None:
    ours = request.getfixturevalue({"bert-minilm": "bert", "xlmr-absolute": "xlmr"}[name])
    cases = json.loads((golden / name / "cases.json").read_text("utf-8"))["cases"]
    texts = [case for case in cases if case["texts"]]
    assert len(texts) == 7
    for case in texts:
        for got, ids, mask in zip(
            ours.encode(case["texts"], prompt=case["prefix"], max_length=case["max_length"] or 10_000),
            case["input_ids"],
            case["attention_mask"],
            strict=True,
        ):
            assert got.ids.tolist() == ids[: sum(mask)], case["name"]
            assert got.ids.dtype == got.offsets.dtype == np.int32


def test_ids_are_minilms_whatever_its_file_says_of_truncation_and_padding(golden: Path, minilm_path: Path) -> None:
    file = minilm_path / "tokenizer.json"
    written = json.loads(file.read_text("utf-8"))
    assert written["truncation"]["max_length"] == 128
    assert written["padding"]["strategy"] == {"Fixed": 128}
    cases = json.loads((golden / "minilm" / "cases.json").read_text("utf-8"))["cases"]
    ours = TextTokenizer.from_file(file, max_length=256, vocab_size=30_522)
    got = ours.encode([case["text"] for case in cases])
    assert [tokens.ids.tolist() for tokens in got] == [case["ids"] for case in cases]
    assert len(cases) == 64


def test_slices_do_not_show(bert: TextTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["one", "", "two words", "a far longer text than a slice holds", "x"] * 3
    whole = bert.encode(texts, prompt="p: ")
    monkeypatch.setattr(tokenizer, "SLICE_CHARS", 12)
    for got, want in zip(bert.encode(texts, prompt="p: "), whole, strict=True):
        np.testing.assert_array_equal(got.ids, want.ids)
        np.testing.assert_array_equal(got.offsets, want.offsets)


def test_threads_share_one_tokenizer(bert: TextTokenizer) -> None:
    text = "word " * 60
    lengths = [3 + index % 50 for index in range(200)]
    with ThreadPoolExecutor(4) as threads:
        got = list(threads.map(lambda length: bert.encode([text], max_length=length)[0], lengths))
    assert [len(tokens.ids) for tokens in got] == lengths


def test_nothing_in_nothing_out(bert: TextTokenizer) -> None:
    assert bert.encode([]) == []


# truncation


@pytest.mark.parametrize("prompt", ["", "query: "])
def test_truncation_keeps_special_tokens_and_counts_what_it_cuts(bert: TextTokenizer, prompt: str) -> None:
    whole = bert.encode(["copyright notice of [SEP] the work"], prompt=prompt, max_length=1000)[0]
    num_tokens = len(whole.ids)
    assert whole.truncated == 0
    for length in range(3, num_tokens + 2):
        cut = bert.encode(["copyright notice of [SEP] the work"], prompt=prompt, max_length=length)[0]
        assert cut.truncated == max(0, num_tokens - length)
        assert cut.ids.tolist() == [*whole.ids[: num_tokens - 1 - cut.truncated], BERT_SEP]
        assert cut.special_mask.tolist() == [True, *[False] * (len(cut.ids) - 2), True]
        np.testing.assert_array_equal(cut.offsets[:-1], whole.offsets[: len(cut.ids) - 1])
        assert cut.num_prompt_tokens == min(whole.num_prompt_tokens, length - 2)


def test_a_special_token_in_the_text_is_no_special_token_of_the_template(bert: TextTokenizer) -> None:
    got = bert.encode(["[SEP] a [CLS]"])[0]
    assert got.ids[[0, 1, 3, 4]].tolist() == [BERT_CLS, BERT_SEP, BERT_CLS, BERT_SEP]
    assert got.special_mask.tolist() == [True, False, False, False, True]


def test_a_megabyte(bert: TextTokenizer) -> None:
    got = bert.encode(["a b " * 250_000, "東" * 333_333, " " * 1_000_000, "b" * 1_000_000])
    assert [tokens.truncated for tokens in got[1:]] == [333_335 - 256, 0, 0]
    assert got[0].unread == 1_000_001 - 2 * (got[0].truncated + 254)  # by pieces, as it has spaces; one begins the rest
    assert got[3].ids.tolist() == [BERT_CLS, BERT_UNK, BERT_SEP]


@pytest.mark.parametrize("length", [2, 0, -1])
def test_a_limit_without_room_for_text_is_refused(bert: TextTokenizer, length: int) -> None:
    with pytest.raises(ValueError, match=rf"max_length must be at least 3 \(2 special tokens .* got {length}"):
        bert.encode(["a"], max_length=length)


@pytest.mark.parametrize("length", [5.0, "5"])
def test_a_limit_that_is_no_int_is_refused(bert: TextTokenizer, length: object) -> None:
    with pytest.raises(TypeError, match=r"max_length must be an int, got (float|str)"):
        bert.encode(["a"], max_length=length)


# offsets


def test_offsets_of_wordpiece(bert: TextTokenizer) -> None:
    text = "The  café\t東京 👩\N{ZERO WIDTH JOINER}👩!"
    want = ["", "The", "ca", "f", "é", "東", "京", "👩\N{ZERO WIDTH JOINER}👩", "!", ""]
    assert pieces(text, bert.encode([text])[0]) == want


def test_offsets_of_metaspace(xlmr: TextTokenizer) -> None:
    text = "the  wörk \N{LATIN SMALL LIGATURE FI}"
    tokens = xlmr.encode([text])[0]
    assert tokens.special_mask.tolist() == [True, *[False] * (len(tokens.ids) - 2), True]
    assert "".join(pieces(text, tokens)).replace(" ", "") == "thewörk\N{LATIN SMALL LIGATURE FI}"


def test_offsets_of_bytes_are_those_of_their_character(byte_level: TextTokenizer) -> None:
    text = "é 👩x"
    tokens = byte_level.encode([text])[0]
    assert pieces(text, tokens) == ["é", "é", " ", "👩", "👩", "👩", "👩", "x"]
    assert not tokens.special_mask.any()


def test_offsets_count_from_the_text_behind_the_prompt(bert: TextTokenizer) -> None:
    tokens = bert.encode(["Hi you"], prompt="a b: ")[0]
    alone = bert.encode(["Hi you"])[0]
    assert tokens.num_prompt_tokens == 3
    assert alone.num_prompt_tokens == 0
    assert tokens.offsets[:4].tolist() == [[0, 0]] * 4
    assert tokens.offsets[4:].tolist() == alone.offsets[1:].tolist()
    assert bert.encode(["Hi you"], prompt="a b:")[0].num_prompt_tokens == 3  # the prompt's end is its last token's


def test_a_token_that_straddles_prompt_and_text_is_the_texts(xlmr: TextTokenizer) -> None:
    tokens = xlmr.encode(["hello"], prompt="query: ")[0]
    assert tokens.ids[3] == xlmr.encode(["hello"])[0].ids[1]  # "▁he": the prompt's last character and two of the text
    assert tokens.num_prompt_tokens == 2
    assert pieces("hello", tokens) == ["", "", "", "he", "ll", "o", ""]


def test_every_text_may_have_its_prompt(bert: TextTokenizer) -> None:
    both = bert.encode(["x", "y"], prompt=["a: ", ""])
    assert both[0].ids.tolist() == bert.encode(["a: x"])[0].ids.tolist()
    assert both[1].ids.tolist() == bert.encode(["y"])[0].ids.tolist()
    assert [tokens.num_prompt_tokens for tokens in both] == [2, 0]


# bad texts


@pytest.mark.parametrize("text", [None, b"x", 1, ["x"], ("a", "b")], ids=repr)
def test_what_is_no_text_is_named(bert: TextTokenizer, text: object) -> None:
    with pytest.raises(TypeError, match=rf"encode: texts\[1\] must be a str, got {type(text).__name__}"):
        bert.encode(["a", text])


@pytest.mark.parametrize("texts", ["a text", b"bytes", None, 3], ids=repr)
def test_what_is_no_list_of_texts_is_refused(bert: TextTokenizer, texts: object) -> None:
    with pytest.raises(TypeError, match=f"encode: texts must be a list of str, got one {type(texts).__name__}"):
        bert.encode(texts)


@pytest.mark.parametrize("prompt", [None, 1])
def test_what_is_no_prompt_is_refused(bert: TextTokenizer, prompt: object) -> None:
    with pytest.raises(TypeError, match="encode: prompt must be a list of str, got one"):
        bert.encode(["a"], prompt=prompt)
    with pytest.raises(TypeError, match=r"encode: prompt\[0\] must be a str"):
        bert.encode(["a"], prompt=[prompt])


def test_prompts_must_be_as_many_as_texts(bert: TextTokenizer) -> None:
    with pytest.raises(ValueError, match="prompt must be one str or 2, one a text; got 3"):
        bert.encode(["a", "b"], prompt=["p", "q", "r"])


@pytest.mark.parametrize(("text", "repaired"), [("ab\ud800", "ab\ufffd"), ("ab\ud83d\ude42", "ab🙂")])
def test_lone_surrogates_are_refused_with_a_repair_that_works(bert: TextTokenizer, text: str, repaired: str) -> None:
    with pytest.raises(ValueError, match=r"texts\[1\] has a lone surrogate \(U\+D8\w\w\) at position 2") as refusal:
        bert.encode(["fine", text])
    assert "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')" in str(refusal.value)
    assert text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") == repaired
    with pytest.raises(ValueError, match=r"prompt\[0\] has a lone surrogate"):
        bert.encode(["fine"], prompt=text)


@pytest.mark.parametrize("text", ["", " \n", "\0", "\N{ZERO WIDTH SPACE}"], ids=repr)
def test_a_text_without_content_has_its_special_tokens(bert: TextTokenizer, text: str) -> None:
    assert bert.encode([text])[0].ids.tolist() == [BERT_CLS, BERT_SEP]


def test_nul_is_a_character_like_others(byte_level: TextTokenizer) -> None:
    assert pieces("a\0b", byte_level.encode(["a\0b"])[0]) == ["a", "\0", "b"]


def test_a_text_without_any_token_is_named(byte_level: TextTokenizer) -> None:
    with pytest.raises(ValueError, match=r"encode: texts\[1\] gives no token, and this tokenizer adds no special ones"):
        byte_level.encode(["a", ""])
    assert len(byte_level.encode([""], prompt="p")[0].ids) == 1


# processes

FORK = """
import os, sys
from longspan.text.tokenizer import TextTokenizer
tokenizer = TextTokenizer.from_file(sys.argv[1], max_length=8, vocab_size=900)
texts = ["a b c"] * 1000
tokenizer.encode(texts)
child = os.fork()
if child == 0:
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"
    os._exit(0 if len(tokenizer.encode(texts)) == 1000 else 1)
assert os.waitpid(child, 0)[1] == 0
assert "TOKENIZERS_PARALLELISM" not in os.environ
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_encodes_and_nobody_complains(golden: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, str(golden / "bert-minilm" / "tokenizer.json")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
