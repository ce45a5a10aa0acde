"""Every GPU kernel beside its peers, in one table; needs a CUDA device, and takes some minutes.

    python -m bench.gpu [--only attention] [--json FILE]
    python -m bench.gpu --dry           tiny sizes in Triton's interpreter: tries the plumbing, gives no figures
    longspan bench report FILE          the page; `longspan bench compare` reads these files, too

Each contestant is held against a result in f32 first; its error is |out - truth| / |truth|. Then all take turns, each
call with a cold L2 cache, timed by events on the device. Rates count the operation's own FLOPs or bytes, no matter what
a contestant does for it; shares are of the rate of torch's matrix products and of a plain copy, measured in the same
run. FlexAttention is compiled; SDPA runs each backend that torch has.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.command import failures, new_report
from bench.contest import with_shares
from bench.results import Report, write_report
from bench.table import report_end, result_text
from bench.watch import Watch

if TYPE_CHECKING:
    from bench.gpu.contest import Setting

ASKED: Final = ("driver_version", "clocks.sm", "clocks.mem", "memory.total", "power.limit")
# The parts in their order, and how many seconds are meant for each, compiling included: with the build, all of it fits
# eight minutes. What one leaves over the later ones have; a case that would begin too late is left out.
PARTS: Final = {"streams": 20, "codes": 45, "late_interaction": 25, "adapters": 30, "attention": 95, "encode": 145}


def about(device: str) -> dict[str, object]:
    """Device, driver, clocks and versions."""
    import torch

    facts: dict[str, object] = {name: metadata.version(name) for name in ("torch", "triton")}
    if device != "cuda":
        return {**facts, "gpu": "none, in Triton's interpreter"}
    properties = torch.cuda.get_device_properties(0)
    facts |= {"gpu": properties.name, "multiprocessors": properties.multi_processor_count, "cuda": torch.version.cuda}
    facts["capability"] = f"{properties.major}.{properties.minor}"
    query = ["nvidia-smi", f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0].split(", ")
        return facts | {f"gpu {name}": value for name, value in zip(ASKED, said, strict=True)}
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError) as error:
        return {**facts, "gpu clocks": f"not to be had: {error}"}


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
    from bench.gpu.contest import Setting

    torch.manual_seed(0)
    setting = Setting("cpu" if options.dry else "cuda", options.dry)
    facts = about(setting.device)
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    return measure(options, setting, facts, " ".join(sys.argv[1:] if argv is None else argv))


def measure(options: argparse.Namespace, setting: Setting, facts: Mapping[str, object], given: str) -> int:
    """All parts, or the one of the options. Returns: the command's status."""
    from bench.gpu import adapters, attention, codes, encode, late_interaction, streams
    from bench.gpu.ceilings import gpu_meter
    from bench.gpu.clock import OutOfTimeError
    from bench.gpu.contest import Row

    modules = (streams, codes, late_interaction, adapters, attention, encode)
    parts = {module.__name__.rpartition(".")[2]: module for module in modules}
    rows: list[Row] = []
    failed: list[str] = []
    absent: dict[str, str] = {}
    meter, watch = gpu_meter(setting), Watch.now()
    if options.json is not None:
        given = given.replace(str(options.json), options.json.name)
    form = {"form": "dry" if options.dry else "full", "errors": "|out - truth| / |truth|, not the largest"}

    def record() -> Report:
        """What there is by now, into the file as well, so that a run that is stopped loses nothing."""
        ceilings = meter.ceilings
        results = tuple(with_shares(row, ceilings) for row in rows)
        report = new_report(results, setting.frame, watch, ceilings=ceilings.rates, absent=absent)
        report = replace(
            report,
            machine={**report.machine, **facts, **form},
            warnings=(*report.warnings, *meter.warnings(), *(f"failed: {each}" for each in failed)),
            command=f"python -m bench.gpu {given}".rstrip(),
        )
        if options.json is not None:
            write_report(options.json, report)
        return report

    meter.take() if options.dry else meter.settle()
    until = time.monotonic()
    for name in [options.only] if options.only else PARTS:
        until += options.slower * PARTS[name]
        try:
            for row in parts[name].rows(replace(setting, until=until)):
                rows.append(row)
                print(result_text(with_shares(row, meter.ceilings)), flush=True)
                record()
            meter.take()
        except OutOfTimeError as case:
            absent[f"{name} from {case} on"] = "out of time; --slower 3 gives each part three times as long"
            print(f"{name}: out of time before {case}; --slower 3 gives each part three times as long", file=sys.stderr)
        except Exception as error:  # one part that breaks must not cost the others their figures
            failed.append(f"{name}: {type(error).__name__}: {str(error).partition(chr(10))[0][:300]}")
            print(f"failed: {failed[-1]}", file=sys.stderr)
    report = record()
    print(report_end(report))
    for problem in failures(report):
        print(f"failed: {problem}", file=sys.stderr)
    return 1 if failed or failures(report) else 0


if __name__ == "__main__":
    sys.exit(main())
