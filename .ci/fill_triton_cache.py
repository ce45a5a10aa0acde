"""Fill a cache of Triton's compiled kernels for sm_90 without a GPU, for a machine that has one and little time.

    TRITON_CACHE_DIR=DIR python .ci/fill_triton_cache.py [--seconds 600]

Kernels are launched as on a GPU, by Triton's own driver on a library that launches nothing (`bench.gpu.no_device`): so
the cache holds what that machine looks for, and what it would build with its C compiler, if its Triton is the same
package for the same Python. What is launched: passes of models of the benches' shapes, short and long, the calls of
`kernel_launches.py`, and the goldens of all families, as with CUDA graphs and without.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / ".ci"), str(ROOT), str(ROOT / "tests")]
from kernel_launches import CASES

from bench.gpu import host_time, no_device
from bench.models.random_checkpoints import write_bert_base, write_v3
from longspan import CheckpointError, Encoder
from longspan.models.engines.torch_engine import TorchEngine
from longspan.models.engines.torch_graphs import Launch
from longspan.models.engines.workspace import Workspace
from longspan.packing.batch import pack

GOLDEN = ROOT / "tests" / "golden"


class Plainly:
    """Records nothing: a batch that would be a graph is filled up, and launched."""

    def record(self, launch: Launch) -> tuple[Callable[[], None], torch.Tensor]:
        return (lambda: None), launch()


def passes(write: object, has_adapters: bool) -> None:
    """Of two layers of a model's shape, in bf16: short texts, long ones, and some mixed for adapters."""
    engine = TorchEngine("cpu", "bfloat16", cuda_graphs=False)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "model", layers=2)
        encoder = opened(Path(folder) / "model", engine)._encoder
    if has_adapters:
        encoder.weights = host_time.adapted(encoder.weights, engine)
    nothing = torch.zeros((1024, 8192), dtype=torch.bfloat16)
    kept = mock.patch.multiple(torch, mm=lambda x, *_, **__: nothing[: len(x)], addmm=lambda *_, **__: nothing)
    with torch.no_grad(), kept:
        for length, count in ((16, 32), (256, 2)):
            ids = [np.arange(length, dtype=np.int32)] * count
            lora_ids = [place % 4 for place in range(count)] if has_adapters else None
            for fixed in (True, False):
                [batch] = pack(ids, batch_tokens=10_000, lora_ids=lora_ids)
                placed = engine.place_batch(encoder.prepare(batch).tiled(fixed_size=fixed))
                encoder.compute(placed, Workspace(lambda size: torch.zeros(size, dtype=torch.bfloat16)))


def opened(folder: Path, engine: TorchEngine) -> Encoder:
    """The model on that engine."""
    with mock.patch("longspan.pipeline.loaded_model.engine_for", return_value=engine):
        return Encoder(folder)


def golden(folder: Path, dtype: str) -> None:
    """A short batch and a large one, as with graphs and without. What kernels that do not run leave is no number, and
    may be told."""
    for graphs in (True, False):
        engine = TorchEngine("cpu", dtype, cuda_graphs=graphs, recorder=Plainly() if graphs else None)
        try:
            encoder = opened(folder, engine)
        except (CheckpointError, ValueError):  # a reranker's, a tower's, a sparse one's
            return
        ids = np.arange(3, 19, dtype=np.int32)
        tasks = encoder.tasks[:2]
        for count in (2, 2 if graphs else 40):
            given = [tasks[place % len(tasks)] if tasks else None for place in range(count)]
            try:
                encoder.encode_ids([ids] * count, task=given)
            except (ValueError, FloatingPointError) as error:
                if "finite" not in str(error) and "NaN" not in str(error):
                    raise


def work() -> Iterator[tuple[str, Callable[[], object]]]:
    """What decides comes first."""
    yield "BERT base", lambda: passes(write_bert_base, False)
    yield "v3", lambda: passes(write_v3, False)
    yield "v3 with adapters", lambda: passes(write_v3, True)
    for case in CASES:
        yield case.name, case.call
    for dtype in ("bfloat16", "float32", "float16"):
        for file in sorted(GOLDEN.glob("**/model.safetensors")):
            yield (
                f"{file.parent.relative_to(GOLDEN)} {dtype}",
                lambda file=file, dtype=dtype: golden(file.parent, dtype),
            )


def main() -> int:
    """The command. Returns: 0; 1 if a kernel does not compile."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="after that, what is left is left out")
    parser.add_argument("--match", default="", help="of the work only what has this in its name")
    options = parser.parse_args()
    if "TRITON_CACHE_DIR" not in os.environ:
        print("error: TRITON_CACHE_DIR names no folder", file=sys.stderr)
        return 2
    folder = tempfile.TemporaryDirectory()
    try:
        driver, _ = no_device.own_driver(Path(folder.name))
    except RuntimeError as error:
        print(f"fill_triton_cache: ways to launch are left out: {error}")
        driver = None
    no_device.fake_device(driver)
    torch.set_num_threads(1)
    started, failed, done = time.monotonic(), 0, 0
    every = [(name, call) for name, call in work() if options.match in name]
    for name, call in every:
        if time.monotonic() - started > options.seconds:
            print(f"out of time before {name}")
            break
        try:
            call()
            done += 1
        except Exception as error:  # whatever a compiler raises
            print(f"FAILED {name}: {type(error).__name__}: {str(error).partition(chr(10))[0][:200]}", flush=True)
            failed += 1
    print(f"fill_triton_cache: {done} of {len(every)} in {time.monotonic() - started:.0f} s, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
