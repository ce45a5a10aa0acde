"""What the quality commands share: their common options, the model they load, and how they end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.encoders import RUNTIMES, Runtime
from bench.quality.baselines import Baseline, find_baseline
from bench.quality.report import Result, verdict
from bench.record import model_name, write_json


@dataclass(frozen=True, slots=True)
class Session:
    """A loaded model and what is known of it."""

    runtime: Runtime
    baseline: Baseline | None

    @classmethod
    def open(cls, options: argparse.Namespace) -> Session:
        """Loads what the common options name.

        Raises: FileNotFoundError, ValueError, ImportError: there is no such data folder, model, baseline or runtime.
        """
        from longspan.checkpoint import hub

        if not options.data.is_dir():
            raise FileNotFoundError(f"there is no data folder {options.data}")
        model: str = options.model
        folder = hub.resolve(model, revision=None, token=None, cache_dir=None, local_files_only=False)
        baseline = find_baseline(folder, options.baseline)
        runtime = RUNTIMES[options.backend](model, options.threads)
        print(f"{runtime.name}; baseline: {baseline.model if baseline else 'none is known for these weights'}")
        return cls(runtime, baseline)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Data, model, runtime, baseline and output."""
    parser.add_argument("data", type=Path, metavar="DATA_FOLDER", help="the folder that holds scifact, stsb, ...")
    parser.add_argument("--model", required=True, help="a local folder, or a Hugging Face id")
    parser.add_argument("--backend", choices=RUNTIMES, default="longspan", help="what runs the model (%(default)s)")
    parser.add_argument("--threads", type=int, help="threads to use; all that the machine grants if not given")
    parser.add_argument("--baseline", metavar="NAME", help="compare with this model; found by the weights if not given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")


def finish(bench: str, options: argparse.Namespace, session: Session, results: Sequence[Result]) -> int:
    """Prints the verdict, writes the JSON file if one is wanted. Returns: 0, or 1 where a figure is off."""
    sentence, is_good = verdict(results)
    print(sentence)
    if options.json is not None:
        body = {
            "model": model_name(options.model),
            "runtime": session.runtime.name,
            "baseline": session.baseline.model if session.baseline else None,
            "results": [result.as_json() for result in results],
        }
        write_json(options.json, bench, body)
    return 0 if is_good else 1


def run_command(work: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """`work`, with what a user can mend said in one sentence. Returns: its exit code, or 2."""
    try:
        return work(options)
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
