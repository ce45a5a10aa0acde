from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from longspan.pipeline.ahead import ahead
from longspan.text import tokenizer
from longspan.text.tokenizer import TextTokenizer
from longspan.text.waiting import LeftError, check_waiting, prepared_until


def test_items_keep_their_order_and_one_is_prepared_while_another_is_used() -> None:
    prepared = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(prepared):
            event.set()
            yield number

    seen = []
    for number in ahead(items()):
        seen.append(number)
        if number < 3:
            assert prepared[number + 1].wait(timeout=10), "the next item is not prepared meanwhile"
    assert seen == [0, 1, 2, 3]
    assert list(ahead([])) == []


def test_an_error_comes_at_its_items_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the second")

    results = ahead(items())
    assert next(results) == 1
    with pytest.raises(ValueError, match="the second"):
        next(results)


def test_leaving_early_ends_the_thread() -> None:
    results = ahead(iter(range(100)))
    assert next(results) == 0
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("longspan-ahead")]


def test_what_is_prepared_hears_that_nobody_waits() -> None:
    heard: list[str] = []
    going = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        going.set()
        try:
            for _ in range(1000):
                check_waiting()
                time.sleep(0.01)
        except LeftError:
            heard.append("left")
            raise

    results = ahead(items())
    assert next(results) == 0 and going.wait(timeout=10)
    results.close()
    assert heard == ["left"]
    check_waiting()  # of a thread that prepares nothing for anybody


def test_a_block_of_texts_is_left_between_slices(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of a block are tokenized together, which takes seconds: who interrupts a call does not wait for all."""
    monkeypatch.setattr(tokenizer, "SLICE_CHARS", 100)
    own = TextTokenizer.from_file(golden / "rerank-bert" / "model" / "tokenizer.json", max_length=9, vocab_size=1 << 20)
    left = threading.Event()
    for call in (own.encode, own.bare_ids):
        with prepared_until(left):
            assert len(call(["word " * 30] * 3)) == 3
            left.set()
            with pytest.raises(LeftError):
                call(["word " * 30] * 3)
        left.clear()
