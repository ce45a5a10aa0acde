"""Adapters in whole models on torch tensors: folded into products, merged where a batch has one task, added behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kernel_cases import DEVICE, torch  # isort: skip  # skips where torch or triton is not installed
from bench.gpu.host_time import adapted
from bench.models.random_checkpoints import write_v3
from longspan import Encoder
from longspan.kernels import linear
from longspan.models.engines.torch_engine import TorchEngine
from longspan.models.engines.torch_merged import MergedWeights
from torch_models import assert_agree, on_cpu, open_with

SIZES = {"hidden": 128, "inner": 192, "layers": 2, "heads": 4}
IDS = [np.arange(3, 3 + length, dtype=np.int32) for length in (5, 9, 1, 20)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of v3's kind, wide enough for four adapters of rank 4 to be folded in."""
    return write_v3(tmp_path_factory.mktemp("v3") / "model", **SIZES)


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch, engine: TorchEngine) -> Encoder:
    encoder = open_with(engine, folder, monkeypatch)
    encoder._encoder.weights = adapted(encoder._encoder.weights, engine)
    return encoder


def run(encoder: Encoder, numbers: list[int]) -> np.ndarray:
    """Vectors of IDS, each with the adapter of that number, -1 for none."""
    tasks = ["base" if number < 0 else encoder.tasks[number] for number in numbers]
    return np.asarray(encoder.encode_ids(IDS, task=tasks, normalize_embeddings=True))


def test_three_ways_agree(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchEngine(DEVICE, "float32", cuda_graphs=False)
    encoder = opened(folder, monkeypatch, engine)
    assert engine._room == 16 and encoder._encoder.weights.layers[0].qkv.lora.added == 16
    mixed = run(encoder, [2, -1, 0, 3])
    assert not engine._merged._weights, "a mixed batch merges nothing"
    alone = [run(encoder, [number] * 4) for number in range(4)]
    assert sorted(engine._merged._weights) == [0, 1, 2, 3]
    base = run(encoder, [-1] * 4)
    for place, number in enumerate((2, None, 0, 3)):
        truth = base[place] if number is None else alone[number][place]
        assert_agree(mixed[place], truth, "float32", f"text {place}")
    assert np.abs(alone[0] - base).max() > 1e-2, "adapters change something"

    monkeypatch.setattr(linear, "MOST_ADDED", 1000)  # too many columns by that measure
    behind = opened(folder, monkeypatch, other := TorchEngine(DEVICE, "float32", cuda_graphs=False))
    assert other._room == 0
    assert_agree(run(behind, [2, -1, 0, 3]), mixed, "float32", "added behind")


def test_merged_weights_keep_to_their_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchEngine(DEVICE, "float32", cuda_graphs=False)
    encoder = opened(folder, monkeypatch, engine)
    layer = encoder._encoder.weights.layers[0]
    of_layer = sum(p.weight.weight.numel() * 4 for p in (layer.qkv, layer.attention_out, layer.up, layer.down))
    monkeypatch.setattr(engine, "_merged", MergedWeights(3 * of_layer))  # room for one adapter of two layers
    found = [run(encoder, [number] * 4) for number in (1, 2, 1)]
    assert sorted(engine._merged._weights) == [1]
    np.testing.assert_array_equal(found[0], found[2])
    before = engine._merged._weights[1]
    encoder._encoder.weights = adapted(encoder._encoder.weights, engine)  # as `load_adapter` gives new ones
    run(encoder, [1] * 4)
    assert engine._merged._weights[1] is not before and len(engine._merged._passes) == 1


def test_a_published_models_tasks(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """jina-v3's own adapters, of its words as well, each with the batch to itself."""
    encoder = open_with(TorchEngine(DEVICE, "float32"), golden / "jina-v3", monkeypatch)
    found = {task: np.asarray(encoder.encode_ids(IDS, task=task)) for task in (*encoder.tasks, "base")}
    plain = on_cpu(golden / "jina-v3", monkeypatch)
    for task, vectors in found.items():
        assert_agree(vectors, np.asarray(plain.encode_ids(IDS, task=task)), "float32", task)


def test_one_launch_for_each_step(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are torch's; of ours, a layer launches rotation, attention, activation and two norms. What all layers
    have in common is prepared once a pass, and nothing of it is kept behind it."""
    from longspan.kernels import launch

    counts: dict[str, int] = {}
    made: dict[str, int] = {}
    plain = launch.Launcher.prepared

    def counted(self: launch.Launcher, *args: object, **named: object) -> object:
        run = plain(self, *args, **named)
        name = self.kernel.fn.__name__ if hasattr(self.kernel, "fn") else str(self.kernel)
        made[name] = made.get(name, 0) + 1

        def launched(*given: object) -> object:
            counts[name] = counts.get(name, 0) + 1
            return run(*given)

        return launched

    monkeypatch.setattr(launch.Launcher, "prepared", counted)
    encoder = opened(folder, monkeypatch, TorchEngine(DEVICE, "float32", cuda_graphs=False))
    for numbers, shrinks in (([0] * 4, 0), ([0, 1, -1, 2], 8)):
        counts.clear()
        made.clear()
        run(encoder, numbers)
        expected = {"_embed_kernel": 1, "_rotate_kernel": 2, "attention_varlen_kernel": 2, "_gated_kernel": 2}
        expected |= {"_layer_norm_kernel": 4, "_span_mean_kernel": 1}
        assert counts == {**expected, **({"_shrink_kernel": shrinks} if shrinks else {})}
        assert made["attention_varlen_kernel"] == made["_rotate_kernel"] == 1 and made["_layer_norm_kernel"] <= 2
        # Of x, which the first product of both halves reads, of the attended rows, and of the inner ones.
        assert made.get("_shrink_kernel", 0) == (3 if shrinks else 0) and encoder._encoder.engine._kept == {}


def test_workspaces_rows_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchEngine(DEVICE, "float32", cuda_graphs=False)
    engine._room = 16
    workspace = engine_workspace(engine)
    x = engine.take(workspace, "x", 5, 32)
    assert x.shape == (5, 32) and x.stride() == (48, 1) and engine.take(workspace, "x", 5, 32) is x
    whole, behind = engine._widened(x, 16) or (None, None)
    assert whole is not None and whole.shape == (5, 48) and behind.data_ptr() == x.data_ptr() + 32 * 4
    assert engine._widened(x, 16)[0] is whole
    assert engine._widened(x, 8)[0].shape == (5, 40), "another layer's adapters may be fewer"
    assert engine._widened(torch.zeros(5, 32, device=DEVICE), 16) is None, "nobody's room"


def engine_workspace(engine: TorchEngine) -> object:
    from longspan.models.engines.workspace import Workspace

    return Workspace(engine.empty)
