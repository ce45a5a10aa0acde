"""Peak memory beside the loaded weights: long texts, very long documents; each case in a fresh process.

    python -m bench.models.bench_memory [--full] [--json FILE]

Measured is the most that the process ever held during one call (VmHWM), less what it held when the model was loaded
(VmRSS): activations, what tokenizing needs, results, and the rows of the embedding table that the call touched. Shapes:
jina-embeddings-v2-base and a small decoder, both with random weights that are written to a temporary folder, and
all-MiniLM-L6-v2. The full form adds 100,000 tokens through v2-base, which takes minutes, and loading
jina-embeddings-v5-omni-small in its published shape (3.4 GB are written): the most that a process held from its start
until the model was there, in bfloat16, over the bytes of the tensors that it loads, with and without the towers. Linux
only.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

import numpy as np

from ..case import OURS, Setting
from ..command import new_report, run_command
from ..results import Entry, Report, Result
from ..run import child_environment
from ..table import result_text
from ..timing import Spread
from ..watch import Watch
from .encoding import model_folder
from .random_checkpoints import SHAPES
from .random_omni import TASKS, adapter_shapes, audio_shapes, bytes_of, text_shapes, vision_shapes, write_omni_small
from .texts import long_document

BUDGET: Final = 32  # seconds of the short form, about
MODULE: Final = f"{__package__}.bench_memory"
CHILD: Final = "--child"  # the module's first argument in the fresh processes
LOAD: Final = "--load"  # and in those that load alone
Call = Literal["encode_ids", "encode_chunks"]

# Of the lengths that show growth: the dearest token may cost so many times the cheapest. What grows with the square of
# the length costs four times as much between the two longest as between the two shortest.
MAX_UNEVENNESS: Final = 1.5
LENGTHS: Final = (4096, 8192, 16384, 32768)


@dataclass(frozen=True, slots=True)
class Case:
    """One call on one text.

    Attributes:
        model: a name in SHAPES, or "MiniLM".
        call: "encode_ids", one text of random ids; or "encode_chunks", one document of real text.
        tokens: of the text; a few more with encode_chunks.
        limit: MB of 1e6 bytes; None where growth is what counts.
    """

    model: str
    call: Call
    tokens: int
    limit: float | None = None


CASES: Final = (
    Case("v2-base", "encode_ids", 8192, 400),
    *(Case("small decoder", "encode_ids", length) for length in LENGTHS),
    Case("MiniLM", "encode_chunks", 100_000, 300),
)
LONG_CASES: Final = (Case("v2-base", "encode_chunks", 100_000, 300),)
LOADED: Final[tuple[tuple[str, ...], ...]] = (("text", "image", "audio", "video"), ("text",))
MOST_LOADED: Final = 1.15  # times the tensors' bytes


@dataclass(frozen=True, slots=True)
class Peak:
    """What a case took."""

    case: Case
    bytes: int


def measure(folder: Path | str, case: Case) -> Peak:
    """The case in a process of its own. Raises: CalledProcessError, it failed."""
    command = [sys.executable, "-m", MODULE, CHILD, str(folder), case.call, str(case.tokens)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=child_environment())
    return Peak(case, int(done.stdout))


def child(folder: str, call: str, tokens: int) -> None:
    """What the fresh process does; prints the bytes."""
    from longspan import Encoder

    encoder = Encoder(folder)
    ids = np.random.default_rng(tokens).integers(5, encoder.tokenizer.vocab_size, tokens)
    document = long_document(encoder, tokens) if call == "encode_chunks" else ""
    forget_peak()
    before = memory("VmRSS")
    if call == "encode_chunks":
        chunks = encoder.encode_chunks(document)
        assert not isinstance(chunks, list)
        found = chunks.embeddings
    else:
        found = np.asarray(encoder.encode_ids([ids]))
    peak = memory("VmHWM")
    assert np.isfinite(found).all()
    print(peak - before)


def load(folder: str, modalities: str) -> None:
    """What the fresh process does that loads alone; prints the bytes."""
    from longspan import Encoder

    encoder = Encoder(folder, dtype="bfloat16", modalities=modalities.split(","))
    assert encoder.modalities == tuple(modalities.split(","))
    print(memory("VmHWM"))


def loaded(folder: Path, modalities: tuple[str, ...]) -> Result:
    """What loading takes beside what it loads. Raises: CalledProcessError, it failed."""
    command = [sys.executable, "-m", MODULE, LOAD, str(folder), ",".join(modalities)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=child_environment())
    shapes = text_shapes() if modalities == ("text",) else {**text_shapes(), **vision_shapes(), **audio_shapes()}
    times = int(done.stdout) / (bytes_of(shapes) + len(TASKS) * bytes_of(adapter_shapes()))
    entry = Entry(OURS, "bfloat16", "times", Spread.of([times]), (times,), limit=MOST_LOADED)
    return Result("memory", {"model": "v5-omni-small", "loaded": " ".join(modalities)}, (entry,))


def forget_peak() -> None:
    """Let VmHWM start again from what the process holds now: loading a model takes more than running it."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(field: str) -> int:
    """Bytes: "VmRSS", what the process holds; "VmHWM", the most that it held since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def free_memory() -> float:
    """Bytes that a process may still take; infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return next((int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable:")), math.inf)


def growth(peaks: Sequence[Peak]) -> list[float]:
    """Bytes that a token more costs, between each length and the next."""
    return [(b.bytes - a.bytes) / (b.case.tokens - a.case.tokens) for a, b in pairwise(peaks)]


def run(setting: Setting) -> Report:
    """The cases; a checkpoint is there only while it is needed. Raises: OSError, a process failed."""
    watch = Watch.now()
    peaks: list[Peak] = []
    cases = CASES if setting.is_short else (*CASES, *LONG_CASES)
    results: list[Result] = []
    for model in dict.fromkeys(case.model for case in cases):
        with tempfile.TemporaryDirectory() as scratch:
            folder = SHAPES[model](Path(scratch) / "model") if model in SHAPES else model_folder(setting.model)
            for case in cases:
                if case.model == model:
                    peaks.append(measure(folder, case))
                    results.append(result_of(peaks[-1]))
                    print(result_text(results[-1]), flush=True)
    if not setting.is_short:
        with tempfile.TemporaryDirectory() as scratch:
            folder = write_omni_small(Path(scratch) / "model")
            for modalities in LOADED:
                results.append(loaded(folder, modalities))
                print(result_text(results[-1]), flush=True)
    costs = growth([peak for peak in peaks if peak.case.model == "small decoder"])
    results.append(evenness(costs))
    print(result_text(results[-1]))
    return new_report(tuple(results), setting, watch)


def result_of(peak: Peak) -> Result:
    """A case's record."""
    megabytes, case = peak.bytes * 1e-6, peak.case
    entry = Entry(OURS, "float32", "MB", Spread.of([megabytes]), (megabytes,), limit=case.limit)
    plot = "tokens" if case.model == "small decoder" else None
    return Result("memory", {"model": case.model, "call": case.call, "tokens": case.tokens}, (entry,), plot=plot)


def evenness(costs: Sequence[float]) -> Result:
    """How many times as much the dearest token costs as the cheapest; its limit tells growth with the square."""
    if min(costs) <= 0:
        entry = Entry(OURS, "float32", "times", refused="a longer text took less memory: something else was measured")
    else:
        uneven = max(costs) / min(costs)
        entry = Entry(OURS, "float32", "times", Spread.of([uneven]), (uneven,), limit=MAX_UNEVENNESS)
    return Result("memory", {"growth": "small decoder, dearest token over cheapest"}, (entry,))


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    elif sys.argv[1:2] == [LOAD]:
        load(sys.argv[2], sys.argv[3])
    else:
        sys.exit(run_command("bench.models.bench_memory", __doc__, run))
