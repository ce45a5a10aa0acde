"""Products that finish their own tiles, against float64: activations, pairs, bias, residual, tiles at the ends."""

from __future__ import annotations

import numpy as np
import pytest

from gpu_errors import matrix_sum
from kernel_cases import DEVICE, FLOATS, ROUNDING, assert_within, normal, plain, torch
from longspan.ops.linear import ACTIVATIONS, GATES
from longspan.reference.linear import linear

kernels = pytest.importorskip("longspan.kernels.product")
dense = pytest.importorskip("longspan.kernels.linear")

STEEP = 1.2  # the steepest slope of the activations
SMALL = kernels.Tile(16, 16, 16, 4, 2)


def case(rows: int, depth: int, width: int, gate: str | None, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """x, weight, bias, residual."""
    outputs = width if gate is None else 2 * width
    weight = normal((outputs, depth), 2, dtype=torch.float32) / depth**0.5
    rest = normal((outputs,), 3, dtype=dtype), normal((rows, width), 4, dtype=dtype)
    return normal((rows, depth), 1, dtype=dtype), weight.to(dtype), *rest


def check(
    got: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
    gate: str | None,
    residual: torch.Tensor | None,
) -> None:
    """As float64 has it, but for f32's sums and one rounding."""
    given = {"activation": activation, "gate": gate, "residual": plain(residual)}
    truth = linear(plain(x), plain(weight), plain(bias), **given)
    sizes = np.abs(plain(x)) @ np.abs(plain(weight)).T + (0 if bias is None else np.abs(plain(bias)))
    sums = max(matrix_sum(x.shape[1]), (x.shape[1] + 8) * 2.0**-24) * sizes
    if gate is not None:  # of a b the error of a times b, and of b times a
        half = truth.shape[1]
        sums = sums[:, :half] * sizes[:, half:] + sums[:, half:] * sizes[:, :half]
    largest = sizes.max() ** (1 if gate is None else 2)
    allowed = ROUNDING[got.dtype] * np.abs(truth) * (1 + 2.0**-8) + STEEP * sums + 8 * 2.0**-23 * largest
    assert_within(got, truth, allowed)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
@pytest.mark.parametrize("gate", [None, *GATES])
def test_matches_reference(
    activation: str | None, gate: str | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of programs that have several tiles each, at both ends of the rows and of the columns."""
    monkeypatch.setattr(kernels, "tile_of", lambda *_: SMALL)
    monkeypatch.setattr(kernels, "multiprocessors", lambda _: 3)
    for rows, depth, width, has_more in ((1, 1, 1, False), (37, 40, 35, True), (150, 32, 20, True)):
        x, weight, bias, residual = case(rows, depth, width, gate, dtype)
        more = (bias, residual) if has_more else (None, None)
        out = torch.full((rows, width), torch.nan, dtype=dtype, device=DEVICE)
        kernels.launch_product(x, weight, more[0], activation, gate, more[1], out)
        check(out, x, weight, more[0], activation, gate, more[1])


@pytest.mark.parametrize("gate", [None, "first"])
def test_tiles_of_every_architecture(gate: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for arch in (80, 90, 100):
        monkeypatch.setattr(kernels, "architecture", lambda _, arch=arch: arch)
        for dtype in (torch.float32, torch.float16):
            x, weight, bias, residual = case(130, 70, 140, gate, dtype)
            out = torch.empty_like(residual)
            kernels.launch_product(x, weight, bias, "gelu", gate, residual, out)
            check(out, x, weight, bias, "gelu", gate, residual)


def test_a_row_is_the_same_in_any_batch() -> None:
    x, weight, bias, _ = case(300, 64, 48, "second", torch.float16)
    whole, alone = (torch.empty((rows, 48), dtype=x.dtype, device=DEVICE) for rows in (300, 1))
    kernels.launch_product(x, weight, bias, "silu", "second", None, whole)
    kernels.launch_product(x[211:212], weight, bias, "silu", "second", None, alone)
    assert torch.equal(whole[211:212], alone)


@pytest.mark.parametrize("gate", [None, "first"])
def test_a_layer_with_its_adapters_in_the_depth(gate: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine calls, told to fuse: with and without it, the same but for rounding."""
    rows, depth, width, tasks, rank = 40, 64, 48, 3, 4
    dtype = torch.float16
    x, weight, bias, residual = case(rows, depth, width, gate, dtype)
    layer = dense.DenseLinear(weight, bias, gate)
    down, up = normal((tasks, rank, depth), 5, dtype=dtype) / 8, normal((tasks, len(weight), rank), 6, dtype=dtype) / 8
    lora = dense.DenseLora(down, up, torch.ones(tasks, device=DEVICE))
    lora.fold(layer)
    ids = torch.arange(rows, device=DEVICE, dtype=torch.int32) % (tasks + 1) - 1
    memory = torch.zeros((rows, depth + lora.added), dtype=dtype, device=DEVICE)
    memory[:, :depth] = x
    found = []
    for is_fused in (False, True):
        monkeypatch.setattr(dense, "is_fused", lambda _, how=is_fused: how)
        out = torch.empty_like(residual)
        how = {"activation": "gelu", "residual": residual, "lora": lora, "lora_ids": ids}
        dense.dense_linear(memory[:, :depth], layer, **how, out=out, wide=dense.widened(memory[:, :depth], lora.added))
        found.append(out.double())
    assert (found[0] - found[1]).abs().max() <= 2.0**-9 * max(1.0, float(found[0].abs().max()))


def test_only_who_asks_for_it_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels._mode.cache_clear()
    monkeypatch.setenv(kernels.MODE, "both")
    with pytest.raises(ValueError, match="LONGSPAN_GPU_PRODUCT must be 'cublas' or 'fused', got 'both'"):
        kernels._mode()
    for mode in ("cublas", "fused"):
        monkeypatch.setenv(kernels.MODE, mode)
        assert kernels._mode() == mode
        kernels._mode.cache_clear()
    assert not kernels.is_fused(torch.zeros(2, 2))
    kernels._mode.cache_clear()
