"""linear's kernels for AMX, with tiles that plain C++ plays: on any machine, the tests that other levels pass.

The played tiles trap what hardware traps (`csrc/core/tiles.h`), so that a kernel which passes here configures tiles
before it uses them and stays within them; `test_misuse_is_trapped` shows that they do.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import inputs
from longspan import Encoder, _core, ops
from tests.ops.test_linear_dtypes import (  # noqa: F401  collected here again, at this file's level
    test_bfloat16_rounding_of_special_values,
    test_bfloat16_sums_products_of_rounded_operands,
    test_int8_is_the_reference_to_the_bit,
    test_int8_of_extreme_rows,
    test_int8_sums_at_the_limit_of_32_bits,
    test_packing_from_other_dtypes_and_layouts,
    test_the_epilogue_sees_floats,
    test_what_is_packed,
)
from tests.ops.test_multi_lora import (  # noqa: F401
    test_linear_in_narrow_dtypes,
    test_no_rows_and_packed_for_another_instruction_set,
)
from tests.ops.test_row_chain import test_a_chain_has_the_bits_of_its_ops, test_a_product_may_be_rounded_to_bf16  # noqa: F401

LEVEL = "amx_emulated"
HEADER = Path(__file__).parents[2] / "csrc" / "core" / "tiles.h"


@pytest.fixture
def isa() -> Iterator[str]:
    """The level that plays tiles: nobody has it by itself."""
    assert LEVEL not in _core.available_isas()
    before = _core.isa()
    _core.set_isa(LEVEL)
    yield LEVEL
    _core.set_isa(before)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("gate", [None, "first"])
def test_a_row_has_the_same_bits_beside_any_others(isa: str, dtype: str, gate: str | None) -> None:
    """Tiles of one height and of two, strips of every size; int8's few rows, which have no tiles."""
    x = inputs.normal((70, 700), 1)
    packed = ops.pack_linear([inputs.normal((44, 700), 2)], gate=gate, dtype=dtype)
    whole = ops.linear(x, packed, activation="gelu")
    for rows in (1, 2, 4, 5, 15, 16, 17, 31, 32, 33, 49, 64, 65):
        for first in (0, 70 - rows):
            some = ops.linear(x[first : first + rows], packed, activation="gelu")
            np.testing.assert_array_equal(some, whole[first : first + rows], f"{rows} rows from {first} on")


@pytest.mark.parametrize("shape", [(40, 16), (384, 96), (1030, 48)], ids=str)
def test_int8_has_the_bits_of_every_other_level(isa: str, shape: tuple[int, int]) -> None:
    x, weight = inputs.normal((50, shape[0]), 1), inputs.normal((shape[1], shape[0]), 2)
    got = ops.linear(x, ops.pack_linear([weight], dtype="int8"))
    for other in _core.available_isas():
        _core.set_isa(other)
        np.testing.assert_array_equal(ops.linear(x, ops.pack_linear([weight], dtype="int8")), got, other)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("family", ["bert-minilm", "jina-v3", "nomic-bert"])
def test_golden(isa: str, family: str, dtype: str, golden: Path) -> None:
    texts = ["A tile is sixteen rows of sixty-four bytes.", "Short.", "x " * 40]
    got = Encoder(golden / family, dtype=dtype).encode(texts, normalize_embeddings=True)
    _core.set_isa("portable")
    expected = Encoder(golden / family, dtype=dtype).encode(texts, normalize_embeddings=True)
    assert (np.sum(got * expected, axis=1) >= 0.9999).all()


MISUSE = {
    "load_tile<0>(memory, 64)": "before it is configured",
    "configure_tiles(config(17, 64))": "at most 16 rows of 64 bytes",
    "configure_tiles(config(16, 68))": "at most 16 rows of 64 bytes",
    "configure_tiles(config(0, 64))": "both rows and bytes",
    "TilesInUse use(config(16, 64)); load_tile<7>(memory, 64)": "without rows",
    "TilesInUse use(config(16, 32)); add_byte_products<0, 1, 2>()": "a row for each word",
    "TilesInUse use(config(16, 64)); add_byte_products<0, 0, 2>()": "three different tiles",
    "{ TilesInUse use(config(16, 64)); } clear_tile<0>()": "before it is configured",
}


def test_misuse_is_trapped(tmp_path: Path) -> None:
    compiler = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    cases = "".join(f"    attempt([&] {{ {code}; }});\n" for code in MISUSE)
    (tmp_path / "misuse.cpp").write_text(
        f"""#define LONGSPAN_ISA played
#define LONGSPAN_PLAYS_TILES
#include "{HEADER}"
#include <cstdio>
using namespace longspan::played;
static uint8_t memory[1024];
static TileConfig config(int rows, int bytes) {{
    TileConfig config;
    for (int tile = 0; tile < 4; ++tile) config.set(tile, rows, bytes);
    return config;
}}
template <class Body> void attempt(Body body) {{
    try {{ body(); std::puts("nothing"); }} catch (const std::logic_error& error) {{ std::puts(error.what()); }}
}}
int main() {{
{cases}}}
"""
    )
    program = tmp_path / "misuse"
    subprocess.run([compiler, "-std=c++20", "-O1", "-o", program, tmp_path / "misuse.cpp"], check=True)
    lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    for line, (code, message) in zip(lines, MISUSE.items(), strict=True):
        assert message in line, (code, line)
