"""The vision towers against the goldens, from stored pixels on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from longspan import reference
from longspan.models.engines.cpu_engine import CpuEngine
from longspan.models.engines.engine import OpsEngine
from longspan.models.engines.workspace import Workspace
from longspan.models.spec import Rotary
from longspan.models.tower import places_of, stretched
from longspan.models.vision_spec import PatchSpec
from longspan.packing.batch import pack
from vision_models import MODELS, cosine, open_tower, read_golden, unit

# The NOTES', for a float32 runtime.
CLIP_LIMIT, CLIP_HIDDEN_LIMIT, FEATURES_LIMIT = 5e-6, 1e-4, 2e-5
LEAST = {"bfloat16": 0.999, "int8": 0.99}


def test_clip_vectors(isa: str, golden: Path) -> None:
    images = read_golden(golden / "jina-clip-v2")
    tower = open_tower(images.model)
    found = tower.encode([images.patches(case["image"], tower.spec) for case in images.cases])
    for case, [vector] in zip(images.cases, found, strict=True):
        assert vector.shape == (64,)
        truth = images.expected[f"emb/{case['id']}"]
        np.testing.assert_allclose(unit(vector), truth, rtol=0, atol=CLIP_LIMIT, err_msg=case["id"])
        np.testing.assert_array_equal(np.packbits(vector > 0), images.expected[f"sign/{case['id']}"])


def test_clip_hidden_states(isa: str, golden: Path) -> None:
    """The golden has them before the final norm, we after it."""
    images = read_golden(golden / "jina-clip-v2")
    tower = open_tower(images.model)
    inner = tower._tower
    for case in images.cases:
        if not case.get("has_hidden"):
            continue
        patches = images.patches(case["image"], tower.spec)
        [batch] = pack([np.arange(len(patches.values) + 1)], batch_tokens=2048)
        found = inner.forward(inner.attach_images(batch, [patches]), Workspace(inner.engine.empty))
        norm = inner.weights.final_norm
        weight, bias = norm.weight.astype(np.float64), norm.bias.astype(np.float64)
        truth = reference.layer_norm(images.expected[f"hidden/{case['id']}"], weight, bias, eps=1e-6)
        np.testing.assert_allclose(found, truth, rtol=0, atol=CLIP_HIDDEN_LIMIT, err_msg=case["id"])


def test_qwen_features(isa: str, golden: Path) -> None:
    images = read_golden(golden / "jina-v4")
    tower = open_tower(images.model)
    numbers = range(len(images.images))
    found = tower.encode([images.patches(number, tower.spec) for number in numbers])
    for number, features in zip(numbers, found, strict=True):
        truth = images.expected[f"vision_features/{number}"]
        np.testing.assert_allclose(features, truth, rtol=0, atol=FEATURES_LIMIT, err_msg=str(number))


@pytest.mark.parametrize("dtype", LEAST)
@pytest.mark.parametrize("model", MODELS)
def test_compute_types(isa: str, model: str, dtype: str, golden: Path) -> None:
    images = read_golden(golden / model)
    tower = open_tower(images.model, CpuEngine(dtype))
    for case in images.cases:
        number = case["image"]
        [found] = tower.encode([images.patches(number, tower.spec)])
        truth = images.expected.get(f"vision_features/{number}", images.expected[f"emb/{case['id']}"])
        assert cosine(found, truth) >= LEAST[dtype], (case["id"], cosine(found, truth))


@pytest.mark.parametrize("dtype", ["float32", *LEAST])
@pytest.mark.parametrize("model", MODELS)
def test_an_image_alone_and_in_any_batch(model: str, dtype: str, golden: Path) -> None:
    images = read_golden(golden / model)
    tower = open_tower(images.model, CpuEngine(dtype))
    patches = [images.patches(number, tower.spec) for number in range(len(images.images))]
    alone = [tower.encode([one])[0] for one in patches]
    for order in (range(len(patches)), reversed(range(len(patches))), [0, 0, 1, 3, 2, 3]):
        places = list(order)
        for batch_tokens in (None, 60):
            found = tower.encode([patches[place] for place in places], batch_tokens=batch_tokens)
            for place, one in zip(places, found, strict=True):
                np.testing.assert_array_equal(one, alone[place])
    single = open_tower(images.model, CpuEngine(dtype), num_threads=1).encode(patches)
    for one, other in zip(single, alone, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("model", MODELS)
def test_direct_calls_give_the_bits_of_the_public_ops(
    model: str, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = read_golden(golden / model)
    tower = open_tower(images.model)
    patches = [images.patches(number, tower.spec) for number in range(3)]
    direct = tower.encode(patches)
    monkeypatch.setenv("LONGSPAN_BACKEND", "cpu")
    for one, other in zip(open_tower(images.model, OpsEngine()).encode(patches), direct, strict=True):
        np.testing.assert_array_equal(one, other)


def test_windows_hold_what_is_left_at_the_ends() -> None:
    rotary = Rotary(10000.0, 8, sections=(2, 2), has_own_frequencies=True)
    at = places_of((2, 6, 10), PatchSpec(14, frames=2, merge=2, window=2), rotary)
    assert at.frames.tolist() == [60, 60]
    assert at.windows.tolist() == [16, 16, 8, 8, 8, 4] * 2  # 3 x 5 cells in windows of 2 x 2
    assert sorted(at.order.tolist()) == list(range(120))
    # The first window: the cells 0, 1, 5 and 6 of a row of five, each four patches.
    assert at.order[:16].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 20, 21, 22, 23, 24, 25, 26, 27]
    # The first row of the last window: cell (2, 4), patch row 4, column 8.
    np.testing.assert_allclose(at.cos[56], np.cos([4, 4 / 100, 8, 8 / 100]), rtol=1e-6)


def test_the_class_token_is_not_turned() -> None:
    rotary = Rotary(10000.0, 8, interleaved=True, sections=(2, 2), has_own_frequencies=True)
    at = places_of((1, 3, 3), PatchSpec(14, has_class_token=True, grid=3, reach=16.0), rotary)
    assert at.order is None and at.windows is None and at.frames.tolist() == [10]
    assert (at.cos[0] == 1).all() and (at.sin[0] == 0).all()
    np.testing.assert_allclose(at.cos[6], np.cos([16 / 3, 16 / 300, 32 / 3, 32 / 300]), rtol=1e-5)


@pytest.mark.parametrize(
    "places, grid", [(6, (4, 9)), (48, (32, 40)), (8, (8, 8)), (3, (1, 5)), (48, (2, 200))], ids=str
)
def test_a_table_is_stretched_over_an_image_end_to_end(places: int, grid: tuple[int, int]) -> None:
    rows, columns = grid
    at = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1).reshape(-1, 2)
    taps, weights = stretched(places, grid, at.astype(np.float32))
    assert taps.dtype == np.int32 and weights.dtype == np.float32 and 0 <= taps.min() <= taps.max() < places**2
    table = np.random.default_rng(0).standard_normal((places, places))
    found = (table.ravel()[taps] * weights).sum(1).reshape(grid)
    u, v = (np.linspace(0, places - 1, side) if side > 1 else np.zeros(1) for side in grid)
    lines = np.stack([np.interp(v, np.arange(places), line) for line in table])
    truth = np.stack([np.interp(u, np.arange(places), line) for line in lines.T], 1)
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[0, 0], table[0, 0], rtol=1e-6)
    if rows > 1:
        np.testing.assert_allclose(found[-1, -1], table[-1, -1], rtol=0, atol=1e-6)


def test_places_of_a_video_repeat_in_each_frame() -> None:
    rotary = Rotary(10000.0, 8, sections=(2, 2), has_own_frequencies=True)
    at = places_of((3, 4, 6), PatchSpec(16, frames=2, merge=2, places=6), rotary)
    assert at.frames.tolist() == [24, 24, 24] and at.taps.shape == (72, 4)
    np.testing.assert_array_equal(at.taps[:24], at.taps[48:])
    np.testing.assert_array_equal(at.cos[:24], at.cos[24:48])
    assert (
        at.taps[3, 0] == 1 * 6 + 1
    )  # the last patch of the first cell: row 1 of 4, column 1 of 6, on a table of 6 x 6
    np.testing.assert_allclose(at.tap_weights[3], [1 / 3, 0, 2 / 3, 0], atol=1e-6)
