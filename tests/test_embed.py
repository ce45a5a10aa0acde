"""The embeddings that a token starts from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from longspan import _core

IDS = np.array([4, 0, 4, 2], np.int32)
POSITIONS = np.array([0, 1, 0, 1], np.int32)


def bits_of_bf16(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values that bf16 holds, as its bits and as f32."""
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    return bits, (bits.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("rows", [0, 1, 4, 5000])
@pytest.mark.parametrize("dim", [1, 5, 64])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_sum_of_three_embeddings(dtype: str, dim: int, rows: int) -> None:
    rng = np.random.default_rng(dim)
    words, places = (rng.standard_normal((size, dim)).astype(np.float32) for size in (5, 4))
    token_type = rng.standard_normal(dim).astype(np.float32)
    tables = [words, places]
    if dtype == "float16":
        tables = [table.astype(np.float16) for table in tables]
        words, places = (table.astype(np.float32) for table in tables)
    elif dtype == "bfloat16":
        (tables[0], words), (tables[1], places) = map(bits_of_bf16, tables)
    ids, positions = np.resize(IDS, rows), np.resize(POSITIONS, rows)
    out = np.full((rows, dim + 3), 7, np.float32)
    _core.embed(tables[0], ids, tables[1], positions, 2, token_type, out[:, :dim])
    np.testing.assert_array_equal(out[:, :dim], words[ids] + places[positions + 2] + token_type)
    assert (out[:, dim:] == 7).all()
    _core.embed(tables[0], ids, None, None, 0, None, out[:, :dim])
    np.testing.assert_array_equal(out[:, :dim], words[ids])


def test_types_tell_the_texts_of_a_pair_apart() -> None:
    rng = np.random.default_rng(3)
    words, places, token_types = (rng.standard_normal((size, 6)).astype(np.float32) for size in (5, 4, 2))
    types = np.array([0, 1, 1, 0], np.int32)
    out = np.empty((4, 6), np.float32)
    _core.embed(words, IDS, places, POSITIONS, 1, None, out, token_types, types)
    np.testing.assert_array_equal(out, words[IDS] + places[POSITIONS + 1] + token_types[types])


def test_a_table_may_lie_at_any_address() -> None:
    memory = np.zeros(4 * 10 + 1, np.uint8)
    words = memory[1:].view(np.float32).reshape(5, 2)
    words[...] = np.arange(10).reshape(5, 2)
    out = np.empty((4, 2), np.float32)
    _core.embed(words, IDS, None, None, 0, None, out)
    np.testing.assert_array_equal(out, words[IDS])


def wrong_calls() -> dict[str, Callable[[], None]]:
    words, out = np.zeros((5, 3), np.float32), np.empty((4, 3), np.float32)

    def typed(types: list[int], dim: int = 3) -> Callable[[], None]:
        table = np.zeros((2, dim), np.float32)
        return lambda: _core.embed(words, IDS, None, None, 0, None, out, table, np.array(types, np.int32))

    def call(**changes: object) -> Callable[[], None]:
        given = {"words": words, "ids": IDS, "places": words, "positions": POSITIONS, "offset": 0, "token_type": None}
        return lambda: _core.embed(*{**given, **changes}.values(), out)  # type: ignore[arg-type]

    return {
        "id 5 is not in its table of 5 rows": call(ids=np.array([0, 1, 5, 2], np.int32)),
        "id -1 is not in its table of 5 rows": call(ids=np.array([0, 1, -1, 2], np.int32)),
        "place 5 is not in its table of 5 rows": call(offset=4),
        r"ids must be \(4,\), got \(3,\)": call(ids=IDS[:3]),
        r"positions must be \(4,\), got \(3,\)": call(positions=POSITIONS[:3]),
        r"token_type must be \(3,\), got \(2,\)": call(token_type=np.zeros(2, np.float32)),
        "places must have 3 columns, got 2": call(places=np.zeros((5, 2), np.float32)),
        "token type 2 is not in its table of 2 rows": typed([0, 1, 2, 0]),
        "token type -1 is not in its table of 2 rows": typed([0, -1, 1, 0]),
        r"types must be \(4,\), got \(3,\)": typed([0, 1, 1]),
        "token_types must have 3 columns, got 2": typed([0, 1, 1, 0], dim=2),
        "words must be float32, float16 or the bits of bfloat16 as uint16, got float64": call(words=np.zeros((5, 3))),
    }


@pytest.mark.parametrize("message", list(wrong_calls()))
def test_what_does_not_fit_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong_calls()[message]()
