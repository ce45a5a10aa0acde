"""Peak memory beside the loaded weights: long texts, very long documents; each case in a fresh process.

    python -m bench.models.bench_memory [--long] [--json FILE]

Measured is the most that the process ever held during one call (VmHWM), less what it held when the model was loaded
(VmRSS): activations, what tokenizing needs, results, and the rows of the embedding table that the call touched. Shapes:
jina-embeddings-v2-base and a small decoder, both with random weights that are written to a temporary folder, and
all-MiniLM-L6-v2. `--long` adds 100,000 tokens through v2-base, which takes minutes. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

import numpy as np

from bench.models.random_checkpoints import SHAPES
from bench.models.texts import long_document
from bench.record import write_json

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


@dataclass(frozen=True, slots=True)
class Peak:
    """What a case took."""

    case: Case
    bytes: int

    @property
    def is_kept(self) -> bool:
        """Whether it is below its limit, if it has one."""
        return self.case.limit is None or self.bytes * 1e-6 < self.case.limit

    def text(self) -> str:
        """A line of the table."""
        limit = "" if self.case.limit is None else f"limit {self.case.limit:g}: {'kept' if self.is_kept else 'BROKEN'}"
        what = f"{self.case.model:<14}{self.case.call:<14}{self.case.tokens:>8,} tokens"
        return f"{what}{self.bytes * 1e-6:>8.1f} MB  {limit}".rstrip()


def measure(folder: Path | str, case: Case) -> Peak:
    """The case in a process of its own. Raises: CalledProcessError, it failed."""
    command = [sys.executable, "-m", "bench.models.bench_memory", "--child", str(folder), case.call, str(case.tokens)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
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
        found = encoder.encode_chunks(document).embeddings
    else:
        found = np.asarray(encoder.encode_ids([ids]))
    peak = memory("VmHWM")
    assert np.isfinite(found).all()
    print(peak - before)


def forget_peak() -> None:
    """Let VmHWM start again from what the process holds now: loading a model takes more than running it."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(field: str) -> int:
    """Bytes: "VmRSS", what the process holds; "VmHWM", the most that it held since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def growth(peaks: Sequence[Peak]) -> list[float]:
    """Bytes that a token more costs, between each length and the next."""
    return [(b.bytes - a.bytes) / (b.case.tokens - a.case.tokens) for a, b in pairwise(peaks)]


def is_linear(costs: Sequence[float]) -> bool:
    """Whether a token costs about the same at every length."""
    return min(costs) > 0 and max(costs) <= MAX_UNEVENNESS * min(costs)


def run(cases: Sequence[Case], minilm: str | None) -> list[Peak]:
    """Measures the cases, a line each; a checkpoint is there only while it is needed."""
    peaks: list[Peak] = []
    for model in dict.fromkeys(case.model for case in cases):
        with tempfile.TemporaryDirectory() as scratch:
            folder = SHAPES[model](Path(scratch) / "model") if model in SHAPES else _minilm(minilm)
            for case in cases:
                if case.model == model:
                    peaks.append(measure(folder, case))
                    print(peaks[-1].text(), flush=True)
    return peaks


def _minilm(model: str | None) -> str:
    from longspan.demo import find_demo_model

    return model or str(find_demo_model())


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0, or 1 where a limit is broken."""
    parser = argparse.ArgumentParser(prog="python -m bench.models.bench_memory", description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="where all-MiniLM-L6-v2 is; the installed weights if not given")
    parser.add_argument("--long", action="store_true", help="100,000 tokens through v2-base, too; takes minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        folder, call, tokens = options.child
        child(folder, call, int(tokens))
        return 0
    peaks = run((*CASES, *LONG_CASES) if options.long else CASES, options.model)
    costs = growth([peak for peak in peaks if peak.case.model == "small decoder"])
    shown = ", ".join(f"{cost:,.0f}" for cost in costs)
    verdict = "even" if is_linear(costs) else "NOT EVEN"
    print(f"small decoder: bytes a token more, length by length: {shown}; {verdict} within {MAX_UNEVENNESS:g} times")
    if options.json is not None:
        rows = [
            {"model": one.case.model, "call": one.case.call, "tokens": one.case.tokens, "bytes": one.bytes}
            | {"limit_mb": one.case.limit}
            for one in peaks
        ]
        write_json(options.json, "models.memory", {"peaks": rows, "bytes_a_token_more": costs})
    return 0 if all(peak.is_kept for peak in peaks) and is_linear(costs) else 1


if __name__ == "__main__":
    sys.exit(main())
