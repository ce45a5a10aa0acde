"""Every GPU kernel beside its peers, in one table; needs a CUDA device, and takes some minutes.

    python -m bench.gpu [--only attention] [--json FILE]
    python -m bench.gpu --dry           tiny sizes in Triton's interpreter: tries the plumbing, gives no figures
    longspan bench report FILE          the page; `longspan bench compare` reads these files, too

Each part is a process of its own, since a CUDA error would fail whatever its process does next; their figures are
joined in FILE, beside which each part's own grow row by row. The CUDA kernel for sm_90a has its part last.

Each contestant is held against a result in f32 first; its error is |out - truth| / |truth|. Then all take turns, each
call with a cold L2 cache, timed by events on the device. Rates count the operation's own FLOPs or bytes, no matter what
a contestant does for it; shares are of the rate of torch's matrix products and of a plain copy, measured in the same
run. FlexAttention is compiled; SDPA runs each backend that torch has.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.command import failures, new_report
from bench.contest import with_shares
from bench.meter import Meter
from bench.results import Report, Result, joined_reports, write_report
from bench.table import report_end, result_text
from bench.watch import Watch

if TYPE_CHECKING:
    from bench.gpu.contest import Setting

ASKED: Final = ("driver_version", "clocks.sm", "clocks.mem", "memory.total", "power.limit")
# The parts in their order, and how many seconds are meant for each, compiling included: with the build, all of it fits
# eight minutes. What one leaves over the later ones have; a case that would begin too late is left out.
PARTS: Final = {
    "encode": 145,
    "streams": 20,
    "products": 25,
    "codes": 45,
    "late_interaction": 25,
    "sparse": 12,
    "adapters": 30,
    "attention": 70,
    "attention_sm90": 40,
}
PATIENCE: Final = 30  # seconds beyond a part's own time, after which it hangs


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
    parser.add_argument("--lines", type=Path, metavar="FILE", help="add a line of JSON a case there, as it comes")
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
    given = sys.argv[1:] if argv is None else argv
    if options.only is None:
        return run_parts(options, given)
    from bench.gpu.contest import Setting

    torch.manual_seed(0)
    torch.set_float32_matmul_precision("highest")  # what the truths are computed in
    setting = Setting("cpu" if options.dry else "cuda", options.dry)
    facts = about(setting.device)
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    return measure(options, setting, facts, " ".join(given))


def run_parts(options: argparse.Namespace, given: Sequence[str]) -> int:
    """Each part in a process of its own, their reports joined. Returns: the worst of their statuses."""
    worst, files = 0, []
    with tempfile.TemporaryDirectory() as folder:
        base = options.json or Path(folder) / "gpu.json"
        for name in PARTS:
            file = base.with_name(f"{base.stem}.{name}.json")
            file.unlink(missing_ok=True)
            kept = without_json(given)
            command = [sys.executable, "-m", "bench.gpu", "--only", name, "--json", str(file), *kept]
            limit = None if options.dry else options.slower * PARTS[name] + PATIENCE
            status = run_limited(command, limit)
            if status != 0:
                print(f"failed: {name} ended with {status}", file=sys.stderr)
            worst = max(worst, abs(status))
            if file.exists():
                files.append(file)
        if files and options.json is not None:
            report = replace(joined_reports(files), command=f"python -m bench.gpu {' '.join(kept)}".rstrip())
            write_report(options.json, report)
    return min(worst, 1) if worst != 2 else 2


def without_json(given: Sequence[str]) -> list[str]:
    """The arguments but for --json and its file."""
    kept = list(given)
    if "--json" in kept:
        place = kept.index("--json")
        del kept[place : place + 2]
    return [each for each in kept if not each.startswith("--json=")]


def run_limited(command: Sequence[str], seconds: float | None) -> int:
    """Run a command with its children as long as that; then all of them are ended. Returns: its status, 124 if so."""
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return 124
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def measure(options: argparse.Namespace, setting: Setting, facts: Mapping[str, object], given: str) -> int:
    """The part of the options. Returns: the command's status."""
    from bench.gpu.clock import OutOfTimeError
    from bench.gpu.steps import add_line

    name: str = options.only
    part, run = importlib.import_module(f"bench.gpu.{name}"), PartRun.begin(options, setting, facts, given)
    until = time.monotonic() + options.slower * PARTS[name]
    try:
        for row in part.rows(replace(setting, until=until)):
            run.results.append(row)
            shared = with_shares(row, run.meter.ceilings)
            print(result_text(shared), flush=True)
            add_line(options.lines, asdict(shared))
            run.record()
        run.meter.take()
    except OutOfTimeError as case:
        longer = "--slower 3 gives each part three times as long"
        run.absent[f"{name} from {case} on"] = f"out of time; {longer}"
        print(f"{name}: out of time before {case}; {longer}", file=sys.stderr)
    except Exception as error:  # one part that breaks must not cost the others their figures
        run.failed.append(f"{name}: {type(error).__name__}: {str(error).partition(chr(10))[0][:300]}")
        print(f"failed: {run.failed[-1]}", file=sys.stderr)
    report = run.record()
    print(report_end(report))
    for problem in failures(report):
        print(f"failed: {problem}", file=sys.stderr)
    return 1 if run.failed or failures(report) else 0


@dataclass(slots=True)
class PartRun:
    """What there is of a part by now."""

    meter: Meter
    frame: Report  # what does not change meanwhile
    file: Path | None
    results: list[Result] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    @classmethod
    def begin(cls, options: argparse.Namespace, setting: Setting, facts: Mapping[str, object], given: str) -> PartRun:
        """With the device's ceilings read once."""
        from bench.gpu.ceilings import gpu_meter

        meter = gpu_meter(setting)
        report = new_report((), setting.frame, Watch.now())  # asks git and the packages, once
        if options.json is not None:
            given = given.replace(str(options.json), options.json.name)
        form = {"form": "dry" if options.dry else "full", "errors": "|out - truth| / |truth|, not the largest"}
        frame = replace(
            report,
            machine={**report.machine, **facts, **form},
            command=f"python -m bench.gpu {given}".rstrip(),
        )
        meter.take() if options.dry else meter.settle()
        return cls(meter, frame, options.json)

    def record(self) -> Report:
        """The report, in the file as well, so that a run that is stopped loses nothing."""
        report = replace(
            self.frame,
            results=tuple(with_shares(row, self.meter.ceilings) for row in self.results),
            ceilings=self.meter.ceilings.rates,
            absent={**self.frame.absent, **self.absent},
            warnings=(*self.frame.warnings, *self.meter.warnings(), *(f"failed: {each}" for each in self.failed)),
        )
        try:
            if self.file is not None:
                write_report(self.file, report)
        except OSError as error:  # a full disk costs the file, not what is still to be measured
            print(f"not written to {self.file}: {error}", file=sys.stderr)
        return report


if __name__ == "__main__":
    sys.exit(main())
