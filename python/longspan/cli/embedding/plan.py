"""What `longspan embed` and `longspan chunk` are asked for, checked as far as it can be before a model is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longspan.cli.console.failures import CommandError
from longspan.cli.console.streams import require_standard_output
from longspan.cli.embedding.options import reading_of
from longspan.cli.embedding.precision import needs_ranges
from longspan.cli.files.inputs import STDIN, Input, find_inputs
from longspan.cli.files.parquet import require_parquet
from longspan.cli.files.passed_over import PassedOver
from longspan.cli.files.writers import STDOUT, OutputFormat, check_target, output_format
from longspan.documents.kinds import PROSE, Format
from longspan.vectors.quantize import Precision

# Which files are one text, beside those of Markdown and the like: none, those of plain text and PDF files, or all.
Whole = Literal["none", "text", "all"]


@dataclass(frozen=True, slots=True)
class RowsRequest:
    """What a command that writes vectors was asked for; each field is an option of that name."""

    model: str
    inputs: tuple[str, ...]
    output: str
    format: Format | None
    field: str
    encoding: str | None
    delimiter: str | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    hidden: bool
    no_ignore: bool
    to: OutputFormat | None
    keep: tuple[str, ...]
    task: str | None
    prompt_name: str | None
    prompt: str | None
    truncate_dim: int | None
    normalize: bool | None
    precision: Precision
    calibration: str | None
    max_length: int | None
    batch_tokens: int | None
    limit: int | None
    skip_bad: bool
    force: bool
    resume: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """What a command reads and writes in its own way.

    Attributes:
        whole: which files are one text.
        before, after: columns of its own, before and behind those that the user keeps.
        has_file: the name of a file that is one text is kept unasked.
        takes_media: images, sounds, videos and pages of PDF files are read too.
        is_beside: a .npy output has its rows' fields in a file beside it, .jsonl.
    """

    whole: Whole
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    has_file: bool = False
    is_beside: bool = False
    takes_media: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A request whose inputs and output have been looked at: what can fail early has not.

    Attributes:
        request: what was asked for.
        inputs: what is read.
        whole: which of them are one text.
        keep: fields of a record that are kept.
        columns: fields of a row of the output, between its number and its vector.
        target: None for standard output.
        beside: where the fields go that the output cannot hold; None where it can, or shall not.
        about_in: where it is said what made a .npy output; None of another.
        to: the output's format.
        skipped_in: where the rows are told that are passed over; None where none may be, or there is no file.
        passed: what folders hold that cannot be used.
    """

    request: RowsRequest
    inputs: tuple[Input, ...]
    whole: Whole
    keep: tuple[str, ...]
    columns: tuple[str, ...]
    target: Path | None
    beside: Path | None
    about_in: Path | None
    to: OutputFormat
    passed: PassedOver
    skipped_in: Path | None = None

    def reads_whole(self, source: Input) -> bool:
        """Whether that file is one text."""
        return self.whole == "all" or (self.whole == "text" and source.format in ("text", "pdf"))


def make_plan(request: RowsRequest, layout: Layout, *, as_json: bool = False) -> Plan:
    """Check inputs, output and the options' sense together, before the model is loaded.

    Raises: CommandError, FileNotFoundError.
    """
    passed = PassedOver()
    inputs = find_inputs(
        request.inputs,
        reading=reading_of(request),
        whole_file=layout.whole == "all",
        takes_media=layout.takes_media,
        passed=passed,
    )
    if not inputs:
        said = f" ({passed.sentence()})" if passed else ""
        raise CommandError(f"there is no file to read in {', '.join(request.inputs)}{said}")
    to = output_format(request.output, request.to)
    _check_options(request, layout, to, as_json=as_json)
    if "parquet" in (to, *(source.format for source in inputs if not source.is_found)):
        require_parquet()
    one_text = {*PROSE, *(("text", "pdf") if layout.whole != "none" else ())}
    named_file = layout.has_file and any(source.format in one_text for source in inputs)
    keep = tuple(dict.fromkeys((*(("file",) if named_file else ()), *request.keep)))
    columns = (*layout.before, *keep, *layout.after)
    if request.output == STDOUT:
        require_standard_output()
        return Plan(request, tuple(inputs), layout.whole, keep, columns, None, None, None, to, passed)
    target = check_target(request.output, force=request.force)
    beside = None
    if layout.is_beside and to == "npy":
        beside = check_target(str(target.with_suffix(".jsonl")), force=request.force)
    about_in = None
    if to == "npy":
        about_in = check_target(f"{target}.json", force=request.force)
    skipped_in = check_target(f"{target}.skipped.jsonl", force=request.force) if request.skip_bad else None
    written_to = (target, beside, about_in, skipped_in)
    inputs = [source for source in inputs if not (source.is_found and _is_any(source.path, written_to))]
    for source in inputs:
        for written, name in ((target, request.output), *((one, str(one)) for one in (beside, about_in, skipped_in))):
            if source.path is not None and os.path.realpath(source.path) == str(written):
                raise CommandError(f"{name} is an input too; name another output")
    return Plan(request, tuple(inputs), layout.whole, keep, columns, target, beside, about_in, to, passed, skipped_in)


def _is_any(path: Path | None, written: tuple[Path | None, ...]) -> bool:
    """Whether a folder's file is an output of an earlier run."""
    return path is not None and os.path.realpath(path) in {str(one) for one in written}


def _check_options(request: RowsRequest, layout: Layout, to: OutputFormat, *, as_json: bool) -> None:
    """Raise CommandError for the first thing that options ask for together and that cannot be."""
    is_stdout, is_ranged = request.output == STDOUT, needs_ranges(request.precision)
    own = next((name for name in ("index", *layout.before, *layout.after, "embedding") if name in request.keep), None)
    conflicts = {
        f"--whole-file reads plain text, not {request.format}": layout.whole == "all"
        and request.format not in (None, "text"),
        "--keep needs a .jsonl or .parquet output; a .npy file holds vectors only": (
            request.keep and to == "npy" and not layout.is_beside
        ),
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
