"""Fill a cache of Triton's compiled kernels for sm_90 without a GPU, for a machine that has one and little time.

    TRITON_CACHE_DIR=DIR python .ci/fill_triton_cache.py [--seconds 600]

Kernels are launched as on a GPU, through Triton's own way to them, into a driver that launches nothing
(`bench.gpu.host_time`): so the cache holds what that machine looks for, if its Triton is the same package for the same
Python. What is launched: the calls of `kernel_launches.py`, and passes of models of the benches' shapes, short and
long.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from kernel_launches import CASES

from bench.gpu import host_time
from bench.models.random_checkpoints import write_bert_base, write_v3
from longspan import Encoder
from longspan.models.engines.torch_engine import TorchEngine
from longspan.models.engines.workspace import Workspace
from longspan.packing.batch import pack


def passes(write: object, has_adapters: bool) -> None:
    """Of two layers of a model's shape, in bf16: short texts, long ones, and some mixed for adapters."""
    engine = TorchEngine("cpu", "bfloat16", cuda_graphs=False)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "model", layers=2)
        with mock.patch("longspan.pipeline.loaded_model.engine_for", return_value=engine):
            encoder = Encoder(folder + "/model")._encoder
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


def main() -> int:
    """The command. Returns: 0; 1 if a kernel does not compile."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="after that, what is left is left out")
    options = parser.parse_args()
    if "TRITON_CACHE_DIR" not in os.environ:
        print("error: TRITON_CACHE_DIR names no folder", file=sys.stderr)
        return 2
    host_time.fake_device()
    started, failed, done = time.monotonic(), 0, 0
    work = [
        ("BERT base", lambda: passes(write_bert_base, False)),
        ("v3", lambda: passes(write_v3, False)),
        ("v3 with adapters", lambda: passes(write_v3, True)),
        *((case.name, case.call) for case in CASES),
    ]
    for name, call in work:
        if time.monotonic() - started > options.seconds:
            print(f"out of time before {name}")
            break
        try:
            call()
            done += 1
        except Exception as error:  # whatever a compiler raises
            print(f"FAILED {name}: {type(error).__name__}: {str(error).partition(chr(10))[0][:200]}")
            failed += 1
    print(f"fill_triton_cache: {done} of {len(work)} in {time.monotonic() - started:.0f} s, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
