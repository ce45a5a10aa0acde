"""What `longspan embed` is asked for, checked as far as it can be before a model is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longspan.cli.failures import CommandError
from longspan.cli.inputs import STDIN, Format, Input, find_inputs
from longspan.cli.parquet import require_parquet
from longspan.cli.precision import needs_ranges
from longspan.cli.writers import STDOUT, OutputFormat, check_target, output_format
from longspan.quantize import Precision

OWN_COLUMNS = ("index", "embedding")


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """What `longspan embed` was asked for; each field is an option of that name."""

    model: str
    inputs: tuple[str, ...]
    output: str
    format: Format | None
    field: str
    whole_file: bool
    to: OutputFormat | None
    keep: tuple[str, ...]
    role: Literal["query", "document"] | None
    task: str | None
    prompt_name: str | None
    prompt: str | None
    truncate_dim: int | None
    normalize: bool | None
    precision: Precision
    calibration: str | None
    max_length: int | None
    on_truncate: Literal["warn", "error", "ignore"]
    batch_tokens: int | None
    limit: int | None
    skip_bad: bool
    force: bool
    resume: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A request whose inputs and output have been looked at: what can fail early has not."""

    request: EmbedRequest
    inputs: tuple[Input, ...]
    target: Path | None  # None: standard output
    to: OutputFormat


def make_plan(request: EmbedRequest, *, as_json: bool = False) -> Plan:
    """Check inputs, output and the options' sense together, before the model is loaded.

    Raises: CommandError, FileNotFoundError.
    """
    inputs = find_inputs(request.inputs, format=request.format, whole_file=request.whole_file)
    to = output_format(request.output, request.to)
    _check_options(request, to, as_json=as_json)
    if "parquet" in (to, *(source.format for source in inputs)):
        require_parquet()
    if request.output == STDOUT:
        return Plan(request, tuple(inputs), None, to)
    target = check_target(request.output, force=request.force)
    for source in inputs:
        if source.path is not None and os.path.realpath(source.path) == str(target):
            raise CommandError(f"{request.output} is an input too; name another output")
    return Plan(request, tuple(inputs), target, to)


def _check_options(request: EmbedRequest, to: OutputFormat, *, as_json: bool) -> None:
    """Raise CommandError for the first thing that options ask for together and that cannot be."""
    is_stdout, is_ranged = request.output == STDOUT, needs_ranges(request.precision)
    own = next((name for name in OWN_COLUMNS if name in request.keep), None)
    conflicts = {
        f"--whole-file reads plain text, not {request.format}": request.whole_file
        and request.format not in (None, "text"),
        "--keep needs a .jsonl or .parquet output; a .npy file holds vectors only": request.keep and to == "npy",
        f"--keep {own}: the output has a column of that name already": own,
        f"--calibration is for --precision int8 and uint8, not {request.precision}": request.calibration
        and not is_ranged,
        "--json prints its summary where the vectors go with -o -; name an output file": is_stdout and as_json,
        "--resume needs an output file; standard output cannot be written to again": is_stdout and request.resume,
        f"{request.precision} to standard output needs --calibration, as all vectors set the ranges": (
            is_stdout and is_ranged and not request.calibration
        ),
        "--resume needs input files; standard input cannot be read again": request.resume and STDIN in request.inputs,
    }
    for sentence, holds in conflicts.items():
        if holds:
            raise CommandError(sentence)
    if request.calibration and not Path(request.calibration).is_file():
        raise FileNotFoundError(f"--calibration: {request.calibration}: no such file")
