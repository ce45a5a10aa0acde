"""What a new process costs: time to import, time to the first embedding, peak memory; each against its limit.

    python -m bench.models.bench_startup [--model FOLDER] [--full] [--json FILE]

Every figure is the median over fresh processes, files in the page cache, from the start of the interpreter on: nothing
is subtracted. sentence-transformers does the same where it is installed.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from typing import Final

from ..case import OURS, Setting
from ..command import new_report, run_command
from ..results import Entry, Report, Result
from ..table import result_text
from ..timing import Spread
from ..watch import Watch

BUDGET: Final = 25  # seconds of the short form, about
SHORT_PROCESSES: Final = 3
MAX_IMPORT: Final = 0.150  # seconds
MAX_FIRST_EMBEDDING: Final = 0.7  # seconds
MAX_MEMORY: Final = 350.0  # MB of 1e6 bytes

NO_TORCH: Final = "import sys; assert 'torch' not in sys.modules, 'torch was imported'"
IMPORT: Final = f"import longspan; {NO_TORCH}"
IMPORT_ENCODER: Final = f"from longspan import Encoder; {NO_TORCH}"
# Prints as soon as the vector is there; the parent stops the clock when it reads the line.
PEAK: Final = """
try:  # VmHWM is this program's own; ru_maxrss of a process that was forked off begins with its parent's
    with open("/proc/self/status") as status:
        print(next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM")))
except FileNotFoundError:
    import resource
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""
EMBED: Final = f"""
import sys
from longspan import Encoder
vector = Encoder(sys.argv[1]).encode("The first text of a new process.")
print(len(vector), flush=True)
{NO_TORCH}
{PEAK}
"""
PEER: Final = "sentence-transformers"
EMBED_PEER: Final = f"""
import sys
from sentence_transformers import SentenceTransformer
model = SentenceTransformer(sys.argv[1], device="cpu")
vector = model.encode("The first text of a new process.", show_progress_bar=False)
print(len(vector), flush=True)
{PEAK}
"""


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


def first_embedding(model: str, code: str = EMBED) -> tuple[float, float]:
    """Seconds from the start of a process to its first vector, and its peak memory in MB. Raises: RuntimeError."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", code, model], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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


def run(setting: Setting) -> Report:
    """The kinds of process take turns, and one of each warms the page cache unmeasured. Raises: OSError, one failed."""
    from .encoding import model_folder

    watch = Watch.now()
    folder = str(model_folder(setting.model))
    peers = setting.peers is None or PEER in setting.peers
    firsts = {OURS: EMBED}
    if peers and importlib.util.find_spec("sentence_transformers") is not None:
        firsts[PEER] = EMBED_PEER
    processes = min(setting.rounds, SHORT_PROCESSES) if setting.is_short else setting.rounds
    codes = {"python": "pass", "import longspan": IMPORT, "import Encoder": IMPORT_ENCODER}
    seconds: dict[str, list[float]] = {name: [] for name in codes}
    embeds: dict[str, list[tuple[float, float]]] = {name: [] for name in firsts}
    try:
        for number in range(processes + 1):
            took = {name: seconds_of(code) for name, code in codes.items()}
            first = {name: first_embedding(folder, code) for name, code in firsts.items()}
            if number > 0:
                for name in codes:
                    seconds[name].append(took[name])
                for name in firsts:
                    embeds[name].append(first[name])
    except RuntimeError as error:
        raise OSError(str(error)) from None
    entries: list[tuple[str, tuple[Entry, ...]]] = [
        (name, (figure(OURS, each, "s", MAX_IMPORT if "longspan" in name else None),)) for name, each in seconds.items()
    ]
    for what, place, unit, limit in (
        ("new process to first embedding", 0, "s", MAX_FIRST_EMBEDDING),
        ("peak memory of that process", 1, "MB", MAX_MEMORY),
    ):
        figures = [
            figure(name, [each[place] for each in pairs], unit, limit if name == OURS else None)
            for name, pairs in embeds.items()
        ]
        entries.append((what, tuple(figures)))
    results = tuple(Result("startup", {"figure": name}, each) for name, each in entries)
    for result in results:
        print(result_text(result), flush=True)
    return new_report(results, setting, watch)


def figure(contestant: str, values: list[float], unit: str, limit: float | None = None) -> Entry:
    """A measured cost and the most that it may be."""
    return Entry(contestant, "float32", unit, Spread.of(values), tuple(values), limit=limit)


def _last_line(errors: str, returncode: int) -> str:
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"a process ended with exit code {returncode} and said nothing"


if __name__ == "__main__":
    sys.exit(run_command("bench.models.bench_startup", __doc__, run))
