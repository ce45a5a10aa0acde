"""Blocks of texts: as many as a second or two takes, in order."""

from __future__ import annotations

from collections.abc import Iterator

from longspan.cli.console.pace import Pace


def test_blocks_hold_every_text_once_in_order() -> None:
    pace = Pace(32)
    items = [str(i) for i in range(1000)]
    blocks = list(pace.blocks(items, len))
    assert [item for block in blocks for item in block] == items
    assert {len(block) for block in blocks[:-1]} == {64}


def test_blocks_follow_the_speed() -> None:
    def sizes(seconds_a_text: float) -> Iterator[int]:
        pace = Pace(32)
        for block in pace.blocks(["x"] * 50_000, len):
            pace.took(len(block), len(block) * seconds_a_text)
            yield len(block)

    assert max(sizes(1e-9)) == 4096
    assert list(sizes(0.001))[10] == 2000  # two seconds
    assert list(sizes(10.0))[10] == 32


def test_blocks_are_cut_at_many_characters() -> None:
    assert [len(block) for block in Pace(32).blocks(["x" * 2_000_000] * 5, len)] == [2, 2, 1]
