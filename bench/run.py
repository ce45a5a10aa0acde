"""Runs the benches under bench/ops and bench/models, each in a process of its own, in its short form.

python -m bench.run            all of them
python -m bench.run linear     those whose name holds "linear"
python -m bench.run --list     what there is
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent
FOLDERS: Final = ("ops", "models")
PREFIX: Final = "bench_"


@dataclass(frozen=True, slots=True)
class Bench:
    """A module that can be run: `python -m <module>` is its short form."""

    module: str
    what: str  # first line of its docstring

    @property
    def name(self) -> str:
        """Such as "linear"."""
        return self.module.rpartition(".")[2].removeprefix(PREFIX)


def find_benches(root: Path = ROOT) -> list[Bench]:
    """Every bench_*.py below `root`, ops before models, by name; none is imported."""
    benches: list[Bench] = []
    for folder in FOLDERS:
        for path in sorted((root / folder).glob(f"{PREFIX}*.py")):
            says = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            benches.append(Bench(f"{root.name}.{folder}.{path.stem}", says.partition("\n")[0]))
    return benches


def select(benches: list[Bench], wanted: str | None) -> list[Bench]:
    """The bench of that name; else those whose name holds it. Raises: ValueError, there is none, with what there is."""
    if wanted is None:
        return benches
    exact = [bench for bench in benches if bench.name == wanted]
    found = exact or [bench for bench in benches if wanted in bench.name]
    if not found:
        raise ValueError(f"no bench is called {wanted!r}; there are {', '.join(bench.name for bench in benches)}")
    return found


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0, or 1 where a bench failed, 2 where none has the name."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__.partition("\n")[0])
    parser.add_argument("name", nargs="?", metavar="OP", help="a bench, or part of its name; all if not given")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    options = parser.parse_args(argv)
    try:
        benches = select(find_benches(), options.name)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.list:
        for bench in benches:
            print(f"{bench.name:<20} {bench.what}")
        return 0
    failed = [bench.name for bench in benches if not _run(bench)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _run(bench: Bench) -> bool:
    print(f"== {bench.name}: {bench.what}", flush=True)
    # A process of its own: what one bench imports (torch's threads, say) is not in the way of the next.
    done = subprocess.run([sys.executable, "-m", bench.module], cwd=ROOT.parent, check=False)
    print(flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
