"""Lists of tiles: every row is in one, and sees the keys of its own sequence alone."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from longspan.packing.tiles import list_tiles, most_tiles

LENGTHS = [[], [0], [1], [64], [65], [300], [20] * 7, [130, 64, 63, 1, 1], [5, 0, 0, 9], [0, 200, 0, 3], [1] * 200]


def seen(cu_seqlens: np.ndarray, rows: int, **options: object) -> np.ndarray:
    """(total, 2): from where to where each row sees keys, by the list; -1 where no tile has it."""
    listed = list_tiles(cu_seqlens, rows, **options)
    found = np.full((int(cu_seqlens[-1]), 2), -1)
    for first, count, start, keys in listed.tiles.tolist():
        assert 0 <= count <= rows and (count == 0 or (found[first : first + count] == -1).all())
        if keys >= 0:
            found[first : first + count] = start, start + keys
        else:
            assert listed.spans is not None and (start, -keys) == (first, count)
            found[first : first + count] = listed.spans[first : first + count]
    return found


@pytest.mark.parametrize("lengths", LENGTHS, ids=lambda lengths: f"{lengths[:5]}x{len(lengths)}")
@pytest.mark.parametrize("rows", [16, 64, 128])
@pytest.mark.parametrize("groups", [None, False, True])
def test_each_row_sees_its_own_sequence(lengths: list[int], rows: int, groups: bool | None) -> None:
    cu_seqlens = inputs.cu_seqlens(lengths)
    truth = np.repeat(np.stack([cu_seqlens[:-1], cu_seqlens[1:]], 1), np.diff(cu_seqlens), axis=0)
    most = most_tiles(int(cu_seqlens[-1]), len(lengths), rows)
    for options in ({}, {"count": most + 3}):
        np.testing.assert_array_equal(seen(cu_seqlens, rows, groups=groups, **options), truth)
    assert len(list_tiles(cu_seqlens, rows, groups=groups).tiles) <= most


def test_short_sequences_share_a_tile() -> None:
    listed = list_tiles(inputs.cu_seqlens([70, 30, 20, 10, 30]), 64)
    assert listed.tiles.tolist() == [[0, 64, 0, 70], [64, 6, 0, 70], [70, 60, 70, -60], [130, 30, 130, 30]]
    assert listed.spans is not None and listed.spans[[0, 69, 70, 99, 100, 159]].tolist() == [
        [0, 70], [0, 70], [70, 100], [70, 100], [100, 120], [130, 160]
    ]  # fmt: skip
    apart = list_tiles(inputs.cu_seqlens([70, 30, 20]), 64, groups=False)
    assert len(apart.tiles) == 4 and apart.spans is None
    alone = list_tiles(inputs.cu_seqlens([70, 64]), 64)
    assert alone.spans is None and list_tiles(inputs.cu_seqlens([70, 64]), 64, groups=True).spans is not None
