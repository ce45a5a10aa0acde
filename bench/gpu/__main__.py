"""Every GPU kernel beside its peers, in one table; needs a CUDA device, and takes some minutes.

    python -m bench.gpu [--only attention] [--json FILE]
    python -m bench.gpu --dry           tiny sizes in Triton's interpreter: tries the plumbing, gives no figures

Each contestant is held against a result in f32 first. Then all take turns, each call with a cold L2 cache, timed by
events on the device: median and (p20 .. p80). Rates count the operation's own FLOPs or bytes, no matter what a
contestant does for it. FlexAttention is compiled; SDPA runs each backend that torch has.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Final

from bench.record import write_json

# The parts in their order, and how many seconds are meant for each, compiling included: with the build, all of it fits
# eight minutes. What one leaves over the later ones have; a case that would begin too late is left out.
PARTS: Final = {"streams": 20, "codes": 45, "late_interaction": 25, "adapters": 30, "attention": 95, "encode": 145}


def about(device: str) -> dict[str, object]:
    """Device, driver, versions and commit."""
    import torch

    facts: dict[str, object] = {"versions": {name: metadata.version(name) for name in ("torch", "triton")}}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    facts["commit"] = commit or os.environ.get("LONGSPAN_COMMIT", "unknown")
    if device == "cuda":
        query = [
            "nvidia-smi",
            "--query-gpu=name,driver_version,clocks.sm,clocks.mem,memory.total",
            "--format=csv,noheader",
        ]
        try:
            facts["nvidia-smi"] = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError) as error:
            facts["nvidia-smi"] = f"not to be had: {error}"
        properties = torch.cuda.get_device_properties(0)
        facts["device"] = {"name": properties.name, "multiprocessors": properties.multi_processor_count}
        facts["device"] |= {"capability": f"{properties.major}.{properties.minor}", "cuda": torch.version.cuda}
    return facts


def command_of(argv: list[str] | None, file: Path | None) -> str:
    """What was called, without a path of the machine."""
    given = " ".join(sys.argv[1:] if argv is None else argv)
    return f"python -m bench.gpu {given if file is None else given.replace(str(file), file.name)}"


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0; 1 where one of our results is wrong or a part cannot run; 2 without a device."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--dry", action="store_true", help="tiny sizes in Triton's interpreter, no figures")
    parser.add_argument("--slower", type=float, default=1.0, metavar="X", help="X times the time for each part (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(argv)
    if options.dry:
        os.environ["TRITON_INTERPRET"] = "1"
    try:
        import torch
    except ImportError as error:
        print(f"error: {error}; the GPU benches need torch and triton", file=sys.stderr)
        return 2
    if not options.dry and not torch.cuda.is_available():
        print("error: no CUDA device; --dry tries the plumbing without one", file=sys.stderr)
        return 2
    from bench.gpu import adapters, attention, codes, encode, late_interaction, streams
    from bench.gpu.clock import OutOfTimeError
    from bench.gpu.contest import Row, Setting

    torch.manual_seed(0)
    setting = Setting("cpu" if options.dry else "cuda", options.dry)
    facts = about(setting.device)
    print(facts)
    modules = (streams, codes, late_interaction, adapters, attention, encode)
    parts = {module.__name__.rpartition(".")[2]: module for module in modules}
    rows: list[Row] = []
    failed: list[str] = []
    left_out: dict[str, str] = {}
    command = command_of(argv, options.json)

    def record(is_whole: bool) -> None:
        """What there is by now into the file, so that a run that is stopped loses nothing."""
        if options.json is not None:
            body = {"command": command, **facts, "whole": is_whole, "failed": failed, "left_out": left_out}
            write_json(options.json, "gpu", {**body, "rows": [asdict(row) for row in rows]})

    until = time.monotonic()
    print(f"{'case':<44} {'contestant':<26} {'ms (p20 .. p80)':>24} {'rate':>17}{'error':>9} {'we are':>7}  target")
    for name in [options.only] if options.only else PARTS:
        until += options.slower * PARTS[name]
        try:
            for row in parts[name].rows(replace(setting, until=until)):
                rows.append(row)
                print(row.text(), flush=True)
                record(False)
        except OutOfTimeError as case:
            left_out[name] = f"{case} and what follows it"
            print(f"{name}: out of time before {case}; --slower 3 gives each part three times as long", file=sys.stderr)
        except Exception as error:  # one part that breaks must not cost the others their figures
            failed.append(name)
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
    record(True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
