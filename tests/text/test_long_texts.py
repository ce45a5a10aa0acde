"""Long texts in pieces: the tokens of the whole, whatever the tokenizer; no more read than is needed; little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from longspan.checkpoint.json_object import JsonObject
from longspan.text import long_texts
from longspan.text.tokenizer import UNCUT, TextTokenizer

FOLDERS = ("bert-minilm", "xlmr-absolute", "jina-v1-t5", "jina-v2-code", "jina-v3", "modernbert", "nomic-bert", "mpnet")
FOLDERS += ("jina-code/model", "jina-v5-text-nano/model", "jina-v5-text-small/model", "jina-clip-v2/model")
SCRIPTS = "Plain words, 3.14 of them (don't ask).  two spaces\n\nLines é ñ Ǆ ﬁ \t tab 日本 語 です نص عربي  \u00a0 end "
CODE = "def f(x):\n    return {'a': [1,2], \"b\": x**2}  # comment\n\n\n"


def tokenizer_of(folder: Path) -> TextTokenizer:
    config = JsonObject.read_optional(folder / "tokenizer_config.json")
    path = folder / "tokenizer.json"
    return TextTokenizer.from_file(path, max_length=64, vocab_size=300_000, config=config)


@pytest.mark.parametrize("name", FOLDERS)
def test_pieces_have_the_tokens_of_the_whole(name: str, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_of(golden / name)
    text = (SCRIPTS + CODE) * 40
    [whole] = tokenizer.encode([text], prompt="a prompt: ", max_length=UNCUT)
    monkeypatch.setattr(long_texts, "PIECE_CHARS", 700)
    assert tokenizer._goes_by_pieces(text)
    [pieces] = tokenizer.encode([text], prompt="a prompt: ", max_length=UNCUT)
    for part in ("ids", "offsets", "special_mask"):
        assert np.array_equal(getattr(whole, part), getattr(pieces, part)), part
    assert (whole.num_prompt_tokens, pieces.truncated, pieces.unread) == (pieces.num_prompt_tokens, 0, 0)
    [cut] = tokenizer.encode([text], prompt="a prompt: ", max_length=64)
    assert len(cut.ids) == 64
    assert 0 < cut.truncated < whole.ids.size - 64
    assert 0 < cut.unread < len(text)
    monkeypatch.undo()
    assert np.array_equal(cut.ids, tokenizer.encode([text], prompt="a prompt: ", max_length=64)[0].ids)


def test_what_does_not_go_word_by_word_is_read_whole(golden: Path, tmp_path: Path) -> None:
    described = json.loads((golden / "xlmr-absolute" / "tokenizer.json").read_text("utf-8"))
    described["pre_tokenizer"]["split"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(described), "utf-8")
    assert not tokenizer_of(tmp_path)._goes_by_pieces("word " * 100_000)
    assert tokenizer_of(golden / "xlmr-absolute")._goes_by_pieces("word " * 100_000)
    assert not tokenizer_of(golden / "xlmr-absolute")._goes_by_pieces("x" * 500_000)  # no seam


def test_an_added_token_of_two_words_is_never_cut(golden: Path, tmp_path: Path) -> None:
    described = json.loads((golden / "bert-minilm" / "tokenizer.json").read_text("utf-8"))
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    described["added_tokens"].append({"id": 905, "content": "two words", **flags})
    (tmp_path / "tokenizer.json").write_text(json.dumps(described), "utf-8")
    assert not tokenizer_of(tmp_path)._goes_by_pieces("word " * 100_000)


@pytest.mark.parametrize("side, last", [("right", "beta gamma"), ("left", "final words")])
def test_the_side_that_is_cut(side: str, last: str, golden: Path) -> None:
    config = JsonObject({"truncation_side": side}, "tokenizer_config.json")
    path = golden / "bert-minilm" / "tokenizer.json"
    tokenizer = TextTokenizer.from_file(path, max_length=64, vocab_size=900, config=config)
    text = "alpha beta gamma " * 300 + "omega final words"
    [tokens] = tokenizer.encode([text])
    kept = text[tokens.offsets[1, 0] : tokens.offsets[-2, 1]]
    assert len(tokens.ids) == 64
    assert last.split(maxsplit=1)[0] in kept
    assert ("omega" in kept) == (side == "left")
    assert tokens.special_mask.tolist() == [True, *[False] * 62, True]
    far = "alpha beta gamma " * 30_000 + "omega final words"
    assert np.array_equal(tokenizer.encode([far])[0].ids, tokens.ids)


def test_memory_does_not_grow_with_what_is_cut_off(golden: Path) -> None:
    code = """
import resource, sys, time
from longspan.text.tokenizer import TextTokenizer
tokenizer = TextTokenizer.from_file(sys.argv[1], max_length=64, vocab_size=900)
text = "word " * 6_000_000
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
[tokens] = tokenizer.encode([text])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.perf_counter() - start, tokens.unread)
"""
    path = str(golden / "bert-minilm" / "tokenizer.json")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    kilobytes, seconds, unread = map(float, done.stdout.split())
    assert kilobytes < 150_000, done.stdout
    assert seconds < 10, done.stdout
    assert unread > 29_000_000


def test_a_child_of_a_parallel_parent_tokenizes(golden: Path) -> None:
    code = """
import multiprocessing, os, sys
os.environ["TOKENIZERS_PARALLELISM"] = "true"
from longspan.text.tokenizer import TextTokenizer
tokenizer = TextTokenizer.from_file(sys.argv[1], max_length=64, vocab_size=900)
texts = [f"text number {place}" for place in range(64)]
def run(_): return [one.ids.tolist() for one in tokenizer.encode(texts)]
ours = run(0)
with multiprocessing.get_context("fork").Pool(1) as pool:
    assert pool.map(run, [0]) == [ours]
print("same")
"""
    path = str(golden / "bert-minilm" / "tokenizer.json")
    command = [sys.executable, "-W", "ignore", "-c", code, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "same\n", done.stderr
