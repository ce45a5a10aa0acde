"""What a layer costs the host on a GPU, measured without one: everything but what the driver and the device do.

    python -m bench.gpu.host_time [--seconds 2]

Triton compiles its kernels for sm_90, and a driver that launches nothing takes the place of CUDA's. Torch's products
are counted with what torch takes for one of 8 x 8 numbers. What is left out: the driver's launch (about 2 us each) and
cuBLAS's choice of a kernel. It is processor time, the median of many passes of an encoder of 12 layers. A GPU hides the
host's time where its own is longer, and graphs do away with it: this is a pass without.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from bench.gpu.no_device import Nothing, fake_device
from bench.models.random_checkpoints import write_bert_base, write_v3
from longspan import Encoder
from longspan.models.engines.torch_engine import TorchEngine
from longspan.models.engines.workspace import Workspace
from longspan.models.parts import EncoderWeights, Product
from longspan.packing.batch import pack

ROWS, LENGTH = 4, 8  # of the batch
SIZES = {
    "hidden": 128,
    "inner": 128,
    "layers": 12,
    "heads": 4,
}  # what a product costs beyond torch's way to it is small
MODELS = {
    "post-norm, learned positions": (write_bert_base, False),
    "post-norm, RoPE": (write_v3, False),
    "post-norm, RoPE, adapters": (write_v3, True),
}


def measured(name: str, folder: Path, seconds: float, has_adapters: bool) -> dict[str, Any]:
    """Microseconds of processor time of a pass and of a layer, and Triton's launches in one."""
    engine = TorchEngine("cpu", "float32", cuda_graphs=False)
    with mock.patch("longspan.pipeline.loaded_model.engine_for", return_value=engine):
        model = Encoder(folder)
    encoder, layers = model._encoder, len(model.spec.layers)
    if has_adapters:
        encoder.weights = adapted(encoder.weights, engine)
    ids = [np.arange(3, 3 + LENGTH, dtype=np.int32)] * ROWS
    [batch] = pack(ids, batch_tokens=10_000, lora_ids=[*range(ROWS)] if has_adapters else None)
    prepared = encoder.prepare(batch)
    placed = engine.place_batch(prepared.tiled(fixed_size=False) if hasattr(prepared, "tiled") else prepared)
    workspace = Workspace(torch.zeros)
    with torch.no_grad():

        def run() -> None:
            encoder.compute(placed, workspace)
            engine._kept = {}  # as after each pass: what it has prepared is the next one's to prepare again

        for _ in range(3):
            run()
        before = Nothing.launches
        run()
        launches, times, end = Nothing.launches - before, [], time.perf_counter() + seconds
        products = {name: mock.Mock(wraps=getattr(torch, name)) for name in ("mm", "addmm")}
        with mock.patch.multiple(torch, **products):
            run()
        calls = sum(product.call_count for product in products.values())
        nothing = torch.zeros((ROWS * LENGTH, 2 * SIZES["inner"]))
        with mock.patch.multiple(torch, mm=lambda *_, **__: nothing, addmm=lambda *_, **__: nothing):
            while time.perf_counter() < end:
                started = time.thread_time()
                run()
                times.append((time.thread_time() - started) * 1e6)
    whole = statistics.median(times) + calls * product_time()
    return {
        "model": name,
        "layers": layers,
        "launches_a_layer": round(launches / layers, 1),
        "products_a_layer": round(calls / layers, 1),
        "product_us": round(product_time(), 1),
        "pass_us": round(whole, 1),
        "layer_us": round(whole / layers, 1),
        "target_us": 80.0 if has_adapters else 60.0,
    }


@functools.cache
def product_time() -> float:
    """Microseconds of torch's way to a product: one of hardly any numbers."""
    bias, x, y = torch.zeros(8), torch.zeros(8, 8), torch.zeros(8, 8)
    times = []
    for _ in range(200):
        started = time.thread_time()
        for _ in range(20):
            torch.addmm(bias, x, x, out=y)
        times.append((time.thread_time() - started) / 20 * 1e6)
    return statistics.median(times)


def adapted(weights: EncoderWeights, engine: TorchEngine) -> EncoderWeights:
    """With adapters of rank 4 for each of the rows."""
    draw = np.random.default_rng(0)

    def with_lora(product: Product) -> Product:
        out, inputs = product.weight.weight.shape
        factors = (draw.standard_normal(shape, np.float32) for shape in ((ROWS, 4, inputs), (ROWS, out, 4)))
        return replace(product, lora=engine.pack_lora(next(factors), next(factors), 1.0, product.weight))

    names = ("qkv", "attention_out", "up", "down")
    layers = (replace(layer, **{name: with_lora(getattr(layer, name)) for name in names}) for layer in weights.layers)
    return replace(weights, layers=tuple(layers), tasks=("a", "b", "c", "d"))


def main() -> int:
    """The command. Returns: 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.host_time", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each model")
    options = parser.parse_args()
    fake_device()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # products are of what nobody computes
    for name, (write, has_adapters) in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / "model", **SIZES)
            print(json.dumps(measured(name, Path(folder) / "model", options.seconds, has_adapters)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
