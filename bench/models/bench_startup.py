"""What a new process costs: time to import, time to the first embedding, peak memory; each against its limit.

    python -m bench.models.bench_startup --model FOLDER

Every figure is the median over fresh processes, files in the page cache, from the start of the interpreter on: nothing
is subtracted. This module itself imports nothing heavy: on Linux a process that is forked off starts with the peak
memory of its parent.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_IMPORT: Final = 0.150  # seconds
MAX_FIRST_EMBEDDING: Final = 0.7  # seconds
MAX_MEMORY: Final = 350.0  # MB of 1e6 bytes

NO_TORCH: Final = "import sys; assert 'torch' not in sys.modules, 'torch was imported'"
IMPORT: Final = f"import longspan; {NO_TORCH}"
IMPORT_ENCODER: Final = f"from longspan import Encoder; {NO_TORCH}"
# Prints as soon as the vector is there; the parent stops the clock when it reads the line.
EMBED: Final = f"""
import sys
from longspan import Encoder
vector = Encoder(sys.argv[1]).encode("The first text of a new process.")
print(len(vector), flush=True)
{NO_TORCH}
try:  # VmHWM is this program's own; ru_maxrss of a process that was forked off begins with its parent's
    with open("/proc/self/status") as status:
        print(next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM")))
except FileNotFoundError:
    import resource
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""
FIND_MODEL: Final = "from longspan.demo import find_demo_model; print(find_demo_model())"
WHERE: Final = "import longspan; print(longspan.__version__, longspan.__file__)"


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured cost and the most that it may be."""

    name: str
    values: tuple[float, ...]
    unit: str
    limit: float | None = None

    @property
    def median(self) -> float:
        """Over the processes."""
        return statistics.median(self.values)

    @property
    def is_kept(self) -> bool:
        """Whether the median is below the limit, if there is one."""
        return self.limit is None or self.median < self.limit

    def text(self) -> str:
        """A line of the table."""
        digits = 0 if self.unit == "MB" else 3
        spread = f"({min(self.values):.{digits}f} .. {max(self.values):.{digits}f})"
        against = "" if self.limit is None else f"limit {self.limit:g}: {'kept' if self.is_kept else 'BROKEN'}"
        return f"{self.name:<40}{self.median:>8.{digits}f} {self.unit:<3}{spread:<20}{against}".rstrip()


def run_python(code: str, *arguments: str) -> str:
    """Output of a fresh interpreter. Raises: RuntimeError, it failed; with the last line that it wrote."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(_last_line(done.stderr, done.returncode))
    return done.stdout.strip()


def seconds_of(code: str) -> float:
    """Wall time of a fresh interpreter, from its start to its end."""
    started = time.perf_counter()
    run_python(code)
    return time.perf_counter() - started


def first_embedding(model: str) -> tuple[float, float]:
    """Seconds from the start of a process to its first vector, and its peak memory in MB. Raises: RuntimeError."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", EMBED, model], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        seconds = time.perf_counter() - started
        # Not communicate(): it would miss what readline() has read ahead.
        rest, errors = process.stdout.read(), process.stderr.read()
    if process.returncode != 0 or not first:
        raise RuntimeError(_last_line(errors, process.returncode))
    return seconds, int(rest) / 1e6


def measure(model: str, num_processes: int) -> list[Figure]:
    """All figures. The kinds of process take turns, and one of each warms the page cache unmeasured."""
    codes: Mapping[str, str] = {"pass": "pass", "import": IMPORT, "encoder": IMPORT_ENCODER}
    seconds: dict[str, list[float]] = {name: [] for name in codes}
    firsts: list[tuple[float, float]] = []
    for number in range(num_processes + 1):
        for name, code in codes.items():
            took = seconds_of(code)
            if number > 0:
                seconds[name].append(took)
        first = first_embedding(model)
        if number > 0:
            firsts.append(first)
    return [
        Figure("python -c pass", tuple(seconds["pass"]), "s"),
        Figure("import longspan", tuple(seconds["import"]), "s", MAX_IMPORT),
        Figure("from longspan import Encoder", tuple(seconds["encoder"]), "s"),
        Figure("new process to first embedding", tuple(first for first, _ in firsts), "s", MAX_FIRST_EMBEDDING),
        Figure("peak memory of that process", tuple(memory for _, memory in firsts), "MB", MAX_MEMORY),
    ]


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0; 1 where a limit is broken or a process failed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.models.bench_startup", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--model", help="a folder or a Hugging Face id; the installed MiniLM weights if not given")
    parser.add_argument("--processes", type=int, default=7, help="fresh processes of each kind (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    options = parser.parse_args(argv)
    load = os.getloadavg()[0]
    try:
        print(f"longspan {run_python(WHERE)}, load {load:.2f}; median of {options.processes} processes (least .. most)")
        model = options.model or run_python(FIND_MODEL)
        figures = measure(model, options.processes)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for figure in figures:
        print(figure.text())
    if options.json is not None:
        from bench.record import model_name, write_json

        rows = [
            {"name": figure.name, "unit": figure.unit, "values": list(figure.values), "limit": figure.limit}
            for figure in figures
        ]
        write_json(options.json, "models.startup", {"model": model_name(model), "figures": rows})
    return 0 if all(figure.is_kept for figure in figures) else 1


def _last_line(errors: str, returncode: int) -> str:
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"a process ended with exit code {returncode} and said nothing"


if __name__ == "__main__":
    sys.exit(main())
