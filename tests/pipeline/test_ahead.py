from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from longspan.pipeline.ahead import LeftError, ahead


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
    left, heard = threading.Event(), []

    def items() -> Iterator[int]:
        yield 0
        heard.append(left.wait(timeout=10))
        raise LeftError

    results = ahead(items(), left)
    assert next(results) == 0 and not left.is_set()
    results.close()
    assert heard == [True]
