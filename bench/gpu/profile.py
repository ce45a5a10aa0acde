"""One batch of BERT base and of v3 under torch's profiler: which kernels take the device's time.

    python -m bench.gpu.profile [--json FILE] [--dry]

Prints the kernels by their time; FILE gets a line of JSON a kernel: model, kernel, calls, microseconds of the device.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns: 0; 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.profile", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--dry", action="store_true", help="a small model in Triton's interpreter")
    options = parser.parse_args(argv)
    if options.dry:
        os.environ["TRITON_INTERPRET"] = "1"
    import torch
    from torch.profiler import ProfilerActivity, profile

    if not options.dry and not torch.cuda.is_available():
        print("error: no CUDA device; --dry tries the plumbing without one", file=sys.stderr)
        return 2
    from bench.gpu.contest import Setting
    from bench.gpu.encode import DRY, MODELS, SETS, opened
    from bench.gpu.steps import add_line
    from bench.models.texts import draw_texts
    from longspan.pipeline.options import FloatOptions

    setting = Setting("cpu" if options.dry else "cuda", options.dry)
    for model in DRY if options.dry else [each for each in MODELS if each.name in {"BERT base", "v3"}]:
        with tempfile.TemporaryDirectory() as folder:
            encoder = opened(setting, model.write(Path(folder) / "model"), "bfloat16", cuda_graphs=False)
        texts = ["a short text"] * 2 if options.dry else draw_texts(SETS["ragged"], [1])[:160]
        how: FloatOptions = {"normalize_embeddings": True, "on_truncate": "ignore"}
        encoder.encode(texts, **how)
        kinds = [ProfilerActivity.CPU, *([] if options.dry else [ProfilerActivity.CUDA])]
        with profile(activities=kinds) as seen:
            encoder.encode(texts, **how)
        events = seen.key_averages()
        name = "self_cpu_time_total" if options.dry else "self_device_time_total"
        rows = sorted(events, key=lambda event: -getattr(event, name))[:40]
        print(f"{model.name}: microseconds, calls, kernel")
        for event in rows:
            spent = getattr(event, name)
            print(f"{spent:12.0f} {event.count:6d}  {event.key[:100]}")
            line = {"model": model.name, "kernel": event.key, "calls": event.count, "microseconds": spent}
            add_line(options.json, line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
